package status

import (
	"net/netip"
	"strings"
	"unicode/utf8"
)

// ShortenUser leaves the first letter of a user, and the domain: "a…@example.org". A user of one letter is gone.
func ShortenUser(name string) string {
	user, domain, address := name, "", false
	if at := strings.LastIndexByte(name, '@'); at >= 0 {
		user, domain, address = name[:at], name[at:], true
	}
	if user == "" && !address {
		return name
	}
	first, size := utf8.DecodeRuneInString(user)
	if size == len(user) || first == utf8.RuneError {
		return "…" + domain
	}
	return user[:size] + "…" + domain
}

// ShortenAddress leaves the network of an address, of 24 or 48 bits, or of a network that is larger already.
func ShortenAddress(address string) string {
	if address == "" {
		return ""
	}
	network, err := netip.ParsePrefix(address)
	if err != nil {
		a, err := netip.ParseAddr(address)
		if err != nil {
			return "…"
		}
		network = netip.PrefixFrom(a.Unmap().WithZone(""), a.Unmap().BitLen())
	}
	most := 48
	if network.Addr().Is4() {
		most = 24
	}
	if network.Bits() < most {
		return network.Masked().String()
	}
	return netip.PrefixFrom(network.Addr(), most).Masked().String()
}

// ShortenText takes from a text the names given and whatever is in quotes: a reason, or a backend's error, may repeat
// what a client has sent.
func ShortenText(text string, names ...string) string {
	for _, name := range names {
		if len(name) > 1 {
			text = strings.ReplaceAll(text, name, "…")
		}
	}
	var out strings.Builder
	for {
		begin := strings.IndexByte(text, '"')
		if begin < 0 {
			return out.String() + text
		}
		out.WriteString(text[:begin] + `"…"`)
		end := closing(text[begin+1:])
		if end < 0 {
			return out.String()
		}
		text = text[begin+1+end+1:]
	}
}

// closing returns where a quoted text ends, or -1. A backslash takes the next byte with it.
func closing(text string) int {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}
