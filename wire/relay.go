package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"postern/internal/auth"
)

// Sizes in bytes, but for the version and the number of texts.
const (
	relayVersion   = 2
	relayTexts     = 6 // of a request
	relayHeader    = 6 // of a request, after its length
	relayMaxFrame  = 4 + relayHeader + relayTexts*2 + (relayTexts-1)*auth.MaxName + auth.MaxSecret
	relayNamed     = 0x80      // in the operation byte
	relayMaxAnswer = 2 + 2<<20 // with room for a roster, which by default has up to 1 MiB
)

// ErrRelay means that a peer has another version of the relay protocol, or another protocol.
var ErrRelay = errors.New("the other postern speaks another relay protocol: run the same version everywhere")

// relayCodec is the owner's end of the protocol between postern's own processes: `postern pipe`
// decodes the requests of its peer and passes them on to the process that owns the data
// directory. Both ends must have the same version of the protocol.
//
// The owner speaks first: four bytes for protocol and version. Until they come, the connection
// may be one that no process will ever accept.
//
// A request is the 4-byte length of the rest; a version byte; an operation byte, with its highest bit
// set if the reply is to name the account (auth.Request.Named); 4 bytes, the
// milliseconds until the relaying end's deadline; then user, domain, secret, service, client and
// base, each a 2-byte length and bytes. A reply is the 4-byte length of the rest; a verdict
// byte; a source byte; the body, which is the account's name if that was asked for. Numbers are big-endian. Replies come in the order of the
// requests.
type relayCodec struct{ persistent }

var (
	_ Greeter   = relayCodec{}
	_ Postponer = relayCodec{}
)

// Postpones implements Postponer.
func (relayCodec) Postpones() {}

// RelayGreeting is the length of the owner's greeting in bytes.
const RelayGreeting = 4

// Greeting implements Greeter.
func (relayCodec) Greeting() []byte { return []byte{'p', 'r', '/', '0' + relayVersion} }

// CheckRelayGreeting returns nil for the greeting of an owner of this version, else ErrRelay.
func CheckRelayGreeting(greeting []byte) error {
	if string(greeting) != string(relayCodec{}.Greeting()) {
		return ErrRelay
	}
	return nil
}

// Decode implements Codec.
func (relayCodec) Decode(buf []byte, req *auth.Request) (n int, ev Event) {
	if len(buf) < 4 {
		return 0, More
	}
	size := binary.BigEndian.Uint32(buf)
	if size < relayHeader+relayTexts*2 || size > relayMaxFrame-4 {
		return len(buf), Broken
	}
	n = 4 + int(size)
	if len(buf) < n {
		return 0, More
	}
	frame := buf[4:n]
	op, isNamed := auth.Operation(frame[1]&^relayNamed), frame[1]&relayNamed != 0
	if frame[0] != relayVersion || op == auth.OpNone || op == auth.OpScram || int(op) >= auth.Operations {
		return len(buf), Broken
	}
	patience := time.Duration(binary.BigEndian.Uint32(frame[2:])) * time.Millisecond
	var text [relayTexts][]byte
	rest := frame[relayHeader:]
	for i := range text {
		if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
			return len(buf), Broken
		}
		size := int(binary.BigEndian.Uint16(rest))
		text[i], rest = rest[2:2+size], rest[2+size:]
	}
	if len(rest) != 0 {
		return len(buf), Broken
	}
	return n, fill(req, auth.Request{
		Op: op, User: string(text[0]), Domain: string(text[1]), Service: string(text[3]), Client: string(text[4]),
		Base: string(text[5]), Patience: patience, Named: isNamed,
	}, text[2])
}

// AppendAnswer implements Codec.
func (relayCodec) AppendAnswer(dst []byte, req *auth.Request, a auth.Answer) []byte {
	body := a.Body
	if req.Named && a.Verdict == auth.Allow {
		body = []byte(accountOf(req, a))
	}
	if req.Op == auth.OpWatch && len(body) == 1 { // the protocol has neither messages of SCRAM nor marks of tokens
		body = []byte{body[0] &^ byte(auth.WatchScram|auth.WatchBearer)}
	}
	if len(body) > relayMaxAnswer-2 {
		body, a.Verdict = nil, auth.Unavailable
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(2+len(body)))
	dst = append(dst, byte(a.Verdict), byte(a.Source))
	return append(dst, body...)
}

// AppendRelayRequest appends a request as the relaying end sends it. patience is the time until
// its deadline.
func AppendRelayRequest(dst []byte, r *auth.Request, patience time.Duration) []byte {
	start := len(dst)
	op := byte(r.Op)
	if r.Named {
		op |= relayNamed
	}
	dst = append(dst, 0, 0, 0, 0, relayVersion, op)
	ms := min(max(patience.Milliseconds(), 1), math.MaxUint32)
	dst = binary.BigEndian.AppendUint32(dst, uint32(ms))
	for _, text := range [relayTexts]string{r.User, r.Domain, r.Secret.Reveal(), r.Service, r.Client, r.Base} {
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(text)))
		dst = append(dst, text...)
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst
}

// NameRelayAnswer completes the answer to a request: the name of an account comes as its body.
func NameRelayAnswer(r *auth.Request, a auth.Answer) auth.Answer {
	if at := bytes.LastIndexByte(a.Body, '@'); r.Named && at > 0 {
		a.Account, a.Domain, a.Body = string(a.Body[:at]), string(a.Body[at+1:]), nil
	}
	return a
}

// DecodeRelayAnswer reads the first reply of buf. It consumes n bytes: 0 if the reply is not
// complete. The body does not share memory with buf. The error is ErrRelay.
func DecodeRelayAnswer(buf []byte) (n int, a auth.Answer, err error) {
	if len(buf) < 4 {
		return 0, a, nil
	}
	size := binary.BigEndian.Uint32(buf)
	if size < 2 || size > relayMaxAnswer {
		return 0, a, ErrRelay
	}
	n = 4 + int(size)
	if len(buf) < n {
		return 0, a, nil
	}
	a.Verdict, a.Source = auth.Verdict(buf[4]), auth.Source(buf[5])
	if a.Verdict > auth.Unsupported {
		return 0, auth.Answer{}, ErrRelay
	}
	if n > 6 {
		a.Body = append([]byte(nil), buf[6:n]...)
	}
	return n, a, nil
}
