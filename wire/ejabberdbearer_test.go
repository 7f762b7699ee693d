package wire

import (
	"strings"
	"testing"

	"postern/internal/auth"
)

// TestBearerOperation: logins with tokens that mod_auth_postern passes on. The token is never taken for a password.
func TestBearerOperation(t *testing.T) {
	login := func(user string) auth.Request {
		return auth.Request{Op: auth.OpAuth, User: user, Domain: "dom.example", Service: "xmpp", Client: "192.0.2.1", Bearer: true, Named: user == ""}
	}
	const from = ":dom.example:xmpp 192.0.2.1 "
	for _, c := range []struct {
		frame, token string
		want         auth.Request
	}{
		{"bearer:joe" + from + "eyJh.e30.AA-_~+/==", "eyJh.e30.AA-_~+/==", login("joe")},
		{"bearer:" + from + "eyJh.e30.AA", "eyJh.e30.AA", login("")},
		{"bearer:joe" + from + strings.Repeat("x", auth.MaxSecret), strings.Repeat("x", auth.MaxSecret), login("joe")},
		{"bearer:joe" + from + strings.Repeat("x", auth.MaxSecret+1), "", auth.Request{}},
		{"bearer:joe" + from + "se cret", "", auth.Request{}},
		{"bearer:joe" + from + "secr\x00et", "", auth.Request{}},
		{"bearer:joe" + from + "päss", "", auth.Request{}},
		{"bearer:joe" + from + "=", "", auth.Request{}},
		{"bearer:joe" + from, "", auth.Request{}},
		{"bearer:joe:dom.example:xmpp token", "", auth.Request{}},
		{"bearer:joe:dom.example", "", auth.Request{}},
		{"bearer:j@e" + from + "token", "", auth.Request{}},
		{"bearer:joe::xmpp - token", "", auth.Request{}},
		{"login:" + from + "token", "", auth.Request{}}, // only a token says who the user is
	} {
		for _, pieces := range [][][]byte{{frame(c.frame)}, bytewise(frame(c.frame))} {
			got := steps(t, Ejabberd, Options{}, pieces...)
			if len(got) != 1 || (got[0].ev == Ask) != (c.token != "") {
				t.Errorf("%.60q: %+v", c.frame, got)
				continue
			}
			req := got[0].req
			if req.Secret.Reveal() != c.token {
				t.Errorf("%.60q: the token is %.60q", c.frame, req.Secret.Reveal())
			}
			if req.Secret = (auth.Secret{}); req.Fault == "" && req != c.want {
				t.Errorf("%.60q: %+v, want %+v", c.frame, req, c.want)
			}
		}
	}
}

// TestBearerAnswer: a yes has the name of a user who was not named, a no what the client is told.
func TestBearerAnswer(t *testing.T) {
	codec, err := New(Ejabberd, Options{BinaryAnswers: true})
	if err != nil {
		t.Fatal(err)
	}
	joe := auth.Request{Op: auth.OpAuth, User: "joe", Bearer: true}
	nameless := joe
	nameless.Named = true
	body := TokenRefused(Bearer{Offered: true, Discovery: "https://id.example/x", Scope: "xmpp"})
	if want := `{"status":"invalid_token","scope":"xmpp","openid-configuration":"https://id.example/x"}`; string(body) != want {
		t.Errorf("the client is told %s, want %s", body, want)
	}
	for _, c := range []struct {
		req  auth.Request
		a    auth.Answer
		want string
	}{
		{joe, auth.Answer{Verdict: auth.Allow, Account: "joe", Body: body}, "\x00\x02\x00\x01"},
		{nameless, auth.Answer{Verdict: auth.Allow, Account: "joe"}, "\x00\x05\x00\x01joe"},
		{nameless, auth.Answer{Verdict: auth.Deny}, "\x00\x02\x00\x00"},
		{joe, auth.Answer{Verdict: auth.Deny, Body: []byte("{}")}, "\x00\x04\x00\x00{}"},
		{joe, auth.Answer{Verdict: auth.Deny, Body: make([]byte, maxSASL+1)}, "\x00\x02\x00\x00"},
		{nameless, auth.Answer{Body: body}, "\x00\x02\x00\x02"},
		{joe, auth.Answer{Verdict: auth.Unsupported}, "\x00\x02\x00\x03"},
	} {
		if got := codec.AppendAnswer(nil, &c.req, c.a); string(got) != c.want {
			t.Errorf("%v of %+v: %q, want %q", c.a.Verdict, c.req, got, c.want)
		}
	}
}
