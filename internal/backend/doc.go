// Package backend asks the systems that know the passwords: a users file of postern's own
// (NewUsers), Nextcloud (NewNextcloud), Nextcloud's JSXC app (NewJSXC), any web application with two
// JSON endpoints (NewJSON) or with the API of MongooseIM's auth_http (NewAuthHTTP), any URL that wants
// HTTP Basic authentication (NewEndpoint), and OpenID Connect providers (NewOIDC). Breaker decides when a failing backend is not asked, and Chain
// combines the results of several backends.
//
// # Classes
//
// Every answer becomes a [Result] with one of seven classes. The class decides what the cache may
// do, so the question in each case is not "was this an error" but "does this say anything about
// the password":
//
//   - [Accepted] and [Refused] are the backend's own yes and no. Only these change what is
//     remembered about a password.
//   - [Outage]: the answer is not known now, and time may change that: no connection, a missed
//     deadline, HTTP 5xx, maintenance, an answer that is not the API's. A password that the
//     backend accepted recently may still be allowed (grace). Outages open the breaker.
//   - [Throttled]: the backend limits the broker's address. Grace as for an outage, but the
//     breaker opens at the first such answer, because each further request makes it worse.
//   - [Misconfigured]: only an administrator can correct it: a wrong URL, a wrong API secret.
//     There is no grace, or the mistake would stay unseen until every cached password has expired.
//     The breaker counts it as a sign of life.
//   - [Unsupported]: the backend has no such operation. Nothing was sent.
//   - [Unsure]: the backend works but cannot answer this question, such as whether a user exists
//     when there is no service account to look. What the cache knows of the user may be used.
//
// An answer that fits no rule is an outage, never a refusal, whatever its status: a login page, a
// proxy's error page or half a document must not lock users out or make mail bounce. The error names
// the status and the kind of page.
//
// A failure of one account alone never opens a breaker: where the server was reached, the cause may
// be a fault in the account's data, or a firewall that dislikes a password ([Result.OneAccount]).
//
// # HTTP
//
// Requests hold passwords. So redirects are not followed (a redirect is an outage, and the error
// names the new host), a proxy is used only if the options say so, and no error quotes
// what a server sent. A request is repeated only if none of its bytes were sent: a failed login
// that is sent twice counts twice with servers that limit failures.
//
// A late response to an earlier request would be taken for the answer about another password. So a
// connection is kept only after a complete response with nothing behind it, and not after 408, 502,
// 503 and 504, by which a gateway says that it did not wait for the server behind it. Before it is
// used again it must have nothing to read. Once a connection had, none is kept for an hour. Two
// responses to one request on a kept connection are an outage.
//
// Where the API itself did not answer, JSXC and JSON backends go by the status code:
//
//	404               Misconfigured: no such API at url.
//	429               Throttled.
//	everything else   Outage.
//
// # JSON
//
// POST of username and password to /login, of username to /exists, as the predecessor by
// kongo2002 does. Only HTTP 200 with a JSON object counts, and in it only the JSON values true
// (Accepted) and false (Refused) of success. Anything else with status 200 is an outage.
//
// # Endpoint
//
// A URL with HTTP Basic authentication says yes by 2xx, or by true at a place in its JSON. Only what is
// configured is a no: 401 of the endpoint's own realm or with its own text, or false at that place.
// Another 401 may be that of something in front of it, and 403 of a firewall: both are outages, and so is 404.
//
// # auth_http
//
// GET of check_password and user_exists, with "true" or "false" and status 200; POST of set_password,
// register and remove_user, answered by the status alone. 401 is about the service's own password:
// Misconfigured.
//
// # JSXC
//
// A form signed with HMAC-SHA1, to the external API of Nextcloud's JSXC app. The app reports its
// own errors with HTTP 500 and result "error", and distinguishes them by their text alone: a wrong
// or missing signature, a missing secret and an unknown operation are Misconfigured, an unknown
// user is Refused (Unsure for a roster, as the user may be another backend's), and any other text
// is an outage. For a login, "success" is Accepted and any other word Refused, as in xcauth.
// isUser follows PHP's idea of truth, because old versions send "1" and "0". User names and
// passwords that PHP takes for empty ("" and "0") are refused without asking: the app would
// report a missing parameter. data.uid of a login is [Result.Account]: user@domain and user are the
// user asked about, any other is another account: Refused, unless AcceptOtherID is set. Over a kept
// connection it may be that of a late response, so the server is asked once more over a new one.
//
// # Nextcloud
//
// The OCS API, which every Nextcloud has. A login is GET cloud/user with HTTP Basic
// authentication:
//
//	200, code 200     Accepted, if the account's id is one of the user's login names, letter case
//	                  aside. Nextcloud accepts mail addresses too, which lead to an account of
//	                  another name: Refused, unless AcceptOtherID is set. A disabled account is
//	                  Refused.
//	401, 403          Refused, if the API says code 997. It is also the answer for a real password
//	                  where an app password is required, which some versions say in the message.
//	                  Any other code, or none, says nothing about the password: Outage.
//	404               Misconfigured: provisioning_api is disabled, or url is wrong.
//	400, 412          Misconfigured: trusted_domains, or a proxy that drops OCS-APIRequest.
//	429               Throttled.
//	500, code 996     Outage: an exception for this account. Before version 29 the server throttles
//	                  so; the version is in its capabilities.
//	503               Outage; with Nextcloud's header it is its maintenance mode.
//	any other page    Outage: a login page of single sign-on, a firewall, or a wrong url.
//
// Nextcloud counts failed logins per client address and delays all logins from there, up to 25
// seconds, then refuses them with 429. A broker is one address for all its users. So after a
// failure the backend asks for the current delay (cloud/capabilities, which is public) and returns
// Throttled above MaxDelay instead of sending more; the login name under which a user last
// succeeded is remembered, because each wrong guess is a failure; and a refused service account
// is not tried again for an hour, or until a reload.
//
// The same answer lists the account's groups, so that a login by a condition on them takes no other request.
//
// Whether a user exists is asked as the service account. A 404 proves absence only if that
// account may look users up, since accounts without rights get a 404 for every name. Its rights
// are checked once an hour, and without them the class is Misconfigured or Unsure.
//
// # OpenID Connect
//
// A password that is a JWT of the issuer is verified here, without a request (package oidc has the rules): it is
// Accepted, or Refused for a fault of its own. An accepted one ends by itself (Result.Expires). No other backend is
// asked about it, wherever they stand in the chain (Screening.Own): it would be a wrong password there. A JWT of
// another issuer, and what is no token, is Refused and Absent: it says nothing about the account, so the next backend is
// asked. That takes no slot, and no breaker has a say in it (Screener).
//
// The discovery document and the keys are fetched when they are needed first, and again beside the logins: an old
// document serves meanwhile, and keys of less than an hour. Older keys serve while the provider is away, for a day. Keys
// are fetched besides when a token comes that none of them has signed, but once in 30 seconds, since a stranger can make
// up any number of such tokens; one of them waits for that, and the others are Unsure at once. So is a token with a key
// that is not known as long as it may be signed with a new one. It is Refused only if the keys are newer than it, or
// have another key of its name and are not older than that. Without keys, it is an outage.
//
// What is no JWT may be put to the provider: an opaque token for introspection (RFC 7662), and a password for the
// password grant (RFC 6749); JWTs of other issuers are not. "active": false and the error invalid_grant are Refused; a refusal of postern's own client
// is Misconfigured, and everything else an outage. The ID token that comes with a grant says which account it is;
// it needs no signature, since the provider itself has sent it (OpenID Connect Core 3.1.3.7).
//
// Accounts are looked up at the SCIM API with the token of the configuration, or with one of the client credentials grant,
// which serves until shortly before its end. One that is refused with 401 is replaced once; if the new one is refused, too,
// none is fetched for ten seconds. An answer counts only if it is a complete list of users with the name asked for.
//
// go-jose verifies the signatures, with the keys of this package. go-oidc, which verifies ID tokens with it, is not used: of
// what it checks only iss and aud are as they are wanted here (an access token has another type, times have a leeway, and
// a fault of the token is another than one of the provider), its own key set fetches the keys for bad signatures, and it
// has go-jose read each token anew, with several passes over its header. The header of a good token is kept here, and later
// tokens with it are not read again. Measured side by side with go-oidc 3.21.0, which got the same tokens in turn on two
// busy cores: for 1,000 bad signatures in a row it fetched the keys 689 times where the key's name was known, and 543 times
// where it was not, and this package never, in the 30 seconds after its first fetch; a good token took it 290 microseconds by
// RS256 and 436 by ES256, and this package 251 and 412. BenchmarkOIDC has what a token takes beside its signature.
//
// # Users file
//
// A user with a readable line is Accepted or Refused. The line may have the user's groups behind the hash; without
// them it is in none. A broken line is Misconfigured for its user,
// and for users without a line if it does not show which user it is for. A file that is not there
// is empty. A file that may not be read is Misconfigured; other errors of reading it, and a
// password that could not be hashed in time, are outages.
package backend
