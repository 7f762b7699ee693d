package migrate

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"postern/cmd/internal/configfile"
	"postern/cmd/internal/datadir"
	"postern/cmd/internal/pipe"
	"postern/internal/config"
)

// files are standard streams for what runs in this process.
func files(t *testing.T) pipe.Stdio {
	t.Helper()
	var list [3]*os.File
	for i := range list {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		list[i] = f
	}
	return pipe.Stdio{In: list[0], Out: list[1], Err: list[2]}
}

// The reload waits for a broker that starts, because it may have read the older configuration, but
// not long for one that does not answer.
func TestTellWaits(t *testing.T) {
	dir := t.TempDir()
	c := &compat{Stdio: files(t)}
	lock, err := os.Create(filepath.Join(dir, datadir.LockFile))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	begun := time.Now()
	c.reload(dir)
	if took := time.Since(begun); took > reloadTimeout/2 {
		t.Errorf("waited %v without a broker", took)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	reloaded := make(chan struct{})
	go func() {
		c.reload(dir)
		close(reloaded)
	}()
	waitFor(t, "it looks for the socket", func() bool {
		select {
		case <-reloaded:
			t.Fatal("a broker that starts was not waited for")
		default:
		}
		return time.Since(begun) > reloadPoll
	})
	l, err := net.Listen("unix", filepath.Join(dir, datadir.ControlSocket))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_ = l.(*net.UnixListener).SetDeadline(time.Now().Add(timeout))
	conn, err := l.Accept()
	if err != nil {
		t.Fatalf("a broker that starts was not reloaded: %v", err)
	}
	defer conn.Close()
	select {
	case <-reloaded:
	case <-time.After(timeout):
		t.Error("a broker that does not answer was waited for")
	}
}

// A configuration that another copy has overwritten is written again, and reloaded once.
func TestReadyWritesLast(t *testing.T) {
	for name, c := range map[string]struct{ over, calls int }{"unchanged": {0, 1}, "alone": {1, 2}, "two at once": {2, 3}, "without end": {99, writeTries}} {
		cp := &compat{Stdio: files(t), flags: configfile.Flags{File: filepath.Join(t.TempDir(), "x.hcl")}}
		calls := 0
		cp.prepare = func() (*config.Config, error) {
			calls++
			cp.rewritten = calls <= c.over
			return new(config.Config), nil
		}
		if cfg, err := cp.ready(); cfg == nil || err != nil || calls != c.calls {
			t.Errorf("%s: prepared %d times, want %d; %v", name, calls, c.calls, err)
		}
	}
}

// timeout bounds every wait of these tests.
const timeout = 3 * time.Minute

// waitFor waits until a condition is met, within timeout.
func waitFor(t *testing.T, what string, met func() bool) {
	t.Helper()
	for end := time.Now().Add(timeout); !met(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}
