package proxies

import (
	"net/netip"
	"testing"
)

func TestClient(t *testing.T) {
	trusted := Trusted{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	local, socket := netip.MustParseAddr("127.0.0.1"), netip.Addr{}
	for name, c := range map[string]struct {
		peer netip.Addr
		xff  []string
		real string
		want string
	}{
		"a proxy names it":           {local, []string{"192.0.2.1"}, "", "192.0.2.1"},
		"on a socket":                {socket, []string{"192.0.2.1"}, "", "192.0.2.1"},
		"as IPv6":                    {netip.MustParseAddr("::ffff:127.0.0.1"), []string{"::ffff:192.0.2.1"}, "", "192.0.2.1"},
		"a stranger names it":        {netip.MustParseAddr("192.0.2.9"), []string{"192.0.2.1"}, "192.0.2.1", ""},
		"a client has named another": {local, []string{"203.0.113.7, 192.0.2.1"}, "", "192.0.2.1"},
		"two proxies":                {local, []string{"203.0.113.7, 192.0.2.1", "10.0.0.1"}, "", "192.0.2.1"},
		"proxies only":               {local, []string{"10.0.0.2, 10.0.0.1"}, "", "10.0.0.2"},
		"no address":                 {local, []string{"203.0.113.7, unknown"}, "", ""},
		"a zone":                     {local, []string{"fe80::1%eth0"}, "", ""},
		"X-Real-Ip":                  {local, nil, "192.0.2.1", "192.0.2.1"},
		"X-Real-Ip beside":           {local, []string{"192.0.2.2"}, "192.0.2.1", "192.0.2.2"},
		"nothing":                    {local, nil, "", ""},
	} {
		header := map[string][]string{}
		if c.xff != nil {
			header["X-Forwarded-For"] = c.xff
		}
		if c.real != "" {
			header["X-Real-Ip"] = []string{c.real}
		}
		got := trusted.Client(c.peer, header)
		if c.want == "" && got.IsValid() || c.want != "" && got.String() != c.want {
			t.Errorf("%s: %v; want %q", name, got, c.want)
		}
	}
}
