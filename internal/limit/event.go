package limit

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"
)

// What an Event says.
const (
	RefusedUser    uint8 = iota + 1 // a backend has refused a secret
	RefusedAddress                  // a secret from an address was refused
	ForgedAddress                   // a token from an address was made up
	ForgetUser                      // an account's limit was lifted, or its password changed
	ForgetAddress                   // an address's limit was lifted
)

// Event is what one process sends to the others about what its limits have counted, so that all count together.
//
// Each process counts what it sees at once, and what the others send when it arrives, some milliseconds later. What several
// processes admit before they hear of each other goes beyond the limit: with n of them, a burst within that time at most n
// times the limit, and guesses one after another none. It has names in place of the numbers of a Seed, but of the secret
// 16 bits only (Peers.Alike), which are of no use to a reader of the store.
type Event struct {
	What    uint8
	Backend string       // its identity, with RefusedUser and ForgetUser
	Account string       // of the backend, likewise; empty: none, as with a token
	Name    string       // of the account for display
	From    netip.Prefix // of the client; invalid: not known
	Alike   uint16       // stands for the secret; 0: it is like no other
	Counted bool         // against the account, with RefusedUser
	// Stranger and Charges are for the budget of the backend.
	Stranger bool
	Charges  int
	Rules    Rules // by which it was counted
}

// Peers are the other processes that count together with this one.
type Peers struct {
	Seed Seed // of Alike; the same for all
	Send func(*Event)
}

// Alike returns 16 bits that stand for a secret of an account; never 0.
func (p *Peers) Alike(account, secret string) uint16 {
	name := append(binary.AppendUvarint(nil, uint64(len(account))), account...)
	return max(uint16(p.Seed.Sum(append(name, secret...))), 1)
}

const eventVersion = 1

// Encode returns the event for Decode.
func (e *Event) Encode() []byte {
	b := []byte{eventVersion, e.What, flag(e.Counted) | flag(e.Stranger)<<1}
	from, _ := e.From.MarshalBinary() // never fails
	for _, text := range []string{e.Backend, e.Account, e.Name, string(from)} {
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	for _, n := range []int64{
		int64(e.Alike), int64(e.Charges), int64(e.Rules.Refusals), e.Rules.Window.Milliseconds(), e.Rules.First.Milliseconds(), e.Rules.Longest.Milliseconds(),
	} {
		b = binary.AppendUvarint(b, uint64(max(n, 0)))
	}
	return b
}

func flag(on bool) byte {
	if on {
		return 1
	}
	return 0
}

var errEvent = errors.New("not an event of a version that is known")

// Bounds of what another process may say.
const (
	maxEventCount = 1 << 20
	maxEventTime  = 366 * 24 * time.Hour
)

// DecodeEvent reads what Encode has returned.
func DecodeEvent(b []byte) (*Event, error) {
	if len(b) < 3 || b[0] != eventVersion {
		return nil, errEvent
	}
	e := &Event{What: b[1], Counted: b[2]&1 != 0, Stranger: b[2]&2 != 0}
	b = b[3:]
	ok := true
	number := func(most uint64) uint64 {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > most {
			ok, b = false, nil
			return 0
		}
		b = b[size:]
		return n
	}
	text := func() string {
		n := number(uint64(len(b)))
		if n > uint64(len(b)) {
			ok, n = false, 0
		}
		t := string(b[:n])
		b = b[n:]
		return t
	}
	span := func() time.Duration {
		return time.Duration(number(uint64(maxEventTime/time.Millisecond))) * time.Millisecond
	}
	e.Backend, e.Account, e.Name = text(), text(), text()
	if err := e.From.UnmarshalBinary([]byte(text())); err != nil {
		return nil, errEvent
	}
	e.Alike, e.Charges = uint16(number(1<<16-1)), int(number(maxEventCount))
	e.Rules = Rules{Refusals: int(number(maxEventCount)), Window: span(), First: span(), Longest: span()}
	if !ok || len(b) > 0 {
		return nil, errEvent
	}
	return e, nil
}
