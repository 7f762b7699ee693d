// Package proxies finds out which client a request comes from that a reverse proxy passes on.
package proxies

import (
	"net/netip"
	"strings"
)

// Trusted are the networks of the peers that may name the address of a client.
type Trusted []netip.Prefix

// Trusts reports whether a peer is among them. One without an address, at the other end of a Unix socket, always is.
func (t Trusted) Trusts(peer netip.Addr) bool {
	if !peer.IsValid() {
		return true
	}
	peer = peer.Unmap()
	for _, network := range t {
		if network.Contains(peer) {
			return true
		}
	}
	return false
}

// Client returns the address of a proxy's visitor, which is not valid if no trusted peer names it: the last one in
// X-Forwarded-For that is no trusted proxy's, since a visitor may have sent those before it. Without the header,
// X-Real-Ip has it. The names of the headers are canonical.
func (t Trusted) Client(peer netip.Addr, header map[string][]string) netip.Addr {
	if !t.Trusts(peer) {
		return netip.Addr{}
	}
	chain := strings.Split(strings.Join(header["X-Forwarded-For"], ","), ",")
	for i := len(chain) - 1; i >= 0; i-- {
		text := strings.TrimSpace(chain[i])
		if text == "" && len(chain) == 1 {
			if real := header["X-Real-Ip"]; len(real) > 0 {
				return address(real[0])
			}
			return netip.Addr{}
		}
		client := address(text)
		if !client.IsValid() || i == 0 || !t.Trusts(client) {
			return client
		}
	}
	return netip.Addr{}
}

// address parses an address. One with a zone is none: it means nothing on another machine.
func address(text string) netip.Addr {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}
	}
	return a.Unmap()
}
