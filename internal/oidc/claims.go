package oidc

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"postern/internal/auth"
)

// Claims are the members of a JWT's payload, or of an answer about a token.
type Claims map[string]json.RawMessage

// DiscoveryURL is where an issuer publishes what it has.
func DiscoveryURL(issuer string) string {
	return strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
}

// Algorithms are those of signatures that can be verified. All are asymmetric: with one that is not, a signature can be
// made by all that can check it, and a provider's public key could be passed off as the secret.
var Algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// Bounded reports whether tokens that were issued for other applications do not let in: those that are verified by their
// signature need an audience, and those that are put to the provider an audience or clients.
func (r *Rules) Bounded(signed, introspected bool) bool {
	return r.Audience != "" || !signed && (!introspected || len(r.Clients) > 0)
}

// Rules are what the administrator wants of a token.
type Rules struct {
	Issuer   string
	Audience string   // that aud must have
	Clients  []string // to one of which the token was issued; empty: any
	Scopes   []string // which must all be there
	Claim    string   // that names the user
	Domain   bool     // the claim is user@domain; else it is the user alone
	Leeway   time.Duration
	Fold     bool // spellings of a user that differ by letter case are one account
}

// Kind is what is wrong with a token.
type Kind uint8

const (
	// Foreign: it is not one of this provider, so that it says nothing about the account.
	Foreign Kind = iota
	// Denied: it is not good for this login, and will never be.
	Denied
	// NotYet: its time has not come.
	NotYet
	// Incomplete: it has no claim that names the user, which only an administrator can correct.
	Incomplete
	// Elsewhere: it is of an account of another domain. The login's domain may have another name at the provider.
	Elsewhere
)

// Fault is why a token does not let its bearer in. It quotes nothing of the token but claims.
type Fault struct {
	Kind   Kind
	reason string
}

// Error implements error.
func (f *Fault) Error() string { return f.reason }

func fault(k Kind, format string, args ...any) *Fault { return &Fault{k, fmt.Sprintf(format, args...)} }

// Pass is what a token is good for.
type Pass struct {
	Account string    // the user as the provider writes it, without the domain
	Expires time.Time // zero: the provider does not say
}

// Ours returns an error unless a JWT says that it is one of the issuer.
func (r *Rules) Ours(u Unverified) error {
	if f := r.issued(u.Claims); f != nil {
		return f
	}
	return nil
}

func (r *Rules) issued(c Claims) *Fault {
	if iss, _ := texted(c["iss"]); iss != r.Issuer {
		return fault(Foreign, "the token is of another issuer: %s", clip(iss))
	}
	return nil
}

// Signed decides on the claims of a JWT, for the login of a user of a domain. Its signature is another matter.
func (r *Rules) Signed(u Unverified, user, domain string, now time.Time) (Pass, *Fault) {
	c := u.Claims
	if f := r.issued(c); f != nil {
		return Pass{}, f
	}
	if f := cmp.Or(marked(c), access(u.Typ, c)); f != nil {
		return Pass{}, f
	}
	if _, ok := c["exp"]; !ok {
		return Pass{}, fault(Denied, "the token does not say when it ends (exp)")
	}
	return r.rest(c, user, domain, now)
}

// Introspected decides on a provider's answer about a token that is active. What the provider leaves out of it,
// it has checked.
func (r *Rules) Introspected(c Claims, user, domain string, now time.Time) (Pass, *Fault) {
	if _, ok := c["iss"]; ok {
		if f := r.issued(c); f != nil {
			return Pass{}, f
		}
	}
	kind, _ := texted(c["token_type"])
	typ, _ := texted(c["typ"])
	switch {
	case kind != "" && !strings.EqualFold(kind, "Bearer") && !strings.EqualFold(kind, "access_token"):
		return Pass{}, fault(Denied, "it is no bearer token, but one of the type %s", clip(kind))
	case typ != "" && !strings.EqualFold(typ, "Bearer"):
		return Pass{}, fault(Denied, "it is no access token, but one of the type %s", clip(typ))
	case kind == "" && typ == "" && r.Audience == "": // a refresh token has the clients of its access tokens
		return Pass{}, fault(Denied, "the provider does not say that it is an access token (token_type): set audience")
	}
	if f := marked(c); f != nil {
		return Pass{}, f
	}
	return r.rest(c, user, domain, now)
}

// marked reports that a token is an ID token, whatever it calls itself.
func marked(c Claims) *Fault {
	if name := c.first("nonce", "at_hash", "c_hash", "s_hash"); name != "" {
		return fault(Denied, "it is an ID token (it has %s), not an access token", name)
	}
	return nil
}

// Allowed returns an error if the scope in the answer to a password grant lacks one that is required. Without it all
// that were asked for are granted (RFC 6749 section 5.1).
func (r *Rules) Allowed(answer Claims) error {
	if _, ok := answer["scope"]; !ok {
		return nil
	}
	if f := r.scoped(answer.scopes()); f != nil {
		return f
	}
	return nil
}

// scoped reports which of the required scopes is missing.
func (r *Rules) scoped(has []string) *Fault {
	for _, scope := range r.Scopes {
		if !slices.Contains(has, scope) {
			return fault(Denied, "the provider has not granted the scope %s", scope)
		}
	}
	return nil
}

// Granted returns the account that the ID token of a password grant names. The provider has just issued it to
// postern, over a connection of its own.
func (r *Rules) Granted(c Claims, client, user, domain string) (Pass, *Fault) {
	if iss, _ := texted(c["iss"]); iss != r.Issuer {
		return Pass{}, fault(Incomplete, "the ID token is of another issuer: %s", clip(iss))
	}
	if aud, _ := list(c["aud"]); !slices.Contains(aud, client) {
		return Pass{}, fault(Incomplete, "the ID token is for another client than client_id")
	}
	account, f := r.account(c, user, domain)
	return Pass{Account: account}, f
}

// access reports why a JWT is no access token.
func access(typ string, c Claims) *Fault {
	typ = strings.ToLower(typ)
	typ = strings.TrimPrefix(typ, "application/")
	claim, _ := texted(c["typ"])
	switch {
	case typ == "at+jwt" && claim == "":
		return nil
	case strings.EqualFold(claim, "Bearer") && (typ == "" || typ == "jwt" || typ == "at+jwt"):
		return nil
	case claim != "":
		return fault(Denied, "it is no access token: its type is %s", clip(claim))
	case typ != "" && typ != "jwt":
		return fault(Denied, "it is no access token: its type is %s", clip(typ))
	}
	bare := c.first("auth_time", "amr", "acr", "azp", "sid") == ""
	if len(c.scopes()) == 0 && !(bare && c.first("jti") != "" && c.first("client_id") != "") {
		return fault(Denied, "it does not show that it is an access token: it has neither the type at+jwt nor a scope")
	}
	return nil
}

// first returns the first of some claims that there is, or "".
func (c Claims) first(names ...string) string {
	for _, name := range names {
		if _, ok := c[name]; ok {
			return name
		}
	}
	return ""
}

// rest checks what a JWT and an answer about a token have in common.
func (r *Rules) rest(c Claims, user, domain string, now time.Time) (Pass, *Fault) {
	aud, ok := list(c["aud"])
	switch {
	case r.Audience == "":
	case !ok:
		return Pass{}, fault(Denied, "the token has no audience (aud), so it may be for anything")
	case !slices.Contains(aud, r.Audience):
		return Pass{}, fault(Denied, "the token is for another audience: %s", clip(strings.Join(aud, " ")))
	}
	if client := c.client(); len(r.Clients) > 0 && !slices.Contains(r.Clients, client) {
		return Pass{}, fault(Denied, "the token was issued to another client: %s", clip(client))
	}
	if use, ok := texted(c["token_use"]); ok && use != "access" && use != "access_token" { // Cognito, Hydra
		return Pass{}, fault(Denied, "it is no access token, but one for the use %s", clip(use))
	}
	if _, bound := c["cnf"]; bound {
		return Pass{}, fault(Denied, "the token is bound to a key (cnf): it is worth nothing without a proof")
	}
	expires, f := r.alive(c, now)
	if f != nil {
		return Pass{}, f
	}
	if f := r.scoped(c.scopes()); f != nil {
		return Pass{}, f
	}
	account, f := r.account(c, user, domain)
	return Pass{Account: account, Expires: expires}, f
}

// alive checks the times of a token.
func (r *Rules) alive(c Claims, now time.Time) (expires time.Time, f *Fault) {
	if raw, ok := c["exp"]; ok {
		if expires, ok = instant(raw); !ok {
			return expires, fault(Denied, "exp is not a time")
		}
		if !now.Before(expires.Add(r.Leeway)) {
			return expires, fault(Denied, "the token has expired, %v ago", now.Sub(expires).Round(time.Second))
		}
	}
	for _, name := range []string{"nbf", "iat"} {
		raw, ok := c[name]
		if !ok {
			continue
		}
		from, ok := instant(raw)
		if !ok {
			return expires, fault(Denied, "%s is not a time", name)
		}
		if ahead := from.Sub(now); ahead > r.Leeway {
			return expires, fault(NotYet, "the token is valid in %v only (%s): the clock of this machine or of the provider is wrong", ahead.Round(time.Second), name)
		}
	}
	return expires, nil
}

// Named returns the user that a JWT of an issuer names, without a domain, for a login that names none; "" if it does
// not say. It is to be asked about as any user is: nothing is checked here.
func (u *Unverified) Named(issuer, claim string, domain bool) string {
	if iss, _ := texted(u.Claims["iss"]); iss != issuer {
		return ""
	}
	name, _ := texted(u.Claims[claim])
	if i := strings.LastIndexByte(name, '@'); domain && i >= 0 {
		name = name[:i]
	}
	return name
}

// account reads the claim that names the user, and compares it with the login.
func (r *Rules) account(c Claims, user, domain string) (string, *Fault) {
	name, ok := texted(c[r.Claim])
	if !ok || name == "" {
		return "", fault(Incomplete, "the token has no claim %s that names the user: have the provider add it, or correct username_claim", r.Claim)
	}
	if r.Claim == "email" && !isTrue(c["email_verified"]) {
		return "", fault(Denied, "the e-mail address of the account is not verified (email_verified)")
	}
	local := name
	if r.Domain { // one form alone: alice and alice@example.org may belong to different people
		i := strings.LastIndexByte(name, '@')
		if i < 0 {
			return "", fault(Denied, "the claim %s has no domain, though username_domain is set: %s", r.Claim, clip(name))
		}
		at := name[i+1:]
		local = name[:i]
		folded, err := auth.FoldDomain(at)
		if asked, err2 := auth.FoldDomain(domain); err != nil || err2 != nil || folded != asked {
			return "", fault(Elsewhere, "the token is of an account of another domain: %s", clip(at))
		}
	}
	same := local == user || r.Fold && auth.FoldUser(local) == auth.FoldUser(user)
	if local == "" || !same {
		hint := ""
		if !r.Domain && strings.Contains(name, "@") {
			hint = " (if it should be user@domain, set username_domain)"
		}
		return "", fault(Denied, "the token is of another account: %s%s", clip(name), hint)
	}
	return local, nil
}

// client is the client that a token was issued to, "" if it does not say. The names are those of OpenID Connect, of
// RFC 9068, Okta and Entra.
func (c Claims) client() string {
	for _, name := range []string{"azp", "client_id", "cid", "appid"} {
		if client, ok := texted(c[name]); ok {
			return client
		}
	}
	return ""
}

// scopes lists the scopes of a token, which are one text or, in Okta and Entra, a list.
func (c Claims) scopes() (all []string) {
	for _, name := range []string{"scope", "scp"} {
		names, _ := list(c[name])
		for _, text := range names {
			all = append(all, strings.Fields(text)...)
		}
	}
	return all
}

// Groups reads a claim that lists the groups of an account. said is false without it.
func (c Claims) Groups(claim string) (groups []string, said bool) {
	if claim == "" {
		return nil, false
	}
	return list(c[claim])
}

// list reads a text or a list of texts.
func list(raw json.RawMessage) ([]string, bool) {
	if one, ok := texted(raw); ok {
		return []string{one}, true
	}
	var all []string
	err := json.Unmarshal(raw, &all)
	return all, err == nil && all != nil
}

// texted reads a text; null is none.
func texted(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 && utf8.Valid(raw) { // as most are; decoding takes longer than all else here
		return string(raw[1 : len(raw)-1]), true
	}
	var s *string
	if json.Unmarshal(raw, &s) != nil || s == nil {
		return "", false
	}
	return *s, true
}

// isTrue reads email_verified: true, which some providers write as a text.
func isTrue(raw json.RawMessage) bool {
	text, _ := texted(raw)
	return string(raw) == "true" || text == "true"
}

// lastInstant is the last second that is taken for a time, in the year 9999.
const lastInstant = 253402300799

// instant reads a NumericDate of RFC 7519: seconds since 1970, perhaps with a fraction.
func instant(raw json.RawMessage) (time.Time, bool) {
	if n, err := strconv.ParseUint(string(raw), 10, 63); err == nil && n <= lastInstant { // as most are
		return time.Unix(int64(n), 0), true
	}
	var f *float64
	if json.Unmarshal(raw, &f) != nil || f == nil || *f < 0 || *f > lastInstant {
		return time.Time{}, false
	}
	whole, part := math.Modf(*f)
	return time.Unix(int64(whole), int64(part*1e9)), true
}

// clip quotes a claim for the log: it may be anything.
func clip(s string) string {
	const most = 64
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return fmt.Sprintf("%q", s)
}
