package wire

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
)

// The example of RFC 7628 section 4.1, and the refusal of section 4.2.
const (
	rfcMessage = "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQzAWF1dGg9QmVhcmVyIHZGOWRmdDRxbVRjMk52YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"
	rfcToken   = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="
	rfcRefusal = "eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIiwic2NvcGUiOiJleGFtcGxlX3Njb3BlIiwib3BlbmlkLWNvbmZpZ3VyYXRpb24iOiJodHRwczovL2V4YW1wbGUuY29tLy53ZWxsLWtub3duL29wZW5pZC1jb25maWd1cmF0aW9uIn0="
)

// bearerSession is a session that offers the mechanisms of tokens, in which one token is right.
func bearerSession(tb testing.TB) *session {
	s := newSession(tb, func(req *auth.Request) auth.Answer {
		switch {
		case !req.Bearer:
			tb.Errorf("asked as a password: %+v", req)
		case strings.HasPrefix(req.User, "away"):
			return auth.Answer{}
		case req.Secret.Reveal() == rfcToken:
			return auth.Answer{Verdict: auth.Allow, Account: "User"}
		}
		return auth.Answer{Verdict: auth.Deny}
	})
	s.codec = newDovecot(16384, Options{DefaultDomain: "dom.example", Now: func() time.Time { return s.now }, Bearer: Bearer{
		Offered: true, Scope: "example_scope", Discovery: "https://example.com/.well-known/openid-configuration",
	}})
	return s
}

// bearerLine begins a login with a token as Postfix does; resp may be empty.
func bearerLine(mech, resp string) string {
	if resp != "" {
		resp = "\tresp=" + resp
	}
	return "AUTH\t7\t" + mech + "\tservice=smtp\tnologin\tlip=192.0.2.1\trip=192.0.2.2" + resp + "\n"
}

func TestDovecotBearer(t *testing.T) {
	bad := b64("n,a=user@example.com,\x01auth=Bearer wrong\x01\x01")
	const x401 = `{"schemes":"bearer","status":"401","scope":"example_scope","openid-configuration":"https://example.com/.well-known/openid-configuration"}`
	x400, invalid := strings.Replace(x401, "401", "400", 1), `{"status":"invalid_request","scope":"example_scope","openid-configuration":"https://example.com/.well-known/openid-configuration"}`
	for name, c := range map[string]struct {
		minor  int
		say    []string
		want   []string
		asked  int
		closed bool
	}{
		"RFC 7628":               {0, []string{bearerLine("OAUTHBEARER", rfcMessage)}, []string{"OK\t7\tuser=User@example.com\n"}, 1, false},
		"in two steps":           {0, []string{bearerLine("oauthbearer", ""), "CONT\t7\t" + rfcMessage + "\n"}, []string{"CONT\t7\t\n", "OK\t7\tuser=User@example.com\n"}, 1, false},
		"refused":                {0, []string{bearerLine("OAUTHBEARER", bad), "CONT\t7\tAQ==\n"}, []string{"CONT\t7\t" + rfcRefusal + "\n", "FAIL\t7\tuser=user@example.com\n"}, 1, false},
		"refused, and good":      {0, []string{bearerLine("OAUTHBEARER", bad), "CONT\t7\t" + rfcMessage + "\n"}, []string{"CONT\t7\t" + rfcRefusal + "\n", "FAIL\t7\tuser=user@example.com\n"}, 1, false},
		"refused, no base64":     {0, []string{bearerLine("OAUTHBEARER", bad), "CONT\t7\t!\n"}, []string{"CONT\t7\t" + rfcRefusal + "\n", "FAIL\t7\tuser=user@example.com\n"}, 1, false},
		"refused, cancelled":     {4, []string{bearerLine("OAUTHBEARER", bad), "CANCEL\t7\n", bearerLine("OAUTHBEARER", rfcMessage)}, []string{"CONT\t7\t" + rfcRefusal + "\n", "CANCELLED\t7\n", "OK\t7\tuser=User@example.com\n"}, 2, false},
		"refused, and once more": {0, []string{bearerLine("OAUTHBEARER", bad), "CONT\t7\t\n", "CONT\t7\t\n"}, []string{"CONT\t7\t" + rfcRefusal + "\n", "FAIL\t7\tuser=user@example.com\n", "FAIL\t7\treason=the login took too long\n"}, 1, false},
		"XOAUTH2":                {0, []string{bearerLine("XOAUTH2", b64("user=user@example.com\x01auth=Bearer "+rfcToken+"\x01\x01"))}, []string{"OK\t7\tuser=User@example.com\n"}, 1, false},
		"XOAUTH2, refused":       {0, []string{bearerLine("xoauth2", b64("user=user@example.com\x01auth=Bearer wrong\x01\x01")), "CONT\t7\t\n"}, []string{"CONT\t7\t" + b64(x401) + "\n", "FAIL\t7\tuser=user@example.com\n"}, 1, false},
		"XOAUTH2, malformed":     {0, []string{bearerLine("XOAUTH2", rfcMessage), "CONT\t7\t\n"}, []string{"CONT\t7\t" + b64(x400) + "\n", "FAIL\t7\n"}, 0, false},
		"malformed":              {0, []string{bearerLine("OAUTHBEARER", b64("n,,\x01auth=Bearer x\x01\x01")), "CONT\t7\tAQ==\n"}, []string{"CONT\t7\t" + b64(invalid) + "\n", "FAIL\t7\n"}, 0, false},
		"a password":             {0, []string{bearerLine("OAUTHBEARER", b64("\x00joe\x00secret"))}, []string{"CONT\t7\t" + b64(invalid) + "\n"}, 0, false},
		"away":                   {0, []string{bearerLine("OAUTHBEARER", b64("n,a=away,\x01auth=Bearer x\x01\x01"))}, []string{""}, 1, true},
		"away, Dovecot":          {2, []string{bearerLine("OAUTHBEARER", b64("n,a=away,\x01auth=Bearer x\x01\x01"))}, []string{"FAIL\t7\tuser=away\ttemp\tcode=temp_fail\n"}, 1, false},
	} {
		s := bearerSession(t)
		s.say(hello(c.minor))
		for i, line := range c.say {
			if got := s.say(line); got != c.want[i] {
				t.Errorf("%s: replied %q to %q, want %q", name, got, line, c.want[i])
			}
		}
		if len(s.asked) != c.asked || s.closed != c.closed {
			t.Errorf("%s: asked %d, closed %v", name, len(s.asked), s.closed)
		}
	}
}

// A refused login that the client leaves there ends as any other.
func TestDovecotBearerLeft(t *testing.T) {
	s := bearerSession(t)
	s.say(hello(0) + bearerLine("OAUTHBEARER", b64("n,a=user,\x01auth=Bearer wrong\x01\x01")))
	s.now = s.now.Add(dialogueAge + 1)
	if got := s.say(bearerLine("OAUTHBEARER", rfcMessage)); got != "OK\t7\tuser=User@example.com\n" {
		t.Errorf("replied %q", got)
	}
}

// The mechanisms of tokens are there where they are offered, and before SPID.
func TestDovecotOffersBearer(t *testing.T) {
	for offered, codec := range map[bool]*dovecot{true: bearerSession(t).codec, false: newSession(t, allow).codec} {
		greeting := string(codec.Greeting())
		at, spid := strings.Index(greeting, "MECH\tOAUTHBEARER\tplaintext\nMECH\tXOAUTH2\tplaintext\n"), strings.Index(greeting, "SPID")
		if (at >= 0) != offered || at > spid {
			t.Errorf("offered %v: %q", offered, greeting)
		}
	}
	s := newSession(t, allow)
	s.say(hello(0))
	if got := s.say(bearerLine("OAUTHBEARER", rfcMessage)); got != "FAIL\t7\treason=mechanism not supported\n" {
		t.Errorf("not offered: %q", got)
	}
}

func TestSplitBearer(t *testing.T) {
	const end = "\x01\x01"
	for message, user := range map[string]string{
		"n,a=joe,\x01auth=Bearer x" + end:                           "joe",
		"y,a=joe@dom.example,\x01host=h\x01port=1\x01auth=bearer x": "", // no last separator
		"y,a=joe,\x01host=h\x01port=1\x01auth=BEARER  x=" + end:     "joe",
		"n,a=a=2Cb=3Dc,\x01auth=Bearer x" + end:                     "a,b=c",
		"n,a=a=2cb,\x01auth=Bearer x" + end:                         "",
		"n,a=a=b,\x01auth=Bearer x" + end:                           "",
		"n,a=a,b,\x01auth=Bearer x" + end:                           "",
		"n,a=,\x01auth=Bearer x" + end:                              "",
		"n,,\x01auth=Bearer x" + end:                                "",
		"n,a=joe\x01auth=Bearer x" + end:                            "",
		"p=tls-exporter,a=joe,\x01auth=Bearer x" + end:              "",
		"n,a=joe,\x01auth=Bearer x\x01auth=Bearer y" + end:          "",
		"n,a=joe,\x01auth=Bearer x\x01mth\xff=y" + end:              "",
		"n,a=joe,\x01auth=Bearer x\x01mthd=\x00" + end:              "",
		"n,a=joe,\x01auth=Bearer x\x01mthd=" + end:                  "joe",
		"n,a=joe,\x01auth=Basic x" + end:                            "",
		"n,a=joe,\x01auth=Bearer" + end:                             "",
		"n,a=joe,\x01auth=Bearer " + end:                            "",
		"n,a=joe,\x01auth=Bearer =" + end:                           "",
		"n,a=joe,\x01auth=Bearer a b" + end:                         "",
		"n,a=joe,\x01auth=Bearer x=y" + end:                         "",
		"n,a=joe,\x01auth=Bearer x":                                 "",
		"n,a=joe,\x01auth=Bearer x\x01":                             "",
		"n,a=joe,\x01auth=Bearer x\x01\x01\x01":                     "",
		"n,a=joe,\x01\x01":                                          "",
		"\x01":                                                      "",
		"":                                                          "",
	} {
		got, token, ok := splitBearer(mechOAuthBearer, []byte(message))
		if got != user || ok != (user != "") || ok && !bytes.HasPrefix(token, []byte("x")) {
			t.Errorf("%q: %q, %q, %v", message, got, token, ok)
		}
		x := strings.Replace(strings.Replace(message, "n,a=joe,", "user=joe", 1), "y,a=joe,", "user=joe", 1)
		if got, _, _ := splitBearer(mechXOAuth2, []byte(x)); x != message && got != user {
			t.Errorf("XOAUTH2 %q: %q", x, got)
		}
	}
}

// What is taken from a message is in it, and could be sent.
func FuzzBearer(f *testing.F) {
	for _, seed := range []string{"n,a=joe,\x01host=h\x01port=587\x01auth=Bearer x.y.z\x01\x01", "user=joe\x01auth=Bearer x\x01\x01", "y,a=a=2Cb=3D,\x01auth=bearer x==\x01\x01", "\x01", "n,,\x01\x01"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		for _, m := range []mechanism{mechOAuthBearer, mechXOAuth2} {
			user, token, ok := splitBearer(m, message)
			if !ok {
				if user != "" || token != nil {
					t.Fatalf("refused, but %q and %q", user, token)
				}
				continue
			}
			again := "user=" + user
			if m == mechOAuthBearer {
				again = "n,a=" + strings.NewReplacer(",", "=2C", "=", "=3D").Replace(user) + ","
			}
			again += "\x01auth=Bearer " + string(token) + "\x01\x01"
			if u, tok, ok := splitBearer(m, []byte(again)); !ok || u != user || !bytes.Equal(tok, token) || !bytes.Contains(message, token) {
				t.Fatalf("%q and %q come back as %q and %q", user, token, u, tok)
			}
		}
	})
}
