package chaos

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"postern/cmd/e2e/harness"
)

// nameServer is a DNS server that knows one address for every name, until it does not.
type nameServer struct {
	conn  *net.UDPConn
	fault atomic.Int32 // 0: none; or the code of its answers; below 0: no answer
}

// Codes of DNS.
const (
	dnsFailed  = 2
	dnsNoName  = 3
	dnsSilence = -1
)

func newNameServer(t *testing.T, host string, answer net.IP) *nameServer {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(host), Port: 53})
	if err != nil {
		t.Fatalf("a name server on %s, for which the tests must be root: %v", host, err)
	}
	s, done := &nameServer{conn: conn}, make(chan struct{})
	go func() {
		defer close(done)
		query := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFromUDP(query)
			if err != nil {
				return
			}
			if reply := s.reply(query[:n], answer.To4()); reply != nil {
				_, _ = conn.WriteToUDP(reply, from)
			}
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return s
}

// reply answers a query of one question; nil is no answer.
func (s *nameServer) reply(query []byte, address net.IP) []byte {
	const header = 12
	fault := s.fault.Load()
	end := header
	for end < len(query) && query[end] != 0 {
		end += int(query[end]) + 1
	}
	if end+5 > len(query) || fault < 0 {
		return nil
	}
	kind := int(query[end+1])<<8 | int(query[end+2])
	b := append([]byte(nil), query[:2]...)
	b = append(b, 0x81, 0x80|byte(fault), 0, 1, 0, 0, 0, 0, 0, 0)
	b = append(b, query[header:end+5]...)
	if kind == 1 && fault == 0 { // an address of IP version 4, for no time at all
		b[7] = 1
		b = append(b, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		b = append(b, address...)
	}
	return b
}

// The backend's name cannot be looked up any more: in every way in which that happens.
func TestChaosNames(t *testing.T) {
	t.Parallel()
	app := newChaosApp(t, newCredentials(), "127.0.0.85", nil)
	host := fmt.Sprintf("127.53.%d.%d", os.Getpid()>>8&255, os.Getpid()&255) // the port is given: no other run may use the address
	names := newNameServer(t, host, net.ParseIP("127.0.0.85"))
	resolver := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolver, []byte("nameserver "+host+"\noptions timeout:1 attempts:1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(app.address)
	config := harness.ConfigFile(t, t.TempDir(), withLongDeadlines(chaosConfig("http://app.chaos.test:"+port, "", chaosQuery.String(), chaosVerify.String())))
	harness.OK(t, chaosPassword("joe@still.example", 0)+"\n", "user", "add", "joe@still.example", "--config", config)
	// In a mount namespace of its own the daemon asks our name server.
	s := serveChaos(t, config, harness.Program(t, "unshare"), "-m", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, resolver)
	c := newChaos(t, app.credentials, chaosVerify, chaosFronts(s.Address))
	for range chaosTimes(t, 1, 10) {
		for name, fault := range map[string]int32{"no such name": dnsNoName, "name server failed": dnsFailed, "name server silent": dnsSilence} {
			c.fault(name, func() { names.fault.Store(fault); app.becomes(lastReply) },
				func() { c.answered(12) }, func() { names.fault.Store(0); app.becomes(httpReply(200)) })
		}
	}
	c.stop()
	s.Eventually("the log says that the backend cannot be reached", func() bool { return strings.Contains(s.Log.String(), "cannot connect") })
}
