package valkeystore

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/store/valkeystore/valkeytest"
)

func check(t *testing.T, o Options) Health {
	t.Helper()
	if o.Prefix == "" {
		o.Prefix = "postern:"
	}
	h, err := Check(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestCheck: each fault of a server is found, and none where there is none.
func TestCheck(t *testing.T) {
	valkeytest.Each(t, func(t *testing.T, start starter) {
		server := start(t, "--appendonly", "yes")
		at := Options{Addresses: []string{server.Address}}
		h := check(t, at)
		if h.Policy != "noeviction" || !h.AppendOnly || h.DiskFailing || h.Full != 0 || h.Refusing != "" || len(h.Denied) != 0 || h.Guided || len(h.Silent) != 0 ||
			h.Major < 7 || h.RoundTrip <= 0 || h.Heard <= 0 || h.Ahead.Abs() > time.Minute {
			t.Errorf("a good server: %+v", h)
		}
		if left := server.Do("PTTL", "postern:"+probe); strings.HasPrefix(left, ":-1") {
			t.Errorf("what the check writes stays: %q", left)
		}

		server.Want("+OK", "CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "appendonly", "no")
		if h := check(t, at); h.Policy != "allkeys-lru" || h.AppendOnly {
			t.Errorf("a server that evicts and forgets: %+v", h)
		}
		server.Want("+OK", "CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1")
		if h := check(t, at); h.Full < 100 || !strings.Contains(h.Refusing, "OOM") {
			t.Errorf("a full server: %+v", h)
		}
		server.Want("+OK", "CONFIG", "SET", "maxmemory", "0")
		server.Want("+OK", "ACL", "SETUSER", "few", "on", ">secret", "~postern:*", "&*", "-@all", "+get", "+getrange", "+set", "+del", "+evalsha", "+eval", "+info", "+time", "+hello", "+auth", "+client")
		few := at
		few.Username, few.Password = "few", auth.NewSecret("secret")
		if h := check(t, few); !strings.Contains(strings.Join(h.Denied, "; "), "'unlink'") || !strings.Contains(strings.Join(h.Denied, "; "), "'scan'") ||
			!strings.Contains(strings.Join(h.Denied, "; "), "'xadd'") || !strings.Contains(strings.Join(h.Denied, "; "), "'xrange'") {
			t.Errorf("a user without some commands: %+v", h)
		}
		few.Prefix = "else:"
		if _, err := Check(few); err == nil || !strings.Contains(err.Error(), "NOPERM") {
			t.Errorf("a user with other keys: %v", err)
		}
		server.Want("+OK", "ACL", "SETUSER", "few", "-client|tracking")
		few.Prefix = "postern:"
		if _, err := Check(few); err == nil || !strings.Contains(err.Error(), "tracking") {
			t.Errorf("a user who may not be told of changes: %v", err)
		}
	})
}

// TestCheckGuides: a Sentinel that does not answer, and a server without a replica.
func TestCheckGuides(t *testing.T) {
	t.Parallel()
	sentinels, o := guided(t)
	eventually(t, "the check works", func() bool { o := o; o.Prefix = "postern:"; _, err := Check(o); return err == nil })
	sentinels[2].Kill()
	if h := check(t, o); !h.Guided || h.Replicas != 0 || len(h.Silent) != 1 || !strings.HasPrefix(h.Silent[0], sentinels[2].Address) {
		t.Errorf("%+v", h)
	}
}

// TestCheckSlow: a server that is far away.
func TestCheckSlow(t *testing.T) {
	t.Parallel()
	const delay = 15 * time.Millisecond
	port := valkeytest.Port(t)
	valkeytest.Start(t, valkeytest.Local(port)...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", "127.0.0.1:"+port)
			if err != nil {
				_ = near.Close()
				return
			}
			go relay(far, near, delay)
			go relay(near, far, 0)
		}
	}()
	if h := check(t, Options{Addresses: []string{l.Addr().String()}}); h.RoundTrip < delay {
		t.Errorf("a round trip of %v", h.RoundTrip)
	}
}

// relay passes on what one connection sends, each piece after a delay.
func relay(to, from net.Conn, delay time.Duration) {
	defer to.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		time.Sleep(delay)
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if err != io.EOF {
				_ = from.Close()
			}
			return
		}
	}
}
