package actors

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/internal/apppassword"
	"postern/internal/auth"
	"postern/internal/backend"
)

// signIn asks for a sign-in at a page.
func (r *rig) signIn(user, password, client string, groups ...string) auth.Answer {
	a, _ := r.SignIn(context.Background(), "status", auth.Request{
		User: user, Domain: "dom.example", Secret: auth.NewSecret(password), Client: client,
	}, auth.Own{Groups: groups}, timeout)
	return a
}

// TestSignIn: only the account's own password counts, as its backend says at that moment.
func TestSignIn(t *testing.T) {
	d := newDirectory()
	r := appRig(t, func(s *setup) {
		byGroups(s, d)
		withTokens(s)
		s.cfg.Domains[0].AppPasswords.RequireAll = true // the rule that one is required is for other services
	})
	a := r.signIn("both", "good", "192.0.2.1", "x", "y")
	r.want(a, auth.Allow, auth.SourceBackend)
	for group, want := range map[string]bool{"x": true, "y": false, "mail": true} {
		if in, known := a.Groups.In(group); in != want || !known {
			t.Errorf("in %s: %t, known: %t", group, in, known)
		}
	}
	if a.Account != "both" || a.Domain != "dom.example" {
		t.Errorf("it is %s@%s", a.Account, a.Domain)
	}
	r.want(r.signIn("both", "wrong", "192.0.2.1"), auth.Deny, auth.SourceBackend)
	d.questions()
	app := r.add("both", apppassword.New{Name: "phone"})
	if a := r.signIn("both", app, "192.0.2.1"); a.Verdict != auth.Deny || a.Source != auth.SourceAppPassword {
		t.Errorf("with an app password: %v (%v)", a.Verdict, a.Source)
	}
	for kind, secret := range map[string]string{"token": r.jsxcToken("both", time.Hour), "one-time token": r.totpToken("both")} {
		if a := r.signIn("both", secret, "192.0.2.1"); a.Verdict != auth.Deny || a.Source != auth.SourceBackend {
			t.Errorf("with an %s: %v (%v)", kind, a.Verdict, a.Source)
		}
	}
	if n := d.questions(); n != 2 { // about passwords that may be tokens, but not about the app password
		t.Errorf("the backend was asked %d times", n)
	}
	// What is remembered does not count, and nothing is.
	d.leave(true)
	if a := r.signIn("both", "good", "192.0.2.1"); a.Verdict != auth.Unavailable {
		t.Errorf("in an outage: %v (%v)", a.Verdict, a.Source)
	}
	if u := r.cached("both"); len(u.Verifiers)+len(u.Refusals) > 0 {
		t.Errorf("the cache knows %+v", u)
	}
	if !strings.Contains(r.log.String(), "front=status op=auth verdict=allow") || strings.Contains(r.log.String(), "good") {
		t.Errorf("log:\n%s", r.log)
	}
}

// TestSignInLimits: guesses at a page count for the account and for the address, and end as others do.
func TestSignInLimits(t *testing.T) {
	r := newRig(t, withLimits)
	for i := range 4 {
		r.want(r.signIn("joe", fmt.Sprint("guess", i), ""), auth.Deny, auth.SourceBackend)
	}
	r.want(r.signIn("joe", "guess4", ""), auth.Unavailable, byUser)
	for i := range 6 {
		r.want(r.signIn(fmt.Sprint("user", i), "guess", "192.0.2.1"), auth.Deny, auth.SourceBackend)
	}
	r.want(r.signIn("jane", "good", "192.0.2.1"), auth.Unavailable, byAddress)
	r.want(r.signIn("jane", "good", "198.51.100.1"), auth.Allow, auth.SourceBackend)
	if _, err := r.ForgetUserLimit(context.Background(), auth.Identity{User: "joe", Domain: "dom.example"}); err != nil {
		t.Fatal(err)
	}
	r.want(r.signIn("joe", "good", "198.51.100.1"), auth.Allow, auth.SourceBackend)
}

// TestSignInOfAnother: an account that is known by another name is itself, whatever its name is.
func TestSignInOfAnother(t *testing.T) {
	r := newRig(t, func(s *setup) {
		s.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
			r := goodPassword(q)
			r.Account = "eve" // by a mail address, which users choose
			return r
		}
	})
	if a := r.signIn("root", "good", ""); a.Verdict != auth.Allow || a.Account != "eve" {
		t.Errorf("%v: %s", a.Verdict, a.Account)
	}
	other, _ := r.SignIn(context.Background(), "status", auth.Request{User: "joe", Domain: "other.example", Secret: auth.NewSecret("good")}, auth.Own{}, timeout)
	for name, a := range map[string]auth.Answer{
		"no such domain": other,
		"no password":    r.signIn("joe", "", ""),
		"no user":        r.signIn("", "good", ""),
	} {
		if a.Verdict != auth.Deny {
			t.Errorf("%s: %v", name, a.Verdict)
		}
	}
}

// TestSignInByAppPassword: an app password opens no page, and is put to no backend, known or not.
func TestSignInByAppPassword(t *testing.T) {
	r := appRig(t, func(s *setup) { s.fake.ask = noAppPassword(t) })
	known := r.add("joe", apppassword.New{Name: "phone"})
	r.because(r.auth("joe", known), auth.Allow, "")
	for _, secret := range []string{known, apppassword.NewSecret().Show().Reveal()} {
		a, _ := r.SignIn(context.Background(), "own", auth.Request{User: "joe", Domain: "dom.example", Secret: auth.NewSecret(secret)}, auth.Own{}, timeout)
		if a.Verdict != auth.Deny || a.Source != auth.SourceAppPassword {
			t.Errorf("%+v", a)
		}
	}
}
