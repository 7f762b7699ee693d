package backend

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"postern/internal/jsonobject"
	"postern/internal/oidc"
)

// untold is how long an active token is remembered if the provider does not say when it ends.
const untold = time.Hour

var (
	errInactive     = errors.New("the provider says that the token is not active")
	errInvalidGrant = errors.New("the provider refuses the password (invalid_grant)")
)

// introspect puts a token to the provider (RFC 7662). An inactive one may be another backend's, so that the refusal
// says nothing of the account.
func (b *oidcBackend) introspect(ctx context.Context, q Query) Result {
	p, r := b.known(ctx)
	if r != nil {
		return *r
	}
	if p.introspection == nil {
		return misconfigured("the provider has no introspection_endpoint: remove introspection from accept")
	}
	fields, r := b.post(ctx, p.introspection.client, introspection, []param{{"token", q.Secret.Reveal()}, {"token_type_hint", "access_token"}})
	if r != nil {
		return *r
	}
	switch string(fields["active"]) {
	case "true":
	case "false":
		return Result{Class: Refused, Err: errInactive}
	default:
		return outage("HTTP 200 from the introspection endpoint, but active is neither true nor false")
	}
	pass, fault := b.rules.Introspected(fields, q.User, q.Domain, b.options.Now())
	if fault != nil {
		r := faulty(fault)
		r.Final = fault.Kind != oidc.Foreign // a token that is good elsewhere is no password
		return r
	}
	if pass.Expires.IsZero() {
		pass.Expires = b.options.Now().Add(untold)
	}
	return Result{Class: Accepted, Known: true, Account: pass.Account, Expires: pass.Expires, Groups: b.groups(q, fields)}
}

// grant puts a password to the provider, as the resource owner password credentials grant of RFC 6749. The ID token
// in the answer says which account it is.
func (b *oidcBackend) grant(ctx context.Context, q Query) Result {
	password := q.Secret.Reveal()
	if !utf8.ValidString(password) || !utf8.ValidString(q.User) {
		return Result{Class: Refused}
	}
	p, r := b.known(ctx)
	if r != nil {
		return *r
	}
	if p.token == nil {
		return misconfigured("the provider has no token_endpoint: remove password_grant from accept")
	}
	scope := strings.Join(append([]string{"openid"}, b.options.Scopes...), " ")
	refused := Result{Class: Refused}
	for i, name := range q.LoginNames() {
		fields, r := b.post(ctx, p.token.client, passwordGrant, []param{
			{"grant_type", "password"}, {"username", name}, {"password", password}, {"scope", scope},
		})
		switch {
		case r == nil:
			answer := b.granted(q, fields)
			answer.Attempts = i
			return answer
		case r.Class != Refused:
			r.Attempts, r.Suspect = i, i > 0
			return *r
		}
		refused.Attempts, refused.Err = i+1, r.Err
	}
	return refused
}

// granted reads the answer to a password that is right.
func (b *oidcBackend) granted(q Query, fields oidc.Claims) Result {
	if err := b.rules.Allowed(fields); err != nil {
		return Result{Class: Refused, Known: true, Err: err}
	}
	token, ok := text(fields["id_token"])
	u, err := oidc.Peek(token)
	if !ok || err != nil {
		return misconfigured("the provider's answer to a right password has no ID token that names the account: let the client have the scope openid")
	}
	pass, fault := b.rules.Granted(u.Claims, b.options.ClientID, q.User, q.Domain)
	if fault != nil {
		return faulty(fault)
	}
	return Result{Class: Accepted, Known: true, Account: pass.Account, Groups: b.groups(q, u.Claims)}
}

// post sends a form to an endpoint of the provider as the client of postern, and returns the JSON object of a
// response with status 200. A Result is Refused only for the error invalid_grant.
func (b *oidcBackend) post(ctx context.Context, c *httpClient, what string, form []param) (oidc.Claims, *Result) {
	o := &b.options
	header := []headerField{{"Content-Type", "application/x-www-form-urlencoded"}, {"Accept", "application/json"}}
	if o.ClientSecret.Empty() {
		form = append(form, param{"client_id", o.ClientID})
	} else { // each is encoded first: RFC 6749 section 2.3.1
		pair := url.QueryEscape(o.ClientID) + ":" + url.QueryEscape(o.ClientSecret.Reveal())
		header = append(header, headerField{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))})
	}
	resp, err := c.do(ctx, request{method: http.MethodPost, target: c.target, header: header, body: encodeForm(form)})
	if err != nil {
		r := unanswered(err)
		return nil, &r
	}
	fields, err := jsonobject.Split(resp.body)
	if err == nil && resp.status == http.StatusOK {
		return fields, nil
	}
	r := refusal(resp, fields, what)
	return nil, &r
}

// refusal classifies a response of the token or the introspection endpoint with an error (RFC 6749 section 5.2).
func refusal(resp response, fields oidc.Claims, what string) Result {
	code, _ := text(fields["error"])
	if what == clientGrant {
		if r, ok := clientRefusal(resp.status, code); ok {
			return r
		}
		return foreignProvider(resp, "token endpoint's answer")
	}
	switch {
	case resp.status != http.StatusBadRequest && resp.status != http.StatusUnauthorized && resp.status != http.StatusForbidden:
	case code == "invalid_grant" && what == passwordGrant:
		return Result{Class: Refused, Err: errInvalidGrant}
	case code == "invalid_client", resp.status == http.StatusUnauthorized && what == introspection:
		return misconfigured("the provider does not accept client_id and client_secret")
	case code == "unauthorized_client", code == "unsupported_grant_type":
		return misconfigured("the provider does not let this client use the password grant (Keycloak: direct access grants)")
	case code == "invalid_scope":
		return misconfigured("the provider does not give this client the scope openid, or one of required_scope")
	case code == "unsupported_token_type":
		return Result{Class: Unsure, Err: errors.New("the provider does not introspect tokens of this kind: add jwt to accept")}
	}
	return foreignProvider(resp, what+" endpoint's answer")
}
