package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// The PROXY protocol of HAProxy, versions 1 and 2: a header at the beginning of a connection says where it came
// from, before a proxy took it. https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt

// Errors of ProxyHeader.
var (
	// ErrProxyMore means that the header is not complete.
	ErrProxyMore = errors.New("the PROXY header is not complete")
	// ErrNoProxy means that there is no header, or a malformed one.
	ErrNoProxy = errors.New("no PROXY header")
)

// MaxProxyHeader is how many bytes a header may have. Those of version 2 may bring more than addresses, such as the
// name that a TLS client has asked for.
const MaxProxyHeader = 4096

const (
	proxyOne       = "PROXY "
	maxProxyOne    = 107 // bytes of a header of version 1, with its line end
	proxyTwo       = "\r\n\r\n\x00\r\nQUIT\n"
	proxyTwoHeader = len(proxyTwo) + 4
)

// ProxyHeader decodes the header at the beginning of what a connection has sent, and returns its size. from is not
// valid if the proxy speaks for itself, as in a health check, or does not say. The error is ErrProxyMore or
// ErrNoProxy.
func ProxyHeader(buf []byte) (from netip.AddrPort, n int, err error) {
	if len(buf) == 0 {
		return from, 0, ErrProxyMore
	}
	if buf[0] == proxyTwo[0] {
		return proxyHeaderTwo(buf)
	}
	return proxyHeaderOne(buf)
}

// mayBegin reports whether buf begins with a text, or might with more bytes.
func mayBegin(buf []byte, text string) bool {
	return string(buf[:min(len(buf), len(text))]) == text[:min(len(buf), len(text))]
}

// proxyHeaderOne decodes version 1: "PROXY TCP4 192.0.2.1 192.0.2.9 4711 993" and CR LF.
func proxyHeaderOne(buf []byte) (from netip.AddrPort, n int, err error) {
	if !mayBegin(buf, proxyOne) {
		return from, 0, ErrNoProxy
	}
	end := bytes.IndexByte(buf[:min(len(buf), maxProxyOne)], '\n')
	switch {
	case end < 0 && len(buf) >= maxProxyOne:
		return from, 0, ErrNoProxy
	case end < 0:
		return from, 0, ErrProxyMore
	case buf[end-1] != '\r':
		return from, 0, ErrNoProxy
	}
	fields := strings.Split(string(buf[len(proxyOne):end-1]), " ")
	if fields[0] == "UNKNOWN" { // the rest is to be ignored
		return from, end + 1, nil
	}
	if len(fields) != 5 || fields[0] != "TCP4" && fields[0] != "TCP6" {
		return from, 0, ErrNoProxy
	}
	source, sourceErr := netip.ParseAddr(fields[1])
	target, targetErr := netip.ParseAddr(fields[2])
	port, portErr := proxyPort(fields[3])
	_, otherErr := proxyPort(fields[4])
	if errors.Join(sourceErr, targetErr, portErr, otherErr) != nil || source.Zone() != "" || target.Zone() != "" ||
		source.Is4() != (fields[0] == "TCP4") || target.Is4() != source.Is4() {
		return from, 0, ErrNoProxy
	}
	return netip.AddrPortFrom(source.Unmap(), port), end + 1, nil
}

// proxyPort parses a port without a sign or leading zeros.
func proxyPort(text string) (uint16, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err == nil && strconv.FormatUint(port, 10) != text {
		err = ErrNoProxy
	}
	return uint16(port), err
}

// proxyHeaderTwo decodes version 2: a signature, version and command, family and transport, the length of the rest,
// and that: addresses, ports and more, which is skipped.
func proxyHeaderTwo(buf []byte) (from netip.AddrPort, n int, err error) {
	switch {
	case !mayBegin(buf, proxyTwo):
		return from, 0, ErrNoProxy
	case len(buf) < proxyTwoHeader:
		return from, 0, ErrProxyMore
	}
	command, family := buf[len(proxyTwo)], buf[len(proxyTwo)+1]
	n = proxyTwoHeader + int(binary.BigEndian.Uint16(buf[len(proxyTwo)+2:]))
	const local, proxied = 0x20, 0x21 // of version 2
	switch {
	case command != local && command != proxied || n > MaxProxyHeader:
		return from, 0, ErrNoProxy
	case len(buf) < n:
		return from, 0, ErrProxyMore
	}
	rest := buf[proxyTwoHeader:n]
	const unspecified, tcp4, tcp6 = 0x00, 0x11, 0x21
	size := map[byte]int{tcp4: 4, tcp6: 16}[family]
	switch {
	case command == local, family == unspecified:
		return from, n, nil
	case size == 0 || len(rest) < 2*size+4: // datagrams and Unix sockets do not come by TCP
		return from, 0, ErrNoProxy
	}
	address, _ := netip.AddrFromSlice(rest[:size])
	return netip.AddrPortFrom(address.Unmap(), binary.BigEndian.Uint16(rest[2*size:])), n, nil
}
