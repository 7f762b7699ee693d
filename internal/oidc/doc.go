// Package oidc decides what a token of an OpenID Connect provider is worth: whether a password may be a token at
// all (LooksJWT, LooksOpaque), and for which account its claims let its bearer in (Rules). It is pure: it checks no
// signature, has no clock and asks no provider; package backend does.
//
// # Which tokens count
//
// A token lets its bearer in if it is an access token of the issuer for the audience, is alive, and names the
// account. Anything else that a provider signs must not: a web application gets an ID token for every visitor, and
// other applications have access tokens of their own.
//
//   - iss is the issuer, byte for byte. A token of another issuer is Foreign: it says nothing about the account.
//   - It has none of nonce, at_hash, c_hash and s_hash, which belong into ID tokens, whatever it calls itself. (Keycloak
//     before 25 copies the nonce of a sign-in into access tokens: its clients must not send one.)
//   - It is an access token: typ at+jwt in the header (RFC 9068), or a claim typ of Bearer (Keycloak). Without either
//     it has a scope (scope or scp), which ID tokens do not have; or, without scope, the jti and client_id of RFC 9068 and
//     none of the claims about a sign-in (Zitadel).
//   - aud has the audience. If there is a list of clients, azp (or client_id, cid, appid) is one of them.
//   - exp is there and has not passed, and nbf and iat are not in the future, give or take the leeway. A token of the
//     future is NotYet, not refused: it may be good a moment later, and most likely a clock is wrong.
//   - It is bound to no key (cnf, RFC 7800): those are worth nothing without a proof, for which a password has no room.
//   - All required scopes are in scope or scp.
//   - The claim for the user names the account asked. It is either the user alone or user@domain, as the administrator
//     says, and never both: many providers let one user take the name alice@example.org beside another's alice. A claim
//     email counts only beside email_verified = true, since in many providers users may write there what they like.
package oidc
