package wire

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"postern/internal/auth"
)

// httpVector is a case of testdata/wire_http.json. ask is what goes to a backend, refused what is refused
// without asking; the replies are by the answer, and fixed without one.
type httpVector struct {
	Name    string              `json:"name"`
	Method  string              `json:"method"`
	Path    string              `json:"path"`
	Query   string              `json:"query"`
	Header  map[string][]string `json:"header"`
	Body    string              `json:"body"`
	Peer    string              `json:"peer"`
	Ask     *httpAsked          `json:"ask"`
	Refused *httpAsked          `json:"refused"`

	Yes         *httpExpected `json:"yes"`
	No          *httpExpected `json:"no"`
	Unavailable *httpExpected `json:"unavailable"`
	Unsupported *httpExpected `json:"unsupported"`
	Fixed       *httpExpected `json:"fixed"`
}

type httpAsked struct {
	Op, User, Domain, Password, Service, Client string
	Named                                       bool
}

type httpExpected struct {
	Status int
	Header map[string]string
	Body   string
}

func loadHTTPVectors(tb testing.TB) (vectors []httpVector) {
	tb.Helper()
	text, err := os.ReadFile("testdata/wire_http.json")
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors) < 40 {
		tb.Fatalf("%d vectors, %v", len(vectors), err)
	}
	return vectors
}

func (v *httpVector) request() *HTTPRequest {
	r := &HTTPRequest{Method: v.Method, Path: v.Path, Query: v.Query, Header: v.Header, Body: []byte(v.Body)}
	if v.Peer != "" {
		r.Peer = netip.MustParseAddr(v.Peer)
	}
	return r
}

// testHTTP is the codec of the vectors.
func testHTTP(secret string) *HTTP {
	return NewHTTP(HTTPOptions{
		Secret: auth.NewSecret(secret), DefaultDomain: "def.example", Userdb: Userdb{"5000", "5000", "/m/%{domain}/%{user}"},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("10.0.0.0/8")},
		Mail:           map[string]netip.AddrPort{"imap": netip.MustParseAddrPort("127.0.0.1:143"), "pop3": netip.MustParseAddrPort("127.0.0.1:110"), "smtp": netip.MustParseAddrPort("127.0.0.1:25")},
	})
}

func (e *httpExpected) check(t *testing.T, what string, got HTTPReply) {
	t.Helper()
	if e == nil {
		return
	}
	if got.Status != e.Status || got.Body != e.Body || len(got.Header) != len(e.Header) {
		t.Errorf("%s: %+v, want %+v", what, got, *e)
	}
	for _, field := range got.Header {
		if e.Header[field[0]] != field[1] {
			t.Errorf("%s: %s is %q, want %q", what, field[0], field[1], e.Header[field[0]])
		}
	}
}

func TestHTTPVectors(t *testing.T) {
	h := testHTTP("")
	for _, v := range loadHTTPVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			req := auth.Request{User: "left over", Secret: auth.NewSecret("left over")}
			respond, ev := h.Decode(v.request(), &req)
			want := v.Ask
			switch {
			case v.Fixed != nil:
				if ev != Reply || req != (auth.Request{}) {
					t.Errorf("event %d, %+v", ev, req)
				}
				v.Fixed.check(t, "the reply", respond(auth.Answer{}))
				return
			case v.Ask != nil && ev != Ask, v.Refused != nil && ev != Refuse:
				t.Fatalf("event %d, fault %q", ev, req.Fault)
			case v.Refused != nil:
				want = v.Refused
			}
			got := httpAsked{req.Op.String(), req.User, req.Domain, req.Secret.Reveal(), req.Service, req.Client, req.Named}
			if v.Refused != nil {
				got.Service, got.Client, got.Named = "", "", false
				if strings.Contains(v.Name, "UTF-8") {
					got.User = strings.ToValidUTF8(got.User, "\ufffd")
				}
			}
			if got != *want {
				t.Errorf("asked %+v\n want %+v", got, *want)
			}
			v.Yes.check(t, "yes", respond(auth.Answer{Verdict: auth.Allow}))
			v.No.check(t, "no", respond(auth.Answer{Verdict: auth.Deny, Reason: "why"}))
			v.Unavailable.check(t, "unavailable", respond(auth.Answer{}))
			v.Unsupported.check(t, "unsupported", respond(auth.Answer{Verdict: auth.Unsupported}))
		})
	}
}

// The groups of an account that a web application is told of: not those of which only the absence is known, or with a
// name that would be read as two.
func TestRemoteGroups(t *testing.T) {
	for _, c := range []struct {
		has  []string
		want string
	}{
		{nil, ""}, {[]string{"staff"}, "staff"}, {[]string{"board", "staff"}, "staff,board"}, {[]string{"a,b", "staff", "\x01", " x", "jo é"}, "staff,jo é"},
		{[]string{strings.Repeat("x", 200), "staff"}, "staff"},
	} {
		var req auth.Request
		respond, _ := testHTTP("").Decode(&HTTPRequest{Method: "GET", Path: "/basic", Header: map[string][]string{"Authorization": {"Basic bWFpbDp4"}}}, &req)
		asked := []string{"staff", "board", "admins", "a,b", "\x01", " x", "jo é"}
		got := respond(auth.Answer{Verdict: auth.Allow, Domain: "def.example", Groups: auth.GroupsOf(asked, c.has)})
		if got.Status != 200 || len(got.Header) != 2 || got.Header[1] != [2]string{"Remote-Groups", c.want} {
			t.Errorf("%q: %+v, want %q", c.has, got, c.want)
		}
	}
	var all []string
	for i := range 1000 {
		all = append(all, fmt.Sprint("group", i))
	}
	if got := remoteGroups(auth.GroupsOf(all, all)); len(got) > maxRemoteGroups || len(got) < maxRemoteGroups/2 || strings.HasSuffix(got, ",") {
		t.Errorf("of many groups there are %d bytes", len(got))
	}
}

// TestHTTPAccounts: where a reply names the account, it is the backend's, with the domain that it has.
func TestHTTPAccounts(t *testing.T) {
	for name, c := range map[string]struct {
		account, domain string
		want            string
	}{
		"another account":         {"joe", "def.example", "joe"},
		"of another domain":       {"joe", "dom.example", "joe@dom.example"},
		"with its domain":         {"joe@def.example", "def.example", "joe"},
		"with control characters": {"jo\ne", "def.example", ""},
	} {
		var req auth.Request
		respond, _ := testHTTP("").Decode(&HTTPRequest{Method: "GET", Path: "/basic", Header: map[string][]string{"Authorization": {"Basic bWFpbDp4"}}}, &req)
		got := respond(auth.Answer{Verdict: auth.Allow, Account: c.account, Domain: c.domain})
		if c.want == "" && got.Status != 503 || c.want != "" && (got.Status != 200 || got.Header[0] != [2]string{"Remote-User", c.want}) {
			t.Errorf("%s: %+v", name, got)
		}
		header := map[string][]string{"Auth-Method": {"plain"}, "Auth-User": {"mail"}, "Auth-Pass": {"x"}, "Auth-Protocol": {"imap"}}
		respond, _ = testHTTP("").Decode(&HTTPRequest{Method: "GET", Path: "/nginx-mail", Header: header}, &req)
		got = respond(auth.Answer{Verdict: auth.Allow, Account: c.account, Domain: c.domain})
		if ok := strings.HasPrefix(got.Header[0][1], "OK"); ok != (c.want != "") || ok && got.Header[3][0] != "Auth-User" {
			t.Errorf("nginx, %s: %+v", name, got)
		}
	}
}

// TestHTTPAdmits: a request must have the secret, where its dialect has room for it.
func TestHTTPAdmits(t *testing.T) {
	const secret = "0123456789abcdef"
	basic := "Basic eDowMTIzNDU2Nzg5YWJjZGVm"
	for name, c := range map[string]struct {
		path, query, header, value string
		want                       bool
	}{
		"none":                      {"/dovecot/passdb", "", "", "", false},
		"header":                    {"/dovecot/passdb", "", "X-Postern-Secret", secret, true},
		"wrong header":              {"/dovecot/passdb", "", "X-Postern-Secret", secret + "0", false},
		"beginning":                 {"/dovecot/passdb", "", "X-Postern-Secret", secret[:15], false},
		"bearer":                    {"/auth_http/user_exists", "", "Authorization", "bearer " + secret, true},
		"password of Basic":         {"/auth_http/user_exists", "", "Authorization", basic, true},
		"query":                     {"/auth_http/user_exists", "secret=" + secret, "", "", false},
		"/basic, header":            {"/basic", "", "X-Postern-Secret", secret, true},
		"/basic, query":             {"/basic/dom.example", "secret=" + secret, "", "", true},
		"/basic, wrong query":       {"/basic", "secret=x", "", "", false},
		"/basic, a user with it":    {"/basic", "", "Authorization", basic, false},
		"/basic, bearer":            {"/basic", "", "Authorization", "Bearer " + secret, false},
		"/basic, the query twice":   {"/basic", "secret=" + secret + "&secret=" + secret, "", "", false},
		"an unknown path, the same": {"/", "", "X-Postern-Secret", secret, true},
	} {
		r := &HTTPRequest{Method: "GET", Path: c.path, Query: c.query, Header: map[string][]string{c.header: {c.value}}}
		if got := testHTTP(secret).Admits(r); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
		if !testHTTP("").Admits(r) {
			t.Errorf("%s: refused without a secret", name)
		}
	}
}

// TestHTTPLists: a list of users is of a domain, and has only names that can be asked about.
func TestHTTPLists(t *testing.T) {
	for body, want := range map[string]string{
		"domain=Dom.Example": "dom.example", "domain=": "def.example", "": "def.example", "domain=*": "", "domain=a%20b": "", "domain=a&domain=b": "",
	} {
		if got, ok := testHTTP("").Lists(&HTTPRequest{Method: "POST", Path: "/dovecot/users", Body: []byte(body)}); ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %t", body, got, ok)
		}
	}
	if _, ok := testHTTP("").Lists(&HTTPRequest{Method: "GET", Path: "/dovecot/users"}); ok {
		t.Error("a list is read by GET")
	}
	if got := UsersReply([]string{"joe", "a\nb", "", "ann"}, "dom.example", true); got.Status != 200 || got.Body != "joe@dom.example\nann@dom.example\n" {
		t.Errorf("%+v", got)
	}
	if got := UsersReply([]string{"joe"}, "dom.example", false); got.Status != 503 || strings.Contains(got.Body, "joe") {
		t.Errorf("%+v", got)
	}
}

// TestHTTPBrowser: what a browser sends because of a page is recognised, but for what a proxy passes on.
func TestHTTPBrowser(t *testing.T) {
	for header, want := range map[string]bool{"Origin": true, "Sec-Fetch-Site": true, "User-Agent": false} {
		for path, proxied := range map[string]bool{"/auth_http/check_password": false, "/basic": true, "/basic/dom.example": true, "/basics": false} {
			r := &HTTPRequest{Path: path, Header: map[string][]string{header: {"x"}}}
			if got := testHTTP("").Browser(r); got != (want && !proxied) {
				t.Errorf("%s at %s: %t", header, path, got)
			}
		}
	}
}

// FuzzHTTP: only what may be asked is, what is refused carries no secret, and no reply breaks its header.
func FuzzHTTP(f *testing.F) {
	for _, v := range loadHTTPVectors(f) {
		first := func(name string) string { return (&HTTPRequest{Header: v.Header}).get(name) }
		f.Add(v.Method, v.Path, v.Query, v.Body, first("Authorization"), first("Auth-User"), first("X-Forwarded-For"))
	}
	f.Fuzz(func(t *testing.T, method, path, query, body, authorization, user, forwarded string) {
		r := &HTTPRequest{Method: method, Path: path, Query: query, Body: []byte(body), Header: map[string][]string{
			"Authorization": {authorization}, "Auth-User": {user}, "Auth-Pass": {user}, "X-Forwarded-For": {forwarded},
			"Auth-Method": {"plain"}, "Auth-Protocol": {"smtp"}, "Client-Ip": {forwarded},
		}}
		h := testHTTP("0123456789abcdef")
		h.Admits(r)
		var req auth.Request
		respond, ev := h.Decode(r, &req)
		switch ev {
		case Ask:
			if auth.CheckUser(req.User) != nil || req.Domain != "" && auth.CheckDomain(req.Domain) != nil ||
				req.Op.NeedsSecret() != (auth.CheckSecret(req.Secret.Reveal()) == nil) || !plainText(req.Service) || !plainText(req.Client) {
				t.Fatalf("%+v is asked", req)
			}
		case Refuse:
			checkRefused(t, step{ev, req})
		case Reply:
		default:
			t.Fatalf("event %d", ev)
		}
		for _, verdict := range []auth.Verdict{auth.Unavailable, auth.Allow, auth.Deny, auth.Unsupported} {
			reply := respond(auth.Answer{Verdict: verdict})
			for _, field := range reply.Header {
				if strings.ContainsAny(field[1], "\r\n\x00") {
					t.Fatalf("%q in %s", field[1], field[0])
				}
			}
			if ev == Refuse && verdict == auth.Deny && (reply.Status == 200 && (reply.Body == "true" || strings.HasPrefix(reply.Body, "user=")) || reply.Status == 201) {
				t.Fatalf("a refusal is answered %+v", reply)
			}
		}
	})
}
