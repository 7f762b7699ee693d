package wire

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// two is a header of version 2.
func two(command, family byte, rest string) string {
	return proxyTwo + string([]byte{command, family, byte(len(rest) >> 8), byte(len(rest))}) + rest
}

const (
	four = "\xc0\x00\x02\x01" + "\xc0\x00\x02\x09" + "\x12\x67" + "\x03\xe1"                                                 // from 192.0.2.1:4711
	six  = "\x20\x01\x0d\xb8" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" + "0123456789abcdef" + "\x12\x67\x03\xe1" // from 2001:db8::7
	tlv  = "\x04\x00\x03abc"
)

var proxyHeaders = []struct {
	text string
	from string // "": the proxy speaks for itself
	err  error
}{
	{"PROXY TCP4 192.0.2.1 192.0.2.9 4711 993\r\n", "192.0.2.1:4711", nil},
	{"PROXY TCP6 2001:db8::7 2001:db8::9 4711 993\r\n", "[2001:db8::7]:4711", nil},
	{"PROXY TCP6 ::ffff:192.0.2.1 ::1 4711 993\r\n", "192.0.2.1:4711", nil},
	{"PROXY TCP4 192.0.2.1 192.0.2.9 0 65535\r\n", "192.0.2.1:0", nil},
	{"PROXY UNKNOWN\r\n", "", nil},
	{"PROXY UNKNOWN ffff::1 x y\r\n", "", nil},
	{two(0x21, 0x11, four), "192.0.2.1:4711", nil},
	{two(0x21, 0x11, four+tlv), "192.0.2.1:4711", nil},
	{two(0x21, 0x21, six), "[2001:db8::7]:4711", nil},
	{two(0x20, 0x11, ""), "", nil},
	{two(0x20, 0x11, four), "", nil},
	{two(0x20, 0x00, ""), "", nil},
	{two(0x21, 0x00, tlv), "", nil},

	{"", "", ErrProxyMore},
	{"P", "", ErrProxyMore},
	{"PROXY TCP4 192.0.2.1 192.0.2.9 4711 993\r", "", ErrProxyMore},
	{"\r\n", "", ErrProxyMore},
	{two(0x21, 0x11, four)[:20], "", ErrProxyMore},

	{"auth:joe:dom.example:secret\n", "", ErrNoProxy},
	{"PROXYTCP4 192.0.2.1 192.0.2.9 4711 993\r\n", "", ErrNoProxy},
	{"PROXY TCP4 192.0.2.1 192.0.2.9 4711 993\n", "", ErrNoProxy},
	{"PROXY TCP4  192.0.2.1 192.0.2.9 4711 993\r\n", "", ErrNoProxy},
	{"PROXY TCP4 192.0.2.1 192.0.2.9 4711\r\n", "", ErrNoProxy},
	{"PROXY TCP4 192.0.2.1 192.0.2.9 4711 993 \r\n", "", ErrNoProxy},
	{"PROXY TCP4 192.0.2.01 192.0.2.9 4711 993\r\n", "", ErrNoProxy},
	{"PROXY TCP4 192.0.2.1 ::1 4711 993\r\n", "", ErrNoProxy},
	{"PROXY TCP6 192.0.2.1 192.0.2.9 4711 993\r\n", "", ErrNoProxy},
	{"PROXY TCP6 fe80::1%eth0 ::1 4711 993\r\n", "", ErrNoProxy},
	{"PROXY TCP4 192.0.2.1 192.0.2.9 +4711 993\r\n", "", ErrNoProxy},
	{"PROXY TCP4 192.0.2.1 192.0.2.9 04711 993\r\n", "", ErrNoProxy},
	{"PROXY TCP4 192.0.2.1 192.0.2.9 4711 65536\r\n", "", ErrNoProxy},
	{"PROXY UDP4 192.0.2.1 192.0.2.9 4711 993\r\n", "", ErrNoProxy},
	{"PROXY UNKNOWN " + strings.Repeat("x", 100) + "\r\n", "", ErrNoProxy},
	{"PROXY \n", "", ErrNoProxy},
	{"\r\n\r\n\x00\r\nQUIX\n", "", ErrNoProxy},
	{two(0x11, 0x11, four), "", ErrNoProxy},                     // version 1
	{two(0x22, 0x11, four), "", ErrNoProxy},                     // no command
	{two(0x21, 0x12, four), "", ErrNoProxy},                     // UDP
	{two(0x21, 0x13, four), "", ErrNoProxy},                     // no transport
	{two(0x21, 0x31, strings.Repeat("x", 216)), "", ErrNoProxy}, // a Unix socket
	{two(0x21, 0x11, four[:11]), "", ErrNoProxy},
	{two(0x21, 0x21, four), "", ErrNoProxy},
	{two(0x21, 0x11, four+strings.Repeat("x", MaxProxyHeader)), "", ErrNoProxy},
}

func TestProxyHeader(t *testing.T) {
	for _, c := range proxyHeaders {
		const more = "auth:joe"
		text := c.text
		if !errors.Is(c.err, ErrProxyMore) {
			text += more
		}
		from, n, err := ProxyHeader([]byte(text))
		var want netip.AddrPort
		if c.from != "" {
			want = netip.MustParseAddrPort(c.from)
		}
		size := len(c.text)
		if c.err != nil {
			size = 0
		}
		if !errors.Is(err, c.err) || from != want || n != size {
			t.Errorf("%.60q: %v, %d, %v; want %v, %d, %v", c.text, from, n, err, want, size, c.err)
		}
	}
}

// A header in pieces is the one in a piece, and no more is taken than belongs to it.
func FuzzProxyHeader(f *testing.F) {
	for _, c := range proxyHeaders {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		from, n, err := ProxyHeader(data)
		switch {
		case err == nil && (n <= 0 || n > len(data) || n > MaxProxyHeader):
			t.Fatalf("%q: %d bytes", data, n)
		case err != nil && (n != 0 || from.IsValid()):
			t.Fatalf("%q: %v, %d beside %v", data, from, n, err)
		case from.Addr().Is4In6() || from.Addr().Zone() != "":
			t.Fatalf("%q: %v", data, from)
		case errors.Is(err, ErrProxyMore) && len(data) > MaxProxyHeader:
			t.Fatalf("%d bytes are not enough", len(data))
		}
		end := len(data)
		if err == nil {
			end = n
			if again, m, err := ProxyHeader(data[:n]); again != from || m != n || err != nil {
				t.Fatalf("%q: without what follows it is %v, %d, %v", data, again, m, err)
			}
		}
		for i := range min(end, 300) {
			if _, _, early := ProxyHeader(data[:i]); early == nil || errors.Is(early, ErrNoProxy) && !errors.Is(err, ErrNoProxy) {
				t.Fatalf("%q: after %d bytes %v, after all %v", data, i, early, err)
			}
		}
	})
}
