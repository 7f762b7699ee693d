package wire

import (
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
)

// TestModuleOperations: what mod_auth_postern asks besides ejabberd's operations.
func TestModuleOperations(t *testing.T) {
	login := auth.Request{Op: auth.OpAuth, User: "joe", Domain: "dom.example", Service: "xmpp", Client: "2001:db8::1"}
	unknown := login
	unknown.Client = ""
	for _, c := range []struct {
		frame, secret string
		ev            Event
		want          auth.Request
	}{
		{"login:joe:dom.example:xmpp 2001:db8::1 a: b:c ", "a: b:c ", Ask, login},
		{"login:joe:dom.example:xmpp - secret", "secret", Ask, unknown},
		{"login:joe:dom.example:xmpp other text", "text", Ask, unknown},
		{"login:joe:dom.example:xmpp - ", "", Refuse, auth.Request{Op: auth.OpAuth}},
		{"login:joe:dom.example:xmpp secret", "", Refuse, auth.Request{Op: auth.OpAuth}},
		{"login:joe:dom.example:xm\npp - secret", "", Refuse, auth.Request{Op: auth.OpAuth}},
		{"login:joe:dom.example:xmpp 192.0.2.1\x00 secret", "", Refuse, auth.Request{Op: auth.OpAuth}},
		{"login:joe:dom.example", "", Refuse, auth.Request{Op: auth.OpAuth}},
		{"login:joe::xmpp - secret", "", Refuse, auth.Request{Op: auth.OpAuth}},
		{"login:j@e:dom.example:xmpp - secret", "", Refuse, auth.Request{Op: auth.OpAuth}},
		{"account:joe:dom.example", "", Ask, auth.Request{Op: auth.OpIsUser, User: "joe", Domain: "dom.example", Info: true}},
		{"account:joe:dom.example:", "", Refuse, auth.Request{Op: auth.OpIsUser}},
		{"account:joe:", "", Refuse, auth.Request{Op: auth.OpIsUser}},
		{"account:joe", "", Refuse, auth.Request{Op: auth.OpIsUser}},
		{"watch:0:dom.example", "", Ask, auth.Request{Op: auth.OpWatch, Domain: "dom.example"}},
		{"watch:1500:dom.example", "", Ask, auth.Request{Op: auth.OpWatch, Domain: "dom.example", Since: time.UnixMilli(1500)}},
		{"watch:-1:dom.example", "", Refuse, auth.Request{Op: auth.OpWatch}},
		{"watch::dom.example", "", Refuse, auth.Request{Op: auth.OpWatch}},
		{"watch:0:dom example", "", Refuse, auth.Request{Op: auth.OpWatch}},
		{"watch:0", "", Refuse, auth.Request{Op: auth.OpWatch}},
		{"watcher:0:dom.example", "", Refuse, auth.Request{}},
	} {
		for _, pieces := range [][][]byte{{frame(c.frame)}, bytewise(frame(c.frame))} {
			got := steps(t, Ejabberd, Options{}, pieces...)
			if len(got) != 1 || got[0].ev != c.ev {
				t.Errorf("%q: %+v", c.frame, got)
				continue
			}
			req := got[0].req
			if secret := req.Secret.Reveal(); secret != c.secret {
				t.Errorf("%q: the secret is %q", c.frame, secret)
			}
			req.Secret = auth.Secret{}
			if c.ev == Refuse && req.Fault != "" { // it may have names for the log
				req = auth.Request{Op: req.Op}
			}
			if req != c.want {
				t.Errorf("%q: %+v, want %+v", c.frame, req, c.want)
			}
		}
	}
	for _, p := range []Protocol{Generic, Relay} { // they have none of it
		for _, s := range steps(t, p, Options{}, []byte("watch:0:dom.example\naccount:joe:dom.example\nlogin:joe:dom.example:xmpp - x\n")) {
			if s.ev == Ask {
				t.Errorf("%s asks %+v", p, s.req)
			}
		}
	}
}

func bytewise(b []byte) (pieces [][]byte) {
	for i := range b {
		pieces = append(pieces, b[i:i+1])
	}
	return pieces
}

// TestModuleAnswers: an answer to a watch says what there is, one to account is of ten bytes, whatever the
// verdict, and a report cannot be taken for either.
func TestModuleAnswers(t *testing.T) {
	codec, err := New(Ejabberd, Options{BinaryAnswers: true})
	if err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli(0x0102030405)
	const when = "\x00\x00\x00\x01\x02\x03\x04\x05"
	watch, account := auth.Request{Op: auth.OpWatch}, auth.Request{Op: auth.OpIsUser, Info: true}
	for _, c := range []struct {
		req  auth.Request
		a    auth.Answer
		want string
	}{
		{watch, auth.Answer{Verdict: auth.Allow, Body: []byte{1}}, "\x00\x02\x01\x01"},
		{watch, auth.Answer{Verdict: auth.Allow, Body: []byte{0}}, "\x00\x02\x00\x01"},
		{watch, auth.Answer{Verdict: auth.Deny}, "\x00\x02\x00\x00"},
		{watch, auth.Answer{}, "\x00\x02\x00\x00"},
		{account, auth.Answer{Verdict: auth.Allow, Changed: at}, "\x00\x0a\x00\x01" + when},
		{account, auth.Answer{Verdict: auth.Allow, Disabled: true, Changed: at}, "\x00\x0a\x00\x03" + when},
		{account, auth.Answer{Verdict: auth.Allow}, "\x00\x0a\x00\x01" + strings.Repeat("\x00", 8)},
		{account, auth.Answer{Verdict: auth.Deny, Changed: at}, "\x00\x0a\x00\x00" + when},
		{account, auth.Answer{Verdict: auth.Unavailable, Disabled: true}, "\x00\x0a\x00\x02" + strings.Repeat("\x00", 8)},
		{account, auth.Answer{Verdict: auth.Unsupported}, "\x00\x0a\x00\x02" + strings.Repeat("\x00", 8)},
	} {
		if got := codec.AppendAnswer(nil, &c.req, c.a); string(got) != c.want {
			t.Errorf("%v, %+v: %q, want %q", c.req.Op, c.a, got, c.want)
		}
	}
	got := codec.(Reporter).AppendChange([]byte("x"), 'd', at, "joé")
	if want := "x\x00\x0e" + "Pd" + when + "joé"; string(got) != want {
		t.Errorf("a report is %q, want %q", got, want)
	}
}
