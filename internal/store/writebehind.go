package store

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"time"
)

// ErrBusy means that too many callers wait for their changes to become durable.
var ErrBusy = errors.New("too many changes wait for the store")

const (
	maxFlushes = 1024 // callers of Flush that may wait
	maxBatch   = 1024 // changes in one commit

	maxGather = time.Millisecond // a commit waits at most so long for the callers of the one before

	firstRetry, lastRetry = 50 * time.Millisecond, time.Second // pauses of a writer while its shared store is away

	maxMerges = 8 // of a record that others change all the time
)

// markFor is how long a mark is kept: longer than a process may not know that it has missed one.
const markFor = time.Minute

// WriteBehind writes to a store on a goroutine of its own, in batches, so that its callers never
// wait for the disk. A read returns what was put last, also while that is not written yet. Changes
// of one key that come faster than the disk takes them are written once. It is safe for concurrent
// use; nothing else may write the same keys, unless the store is a Shared one.
//
// A Shared store may be away for a while: what cannot be written then is kept and written later, and Flush waits
// for that. See Share for the records that other processes write as well.
type WriteBehind struct {
	store    Store
	shared   Shared // the same; nil: it is not shared
	versions *Versions
	failed   func(error)
	merge    func(key string, mine, theirs []byte) (merged []byte, ok bool)
	merged   func(key string)

	mu       sync.Mutex
	cond     sync.Cond         // of the writer: there is work, or it is to end
	waiting  map[string]change // by key
	order    []string          // keys of waiting, in the order of their first change
	writing  map[string]change // the batch that is being committed
	flushes  []func(error)
	removals []removal
	hidden   []string // prefixes of records that are not read, see Hide
	closed   bool
	ended    chan struct{} // closed with closed
	done     chan struct{}

	// A caller often comes again as soon as it has its answer. If the first of them were written alone,
	// the others would wait for two commits.
	expected  int           // callers of Flush for which the next commit waits
	pause     time.Duration // and for how long
	gathering bool          // it waits
}

// change is a change of a key that is not written yet; see Change.
type change struct {
	value    []byte // nil deletes
	over     bool
	was, now Version
	keep     time.Duration
}

// removal is a pending deletion of all keys with a prefix.
type removal struct {
	prefix []byte
	done   chan error
}

// NewWriteBehind starts the writer of s. failed is called with the error of each commit that
// fails, and with nil after one that succeeds, on the writer's goroutine.
func NewWriteBehind(s Store, failed func(error)) *WriteBehind {
	w := &WriteBehind{
		store: s, failed: failed, versions: NewVersions(),
		waiting: make(map[string]change), ended: make(chan struct{}), done: make(chan struct{}),
	}
	w.shared, _ = s.(Shared)
	w.cond.L = &w.mu
	go w.run()
	return w
}

// Share says what becomes of a record that PutOver is to write and another process has changed since it was read:
// merge returns what to write of both, or false to leave theirs; nil stands for no record. merged is called after it is
// written, since nothing in memory is like it. Both run on the writer's goroutine. Share is called before the
// first PutOver. Without a Shared store it has no effect.
func (w *WriteBehind) Share(merge func(key string, mine, theirs []byte) ([]byte, bool), merged func(key string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.merge, w.merged = merge, merged
}

// Shared returns the store if it is a Shared one, or nil.
func (w *WriteBehind) Shared() Shared { return w.shared }

// Store returns the store, for keys that are not written through w.
func (w *WriteBehind) Store() Store { return w.store }

// Put has a value written some time soon; nil deletes the key. The value must not be changed
// afterwards.
func (w *WriteBehind) Put(key, value []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.put(key, change{value: value})
	w.wake()
}

// PutOver is Put for a record that other processes may write as well: was is the version that the value was made of.
// It returns the version of the value.
func (w *WriteBehind) PutOver(key, value []byte, was Version) (now Version) {
	if w.shared == nil {
		w.Put(key, value)
		return now
	}
	if value != nil {
		now = w.versions.Next()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.put(key, change{value: value, over: true, was: was, now: now})
	w.wake()
	return now
}

// Mark tells the other processes beside a Shared store, some time soon, that something of an account was refused
// or changed of which its record may say nothing. name stands for the account, or is empty for all, or a prefix.
func (w *WriteBehind) Mark(name string) {
	if w.shared == nil {
		return
	}
	v := w.versions.Next() // marks must not replace each other
	w.mu.Lock()
	defer w.mu.Unlock()
	w.put([]byte(Refused+name+"\x00"+string(v[:])), change{value: []byte{1}, keep: markFor})
	w.wake()
}

// Marked returns the name of a mark from its key.
func Marked(key string) (name string, ok bool) {
	name, ok = strings.CutPrefix(key, Refused)
	if end := len(name) - 1 - len(Version{}); ok && end >= 0 && name[end] == 0 {
		return name[:end], true
	}
	return "", false
}

// PutDurably is Put and then Flush. The two would take two commits if the writer is idle.
func (w *WriteBehind) PutDurably(key, value []byte, done func(error)) {
	w.mu.Lock()
	w.put(key, change{value: value})
	w.flush(done)
}

// PutOverDurably is PutDurably for a record that other processes may write as well, as PutOver is Put.
func (w *WriteBehind) PutOverDurably(key, value []byte, was Version, done func(error)) (now Version) {
	if w.shared == nil {
		w.PutDurably(key, value, done)
		return now
	}
	if value != nil {
		now = w.versions.Next()
	}
	w.mu.Lock()
	w.put(key, change{value: value, over: true, was: was, now: now})
	w.flush(done)
	return now
}

func (w *WriteBehind) put(key []byte, c change) {
	k := string(key)
	if before, again := w.waiting[k]; !again {
		w.order = append(w.order, k)
	} else {
		c = c.after(before)
	}
	w.waiting[k] = c
}

// after is one change in the place of two, of which before is the first.
func (c change) after(before change) change {
	if c.over {
		c.over, c.was = before.over, before.was
	}
	return c
}

// wake has the writer look for work, unless it waits for more callers.
func (w *WriteBehind) wake() {
	if !w.gathering || !w.missing() {
		w.cond.Signal()
	}
}

// Get returns a copy of the value that was put last. The error is ErrNotFound for a key that is
// absent or hidden.
func (w *WriteBehind) Get(key []byte) ([]byte, error) {
	if c, known := w.peek(string(key)); known {
		if c.value == nil {
			return nil, ErrNotFound
		}
		return bytes.Clone(c.value), nil
	}
	return w.store.Get(key)
}

// Read is Get with what a Shared store knows of the record besides, for PutOver.
func (w *WriteBehind) Read(key []byte) (Record, error) {
	if w.shared == nil {
		value, err := w.Get(key)
		return Record{Value: value}, err
	}
	if c, known := w.peek(string(key)); known {
		if c.value == nil {
			return Record{}, ErrNotFound
		}
		return Record{Value: bytes.Clone(c.value), Version: c.now}, nil
	}
	return w.shared.Read(key)
}

// peek returns a change that is not written yet. One with a nil value stands for an absent key.
func (w *WriteBehind) peek(key string) (c change, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, prefix := range w.hidden {
		if strings.HasPrefix(key, prefix) {
			return change{}, true
		}
	}
	if c, known = w.waiting[key]; !known {
		c, known = w.writing[key]
	}
	return c, known
}

// Flush calls done when everything that was put before is durable, or with the error of the commit
// that failed. It never blocks: when too many callers wait already, done is called at once with
// ErrBusy. done runs on the writer's goroutine and must not block.
func (w *WriteBehind) Flush(done func(error)) {
	w.mu.Lock()
	w.flush(done)
}

// flush is Flush. The caller has locked mu, and flush unlocks it.
func (w *WriteBehind) flush(done func(error)) {
	var err error
	switch {
	case w.closed:
		err = ErrClosed
	case len(w.flushes) >= maxFlushes:
		err = ErrBusy
		w.wake()
	default:
		w.flushes = append(w.flushes, done)
		w.wake()
	}
	w.mu.Unlock()
	if err != nil {
		done(err)
	}
}

// Hide has the records under a prefix read as absent until show is called. What is put meanwhile
// is hidden as well.
func (w *WriteBehind) Hide(prefix []byte) (show func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hidden = append(w.hidden, string(prefix))
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for i, p := range w.hidden {
			if p == string(prefix) {
				w.hidden = append(w.hidden[:i:i], w.hidden[i+1:]...)
				return
			}
		}
	}
}

// DeletePrefix removes every key with prefix, those not written yet among them. The channel brings
// the outcome when that is durable.
func (w *WriteBehind) DeletePrefix(prefix []byte) <-chan error {
	r := removal{prefix: prefix, done: make(chan error, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		r.done <- ErrClosed
		return r.done
	}
	kept := w.order[:0]
	for _, key := range w.order {
		if strings.HasPrefix(key, string(prefix)) {
			delete(w.waiting, key)
			continue
		}
		kept = append(kept, key)
	}
	w.order = kept
	w.removals = append(w.removals, r)
	w.cond.Signal()
	return r.done
}

// Close writes what waits and ends the writer. The store stays open.
func (w *WriteBehind) Close() {
	w.mu.Lock()
	if !w.closed {
		close(w.ended)
	}
	w.closed = true
	w.cond.Signal()
	w.mu.Unlock()
	<-w.done
}

func (w *WriteBehind) run() {
	defer close(w.done)
	pause := firstRetry
	for {
		batch, ok := w.next()
		if !ok {
			return
		}
		for _, r := range batch.removals {
			r.done <- w.store.DeletePrefix(r.prefix)
		}
		begun := time.Now()
		err := w.commit(batch)
		if err != nil && w.shared != nil && w.again(batch) {
			w.pauseFor(pause)
			pause = min(2*pause, lastRetry)
			continue
		}
		pause = firstRetry
		w.expect(len(batch.flushes), time.Since(begun))
		for _, done := range batch.flushes {
			done(err)
		}
	}
}

// batch is what the writer does in one go: the removals come first, since what they were to take
// of the changes is not among these any more.
type batch struct {
	removals []removal
	keys     []string
	flushes  []func(error)
}

// again puts back what could not be written to a Shared store. It is false at the end.
func (w *WriteBehind) again(b batch) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	kept := b.keys[:0]
	for _, key := range b.keys {
		if newer, there := w.waiting[key]; there {
			w.waiting[key] = newer.after(w.writing[key]) // at its place
			continue
		}
		w.waiting[key] = w.writing[key]
		kept = append(kept, key)
	}
	w.order = append(kept, w.order...)
	w.flushes = append(b.flushes, w.flushes...)
	return true
}

// pauseFor waits, but not at the end.
func (w *WriteBehind) pauseFor(pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.ended:
	}
}

// next waits for work and takes it. ok is false at the end.
func (w *WriteBehind) next() (b batch, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writing = nil
	for len(w.order)+len(w.flushes)+len(w.removals) == 0 {
		if w.closed {
			return b, false
		}
		w.cond.Wait()
	}
	w.gather()
	b.removals, w.removals = w.removals, nil
	n := min(len(w.order), maxBatch)
	w.writing = make(map[string]change, n)
	b.keys = append(b.keys, w.order[:n]...)
	for _, key := range b.keys {
		w.writing[key] = w.waiting[key]
		delete(w.waiting, key)
	}
	if w.order = w.order[n:]; len(w.order) == 0 {
		w.order = nil
		b.flushes, w.flushes = w.flushes, nil // else a later batch has what they wait for
	}
	return b, true
}

// expect has the next commit wait for as many callers as this one had, before they are called.
func (w *WriteBehind) expect(callers int, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expected, w.pause = callers, min(took/2, maxGather)
}

// missing reports whether some of the expected callers have come and others not yet.
func (w *WriteBehind) missing() bool {
	return 0 < len(w.flushes) && len(w.flushes) < w.expected && len(w.removals) == 0 && !w.closed
}

// gather waits for the expected callers, unless the pause is over first. The caller holds mu.
func (w *WriteBehind) gather() {
	if w.missing() {
		late := time.AfterFunc(w.pause, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.expected = 0
			w.cond.Signal()
		})
		w.gathering = true
		for w.missing() {
			w.cond.Wait()
		}
		w.gathering = false
		late.Stop()
	}
	w.expected = 0
}

// commit writes a batch, durably if a caller waits for that.
func (w *WriteBehind) commit(b batch) error {
	durable := len(b.flushes) > 0
	if len(b.keys) == 0 && !durable {
		return nil
	}
	var err error
	if w.shared != nil {
		err = w.swap(b)
	} else {
		ops := make([]Op, len(b.keys))
		for i, key := range b.keys {
			ops[i] = Op{Key: []byte(key), Value: w.writing[key].value} // only the writer changes w.writing
		}
		err = w.store.Apply(ops, durable)
	}
	w.failed(err)
	return err
}

// swap writes a batch to a Shared store, and merges what others have written meanwhile.
func (w *WriteBehind) swap(b batch) error {
	changes := make([]Change, len(b.keys))
	for i, key := range b.keys {
		c := w.writing[key]
		changes[i] = Change{Key: []byte(key), Value: c.value, Over: c.over, Was: c.was, Now: c.now, Keep: c.keep}
	}
	var merged []string
	defer func() {
		for _, key := range merged {
			if w.merged != nil {
				w.merged(key)
			}
		}
	}()
	for range maxMerges {
		lost, err := w.shared.Swap(changes)
		if err != nil || len(lost) == 0 {
			return err
		}
		var again []Change
		for _, l := range lost {
			c := changes[l.Change]
			merged = append(merged, string(c.Key))
			if !l.Of || w.merge == nil {
				continue // a newer version of the program has written it
			}
			value, ok := w.merge(string(c.Key), c.Value, l.Record.Value)
			if !ok {
				continue
			}
			c.Value, c.Was, c.Now = value, l.Record.Version, w.versions.Next()
			again = append(again, c)
		}
		if changes = again; len(changes) == 0 {
			return nil
		}
	}
	return ErrBusy
}
