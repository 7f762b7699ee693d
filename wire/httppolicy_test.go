package wire

import (
	"net/netip"
	"testing"
)

// TestPolicy has what Dovecot 2.3 and 2.4 send.
func TestPolicy(t *testing.T) {
	local, other := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.77")
	for _, c := range []struct {
		name, method, query, body string
		peer                      netip.Addr
		want                      Policy
		none                      bool
	}{
		{"before a login", "POST", "command=allow", `{"device_id":"","login":"Joe@DOM.example","protocol":"imap","pwhash":"05de","remote":"192.0.2.1","session_id":"x","tls":false}`, local,
			Policy{User: "Joe", Domain: "dom.example", Client: "192.0.2.1", Hash: "05de"}, false},
		{"a wrong password", "POST", "command=report", `{"login":"joe","pwhash":"05","remote":"2001:DB8::1","success":false,"policy_reject":false,"tls":false}`, local,
			Policy{Report: true, Refused: true, User: "joe", Domain: "def.example", Client: "2001:DB8::1", Hash: "05"}, false},
		{"with its reason", "POST", "command=report", `{"login":"joe","remote":"::ffff:192.0.2.1","success":false,"policy_reject":false,"fail_type":"credentials"}`, local,
			Policy{Report: true, Refused: true, User: "joe", Domain: "def.example", Client: "::ffff:192.0.2.1"}, false},
		{"a passdb that is down", "POST", "command=report", `{"login":"joe","remote":"192.0.2.1","success":false,"fail_type":"internal"}`, local,
			Policy{Report: true, User: "joe", Domain: "def.example", Client: "192.0.2.1"}, false},
		{"refused by policy", "POST", "command=report", `{"login":"joe","remote":"192.0.2.1","success":false,"policy_reject":true}`, local,
			Policy{Report: true, User: "joe", Domain: "def.example", Client: "192.0.2.1"}, false},
		{"a right password", "POST", "command=report", `{"login":"joe","remote":"192.0.2.1","success":true,"policy_reject":false}`, local,
			Policy{Report: true, User: "joe", Domain: "def.example", Client: "192.0.2.1"}, false},
		{"from another machine", "POST", "command=allow", `{"login":"joe","remote":"192.0.2.1"}`, other, Policy{User: "joe", Domain: "def.example"}, false},
		{"no address", "POST", "command=allow", `{"login":"joe","remote":"localhost"}`, local, Policy{User: "joe", Domain: "def.example"}, false},
		{"no name", "POST", "command=report", `{"login":"","remote":"192.0.2.1","success":false}`, local, Policy{Report: true, Refused: true, Client: "192.0.2.1"}, false},
		{"an empty domain", "POST", "command=allow", `{"login":"joe@","remote":"192.0.2.1"}`, local, Policy{Client: "192.0.2.1"}, false},
		{"a control character", "POST", "command=allow", `{"login":"j\u0000oe","remote":"192.0.2.1"}`, local, Policy{Client: "192.0.2.1"}, false},
		{"no JSON", "POST", "command=report", `login=joe`, local, Policy{}, false},
		{"other types", "POST", "command=report", `{"login":["joe"]}`, local, Policy{}, false},
		{"no query", "POST", "%zz", `{}`, local, Policy{}, false},
		{"by GET", "GET", "command=allow", "", local, Policy{}, true},
	} {
		got, ok := testHTTP("").Policy(&HTTPRequest{Method: c.method, Path: policyPath, Query: c.query, Body: []byte(c.body), Peer: c.peer})
		if got != c.want || ok == c.none {
			t.Errorf("%s: %+v, %v; want %+v", c.name, got, ok, c.want)
		}
	}
	if _, ok := testHTTP("").Policy(&HTTPRequest{Method: "POST", Path: "/dovecot/passdb"}); ok {
		t.Error("another path is taken for it")
	}
}

// A body of any kind is about one account of a domain, and an address, or about nobody.
func FuzzPolicy(f *testing.F) {
	f.Add("command=allow", []byte(`{"login":"joe@dom.example","remote":"192.0.2.1","pwhash":"05de"}`))
	f.Add("command=report", []byte(`{"login":"joe","remote":"2001:db8::1","success":false,"policy_reject":false,"fail_type":"credentials"}`))
	f.Add("command=report&command=allow", []byte(`{"login":"@","remote":"fe80::1%eth0"}`))
	f.Fuzz(func(t *testing.T, query string, body []byte) {
		p, ok := testHTTP("").Policy(&HTTPRequest{Method: "POST", Path: policyPath, Query: query, Body: body})
		switch {
		case !ok, p.Refused && !p.Report, p.User != "" && p.Domain == "":
			t.Fatalf("%q %q: %+v, %v", query, body, p, ok)
		case p.Client != "":
			if _, err := netip.ParseAddr(p.Client); err != nil {
				t.Fatalf("the client is %q", p.Client)
			}
		}
	})
}
