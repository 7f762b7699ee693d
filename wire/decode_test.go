package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"
	"weak"

	"postern/internal/auth"
)

// frame and login are the encoders of the clients.
func frame(body string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(body))), body...)
}

func login(fields ...string) []byte {
	var out []byte
	for _, f := range fields {
		out = append(out, frame(f)...)
	}
	return out
}

// step is an event other than More, with the request it came with.
type step struct {
	ev  Event
	req auth.Request
}

// steps decodes input piece by piece, until the codec ends the connection.
func steps(tb testing.TB, p Protocol, o Options, pieces ...[]byte) []step {
	tb.Helper()
	codec, err := New(p, o)
	if err != nil {
		tb.Fatal(err)
	}
	var all []step
	var unread []byte
	for _, piece := range pieces {
		unread = append(unread, piece...)
		for {
			var req auth.Request
			n, ev := codec.Decode(unread, &req)
			if n < 0 || n > len(unread) || n == 0 && ev != More {
				tb.Fatalf("event %d consumed %d of %d bytes", ev, n, len(unread))
			}
			unread = unread[n:]
			if ev == More {
				break
			}
			all = append(all, step{ev, req})
			if ev == Quit || ev == Broken || ev == RefuseBroken {
				return all
			}
		}
		if limit := max(o.MaxFrame, minFrame) + 2; o.MaxFrame > 0 && len(unread) > limit {
			tb.Fatalf("%d unread bytes for a MaxFrame of %d", len(unread), o.MaxFrame)
		}
	}
	return all
}

func TestDecodeRequests(t *testing.T) {
	secret := auth.NewSecret("secret:é")
	long := strings.Repeat("x", auth.MaxSecret)
	for _, c := range []struct {
		name  string
		proto Protocol
		input []byte
		want  auth.Request
	}{
		{"generic setpass", Generic, []byte("setpass:joe:dom:secret:é\n"), auth.Request{Op: auth.OpSetPass, User: "joe", Domain: "dom", Secret: secret}},
		{"generic tryregister", Generic, []byte("tryregister:joe:dom:secret:é\n"), auth.Request{Op: auth.OpTryRegister, User: "joe", Domain: "dom", Secret: secret}},
		{"generic removeuser", Generic, []byte("removeuser:joe:dom\r\n"), auth.Request{Op: auth.OpRemoveUser, User: "joe", Domain: "dom"}},
		{"generic removeuser3", Generic, []byte("removeuser3:joe:dom:secret:é\n"), auth.Request{Op: auth.OpRemoveUser3, User: "joe", Domain: "dom", Secret: secret}},
		{"ejabberd setpass", Ejabberd, frame("setpass:joe:dom:secret:é"), auth.Request{Op: auth.OpSetPass, User: "joe", Domain: "dom", Secret: secret}},
		{"ejabberd tryregister", Ejabberd, frame("tryregister:joe:dom:secret:é"), auth.Request{Op: auth.OpTryRegister, User: "joe", Domain: "dom", Secret: secret}},
		{"ejabberd removeuser", Ejabberd, frame("removeuser:joe:dom"), auth.Request{Op: auth.OpRemoveUser, User: "joe", Domain: "dom"}},
		{"ejabberd removeuser3", Ejabberd, frame("removeuser3:joe:dom:secret:é"), auth.Request{Op: auth.OpRemoveUser3, User: "joe", Domain: "dom", Secret: secret}},
		{"ejabberd longest password", Ejabberd, frame("auth:joe:dom:" + long), auth.Request{Op: auth.OpAuth, User: "joe", Domain: "dom", Secret: auth.NewSecret(long)}},
		{"saslauthd longest password", Saslauthd, login("joe", long, "imap", "dom"), auth.Request{Op: auth.OpAuth, User: "joe", Domain: "dom", Service: "imap", Secret: auth.NewSecret(long)}},
		{"saslauthd splits at the last @", Saslauthd, login("joe@dom", "secret:é", "imap", ""), auth.Request{Op: auth.OpAuth, User: "joe", Domain: "dom", Service: "imap", Secret: secret}},
		{"saslauthd IPv4 client", Saslauthd, login("joe", "secret:é", "imap", "dom", "203.0.113.9;4242"), auth.Request{Op: auth.OpAuth, User: "joe", Domain: "dom", Service: "imap", Client: "203.0.113.9", Secret: secret}},
		{"saslauthd IPv6 client", Saslauthd, login("joe", "secret:é", "imap", "", "2001:db8::1;4242"), auth.Request{Op: auth.OpAuth, User: "joe", Service: "imap", Client: "2001:db8::1", Secret: secret}},
		{"saslauthd client is no address", Saslauthd, login("joe", "secret:é", "imap", "dom", "nowhere;4242"), auth.Request{Op: auth.OpAuth, User: "joe", Domain: "dom", Service: "imap", Secret: secret}},
		{"saslauthd client zone with a control character", Saslauthd, login("joe", "secret:é", "imap", "dom", "fe80::1%a\nb;1"), auth.Request{Op: auth.OpAuth, User: "joe", Domain: "dom", Service: "imap", Secret: secret}},
		{"saslauthd half a client", Saslauthd, append(login("joe", "secret:é", "imap", "dom"), 0, 9, '1'), auth.Request{Op: auth.OpAuth, User: "joe", Domain: "dom", Service: "imap", Secret: secret}},
		{"saslauthd over-long client", Saslauthd, append(login("joe", "secret:é", "imap", "dom"), 0xff, 0xff, '1'), auth.Request{Op: auth.OpAuth, User: "joe", Domain: "dom", Service: "imap", Secret: secret}},
		{"tcp_table coded quotes", TCPTable, []byte("get %22a%5C%22b%22@dom\n"), auth.Request{Op: auth.OpIsUser, User: `a"b`, Domain: "dom"}},
		{"tcp_table coded last byte", TCPTable, []byte("get joe@do%6D\n"), auth.Request{Op: auth.OpIsUser, User: "joe", Domain: "dom"}},
		{"tcp_table coded @", TCPTable, []byte("get joe%40dom\n"), auth.Request{Op: auth.OpIsUser, User: "joe", Domain: "dom"}},
	} {
		got := steps(t, c.proto, Options{}, c.input)
		if len(got) != 1 || got[0].ev != Ask || !same(got[0].req, c.want) {
			t.Errorf("%s: %v %+v", c.name, got, c.want)
		}
	}
}

// same compares requests; a Secret is compared by its text.
func same(a, b auth.Request) bool {
	equal := a.Secret.Reveal() == b.Secret.Reveal()
	a.Secret, b.Secret = auth.Secret{}, auth.Secret{}
	if a.SASL != nil && b.SASL != nil {
		equal = equal && *a.SASL == *b.SASL
		a.SASL, b.SASL = nil, nil
	}
	return equal && a == b
}

func TestDecodeRefusals(t *testing.T) {
	for _, c := range []struct {
		name  string
		proto Protocol
		input []byte
		ev    Event
		op    auth.Operation
	}{
		{"setpass without password", Ejabberd, frame("setpass:joe:dom:"), Refuse, auth.OpSetPass},
		{"setpass alone", Ejabberd, frame("setpass"), Refuse, auth.OpSetPass},
		{"setpass with NUL", Ejabberd, frame("setpass:joe:dom:a\x00b"), Refuse, auth.OpSetPass},
		{"setpass over the limit", Ejabberd, frame("setpass:joe:dom:" + strings.Repeat("x", 60000)), Refuse, auth.OpSetPass},
		{"certauth", Ejabberd, frame("certauth:joe:dom:-----BEGIN"), Refuse, auth.OpCertAuth},
		{"roster over ejabberd", Ejabberd, frame("roster:joe:dom"), Refuse, auth.OpNone},
		{"removeuser with a password", Ejabberd, frame("removeuser:joe:dom:pw"), Refuse, auth.OpRemoveUser},
		{"length zero", Ejabberd, []byte{0, 0}, Quit, auth.OpNone},
		{"certauth", Generic, []byte("certauth:joe:dom:x\n"), Refuse, auth.OpCertAuth},
		{"roster without domain", Generic, []byte("roster:joe\n"), Refuse, auth.OpRoster},
		{"roster with too much", Generic, []byte("roster:joe:dom:x\n"), Refuse, auth.OpRoster},
		{"setpass over the limit", Generic, []byte("setpass:joe:dom:" + strings.Repeat("x", 20000) + "\n"), Refuse, auth.OpSetPass},
		{"word none", Generic, []byte("none:joe:dom\n"), Refuse, auth.OpNone},
		{"quit with a field", Generic, []byte("quit:now\n"), Quit, auth.OpNone},
		{"CR alone is the domain's last byte", Generic, []byte("isuser:joe:dom\r\r\n"), Refuse, auth.OpIsUser},
		{"nothing after the @", Saslauthd, login("joe@", "pw", "imap", ""), Refuse, auth.OpAuth},
		{"nothing before the @", Saslauthd, login("@dom", "pw", "imap", ""), Refuse, auth.OpAuth},
		{"two @", Saslauthd, login("a@b@dom", "pw", "imap", ""), Refuse, auth.OpAuth},
		{"no user, default domain", Saslauthd, login("", "pw", "imap", ""), Refuse, auth.OpAuth},
		{"no password, default domain", Saslauthd, login("joe", "", "imap", ""), Refuse, auth.OpAuth},
		{"control character in service", Saslauthd, login("joe", "pw", "im\nap", "dom"), Refuse, auth.OpAuth},
		{"password over the limit", Saslauthd, append(login("joe", "p"), 0x20, 0x01), RefuseBroken, auth.OpAuth},
		{"password over the limit", Generic, []byte("auth:joe:dom:" + strings.Repeat("p", 8193) + "\n"), Refuse, auth.OpAuth},
		{"password over the limit", Ejabberd, frame("auth:joe:dom:" + strings.Repeat("p", 8193)), Refuse, auth.OpAuth},
		{"service is not UTF-8", Saslauthd, login("joe", "pw", "im\xff", "dom"), Refuse, auth.OpAuth},
		{"over-long service", Saslauthd, login("joe", "pw", strings.Repeat("s", 1024), "dom"), Refuse, auth.OpAuth},
		{"field over the limit", Saslauthd, append(login("joe", "pw", "imap"), 0x20, 0x01), RefuseBroken, auth.OpAuth},
		{"fields over the limit together", Saslauthd, append(login(strings.Repeat("u", 8192), strings.Repeat("p", 8192), strings.Repeat("s", 8192)), 0x20, 0x00), RefuseBroken, auth.OpAuth},
		{"quote not closed", TCPTable, []byte("get \"a@dom\n"), Refuse, auth.OpIsUser},
		{"backslash at the end", TCPTable, []byte("get \"a\\\n"), Refuse, auth.OpIsUser},
		{"second digit is none", TCPTable, []byte("get jo%6xe@dom\n"), Refuse, auth.OpIsUser},
		{"no @ after the quote", TCPTable, []byte("get \"a\"xdom\n"), Refuse, auth.OpIsUser},
		{"text after the quote", TCPTable, []byte("get \"a\"b@dom\n"), Refuse, auth.OpIsUser},
		{"quote and nothing", TCPTable, []byte("get \"a\"\n"), Refuse, auth.OpIsUser},
		{"empty quotes", TCPTable, []byte("get \"\"@dom\n"), Refuse, auth.OpIsUser},
		{"quoted, no domain", TCPTable, []byte("get \"a\"@\n"), Refuse, auth.OpIsUser},
		{"quit with a space", TCPTable, []byte("quit \n"), Refuse, auth.OpNone},
		{"raw tab", TCPTable, []byte("get a\tb@dom\n"), Refuse, auth.OpIsUser},
	} {
		got := steps(t, c.proto, Options{}, c.input)
		if len(got) != 1 || got[0].ev != c.ev || got[0].req.Op != c.op || got[0].req.Fault == "" != (c.ev == Quit) || !got[0].req.Secret.Empty() {
			t.Errorf("%s, %s: %+v, want event %d of %v", c.proto, c.name, got, c.ev, c.op)
		}
	}
}

// TestOversizeIsSkipped sends far more than MaxFrame in small pieces: nothing is kept,
// one refusal comes at the end, and the next request is in step.
func TestOversizeIsSkipped(t *testing.T) {
	junk := strings.Repeat("x", 50000)
	for _, c := range []struct {
		proto Protocol
		input []byte
		op    auth.Operation
	}{
		{Generic, []byte("auth:joe:dom:" + junk + "\nisuser:joe:dom\n"), auth.OpAuth},
		{TCPTable, []byte("get " + junk + "@dom\r\nget joe@dom\n"), auth.OpNone},
		{Ejabberd, append(frame("setpass:joe:dom:"+junk), frame("isuser:joe:dom")...), auth.OpSetPass},
	} {
		for _, limit := range []int{1, 64, 300} {
			for _, size := range []int{1, 5, 1000} {
				pieces := slices.Collect(slices.Chunk(c.input, size))
				got := steps(t, c.proto, Options{MaxFrame: limit}, pieces...)
				want := auth.Request{Op: auth.OpIsUser, User: "joe", Domain: "dom"}
				if len(got) != 2 || got[0] != (step{Refuse, auth.Request{Op: c.op, Fault: faultLong}}) || got[1] != (step{Ask, want}) {
					t.Fatalf("%s, limit %d, pieces of %d: %+v", c.proto, limit, size, got)
				}
			}
		}
	}
}

// TestFrameLimitIsExact: MaxFrame bytes pass, one more does not, whole or in bytes.
func TestFrameLimitIsExact(t *testing.T) {
	for _, size := range []int{99, 100, 101} {
		name := strings.Repeat("u", size-len("isuser::dom"))
		for proto, input := range map[Protocol][]byte{
			Generic:   []byte("isuser:" + name + ":dom\n"),
			Ejabberd:  frame("isuser:" + name + ":dom"),
			TCPTable:  []byte("get " + strings.Repeat("u", size-len("get @dom")) + "@dom\n"),
			Saslauthd: login("joe", strings.Repeat("p", size-14), "s", "dm"),
		} {
			want := Ask
			if size > 100 {
				want = Refuse
				if proto == Saslauthd {
					want = RefuseBroken
				}
			}
			for _, pieces := range [][][]byte{{input}, slices.Collect(slices.Chunk(input, 1))} {
				got := steps(t, proto, Options{MaxFrame: 100}, pieces...)
				if len(got) != 1 || got[0].ev != want {
					t.Errorf("%s, %d bytes in %d pieces: %+v, want event %d", proto, size, len(pieces), got, want)
				}
			}
		}
	}
}

func TestSaslauthdDropsWhatFollows(t *testing.T) {
	codec, _ := New(Saslauthd, Options{})
	req := auth.Request{}
	two := append(login("joe", "pw", "imap", "dom"), login("ann", "pw", "imap", "dom")...)
	n, ev := codec.Decode(two, &req)
	if ev != Ask || req.User != "joe" {
		t.Fatalf("event %d for %q", ev, req.User)
	}
	for _, rest := range [][]byte{two[n:], bytes.Repeat([]byte("x"), 70000), nil} {
		if n, ev = codec.Decode(rest, &req); n != len(rest) || ev != More || req.User != "joe" {
			t.Errorf("event %d, %d of %d bytes after the login", ev, n, len(rest))
		}
	}
}

// TestPasswordIsNotKeptAlive: a name that lives on in a cache key must not hold the
// memory of the password that came with it.
func TestPasswordIsNotKeptAlive(t *testing.T) {
	for _, password := range []string{"p", "short", "exactly-16-bytes", strings.Repeat("long", 20)} {
		for proto, input := range map[Protocol][]byte{
			Generic: []byte("auth:joe:dom:" + password + "\n"), Ejabberd: frame("auth:joe:dom:" + password),
			Saslauthd: login("joe", password, "imap", "dom", "192.0.2.1;1"),
		} {
			req := steps(t, proto, Options{}, input)[0].req
			text := weak.Make(unsafe.StringData(req.Secret.Reveal()))
			if text.Value() == nil {
				t.Fatal("the password is gone while it is in use")
			}
			req.Secret = auth.Secret{}
			runtime.GC()
			if text.Value() != nil {
				t.Errorf("%s: a password of %d bytes is kept alive by the names", proto, len(password))
			}
			runtime.KeepAlive(req)
		}
	}
}

// TestRecipientDelimiter: the base of an address with an extension, as Postfix's own tables take
// it off.
func TestRecipientDelimiter(t *testing.T) {
	for address, want := range map[string]struct{ delimiters, user, base string }{
		"joe+news@dom":        {"+", "joe+news", "joe"},
		"joe+a+b@dom":         {"+", "joe+a+b", "joe"},
		"joe+@dom":            {"+", "joe+", "joe"},
		"joe-a+b@dom":         {"+-", "joe-a+b", "joe"},
		"joe+a-b@dom":         {"-", "joe+a-b", "joe+a"},
		"joe@dom":             {"+", "joe", ""},
		"+news@dom":           {"+", "+news", ""},
		"joe+x@d+m":           {"", "joe+x", ""},
		"joe@d+m":             {"+", "joe", ""},
		"\"jo\\+e+news\"@dom": {"+", "jo+e+news", "jo"},
	} {
		for p, input := range map[Protocol]string{
			TCPTable: "get " + address + "\n", Socketmap: fmt.Sprintf("%d:mailbox %s,", len("mailbox ")+len(address), address),
		} {
			got := steps(t, p, Options{RecipientDelimiter: want.delimiters}, []byte(input))
			if len(got) != 1 || got[0].ev != Ask || got[0].req.User != want.user || got[0].req.Base != want.base {
				t.Errorf("%s, %q: %+v, want user %q and base %q", p, address, got, want.user, want.base)
			}
		}
	}
}
