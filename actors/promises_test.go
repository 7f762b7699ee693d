package actors

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"testing"

	"postern/internal/auth"
	"postern/internal/cache"
)

// saslauthdLogin is a request of the saslauthd protocol.
func saslauthdLogin(user, password string) (b []byte) {
	for _, field := range []string{user, password, "smtp", "dom.example"} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(field)))
		b = append(b, field...)
	}
	return b
}

// TestOneLoginForManyConnections: a thousand connections that log in the same user with the
// same password at the same time cost one question to the backend and one hash.
func TestOneLoginForManyConnections(t *testing.T) {
	const n = 1000
	g := newGate()
	disk := openStore(t)
	r := newRig(t, func(s *setup) {
		s.fake.ask = g.ask
		onDisk(s, disk)
	})
	address := r.listen(listenerBlock("generic"))
	var conns []client
	for range n {
		c := r.dial(address)
		if _, err := io.WriteString(c, "auth:joe:dom.example:good\n"); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	eventually(t, "all logins to be under way", func() bool { return r.inFlight.Load() == n })
	g.open()
	for i, c := range conns {
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "1\n" {
			t.Fatalf("connection %d was answered %q: %v", i, line, err)
		}
	}
	if asked := r.fake.asked.Load(); asked != 1 {
		t.Errorf("the backend was asked %d times", asked)
	}

	eventually(t, "the hash on disk", func() bool {
		_, err := disk.Get(cache.RecordKey(auth.Identity{User: "joe", Domain: "dom.example"}))
		return err == nil
	})
	all, err := r.CacheStats(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if s := all["dom.example"]; s.Hashes != 1 || s.Compares != 0 {
		t.Errorf("%d hashes were made and %d compared, want one and none", s.Hashes, s.Compares)
	}
}

// TestIdleSaslauthdClients: connections that ask nothing keep nobody from asking, as five do
// with Cyrus saslauthd.
func TestIdleSaslauthdClients(t *testing.T) {
	const n = 1000
	r := newRig(t, nil)
	address := r.listenOn("unix", listenerBlock("saslauthd"))
	for range n {
		r.dial(address)
	}
	eventually(t, "all connections to be accepted", func() bool { open, _ := r.Connections(); return open == n })
	if out := r.exchange(address, string(saslauthdLogin("joe", "good"))); len(out) < 4 || out[2:4] != "OK" {
		t.Errorf("behind %d idle connections answered %q", n, out)
	}
	if open, _ := r.Connections(); open < n {
		t.Errorf("only %d connections are open", open)
	}
}

// TestGoroutinesPerConnection: a connection has a reader, and its actor at most one more.
func TestGoroutinesPerConnection(t *testing.T) {
	const n = 500 // the dispatcher keeps up to 256 goroutines besides
	for _, protocol := range []string{"generic", "dovecot", "ejabberd"} {
		t.Run(protocol, func(t *testing.T) {
			r := newRig(t, nil)
			address := r.listen(listenerBlock(protocol))
			r.auth("joe", "good")
			idle := runtime.NumGoroutine()
			for i := range n {
				c := r.dial(address)
				if protocol != "generic" {
					continue
				}
				if _, err := fmt.Fprintf(c, "auth:user%d:dom.example:good\n", i); err != nil {
					t.Fatal(err)
				}
				if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "all connections to be accepted", func() bool { open, _ := r.Connections(); return open == n })
			eventually(t, "at most two goroutines for each", func() bool { return runtime.NumGoroutine()-idle <= 2*n })
		})
	}
}
