// Package storetest has the test that every driver of package store passes.
package storetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"postern/internal/store"
)

// Conform tests a store that is empty.
func Conform(t *testing.T, s store.Store) {
	t.Helper()
	put := func(key, value string) store.Op { return store.Op{Key: []byte(key), Value: []byte(value)} }
	apply := func(ops ...store.Op) {
		t.Helper()
		if err := s.Apply(ops, true); err != nil {
			t.Fatal(err)
		}
	}
	scan := func(prefix string, most int) string {
		t.Helper()
		var all []string
		if err := s.Scan([]byte(prefix), func(k, v []byte) bool {
			all = append(all, string(k)+"="+string(v))
			return len(all) < most
		}); err != nil {
			t.Fatal(err)
		}
		return strings.Join(all, " ")
	}
	want := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}

	want(scan("cred/", 9), "")
	apply()
	apply(put("cred/b.example\x00joe", "2"), put("cred/a.example\x00joe", "1"), put("cred/a.example\x00*[x]?", "3"), put("nonce/\x00\xff\n", ""))
	if v, err := s.Get([]byte("cred/b.example\x00joe")); err != nil || string(v) != "2" {
		t.Errorf("got %q, %v", v, err)
	}
	if v, err := s.Get([]byte("nonce/\x00\xff\n")); err != nil || len(v) != 0 {
		t.Errorf("an empty value: %q, %v", v, err)
	}
	if _, err := s.Get([]byte("cred/b.example\x00jim")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an absent key: %v", err)
	}
	want(scan("cred/", 9), "cred/a.example\x00*[x]?=3 cred/a.example\x00joe=1 cred/b.example\x00joe=2")
	want(scan("cred/", 2), "cred/a.example\x00*[x]?=3 cred/a.example\x00joe=1")
	want(scan("cred/a.example\x00", 9), "cred/a.example\x00*[x]?=3 cred/a.example\x00joe=1")
	want(scan("cred/a.example\x00*", 9), "cred/a.example\x00*[x]?=3")
	want(scan("cred/?", 9), "")

	apply(put("cred/b.example\x00joe", "4"), store.Op{Key: []byte("cred/a.example\x00joe")}, store.Op{Key: []byte("cred/z")})
	want(scan("cred/", 9), "cred/a.example\x00*[x]?=3 cred/b.example\x00joe=4")
	apply(put("cred/c", "1"), store.Op{Key: []byte("cred/c")}) // in their order
	want(scan("cred/c", 9), "")

	if err := s.DeletePrefix([]byte("cred/a.example\x00")); err != nil {
		t.Fatal(err)
	}
	want(scan("cred/", 9), "cred/b.example\x00joe=4")
	if _, err := s.Get([]byte("nonce/\x00\xff\n")); err != nil {
		t.Errorf("another kind is gone too: %v", err)
	}

	var many []store.Op
	for i := range 2500 {
		many = append(many, put(fmt.Sprintf("changed/%04d", i), strings.Repeat("x", i%300)))
	}
	apply(many...)
	n := 0
	if err := s.Scan([]byte("changed/"), func(k, v []byte) bool {
		if string(k) != fmt.Sprintf("changed/%04d", n) || len(v) != n%300 {
			t.Errorf("%q comes as number %d, with %d bytes", k, n, len(v))
		}
		n++
		return true
	}); err != nil || n != len(many) {
		t.Errorf("%d of %d, %v", n, len(many), err)
	}
	if err := s.DeletePrefix([]byte("changed/")); err != nil {
		t.Fatal(err)
	}
	want(scan("changed/", 1), "")

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply([]store.Op{put("cred/d", "1")}, true); !errors.Is(err, store.ErrClosed) {
		t.Errorf("a write to a closed store: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}
