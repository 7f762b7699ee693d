package chaos

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// badPeer is the behaviour of a hostile or idle peer. It ends by itself.
type badPeer func(random *rand.Rand, c net.Conn)

// badPeers of every protocol.
func badPeers() map[string]badPeer {
	half := []string{
		harness.Frame("auth:joe:still.example:secret")[:12], "auth:joe:still.example:sec", harness.Fields("joe", "secret")[:9],
		"get joe@st", "40:mailbox jo", "VERSION\t1\t1\nCPID\t1\nAUTH\t1\tPLAIN\tserv",
	}
	any := func(r *rand.Rand) string { return half[r.IntN(len(half))] }
	send := func(c net.Conn, text string) { _, _ = io.WriteString(c, text) }
	return map[string]badPeer{
		"slow-loris": func(r *rand.Rand, c net.Conn) {
			for _, b := range []byte(any(r)) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond) // the slowness itself
			}
		},
		"half frame": func(r *rand.Rand, c net.Conn) { send(c, any(r)) },
		"reset": func(r *rand.Rand, c net.Conn) {
			send(c, harness.Frame("auth:joe:still.example:x")+any(r))
			if t, ok := c.(*net.TCPConn); ok {
				_ = t.SetLinger(0)
			}
		},
		"64 KiB": func(r *rand.Rand, c net.Conn) {
			send(c, "\xff\xff"+strings.Repeat("x", 65535)+strings.Repeat("y", 1<<16)+"\n65535:"+strings.Repeat("z", 65535)+",")
			_, _ = io.Copy(io.Discard, io.LimitReader(c, 100))
		},
		"NULs": func(r *rand.Rand, c net.Conn) {
			send(c, harness.Frame("auth:joe\x00:still.example:secret")+strings.Repeat("\x00", 5000)+"\nauth:joe:still.example:\x00\n")
			_, _ = io.Copy(io.Discard, io.LimitReader(c, 100))
		},
		"noise": func(r *rand.Rand, c net.Conn) {
			b := make([]byte, r.IntN(5000))
			for i := range b {
				b[i] = byte(r.UintN(256))
			}
			_, _ = c.Write(b)
			_, _ = io.Copy(io.Discard, io.LimitReader(c, 100))
		},
		"never reads": func(r *rand.Rand, c net.Conn) {
			question := bytes.Repeat([]byte(harness.Frame("auth:joe:still.example:x")), 1000)
			for range 20 {
				if _, err := c.Write(question); err != nil {
					return
				}
			}
		},
	}
}

// Peers that misbehave in every way on every front, all at once, do not disturb those that do
// not, and leave nothing behind.
func TestChaosPeers(t *testing.T) {
	t.Parallel()
	app := newChaosApp(t, newCredentials(), "127.0.0.84", nil)
	c, s := chaosServer(t, app, withLongDeadlines(chaosConfig("http://"+app.address, "", chaosQuery.String(), chaosVerify.String())))
	before := usageOf(t, s.Cmd.Process.Pid)
	fronts := chaosFronts(s.Address)
	random := rand.New(rand.NewPCG(c.seed, 99))
	for range chaosTimes(t, 2, 40) {
		var wg sync.WaitGroup
		for _, peer := range badPeers() {
			for _, f := range fronts {
				own := rand.New(rand.NewPCG(random.Uint64(), 1))
				wg.Go(func() {
					conn, err := f.connect()
					if err != nil {
						t.Errorf("%s: %v", f.name, err)
						return
					}
					defer conn.Close()
					_ = conn.SetDeadline(time.Now().Add(time.Second))
					peer(own, conn)
				})
			}
		}
		wg.Wait()
		c.answered(10)
	}
	c.stop()
	harness.WaitFor(t, "nothing to be left behind", func() bool { return usageOf(t, s.Cmd.Process.Pid).near(before) })
}

// Ten thousand connections at once, of which each is answered.
func TestChaosConnections(t *testing.T) {
	const many = 10_000
	allowFiles(t, many+2000)
	s, _ := harness.UsersServer(t)
	address := s.Address("generic")
	// While so many come on a busy machine, a question to the backend may not have its turn in time.
	harness.WaitFor(t, "a first login", func() bool { return harness.Exchange(t, address, harness.JoeLine) == "1\n" })
	before := usageOf(t, s.Cmd.Process.Pid)
	conns := make([]net.Conn, many)
	defer func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	begun := time.Now()
	var wg sync.WaitGroup
	for part := range 50 {
		wg.Go(func() {
			for i := part; i < many; i += 50 {
				c, err := net.DialTimeout("tcp", address, harness.Timeout)
				if err != nil {
					t.Error(err)
					return
				}
				conns[i] = c
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for part := range 50 {
		wg.Go(func() { askAll(t, conns, part, 50) })
	}
	wg.Wait()
	full := usageOf(t, s.Cmd.Process.Pid)
	t.Logf("%d connections were answered %v after the first; %d KiB each", many,
		time.Since(begun).Round(time.Millisecond), (full.resident-before.resident)/many)
	for i, c := range conns {
		_ = c.Close()
		conns[i] = nil
	}
	harness.WaitFor(t, "the connections to be gone", func() bool { return usageOf(t, s.Cmd.Process.Pid).files <= before.files+4 })
}

// askAll asks a question on every step-th of some connections, one after the other.
func askAll(t *testing.T, conns []net.Conn, first, step int) {
	for i := first; i < len(conns); i += step {
		c := conns[i]
		_ = c.SetDeadline(time.Now().Add(harness.Timeout))
		password, want := "secret", "1\n"
		if i%3 == 0 {
			password, want = fmt.Sprint("wrong", i%9), "0\n"
		}
		reply := make([]byte, 2)
		_, err := fmt.Fprintf(c, "auth:joe:dom.example:%s\n", password)
		if err == nil {
			_, err = io.ReadFull(c, reply)
		}
		if err != nil || string(reply) != want {
			t.Errorf("connection %d was answered %q, %v; want %q", i, reply, err, want)
			return
		}
	}
}

// allowFiles lets this process and those that it starts open so many files.
func allowFiles(t *testing.T, files uint64) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur >= files {
		return
	}
	was := limit
	limit.Cur, limit.Max = files, max(limit.Max, files)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatalf("the test needs %d file descriptors: %v", files, err)
	}
	t.Cleanup(func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was) })
}
