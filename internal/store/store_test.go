package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/goleak"
)

// leaks fails the test if it leaves a goroutine behind. A store that has failed for good
// leaves pebble's own, by design, so this is asked test by test.
func leaks(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func open(t *testing.T, dir string) *Pebble {
	t.Helper()
	p, err := OpenPebble(dir, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func put(key, value string) Op { return Op{[]byte(key), []byte(value)} }

func TestPebble(t *testing.T) {
	leaks(t)
	p := open(t, t.TempDir())
	if err := p.Apply([]Op{put("cred/a", "1"), put("cred/b", "2"), put("cred\x30", "x"), put("nonce/c", "3")}, true); err != nil {
		t.Fatal(err)
	}
	if v, err := p.Get([]byte("cred/b")); err != nil || string(v) != "2" {
		t.Errorf("got %q, %v", v, err)
	}
	if _, err := p.Get([]byte("cred/z")); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent key: %v", err)
	}
	var keys []string
	scan := func(stopAt int) {
		keys = nil
		if err := p.Scan([]byte("cred/"), func(k, v []byte) bool {
			keys = append(keys, string(k)+"="+string(v))
			return len(keys) < stopAt
		}); err != nil {
			t.Fatal(err)
		}
	}
	if scan(9); fmt.Sprint(keys) != "[cred/a=1 cred/b=2]" {
		t.Errorf("scan gave %v", keys)
	}
	if scan(1); fmt.Sprint(keys) != "[cred/a=1]" {
		t.Errorf("stopped scan gave %v", keys)
	}
	if err := p.Apply([]Op{{Key: []byte("cred/a")}}, false); err != nil {
		t.Fatal(err)
	}
	if scan(9); fmt.Sprint(keys) != "[cred/b=2]" {
		t.Errorf("after a delete: %v", keys)
	}
	if err := p.DeletePrefix([]byte("cred/")); err != nil {
		t.Fatal(err)
	}
	if scan(9); len(keys) != 0 {
		t.Errorf("after DeletePrefix: %v", keys)
	}
	if _, err := p.Get([]byte("nonce/c")); err != nil {
		t.Errorf("another kind is gone too: %v", err)
	}
}

func TestPebbleOutlivesTheProcess(t *testing.T) {
	leaks(t)
	dir := t.TempDir()
	p := open(t, dir)
	if err := p.Apply([]Op{put("cred/a", "1")}, false); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Apply([]Op{put("cred/b", "1")}, false); !errors.Is(err, ErrClosed) {
		t.Errorf("write to a closed store: %v", err)
	}
	if v, err := open(t, dir).Get([]byte("cred/a")); err != nil || string(v) != "1" {
		t.Errorf("after a restart: %q, %v", v, err)
	}
}

// What was synced is there after a crash that loses everything unsynced.
func TestPebbleSyncSurvivesCrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	p, err := openPebble("store", quiet(), fs, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Apply([]Op{put("nonce/synced", "1")}, true); err != nil {
		t.Fatal(err)
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	_ = p.Close()
	q, err := openPebble("store", quiet(), crashed, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if _, err := q.Get([]byte("nonce/synced")); err != nil {
		t.Errorf("synced change is gone: %v", err)
	}
}

func TestPebbleLocked(t *testing.T) {
	leaks(t)
	dir := t.TempDir()
	open(t, dir)
	if _, err := OpenPebble(dir, quiet()); !errors.Is(err, ErrLocked) {
		t.Errorf("second open: %v", err)
	}
}

// A store is accessible to its owner only, whether it is new or was made when all users could read it.
func TestPebbleIsSecluded(t *testing.T) {
	leaks(t)
	defer syscall.Umask(syscall.Umask(0o022))
	for name, before := range map[string]os.FileMode{"new": 0, "open to all": 0o755, "open to the group": 0o710, "secluded": 0o700} {
		dir := filepath.Join(t.TempDir(), "store")
		if before != 0 {
			if err := os.Mkdir(dir, before); err != nil {
				t.Fatal(err)
			}
		}
		open(t, dir)
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o700 {
			t.Errorf("%s: mode %04o", name, mode)
		}
	}
}

// TestPebbleBehindLink: a store may be elsewhere by a link, and the target is left as it is; but root
// follows none that another user has made.
func TestPebbleBehindLink(t *testing.T) {
	leaks(t)
	for name, uid := range map[string]int{"of this user": os.Geteuid(), "of another user": 4711} {
		target, link := t.TempDir(), filepath.Join(t.TempDir(), "store")
		if err := errors.Join(os.Chmod(target, 0o755), os.Symlink(target, link)); err != nil {
			t.Fatal(err)
		}
		foreign := uid != os.Geteuid() && os.Lchown(link, uid, uid) == nil // as root only
		log := new(strings.Builder)
		p, err := OpenPebble(link, slog.New(slog.NewTextHandler(log, nil)))
		if err == nil {
			err = p.Close()
		}
		if (err != nil) != foreign || !foreign && !strings.Contains(log.String(), "symbolic link") {
			t.Errorf("%s: %v, %s", name, err, log)
		}
		info, err := os.Stat(target)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o755 {
			t.Errorf("%s: what it leads to has mode %04o now", name, info.Mode().Perm())
		}
		if there, _ := os.ReadDir(target); foreign && len(there) > 0 {
			t.Errorf("%s: %v was written to where it leads", name, there)
		}
	}
}

func TestPebbleUnknownFormat(t *testing.T) {
	leaks(t)
	dir := t.TempDir()
	p := open(t, dir)
	if err := p.Apply([]Op{put("meta/format", "\x63")}, true); err != nil {
		t.Fatal(err)
	}
	_ = p.Close()
	if _, err := OpenPebble(dir, quiet()); err == nil {
		t.Error("a store of an unknown format was opened")
	}
}

func TestPebbleNotADirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPebble(file, quiet()); err == nil || errors.Is(err, ErrLocked) {
		t.Errorf("err = %v", err)
	}
}

// A disk that fails for good must neither end the process nor hang a caller: the store says
// that it has failed, once, and goes on saying so.
func TestPebbleFailsWithoutEndingTheProcess(t *testing.T) {
	var broken atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return errorfs.ErrInjected
		}
		return nil
	}))
	var log bytes.Buffer
	var mu sync.Mutex
	p, err := openPebble("store", slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil)), fs, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Apply([]Op{put("cred/a", "1")}, true); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	if err := p.Apply([]Op{put("cred/b", "2")}, true); !errors.Is(err, ErrFailed) {
		t.Errorf("write to a failing disk: %v", err)
	}
	if _, err := p.Get([]byte("cred/a")); !errors.Is(err, ErrFailed) {
		t.Errorf("read after the failure: %v", err)
	}
	if p.Failed() == "" {
		t.Error("the store does not say that it has failed")
	}
	if err := p.Close(); err != nil {
		t.Errorf("close after the failure: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if n := bytes.Count(log.Bytes(), []byte("store has failed")); n != 1 {
		t.Errorf("the failure was logged %d times:\n%s", n, log.String())
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  *bytes.Buffer
}

func (l lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func BenchmarkGet(b *testing.B) {
	p, err := OpenPebble(b.TempDir(), quiet())
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	_ = p.Apply([]Op{put("cred/dom.example\x00joe", string(make([]byte, 100)))}, true)
	for name, key := range map[string]string{"present": "cred/dom.example\x00joe", "absent": "cred/dom.example\x00ann"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = p.Get([]byte(key))
			}
		})
	}
}
