package limit

import "net/netip"

// bitsOf6 is how much of an IPv6 address tells one customer of a network from the next.
const bitsOf6 = 56

// Network is what refusals from an address are counted by: an IPv4 address, or 56 bits of an
// IPv6 one. ok is false for what is no address, and for those in exempt.
func Network(address string, exempt []netip.Prefix) (from netip.Prefix, ok bool) {
	if address == "" {
		return from, false
	}
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return from, false
	}
	addr = addr.Unmap().WithZone("")
	for _, p := range exempt {
		if p.Contains(addr) {
			return from, false
		}
	}
	bits := addr.BitLen()
	if addr.Is6() {
		bits = bitsOf6
	}
	from, err = addr.Prefix(bits)
	return from, err == nil
}
