package doctor

import (
	"context"
	"fmt"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// oidc are the checks of an OpenID Connect provider above TLS.
func (w *web) oidc() []Step {
	steps := []Step{{Check: "discovery", Run: w.first(w.discovery)}, {Check: "clock", Run: w.oidcClock, Alone: true}}
	if w.config.Accepts(config.AcceptJWT) {
		steps = append(steps, Step{Check: "keys", Run: w.keys})
	}
	if w.config.Accepts(config.AcceptIntrospection) || w.config.Accepts(config.AcceptPasswordGrant) {
		steps = append(steps, Step{Check: "client", Run: w.client})
	}
	if w.config.OIDC.SCIMURL != "" {
		steps = append(steps, Step{Check: "scim", Run: w.scim})
	}
	return steps
}

// discovery fetches the discovery document.
func (w *web) discovery(ctx context.Context) []Outcome {
	p, ok := w.backend.(backend.Publisher)
	if !ok {
		return fail("the backend cannot be examined", "report this as a bug of postern")
	}
	if r := p.Discover(ctx); r.Class != backend.Accepted {
		return fail("the provider is not known: "+r.Err.Error(), "open ISSUER/.well-known/openid-configuration in a browser, and correct issuer")
	}
	return fine("the provider says that it is the issuer")
}

// keys fetches the keys.
func (w *web) keys(ctx context.Context) []Outcome {
	n, r := w.backend.(backend.Publisher).Keys(ctx) // or discovery has failed
	if r.Class != backend.Accepted {
		return fail("the provider's keys are not to be had: "+r.Err.Error(), "let postern's machine reach the jwks_uri of the discovery document")
	}
	return fine("%s to verify tokens", plural(n, "key"))
}

// oidcClock compares this machine's clock with the provider's: a token is valid from one time to another.
func (w *web) oidcClock(context.Context) []Outcome {
	skew, known := w.skew()
	const cure = "set both clocks by NTP: timedatectl set-ntp true"
	switch {
	case known != nil:
		return known
	case skew.Abs() > w.config.OIDC.Leeway+time.Second: // the header has whole seconds
		return fail(ahead(skew)+fmt.Sprintf(", which is more than leeway (%v): tokens are refused, or live too long", w.config.OIDC.Leeway), cure)
	}
	return fine("it differs from the server's by less than leeway (%v)", w.config.OIDC.Leeway)
}

// client asks about a secret that is certainly wrong, in the form of an opaque token, to see whether the provider takes
// postern for a client that may introspect tokens and use the password grant. The user does not exist, so that no
// account has a failed login.
func (w *web) client(ctx context.Context) []Outcome {
	q := w.query
	q.Op, q.Secret = auth.OpAuth, auth.NewSecret("postern-doctor-0123456789-0123456789")
	switch r := w.backend.Ask(ctx, q); r.Class {
	case backend.Refused:
		return fine("the provider answers the client %s", w.config.OIDC.ClientID)
	case backend.Accepted:
		return fail("the provider accepts a password that is certainly wrong", "see which users it has, and what it takes for a password")
	default:
		return fail(fmt.Sprintf("the provider does not answer the client %s: %v", w.config.OIDC.ClientID, r.Err), "see the client at the provider, and its log")
	}
}

// scim asks the provider's SCIM API about a user that does not exist, and about the known one.
func (w *web) scim(ctx context.Context) []Outcome {
	r := w.backend.Ask(ctx, w.query)
	switch r.Class {
	case backend.Refused:
	case backend.Accepted:
		return fail("the SCIM API has a user for every name", "see whether it filters by userName: app passwords of accounts that are gone would stay good")
	default:
		return fail(fmt.Sprintf("accounts cannot be looked up: %v", r.Err), "see the client's rights at the provider, and its log: logins with app passwords are temporary failures meanwhile")
	}
	out := fine("accounts are looked up at the SCIM API; test it on one with --as USER")
	for i, q := range w.known {
		if i == 0 {
			out = nil
		}
		out = append(out, w.scimUser(ctx, q)...)
	}
	return out
}

// scimUser asks the SCIM API about a user that should exist.
func (w *web) scimUser(ctx context.Context, q backend.Query) []Outcome {
	user := q.User + "@" + q.Domain
	switch r := w.backend.Ask(ctx, q); {
	case r.Class == backend.Refused:
		return warn("the SCIM API does not know "+user+": app passwords of the account are refused",
			"see its userName at the provider, and login of the domain, which makes other names of the user")
	case r.Class != backend.Accepted:
		return fail(fmt.Sprintf("the question for %s was not answered: %v", user, r.Err), "see the provider's log")
	case r.Disabled:
		return warn(user+" is disabled at the provider (active): app passwords of the account are refused", "enable the account there, if it should log in")
	case len(q.Groups) > 0 && r.Groups == "":
		return warn("the SCIM API does not list the groups of "+user+": logins with app passwords under the domain's allow are temporary failures",
			"have the provider list groups in its users, or put them into another backend")
	}
	return fine("the SCIM API knows %s", user)
}
