package main

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"postern/internal/config"
)

// files are standard streams for what runs in this process.
func files(t *testing.T) stdio {
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
	return stdio{list[0], list[1], list[2]}
}

// A broker that starts is waited for, since it may have read what was there before; one that does
// not answer is not waited for long.
func TestTellWaits(t *testing.T) {
	dir := t.TempDir()
	d := &disguise{app: &app{stdio: files(t)}}
	lock, err := os.Create(filepath.Join(dir, ownerLock))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	begun := time.Now()
	d.tell(dir)
	if took := time.Since(begun); took > tellWait/2 {
		t.Errorf("waited %v for nobody", took)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	told := make(chan struct{})
	go func() {
		d.tell(dir)
		close(told)
	}()
	waitFor(t, "it looks for the socket", func() bool {
		select {
		case <-told:
			t.Fatal("a broker that starts was not waited for")
		default:
		}
		return time.Since(begun) > tellPause
	})
	l, err := net.Listen("unix", filepath.Join(dir, controlSocket))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_ = l.(*net.UnixListener).SetDeadline(time.Now().Add(timeout))
	conn, err := l.Accept()
	if err != nil {
		t.Fatalf("a broker that starts was not told: %v", err)
	}
	defer conn.Close()
	select {
	case <-told:
	case <-time.After(timeout):
		t.Error("a broker that does not answer was waited for")
	}
}

// What another copy has written over is written again, and told once.
func TestReadyWritesLast(t *testing.T) {
	for name, c := range map[string]struct{ over, calls int }{"unchanged": {0, 1}, "alone": {1, 2}, "two at once": {2, 3}, "without end": {99, tellTries}} {
		d := &disguise{app: &app{stdio: files(t), configFile: filepath.Join(t.TempDir(), "x.hcl")}}
		calls := 0
		d.prepare = func() (*config.Config, error) {
			calls++
			d.rewritten = calls <= c.over
			return new(config.Config), nil
		}
		if cfg, err := d.ready(); cfg == nil || err != nil || calls != c.calls {
			t.Errorf("%s: prepared %d times, want %d; %v", name, calls, c.calls, err)
		}
	}
}
