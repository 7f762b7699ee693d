package limit

import "net/netip"

// bitsOf6 is the length of the prefix of one subnet of IPv6, in which a client picks its address.
const bitsOf6 = 64

// Network returns the network by which refusals from an address are counted: an IPv4 address, or 64
// bits of an IPv6 one. ok is false if the text is not an address, or is one in exempt.
func Network(address string, exempt []netip.Prefix) (from netip.Prefix, ok bool) {
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
