package backend

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"postern/internal/auth"
	"postern/internal/oidc"
)

// The life of a token of the client credentials grant.
const (
	// clientTokenEarly is how long before its end another one is fetched, at most a tenth of its life.
	clientTokenEarly = 30 * time.Second
	// clientTokenUntold is its life if the provider does not say, and clientTokenLife the longest that is believed.
	clientTokenUntold = 5 * time.Minute
	clientTokenLife   = 24 * time.Hour
)

var (
	errNoClientToken = errors.New("the provider's answer to the client credentials grant has no access_token")
	errNoBearer      = errors.New("the provider's token for the SCIM API is no bearer token (token_type)")
	errTokenBytes    = errors.New("the provider's token for the SCIM API has bytes that no token has")
	errTokenRefused  = errors.New("the provider's SCIM API refuses the token: give postern one that may read users")
	errFreshRefused  = errors.New("the provider's SCIM API refuses a token that the provider has just issued: give the client the right to read users, and see whether scope is complete")
)

// clientTokens has the token of the client credentials grant (RFC 6749 section 4.4), until shortly before it ends. It is
// safe for concurrent use.
type clientTokens struct {
	of    *oidcBackend
	scope string

	turn chan struct{} // held by the one that looks at what follows, or fetches
	// With the turn alone.
	token  string
	until  time.Time
	missed *miss     // the last fetch
	barred time.Time // until when no token is fetched for one that was refused: the last one that was, was refused, too
}

func newClientTokens(of *oidcBackend, scopes []string) *clientTokens {
	return &clientTokens{of: of, scope: strings.Join(scopes, " "), turn: make(chan struct{}, 1)}
}

// get returns a token other than the one that was refused; "": none was.
func (c *clientTokens) get(ctx context.Context, refused string) (string, *Result) {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return "", &Result{Class: Outage, Err: errors.New("the token for the provider's SCIM API did not come in time")}
	}
	defer func() { <-c.turn }()
	now := c.of.options.Now()
	if c.token != "" && c.token != refused && now.Before(c.until) && c.until.Sub(now) <= clientTokenLife {
		return c.token, nil
	}
	if refused != "" && refused == c.token && now.Before(c.barred) && c.barred.Sub(now) <= faultEvery {
		r := Result{Class: Misconfigured, Err: errFreshRefused}
		return "", &r
	}
	if r := c.missed.standing(now); r != nil {
		return "", r
	}
	token, life, r := c.fetch(ctx)
	if r != nil {
		r.OneAccount = false // no account is part of the question
		if !errors.Is(ctx.Err(), context.Canceled) {
			c.missed = missed(r, now, false)
		}
		return "", r
	}
	c.token, c.until, c.missed = token, now.Add(life-min(clientTokenEarly, life/10)), nil
	return token, nil
}

// rejected takes note that a token was refused that had been fetched in the place of one that was.
func (c *clientTokens) rejected() {
	select {
	case c.turn <- struct{}{}:
		c.barred = c.of.options.Now().Add(faultEvery)
		<-c.turn
	default: // another token is being fetched
	}
}

// retry has everything tried again at the next question.
func (c *clientTokens) retry() {
	select {
	case c.turn <- struct{}{}:
		c.token, c.missed, c.barred = "", nil, time.Time{}
		<-c.turn
	default: // it is being tried
	}
}

// fetch asks the provider for a token.
func (c *clientTokens) fetch(ctx context.Context) (token string, life time.Duration, r *Result) {
	p, r := c.of.known(ctx)
	if r != nil {
		return "", 0, r
	}
	if p.token == nil {
		r := misconfigured("the provider has no token_endpoint: write a token into scim")
		return "", 0, &r
	}
	form := []param{{"grant_type", "client_credentials"}}
	if c.scope != "" {
		form = append(form, param{"scope", c.scope})
	}
	fields, r := c.of.post(ctx, p.token.client, clientGrant, form)
	if r != nil {
		return "", 0, r
	}
	token, life, err := parseClientToken(fields)
	if err != nil {
		return "", 0, &Result{Class: Outage, Err: err}
	}
	return token, life, nil
}

// parseClientToken reads the answer to a client credentials grant.
func parseClientToken(fields oidc.Claims) (token string, life time.Duration, err error) {
	token, ok := text(fields["access_token"])
	switch {
	case !ok:
		return "", 0, errNoClientToken
	case len(token) > auth.MaxSecret, strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }): // RFC 6750 section 2.1
		return "", 0, errTokenBytes
	}
	if kind, given := text(fields["token_type"]); given && !strings.EqualFold(kind, "Bearer") {
		return "", 0, errNoBearer
	}
	life = clientTokenUntold
	if said, given := text(fields["expires_in"]); given {
		if seconds, err := strconv.ParseFloat(said, 64); err == nil && seconds >= 1 && !math.IsInf(seconds, 0) {
			life = time.Duration(min(seconds, clientTokenLife.Seconds())) * time.Second
		}
	}
	return token, life, nil
}

// What a request of the token or the introspection endpoint is for, and how it is called in errors.
const (
	passwordGrant = "token"
	clientGrant   = "client credentials"
	introspection = "introspection"
)

// clientRefusal classifies the errors of a client credentials grant that others do not have.
func clientRefusal(status int, code string) (Result, bool) {
	switch {
	case status != http.StatusBadRequest && status != http.StatusUnauthorized && status != http.StatusForbidden:
	case code == "invalid_client":
		return misconfigured("the provider does not accept client_id and client_secret"), true
	case code == "unauthorized_client", code == "unsupported_grant_type":
		return misconfigured("the provider does not let the client of client_id use the client credentials grant (Keycloak: service accounts)"), true
	case code == "invalid_scope":
		return misconfigured("the provider does not give the client of client_id what scope of scim says"), true
	}
	return Result{}, false
}
