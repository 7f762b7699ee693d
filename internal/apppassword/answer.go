package apppassword

import (
	"fmt"
	"strings"
	"time"

	"postern/internal/auth"
	"postern/internal/unixtime"
)

// Required is the answer to a login with the account's own password where an app password is required.
func Required(service string) auth.Answer {
	return refusal("an app password is required %s: the account's own password is not accepted there", forService(service))
}

// NotOwn is the answer to a sign-in at a page with a secret of this form.
func NotOwn() auth.Answer {
	return refusal("an app password is for programs: the page wants the account's own password")
}

// Refused is the answer to a login for a service with a secret that is not Valid. The entry is nil for Unknown
// and Unknowable.
func Refused(status Status, p *Password, service string) auth.Answer {
	switch status {
	case Revoked:
		return refusal("revoked: the app password %q was taken back", p.Name)
	case Expired:
		return refusal("expired: the app password %q", p.Name)
	case OtherService:
		return refusal("not %s: the app password %q is for %s", forService(service), p.Name, strings.Join(p.Services, ", "))
	case Unknowable:
		return auth.Answer{Source: auth.SourceConfig,
			Reason: "unknown, but the account has app passwords under another key, or without keys of SCRAM: give the backend app_passwords its former key, or make them anew"}
	}
	return refusal("unknown: the account has no such app password")
}

// Answer is the answer to a login with a valid secret. standing is what the domain's other backends say of the
// account, as an answer to OpIsUser; leads, that they know it by another name than the one asked. Where none can
// be asked, an entry is good for ttl; see Confirmed.
func (p *Password) Answer(standing auth.Answer, leads bool, ttl time.Duration, now unixtime.Time) auth.Answer {
	allow := auth.Answer{Verdict: auth.Allow, Source: auth.SourceAppPassword, Account: standing.Account, Groups: standing.Groups}
	exists := standing.Verdict == auth.Allow
	switch {
	case exists && leads:
		return refusal("the name leads to the account %q, which has app passwords of its own", standing.Account)
	case exists && standing.Disabled && standing.Bridged:
		return auth.Answer{Source: auth.SourceGrace, Reason: "the account was disabled, and its backend gives no answer now"}
	case exists && standing.Disabled:
		return refusal("the account is disabled at its backend")
	case exists:
		return allow
	case standing.Verdict == auth.Deny:
		return refusal("the account does not exist at its backend, or not any more")
	case standing.Unasked && p.Confirmed(ttl, now):
		return allow
	case standing.Unasked:
		return refusal("expired: the app password %q was made, and the account last logged in with its own password, more than %v ago, and no backend can be asked about the account", p.Name, ttl)
	}
	return auth.Answer{Source: standing.Source, Reason: "whether the account still exists is not known: " + standing.Reason}
}

func refusal(reason string, args ...any) auth.Answer {
	return auth.Answer{Verdict: auth.Deny, Source: auth.SourceAppPassword, Reason: fmt.Sprintf(reason, args...)}
}

// forService is a service in a reason.
func forService(service string) string {
	if service == "" {
		return "for a login that names no service"
	}
	return "for " + service
}
