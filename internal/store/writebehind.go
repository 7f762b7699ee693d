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
)

// WriteBehind writes to a store on a goroutine of its own, in batches, so that its callers never
// wait for the disk. A read returns what was put last, also while that is not written yet. Changes
// of one key that come faster than the disk takes them are written once. It is safe for concurrent
// use; nothing else may write the same keys.
type WriteBehind struct {
	store  Store
	failed func(error)

	mu       sync.Mutex
	cond     sync.Cond         // of the writer: there is work, or it is to end
	waiting  map[string][]byte // by key; a nil value deletes
	order    []string          // keys of waiting, in the order of their first change
	writing  map[string][]byte // the batch that is being committed
	flushes  []func(error)
	removals []removal
	hidden   []string // prefixes of records that are not read, see Hide
	closed   bool
	done     chan struct{}

	// A caller often comes again as soon as it has its answer. If the first of them were written alone,
	// the others would wait for two commits.
	expected  int           // callers of Flush for which the next commit waits
	pause     time.Duration // and for how long
	gathering bool          // it waits
}

// removal is a pending deletion of all keys with a prefix.
type removal struct {
	prefix []byte
	done   chan error
}

// NewWriteBehind starts the writer of s. failed is called with the error of each commit that
// fails, and with nil after one that succeeds, on the writer's goroutine.
func NewWriteBehind(s Store, failed func(error)) *WriteBehind {
	w := &WriteBehind{store: s, failed: failed, waiting: make(map[string][]byte), done: make(chan struct{})}
	w.cond.L = &w.mu
	go w.run()
	return w
}

// Store returns the store, for keys that are not written through w.
func (w *WriteBehind) Store() Store { return w.store }

// Put has a value written some time soon; nil deletes the key. The value must not be changed
// afterwards.
func (w *WriteBehind) Put(key, value []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.put(key, value)
	w.wake()
}

// PutDurably is Put and then Flush. The two would take two commits if the writer is idle.
func (w *WriteBehind) PutDurably(key, value []byte, done func(error)) {
	w.mu.Lock()
	w.put(key, value)
	w.flush(done)
}

func (w *WriteBehind) put(key, value []byte) {
	k := string(key)
	if _, again := w.waiting[k]; !again {
		w.order = append(w.order, k)
	}
	w.waiting[k] = value
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
	if value, known := w.peek(string(key)); known {
		if value == nil {
			return nil, ErrNotFound
		}
		return bytes.Clone(value), nil
	}
	return w.store.Get(key)
}

// peek returns a value that need not be read. known with a nil value stands for an absent key.
func (w *WriteBehind) peek(key string) (value []byte, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, prefix := range w.hidden {
		if strings.HasPrefix(key, prefix) {
			return nil, true
		}
	}
	if value, known = w.waiting[key]; !known {
		value, known = w.writing[key]
	}
	return value, known
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
	w.closed = true
	w.cond.Signal()
	w.mu.Unlock()
	<-w.done
}

func (w *WriteBehind) run() {
	defer close(w.done)
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
	ops      []Op
	flushes  []func(error)
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
	w.writing = make(map[string][]byte, n)
	for _, key := range w.order[:n] {
		value := w.waiting[key]
		delete(w.waiting, key)
		w.writing[key] = value
		b.ops = append(b.ops, Op{Key: []byte(key), Value: value})
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
	if len(b.ops) == 0 && !durable {
		return nil
	}
	err := w.store.Apply(b.ops, durable)
	w.failed(err)
	return err
}
