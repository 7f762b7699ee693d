package store

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"maps"
	"sync"
	"time"
)

const (
	maxUnsent   = 4096 // entries that wait for the store; of more, the oldest are dropped
	maxAppended = 512  // that are appended at once

	newsEvery = 250 * time.Millisecond // what the store has not reported, or did not take, is tried again
)

// SharedJournal is a Journal that reports its changes.
type SharedJournal interface {
	Journal
	Watcher
}

// News sends to the other processes beside a shared store what happens here, and receives what happens there, by a Journal. It
// takes no caller's time. While the store is away, what is sent waits. Each other process receives it once, later ones
// among them as long as the journal has it; after a loss of the store's data perhaps never. It is safe for concurrent use.
type News struct {
	journal SharedJournal
	log     *slog.Logger
	heard   func(data []byte, age time.Duration)
	me      [8]byte // the process
	kick    chan struct{}
	end     chan struct{}
	ended   chan struct{}

	mu     sync.Mutex
	unsent []unsent
	last   uint64 // number of the last that was sent

	// The goroutine has the rest.
	position string
	term     uint64
	read     bool               // to the end, in this term
	numbers  map[[8]byte]uint64 // of the last entry of each process that was heard
	failing  bool
}

// unsent is what waits for the store.
type unsent struct {
	number uint64
	data   []byte
	at     time.Time
}

// NewNews starts to send and to receive. heard is called on a goroutine of its own with what another process has sent, and
// with how long ago that was, whatever the clocks say.
func NewNews(j SharedJournal, log *slog.Logger, heard func(data []byte, age time.Duration)) *News {
	n := &News{journal: j, log: log, heard: heard, kick: make(chan struct{}, 1), end: make(chan struct{}), ended: make(chan struct{}), numbers: make(map[[8]byte]uint64)}
	n.me = NewVersions().process
	go n.run()
	return n
}

// Send sends to the others, some time soon.
func (n *News) Send(data []byte) {
	n.mu.Lock()
	n.last++
	if len(n.unsent) >= maxUnsent {
		n.unsent = n.unsent[1:]
	}
	n.unsent = append(n.unsent, unsent{n.last, data, time.Now()})
	n.mu.Unlock()
	n.Look()
}

// Look has the journal read, some time soon: the store has reported a change.
func (n *News) Look() {
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

// Close sends what waits, if the store takes it at once, and ends.
func (n *News) Close() {
	close(n.end)
	<-n.ended
}

func (n *News) run() {
	defer close(n.ended)
	tick := time.NewTicker(newsEvery)
	defer tick.Stop()
	for {
		changed := false
		select {
		case <-n.end:
			_ = n.send()
			return
		case <-n.kick:
			changed = true
		case <-tick.C:
		}
		err := n.send()
		if err == nil {
			err = n.receive(changed)
		}
		switch {
		case err == nil && n.failing:
			n.log.Info("refusals are counted together with the other machines again")
		case err != nil && !n.failing:
			n.log.Warn("refusals are counted by this machine alone until the shared store takes them", "err", err)
		}
		if n.failing = err != nil; n.failing {
			n.read = false
		}
	}
}

// send appends what waits.
func (n *News) send() error {
	for {
		n.mu.Lock()
		list := n.unsent[:min(len(n.unsent), maxAppended)]
		n.mu.Unlock()
		if len(list) == 0 {
			return nil
		}
		entries := make([][]byte, len(list))
		for i, u := range list {
			head := binary.AppendUvarint(n.me[:len(n.me):len(n.me)], u.number)
			head = binary.AppendUvarint(head, uint64(max(time.Since(u.at).Milliseconds(), 0)))
			entries[i] = append(head, u.data...)
		}
		if err := n.journal.Append(entries); err != nil {
			return err
		}
		done := list[len(list)-1].number
		n.mu.Lock()
		for len(n.unsent) > 0 && n.unsent[0].number <= done {
			n.unsent = n.unsent[1:]
		}
		n.mu.Unlock()
	}
}

// receive reads what was sent since. In a new term it reads everything: the journal may be another one.
func (n *News) receive(changed bool) error {
	term, ok := n.journal.Term()
	if !ok || term != n.term {
		n.read = false
	}
	if n.read && !changed {
		return nil
	}
	if !n.read && term != n.term {
		n.term, n.position = term, ""
	}
	whole, seen := n.position == "", make(map[[8]byte]uint64)
	for {
		entries, next, err := n.journal.After(n.position)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			break
		}
		n.position = next
		for _, e := range entries {
			n.take(e, seen)
		}
	}
	if whole { // of others nothing is left
		maps.DeleteFunc(n.numbers, func(process [8]byte, _ uint64) bool { return seen[process] == 0 })
	}
	n.read = ok
	return nil
}

// take passes on an entry, unless that was done.
func (n *News) take(e Entry, seen map[[8]byte]uint64) {
	var process [8]byte
	if copy(process[:], e.Data) < len(process) || bytes.Equal(process[:], n.me[:]) {
		return
	}
	r := &ValueReader{rest: e.Data[len(process):]}
	number, waited := r.Uvarint(), r.Uvarint()
	const most = uint64(7 * 24 * time.Hour / time.Millisecond)
	if !r.OK() {
		return
	}
	seen[process] = max(seen[process], number)
	if number <= n.numbers[process] {
		return
	}
	n.numbers[process] = number
	n.heard(r.rest, e.Age+time.Duration(min(waited, most))*time.Millisecond)
}
