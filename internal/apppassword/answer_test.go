package apppassword

import (
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
)

// TestRefused: each status has its verdict and says why; what is not known is no "no".
func TestRefused(t *testing.T) {
	p := &Password{Name: "phone", Services: []string{"imap", "smtp"}}
	for status, want := range map[Status]struct {
		verdict auth.Verdict
		reason  string
	}{
		Unknown:      {auth.Deny, "unknown"},
		Revoked:      {auth.Deny, `revoked: the app password "phone"`},
		Expired:      {auth.Deny, `expired: the app password "phone"`},
		OtherService: {auth.Deny, `not for xmpp: the app password "phone" is for imap, smtp`},
		Unknowable:   {auth.Unavailable, "under another key"},
	} {
		if a := Refused(status, p, "xmpp"); a.Verdict != want.verdict || !strings.Contains(a.Reason, want.reason) {
			t.Errorf("%v: %v, %q", status, a.Verdict, a.Reason)
		}
	}
	if a := Required(""); a.Verdict != auth.Deny || !strings.Contains(a.Reason, "names no service") {
		t.Errorf("required: %v, %q", a.Verdict, a.Reason)
	}
}

// TestAnswer: what the other backends say of the account decides on a valid app password.
func TestAnswer(t *testing.T) {
	const ttl = 90 * 24 * time.Hour
	exists := auth.Answer{Verdict: auth.Allow, Source: auth.SourceBackend, Account: "joe"}
	with := func(change func(*auth.Answer)) auth.Answer { a := exists; change(&a); return a }
	for name, c := range map[string]struct {
		standing auth.Answer
		leads    bool
		age      time.Duration
		verdict  auth.Verdict
		source   auth.Source
		reason   string
	}{
		"the account exists":           {exists, false, 2 * ttl, auth.Allow, auth.SourceAppPassword, ""},
		"under another name":           {exists, true, 0, auth.Deny, auth.SourceAppPassword, "leads to"},
		"disabled":                     {with(func(a *auth.Answer) { a.Disabled = true }), false, 0, auth.Deny, auth.SourceAppPassword, "disabled"},
		"disabled before an outage":    {with(func(a *auth.Answer) { a.Disabled, a.Bridged = true, true }), false, 0, auth.Unavailable, auth.SourceGrace, "was disabled"},
		"known, in an outage":          {with(func(a *auth.Answer) { a.Bridged = true }), false, 0, auth.Allow, auth.SourceAppPassword, ""},
		"there is none":                {auth.Answer{Verdict: auth.Deny}, false, 0, auth.Deny, auth.SourceAppPassword, "does not exist"},
		"none can be asked, young":     {auth.Answer{Unasked: true}, false, ttl - time.Minute, auth.Allow, auth.SourceAppPassword, ""},
		"none can be asked, too old":   {auth.Answer{Unasked: true}, false, ttl, auth.Deny, auth.SourceAppPassword, "expired"},
		"unknown account in an outage": {auth.Answer{Source: auth.SourceBackend, Reason: "no answer"}, false, 0, auth.Unavailable, auth.SourceBackend, "not known: no answer"},
	} {
		p := &Password{Name: "phone", Created: at(0)}
		a := p.Answer(c.standing, c.leads, ttl, at(c.age))
		if a.Verdict != c.verdict || a.Source != c.source || !strings.Contains(a.Reason, c.reason) || (c.verdict == auth.Allow && a.Account != c.standing.Account) {
			t.Errorf("%s: %v (%v), %q, account %q", name, a.Verdict, a.Source, a.Reason, a.Account)
		}
	}
}
