package oidc

import (
	"encoding/json"
	"strings"
	"testing"

	"postern/internal/auth"
)

// token is the example of RFC 7519 section 3.1, with the signature of RFC 7515 appendix A.1.
const token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

// unsecured is the example of RFC 7519 section 6.1.
const unsecured = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."

// encrypted is the example of RFC 7516 section 3.3: a JWE, with five parts.
const encrypted = "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.OKOawDo13gRp2ojaHV7LFpZcgV7T6DVZKTyKOMTYUmKoTCVJRgckCL9kiMT03JGe.48V1_ALb6US04U3b.5eym8TW_c8SuK0ltJ3rpYIzOeDQz7TALvtu6UG9oMo4vpzs9tX_EFShS8iB7j6ji.XFBoMYUZodetZdvTiFvSkQ"

func TestShapes(t *testing.T) {
	for name, c := range map[string]struct {
		text        string
		jwt, opaque bool
	}{
		"RFC 7519":             {token, true, true},
		"alg none":             {unsecured, true, true},
		"JWE":                  {encrypted, false, true},
		"empty":                {"", false, false},
		"password":             {"correct horse battery staple, and more of it", false, false},
		"short":                {"hunter2", false, false},
		"Nextcloud's":          {"xxxxx-xxxxx-xxxxx-xxxxx-xxxxx", false, false},
		"of 31 letters":        {strings.Repeat("a", 31), false, false},
		"of 32 letters":        {strings.Repeat("a", 32), false, true},
		"padded":               {strings.Repeat("a", 31) + "=", false, true},
		"padding alone":        {strings.Repeat("=", 40), false, false},
		"padding inside":       {strings.Repeat("a", 32) + "=a", false, false},
		"two parts":            {"eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UifQ", false, true},
		"four parts":           {token + ".x", false, true},
		"no header":            {".eyJpc3MiOiJqb2UifQ.abc", false, false},
		"no payload":           {"eyJhbGciOiJub25lIn0..abc", false, false},
		"space before":         {" " + token, false, false},
		"line end":             {token + "\n", false, false},
		"another letter":       {strings.Replace(token, "-", "+", 1), false, true},
		"not the form of JSON": {"abc." + token, false, true},
		"64 kB of a JWT":       {"eyJ" + strings.Repeat("a", 1<<16) + ".a.a", true, false},
	} {
		if jwt, opaque := LooksJWT(c.text), LooksOpaque(c.text); jwt != c.jwt || opaque != c.opaque {
			t.Errorf("%s: a JWT: %v, opaque: %v", name, jwt, opaque)
		}
	}
}

func TestPeek(t *testing.T) {
	u, err := Peek(token)
	if iss, _ := texted(u.Claims["iss"]); err != nil || u.Typ != "JWT" || iss != "joe" {
		t.Errorf("%+v, %v", u, err)
	}
	for _, text := range []string{"", "eyJ.eyJ.", "eyJhbGciOiJub25lIn0.bnVsbA.", "eyJhbGciOiJub25lIn0.W10.", "eyJhbGciOiJub25lIn0", "eyJhbGciOiJub25lIn0.eyJ9."} {
		if _, err := Peek(text); err != ErrNoJWT {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A text is what encoding/json makes of it.
func TestTexted(t *testing.T) {
	for _, text := range []string{`"alice"`, `""`, `"\u0061\"b"`, "\"\xff\"", "\"\u00e9\"", `null`, `7`, `["a"]`, `{}`, ``} {
		var want *string
		err := json.Unmarshal([]byte(text), &want)
		got, ok := texted(json.RawMessage(text))
		if good := err == nil && want != nil; ok != good || good && got != *want {
			t.Errorf("%s: %q, %v", text, got, ok)
		}
	}
}

func FuzzToken(f *testing.F) {
	for _, seed := range []string{token, unsecured, encrypted, "", "hunter2", "eyJ..", "eyJhbGciOiJub25lIn0.eyJleHAiOjFlNDAwfQ.", "eyJhbGciOiJub25lIn0.eyJleHAiOiJ4IiwiYXVkIjpbMV19."} {
		f.Add(seed)
	}
	r := Rules{Issuer: "joe", Audience: "a", Claim: "sub"}
	f.Fuzz(func(t *testing.T, text string) {
		jwt := LooksJWT(text)
		if jwt && (strings.Count(text, ".") != 2 || strings.ContainsAny(text, " \r\n\x00=+/")) {
			t.Errorf("%q looks like a JWT", text)
		}
		if u, err := Peek(text); err == nil {
			pass, fault := r.Signed(u, "alice", "example.org", at)
			if fault == nil && pass.Account != "alice" {
				t.Errorf("%q is for %q", text, pass.Account)
			}
			if fault != nil && len(fault.Error()) > 600 {
				t.Errorf("a reason of %d bytes", len(fault.Error()))
			}
		}
		if LooksOpaque(text) && (len(text) < minOpaque || len(text) > auth.MaxSecret || strings.ContainsAny(text, " \r\n\x00:,")) {
			t.Errorf("%q looks like a token", text)
		}
	})
}
