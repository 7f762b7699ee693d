package front

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/config"
)

// behindProxy is a listener to which only the proxies of a network may connect.
func behindProxy(protocol, proxies string) config.Listener {
	cfg := listenerBlock(protocol)
	cfg.ProxyProtocol, cfg.TrustedProxies = true, []netip.Prefix{netip.MustParsePrefix(proxies)}
	return cfg
}

// clients keeps the addresses that requests are for.
type clients struct {
	mu   sync.Mutex
	list []string
}

func (c *clients) of(r *rig) {
	r.router.backend = func(_ context.Context, q auth.Request) auth.Answer {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.list = append(c.list, q.Client)
		return goodPassword(q)
	}
}

// What the header of a trusted proxy says is the client's address of the requests that have none, and the rest of the
// connection is as without a proxy, however it comes in pieces.
func TestProxyHeaderOfTrustedProxy(t *testing.T) {
	const one, two = "PROXY TCP4 192.0.2.1 192.0.2.9 4711 993\r\n", "\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" + "0123456789abcdef" + "\x12\x67\x03\xe1"
	for _, c := range []struct{ protocol, header, request, reply, client string }{
		{"generic", one, "auth:joe:dom.example:good\n", "1\n", "192.0.2.1"},
		{"generic", two, "auth:joe:dom.example:good\n", "1\n", "2001:db8::7"},
		{"generic", "PROXY UNKNOWN\r\n", "auth:joe:dom.example:good\n", "1\n", ""},
		{"generic", "PROXY TCP4 127.0.0.5 192.0.2.9 1 2\r\n", "auth:joe:dom.example:good\n", "1\n", ""}, // a proxy as well
		{"saslauthd", one, fields("joe", "good", "imap", "dom.example") + string([]byte{0, 14}) + "203.0.113.5;99", "\x00\x0aOK", "203.0.113.5"},
		{"saslauthd", one, fields("joe", "good", "imap", "dom.example"), "\x00\x0aOK", "192.0.2.1"},
	} {
		for _, size := range []int{1, 7, 1 << 16} {
			if c.client == "203.0.113.5" && size < 1<<16 {
				continue // the answer does not wait for the fifth field
			}
			r, seen := newRig(t), &clients{}
			seen.of(r)
			conn := r.dial(r.listen(behindProxy(c.protocol, "127.0.0.0/8")))
			go func() {
				for text := c.header + c.request; text != ""; text = text[min(size, len(text)):] {
					_, _ = io.WriteString(conn, text[:min(size, len(text))])
				}
				_ = conn.CloseWrite()
			}()
			reply, err := io.ReadAll(conn)
			if err != nil || !strings.HasPrefix(string(reply), c.reply) || len(seen.list) != 1 || seen.list[0] != c.client {
				t.Errorf("%s after %.20q in pieces of %d: answered %q, %v, for %q", c.protocol, c.header, size, reply, err, seen.list)
			}
			r.stopped()
		}
	}
}

// A connection that is not from a trusted proxy, or that begins with something else than a header, is closed without
// an answer, and the log says which.
func TestProxyHeaderIsDemanded(t *testing.T) {
	const request = "auth:joe:dom.example:good\n"
	for _, c := range []struct{ proxies, text, log string }{
		{"192.0.2.0/24", "PROXY TCP4 192.0.2.1 192.0.2.9 4711 993\r\n" + request, "not from a trusted proxy"},
		{"127.0.0.0/8", request, "without the header"},
		{"127.0.0.0/8", "PROXY TCP4 192.0.2.1\r\n" + request, "without the header"},
		{"127.0.0.0/8", "PROXY TC", "without the header"}, // and no more
		{"127.0.0.0/8", "", ""}, // a health check
	} {
		r, seen := newRig(t), &clients{}
		seen.of(r)
		conn := r.dial(r.listen(behindProxy("generic", c.proxies)))
		_, _ = io.WriteString(conn, c.text)
		_ = conn.CloseWrite()
		if reply, _ := io.ReadAll(conn); len(reply) > 0 || len(seen.list) > 0 {
			t.Errorf("%q: answered %q, for %q", c.text, reply, seen.list)
		}
		r.stopped()
		if log := r.log.String(); c.log == "" && strings.Contains(log, "PROXY") || !strings.Contains(log, c.log) {
			t.Errorf("%q: the log says %s", c.text, log)
		}
	}
}

// A proxy that sends no header is not waited for: neither for long, nor by a stop.
func TestProxyHeaderThatDoesNotCome(t *testing.T) {
	r := newRig(t)
	address := r.listen(behindProxy("generic", "127.0.0.0/8"))
	conn := r.dial(address)
	_, _ = io.WriteString(conn, "PROXY ")
	begun := time.Now()
	if reply, err := io.ReadAll(conn); len(reply) > 0 || err != nil || time.Since(begun) < proxyTimeout/2 {
		t.Errorf("answered %q, %v, after %v", reply, err, time.Since(begun))
	}
	r.dial(address)
	r.gate.Drain()
	within(t, 10*time.Second, "Stop", func() { r.Stop(10 * time.Second) })
	r.stopped()
}

// By HTTP, the peer is what the header says: only where that is a trusted proxy as well, it may name a visitor.
func TestProxyHeaderAndHTTP(t *testing.T) {
	for from, want := range map[string]string{"203.0.113.9": "203.0.113.9", "127.0.0.7": "198.51.100.1"} {
		r, seen := newRig(t), &clients{}
		seen.of(r)
		cfg := webBlock()
		cfg.ProxyProtocol, cfg.TrustedProxies = true, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		conn := r.dial(r.listen(cfg))
		_, _ = fmt.Fprintf(conn, "PROXY TCP4 %s 192.0.2.9 4711 80\r\nGET /basic HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Postern-Secret: %s\r\n"+
			"X-Forwarded-For: 198.51.100.1\r\nAuthorization: Basic am9lQGRvbS5leGFtcGxlOmdvb2Q=\r\n\r\n", from, webSecret)
		reply, err := io.ReadAll(conn)
		if !strings.HasPrefix(string(reply), "HTTP/1.1 200") || err != nil || len(seen.list) != 1 || seen.list[0] != want {
			t.Errorf("from %s: %.40q, %v, for %q; want %s", from, reply, err, seen.list, want)
		}
		r.stopped()
	}
}
