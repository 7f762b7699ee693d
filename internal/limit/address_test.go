package limit

import (
	"net/netip"
	"testing"
)

func TestNetwork(t *testing.T) {
	exempt := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("192.0.2.0/24")}
	for address, want := range map[string]string{
		"198.51.100.7":              "198.51.100.7/32",
		"::ffff:198.51.100.7":       "198.51.100.7/32",
		"2001:db8:1:2ff:3:4:5:6":    "2001:db8:1:2ff::/64",
		"2001:db8:1:201::1":         "2001:db8:1:201::/64",
		"fe80::1%eth0":              "fe80::/64",
		"127.3.2.1":                 "",
		"::1":                       "",
		"192.0.2.9":                 "",
		"::ffff:192.0.2.9":          "",
		"":                          "",
		"mail.example":              "",
		"198.51.100.7:993":          "",
		"198.51.100.256":            "",
		"2001:db8:1:2ff:3:4:5:6:7 ": "",
	} {
		from, ok := Network(address, exempt)
		if ok != (want != "") || ok && from.String() != want {
			t.Errorf("%q: %v, %v; want %q", address, from, ok, want)
		}
	}
}
