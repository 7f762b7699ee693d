package token

import (
	"testing"
	"time"

	"postern/internal/auth"
)

// FuzzJSXC: no text is a token under a secret that signed none; what is one by its form
// is spelt in one way only.
func FuzzJSXC(f *testing.F) {
	for _, v := range loadVectors[jsxcVector](f, "token_jsxc.json") {
		f.Add(v.Token, v.Now)
	}
	j, id := mustJSXC(f, "a secret that no vector has"), auth.Identity{User: "joe", Domain: "dom.example"}
	f.Fuzz(func(t *testing.T, text string, now int64) {
		status := j.Verify(id, text, time.Unix(now, 0))
		if status == Valid || status == Expired {
			t.Fatalf("%q is %v", text, status)
		}
		if LooksJSXC(text) != (status != NotToken) {
			t.Fatalf("%q: LooksJSXC is %v, Verify says %v", text, LooksJSXC(text), status)
		}
		if _, err := InspectJSXC(text); err != nil && status != NotToken {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

// FuzzTOTP is FuzzJSXC for one-time tokens.
func FuzzTOTP(f *testing.F) {
	for _, v := range loadVectors[totpVector](f, "token_totp.json") {
		f.Add(v.Steps[0].Token, v.Steps[0].Now)
	}
	m, id := mustTOTP(f, testSeed, "a secret that no vector has"), auth.Identity{User: "joe", Domain: "dom.example"}
	f.Fuzz(func(t *testing.T, text string, now int64) {
		status, nonce := m.Verify(id, text, time.Unix(now, 0))
		if status != NotToken && status != Invalid || nonce != (Nonce{}) {
			t.Fatalf("%q is %v", text, status)
		}
		if LooksTOTP(text) != (status != NotToken) {
			t.Fatalf("%q: LooksTOTP is %v, Verify says %v", text, LooksTOTP(text), status)
		}
		if _, err := InspectTOTP(text); (err != nil) != (status == NotToken) {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

// FuzzIssue: what Issue makes is verified, for that identity only, in its time only.
func FuzzIssue(f *testing.F) {
	f.Add("joe", "dom.example", "secret", int64(1700000000))
	f.Add("josé", "exämple.org", "päss€", int64(59))
	f.Add("a@b", "c", "\x00", int64(-1))
	f.Add("a", "b", "s", int64(1)<<32)
	f.Fuzz(func(t *testing.T, user, domain, secret string, unix int64) {
		if secret == "" || unix > 1<<40 {
			return
		}
		id, now := auth.Identity{User: user, Domain: domain}, time.Unix(unix, 0)
		other := auth.Identity{User: user + "x", Domain: domain}
		good := auth.CheckUser(user) == nil && auth.CheckDomain(domain) == nil && unix >= 0
		j := mustJSXC(t, secret)
		timed, err := j.Issue(id, now)
		if (err == nil) != (good && unix < 1<<32) {
			t.Fatalf("%+v at %d: %v", id, unix, err)
		}
		if err == nil && (j.Verify(id, timed.Reveal(), now) != Valid || j.Verify(id, timed.Reveal(), now.Add(time.Second)) != Expired ||
			j.Verify(other, timed.Reveal(), now) != Invalid) {
			t.Fatalf("%+v at %d: %q", id, unix, timed.Reveal())
		}
		m := mustTOTP(t, testSeed, secret)
		once, err := m.Issue(id, now)
		if (err == nil) != good {
			t.Fatalf("%+v at %d: %v", id, unix, err)
		}
		if err != nil {
			return
		}
		status, n := m.Verify(id, once.Reveal(), now)
		if fresh, _ := NewReplay(1).Use(n, now); status != Valid || !fresh {
			t.Fatalf("%+v at %d: %v, fresh %v", id, unix, status, fresh)
		}
		if status, _ := m.Verify(other, once.Reveal(), now); status != Invalid {
			t.Fatalf("another user's token is %v", status)
		}
	})
}
