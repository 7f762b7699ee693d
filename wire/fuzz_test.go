package wire

import (
	"slices"
	"strings"
	"testing"

	"postern/internal/auth"
)

// seed adds the vectors of p, whole and cut at a few places.
func seed(f *testing.F, p Protocol) {
	f.Helper()
	for _, v := range loadVectors(f, p) {
		if input := v.input(f); v.Kind == "request" && len(input) < 4096 {
			f.Add(input, uint16(len(input)/2), uint16(0))
			f.Add(input, uint16(3), uint16(64))
		}
	}
}

// checkDecode holds the laws of every codec: steps checks that consumption stays in
// bounds, advances, and leaves no more unread than MaxFrame allows; here, that the
// events do not depend on how the input is cut, and that only what may be asked is.
func checkDecode(t *testing.T, p Protocol, input []byte, cut, limit uint16) {
	o := Options{MaxFrame: int(limit), RecipientDelimiter: "+-", Bearer: Bearer{Offered: true}}
	at := min(int(cut), len(input))
	want := steps(t, p, o, input)
	cuts := [][][]byte{{input[:at], input[at:]}}
	if len(input) < 1000 {
		cuts = append(cuts, slices.Collect(slices.Chunk(input, 1)))
	}
	for _, pieces := range cuts {
		got := steps(t, p, o, pieces...)
		if !slices.EqualFunc(got, want, sameStep) {
			t.Fatalf("cut in %d: %+v\nwhole: %+v", len(pieces), got, want)
		}
	}
	for _, s := range want {
		if s.ev == Ask {
			checkAsked(t, p, &s.req)
		} else {
			checkRefused(t, s)
		}
	}
}

// checkRefused: what is not asked carries no secret, and names of a length that can be logged. Only a
// refusal carries anything at all.
func checkRefused(t *testing.T, s step) {
	t.Helper()
	refused := s.ev == Refuse || s.ev == RefuseBroken
	if refused != (s.req.Fault != "") || !s.req.Secret.Empty() || max(len(s.req.User), len(s.req.Domain)) > auth.MaxName {
		t.Fatalf("event %d carries %+v", s.ev, s.req)
	}
	if !refused && s.req != (auth.Request{Tag: s.req.Tag}) {
		t.Fatalf("event %d carries %+v", s.ev, s.req)
	}
}

// sameStep compares steps but for the client's address, which saslauthd takes only if
// it is at hand.
func sameStep(a, b step) bool {
	a.req.Client, b.req.Client = "", ""
	return a.ev == b.ev && same(a.req, b.req)
}

func checkAsked(t *testing.T, p Protocol, req *auth.Request) {
	t.Helper()
	nameless := req.Op == auth.OpIsDomain || req.Op == auth.OpWatch || req.Bearer && req.Named && p == Ejabberd && req.User == ""
	if err := auth.CheckUser(req.User); (err == nil) == nameless {
		t.Fatalf("%v with the user %q: %v", req.Op, req.User, err)
	}
	if err := auth.CheckDomain(req.Domain); err != nil && (p != Saslauthd && p != Dovecot && p != DovecotUserdb || req.Domain != "") {
		t.Fatal(err)
	}
	if err := auth.CheckSecret(req.Secret.Reveal()); req.Op.NeedsSecret() != (err == nil) {
		t.Fatalf("%v: %v", req.Op, err)
	}
	if req.Op == auth.OpNone || req.Op == auth.OpCertAuth || req.Op == auth.OpRoster && p != Generic {
		t.Fatalf("%v is no operation of %s", req.Op, p)
	}
	if req.Base != "" && (req.Op != auth.OpIsUser || auth.CheckUser(req.Base) != nil ||
		strings.ContainsAny(req.Base, "+-") || !strings.HasPrefix(req.User, req.Base)) {
		t.Fatalf("%q is no base of %q", req.Base, req.User)
	}
	if req.Bearer && !isToken([]byte(req.Secret.Reveal())) {
		t.Fatalf("%q is no token", req.Secret.Reveal())
	}
	if !plainText(req.Service) || !plainText(req.Client) {
		t.Fatalf("service %q or client %q cannot be logged", req.Service, req.Client)
	}
}

func FuzzGeneric(f *testing.F) {
	seed(f, Generic)
	f.Fuzz(func(t *testing.T, input []byte, cut, limit uint16) { checkDecode(t, Generic, input, cut, limit) })
}

func FuzzEjabberd(f *testing.F) {
	seed(f, Ejabberd)
	for _, text := range []string{"watch:1700000000000:dom.example", "account:joe:dom.example", "login:joe:dom.example:xmpp 192.0.2.1 se cret",
		"scram:joe:dom.example:xmpp 192.0.2.1 SCRAM-SHA-256-PLUS tls-exporter,tls-unique p=tls-exporter,,n=joe,r=x",
		"proof:joe:dom.example:xmpp - SCRAM-SHA-1 ZGF0YQ== state c=biws,r=x,p=AA==", "proof:joe:dom.example:xmpp - SCRAM-SHA-1 - state c=biws",
		"bearer:joe:dom.example:xmpp 192.0.2.1 eyJh.e30.AA==", "bearer::dom.example:xmpp - e30", "bearer:joe:dom.example:xmpp - se cret", "bearer:joe:dom.example"} {
		f.Add(frame(text), uint16(5), uint16(0))
	}
	f.Fuzz(func(t *testing.T, input []byte, cut, limit uint16) { checkDecode(t, Ejabberd, input, cut, limit) })
}

func FuzzSaslauthd(f *testing.F) {
	seed(f, Saslauthd)
	f.Fuzz(func(t *testing.T, input []byte, cut, limit uint16) { checkDecode(t, Saslauthd, input, cut, limit) })
}

func FuzzTCPTable(f *testing.F) {
	seed(f, TCPTable)
	f.Fuzz(func(t *testing.T, input []byte, cut, limit uint16) { checkDecode(t, TCPTable, input, cut, limit) })
}

func FuzzSocketmap(f *testing.F) {
	seed(f, Socketmap)
	f.Add([]byte("20:mailbox a+b-c@d.test,17:mailbox \"a \"+b@d,"), uint16(4), uint16(0))
	f.Add([]byte("15:domain b\xc3\xbccher.example,9:domain a/,"), uint16(4), uint16(0))
	f.Fuzz(func(t *testing.T, input []byte, cut, limit uint16) { checkDecode(t, Socketmap, input, cut, limit) })
}

// FuzzRoundTrip: what a client encodes is what is asked, and what may not be asked is
// refused.
func FuzzRoundTrip(f *testing.F) {
	f.Add("joe", "dom.example", "a:b\n", "imap")
	f.Add("josé", "exämple.org", "\r", "")
	f.Add("a b", "", "päss", "smtp")
	f.Add("a@b", "x", "", "im\x00ap")
	f.Add("a\"\\", "x:y", strings.Repeat("p", 200), "s")
	f.Fuzz(func(t *testing.T, user, domain, secret, service string) {
		want := auth.Request{Op: auth.OpAuth, User: user, Domain: domain, Secret: auth.NewSecret(secret)}
		valid := auth.CheckUser(user) == nil && auth.CheckSecret(secret) == nil && auth.CheckDomain(domain) == nil
		colons := strings.Contains(user+domain, ":")
		if body := "auth:" + user + ":" + domain + ":" + secret; !colons && len(body) <= 0xffff {
			checkRoundTrip(t, Ejabberd, frame(body), want, valid)
			if !strings.ContainsAny(body, "\n") && !strings.HasSuffix(body, "\r") {
				checkRoundTrip(t, Generic, []byte(body+"\n"), want, valid)
			}
		}
		if max(len(user), len(domain), len(secret), len(service)) <= 2000 && (domain != "" || !strings.Contains(user, "@")) {
			named := want
			named.Service = service
			ok := valid || domain == "" && auth.CheckUser(user) == nil && auth.CheckSecret(secret) == nil
			checkRoundTrip(t, Saslauthd, login(user, secret, service, domain), named, ok && plainText(service))
		}
		if strings.Contains(domain, "@") {
			return
		}
		asked := auth.Request{Op: auth.OpIsUser, User: user, Domain: domain}
		ok := auth.CheckUser(user) == nil && auth.CheckDomain(domain) == nil
		checkRoundTrip(t, TCPTable, []byte("get "+coded(quoted(user)+"@"+domain)+"\n"), asked, ok)
	})
}

func checkRoundTrip(t *testing.T, p Protocol, input []byte, want auth.Request, valid bool) {
	t.Helper()
	got := steps(t, p, Options{}, input)
	if len(got) != 1 || (got[0].ev == Ask) != valid || valid && !same(got[0].req, want) {
		t.Fatalf("%s: %q decodes to %+v, want %+v (%v)", p, input, got, want, valid)
	}
}

// quoted puts a local part in the form that Postfix uses for all but plain ones.
func quoted(local string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
}

// coded puts a key in Postfix's coding: '%', white space and all that is not printable
// ASCII as %XX.
func coded(key string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(key) {
		if c := key[i]; c <= ' ' || c >= 0x7f || c == '%' {
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
