package store

import (
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// kept lists which of the kinds of records that fill has made are in a store.
func kept(t *testing.T, p *Pebble) string {
	t.Helper()
	var found []string
	for _, key := range []string{"cred/a", "roster/a", "nonce/a", "domain/a"} {
		if _, err := p.Get([]byte(key)); err == nil {
			found = append(found, key)
		} else if !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	}
	return strings.Join(found, " ")
}

func fill(t *testing.T, p *Pebble) {
	t.Helper()
	if err := p.Apply([]Op{put("cred/a", "1"), put("roster/a", "1"), put("nonce/a", "1"), put("domain/a", "1")}, true); err != nil {
		t.Fatal(err)
	}
}

const (
	allKept   = "cred/a roster/a nonce/a domain/a"
	otherKept = "roster/a nonce/a domain/a"
)

// TestOutdate: what a store knows of passwords is not used after a broker has worked without it.
func TestOutdate(t *testing.T) {
	leaks(t)
	dir := filepath.Join(t.TempDir(), "store")
	if err := MarkIncomplete(dir); err != nil {
		t.Errorf("where no store is: %v", err)
	}
	p := open(t, dir)
	fill(t, p)
	for _, c := range []struct {
		outdate bool
		want    string
	}{{false, allKept}, {true, otherKept}} {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if c.outdate {
			if err := MarkIncomplete(dir); err != nil {
				t.Fatal(err)
			}
		}
		p = open(t, dir)
		if got := kept(t, p); got != c.want {
			t.Errorf("outdated: %v, and kept are %q, want %q", c.outdate, got, c.want)
		}
	}
	fill(t, p)
	_ = p.Close()
	if got := kept(t, open(t, dir)); got != allKept {
		t.Errorf("kept of what came later: %q", got)
	}
}

// TestFailureOutdates: as when the disk became full, and has room again at the next start.
func TestFailureOutdates(t *testing.T) {
	var full atomic.Bool
	disk := vfs.NewCrashableMem()
	fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFilePreallocate, errorfs.OpReuseForWrite:
			if full.Load() {
				return errorfs.ErrInjected
			}
		}
		return nil
	}))
	p, err := openPebble("store", quiet(), fs, nil)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, p)
	full.Store(true)
	if err := p.Apply([]Op{put("cred/b", "2")}, true); !errors.Is(err, ErrFailed) {
		t.Errorf("write to a full disk: %v", err)
	}
	full.Store(false)
	q, err := openPebble("store", quiet(), disk.CrashClone(vfs.CrashCloneCfg{}), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if got := kept(t, q); got != otherKept {
		t.Errorf("kept are %q, want %q", got, otherKept)
	}
}

// TestNewStoreWaitsForTheDisk: a new store has pebble's newest format, and is not upgraded to it step by step. One
// whose making was interrupted after the first step is made all the same.
func TestNewStoreWaitsForTheDisk(t *testing.T) {
	leaks(t)
	for _, begun := range []bool{false, true} {
		disk := vfs.NewMem()
		if err := disk.MkdirAll("store", 0o700); err != nil {
			t.Fatal(err)
		}
		if begun {
			if err := beginNewest(disk, "store"); err != nil {
				t.Fatal(err)
			}
		}
		var syncs atomic.Int64
		p, err := openPebble("store", quiet(), errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			switch op.Kind {
			case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
				syncs.Add(1)
			}
			return nil
		})), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.db.FormatMajorVersion(); got != pebble.FormatNewest {
			t.Errorf("format %v, want %v", got, pebble.FormatNewest)
		}
		if n := syncs.Load(); n < 3 || n > 9 {
			t.Errorf("%d syncs", n)
		}
		fill(t, p)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if p, err = openPebble("store", quiet(), disk, nil); err != nil {
			t.Fatal(err)
		}
		if got := kept(t, p); got != allKept {
			t.Errorf("kept are %q", got)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
