package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// cluster is a Shared store in memory. A test has it fail, or changes it between two writes.
type cluster struct {
	Journal // there is none
	Store
	mu     sync.Mutex
	all    map[string]Record
	away   bool
	before func() // a Swap; called once
}

func (c *cluster) Get(key []byte) ([]byte, error) { r, err := c.Read(key); return r.Value, err }

func (c *cluster) Read(key []byte) (Record, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.all[string(key)]
	switch {
	case c.away:
		return Record{}, ErrAway
	case !ok:
		return Record{}, ErrNotFound
	}
	return r, nil
}

func (c *cluster) Swap(changes []Change) (lost []Lost, err error) {
	if c.before != nil {
		before := c.before
		c.before = nil
		before()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return nil, ErrAway
	}
	for i, ch := range changes {
		there := c.all[string(ch.Key)]
		switch {
		case ch.Over && there.Version != ch.Was:
			lost = append(lost, Lost{Change: i, Of: true, Record: there})
		case ch.Value == nil:
			delete(c.all, string(ch.Key))
		default:
			c.all[string(ch.Key)] = Record{Value: bytes.Clone(ch.Value), Version: ch.Now}
		}
	}
	return lost, nil
}

func (c *cluster) set(away bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = away
}

func (c *cluster) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for k, r := range c.all {
		all = append(all, k+"="+string(r.Value))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (*cluster) Claim(context.Context, []byte, []byte, time.Duration) (bool, error) {
	return false, nil
}
func (*cluster) Watch(func([]string)) {}
func (*cluster) Term() (uint64, bool) { return 1, true }

var _ Shared = (*cluster)(nil)

func newCluster() *cluster { return &cluster{all: make(map[string]Record)} }

// allWritten waits until everything is written.
func allWritten(t *testing.T, w *WriteBehind) {
	t.Helper()
	done := make(chan error, 1)
	w.Flush(func(err error) { done <- err })
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("not written")
	}
}

// common keeps the letters that two values share.
func common(_ string, mine, theirs []byte) ([]byte, bool) {
	if bytes.Equal(theirs, []byte("newer")) {
		return nil, false
	}
	var both []byte
	for _, b := range mine {
		if bytes.IndexByte(theirs, b) >= 0 {
			both = append(both, b)
		}
	}
	return both, true
}

// TestPutOver: changes of one record follow each other, and what another process has written meanwhile is merged.
func TestPutOver(t *testing.T) {
	leaks(t)
	c := newCluster()
	w := NewWriteBehind(c, func(error) {})
	defer w.Close()
	var merged []string
	w.Share(common, func(key string) { merged = append(merged, key+":"+c.text()) })
	key := []byte("a")
	v := w.PutOver(key, []byte("12"), Version{})
	v = w.PutOver(key, []byte("123"), v)
	allWritten(t, w)
	v = w.PutOver(key, []byte("1234"), v)
	allWritten(t, w)
	if r, err := w.Read(key); err != nil || string(r.Value) != "1234" || r.Version != v {
		t.Fatalf("%+v, %v", r, err)
	}
	if len(merged) != 0 {
		t.Errorf("merged without another writer: %v", merged)
	}

	c.all["a"] = Record{Value: []byte("245"), Version: Version{9}}
	w.PutOver(key, []byte("134"), v)
	allWritten(t, w)
	if got := c.text(); got != "a=4" {
		t.Errorf("written: %s", got)
	}
	if fmt.Sprint(merged) != "[a:a=4]" {
		t.Errorf("told %v", merged)
	}

	c.all["a"] = Record{Value: []byte("newer"), Version: Version{8}}
	w.PutOver(key, []byte("1"), v)
	allWritten(t, w)
	if got := c.text(); got != "a=newer" {
		t.Errorf("a record of a newer version has become %s", got)
	}

	w.Put(key, nil) // whatever is there
	w.PutOver(key, []byte("7"), Version{})
	allWritten(t, w)
	if got := c.text(); got != "a=7" {
		t.Errorf("after a removal: %s", got)
	}
}

// TestSharedStoreAway: what could not be written is written later, in the newest state, and whoever waits does so until
// then.
func TestSharedStoreAway(t *testing.T) {
	leaks(t)
	c := newCluster()
	failed := make(chan error, 1000)
	w := NewWriteBehind(c, func(err error) { failed <- err })
	defer w.Close()
	w.Share(common, func(string) {})
	v := w.PutOver([]byte("a"), []byte("1"), Version{})
	allWritten(t, w)
	<-failed
	c.set(true)
	v = w.PutOver([]byte("a"), []byte("12"), v)
	w.Put([]byte("b"), []byte("x"))
	done := make(chan error, 1)
	w.Flush(func(err error) { done <- err })
	if err := <-failed; !errors.Is(err, ErrAway) {
		t.Fatal(err)
	}
	if r, err := w.Read([]byte("a")); err != nil || string(r.Value) != "12" || r.Version != v {
		t.Errorf("meanwhile: %+v, %v", r, err)
	}
	w.PutOver([]byte("a"), []byte("123"), v)
	select {
	case err := <-done:
		t.Errorf("flushed while the store is away: %v", err)
	default:
	}
	c.set(false)
	if err := <-done; err != nil {
		t.Error(err)
	}
	allWritten(t, w)
	if got := c.text(); got != "a=123 b=x" {
		t.Errorf("written: %s", got)
	}
	c.set(true)
	w.PutOver([]byte("a"), []byte("1"), v)
}

// TestMarks: a mark has a key of its own, from which its name can be read.
func TestMarks(t *testing.T) {
	leaks(t)
	c := newCluster()
	w := NewWriteBehind(c, func(error) {})
	defer w.Close()
	for _, name := range []string{"dom\x00joe", "dom\x00joe", "dom\x00", ""} {
		w.Mark(name)
	}
	allWritten(t, w)
	names := make(map[string]int)
	for key := range c.all {
		name, ok := Marked(key)
		if !ok {
			t.Errorf("%q is no mark", key)
		}
		names[name]++
	}
	if fmt.Sprint(names) != fmt.Sprint(map[string]int{"dom\x00joe": 2, "dom\x00": 1, "": 1}) {
		t.Errorf("%v", names)
	}
	if _, ok := Marked("cred/dom\x00joe"); ok {
		t.Error("a record is taken for a mark")
	}
}
