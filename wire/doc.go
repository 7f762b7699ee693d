// Package wire has the codecs of the front-end protocols: Decode turns bytes into an
// auth.Request, AppendAnswer turns an auth.Answer into bytes. A codec opens no socket, starts no
// goroutine and writes no log. Everything it reads comes from the network, so every codec is
// fuzzed, and its test vectors were recorded from the real programs named below.
//
// # Common rules
//
// A request gets exactly one reply, in the order of the requests (dovecot: by its id). A second
// reply would be taken for the answer to the next question: in tests with real peers that made
// postmap find another address, and let a wrong password into Prosody.
//
// A frame is split only as far as its protocol says. The password is the last field and keeps
// every colon, space and control byte. Nothing is trimmed; a line protocol drops one CR before
// the LF, and a CR elsewhere is data.
//
// These requests are refused without asking a backend: an empty user or password; NUL anywhere; a
// user or domain that is not valid UTF-8, or that has control characters; "@" in a user; a space,
// "@" or "/" in a domain; names over 1023 bytes and passwords over 8192. Names keep the letter case
// of the client: package auth folds them. auth.Request.Fault says why, for the log. A protocol that
// hands a name back (auth.Request.Named) has the backend's name of the account in a yes, and the
// canonical domain. A refusal ends the connection only when the framing is lost. The end of the
// stream within a request is no request.
//
// A peer with another protocol (HTTP, TLS, SSH, or one that belongs to another listener) is recognised
// by its first bytes: see Recognise. A browser that posts a form to a port gets no answer then, and
// no line of the form is taken for a request.
//
// Every protocol can say yes and no. A temporary failure (auth.Unavailable) says that the answer is
// not known right now, because a backend is out of order or too slow. A peer that reads it as "no"
// bounces mail, or makes a user look for a typing error, so each codec expresses it in the way that
// its peers understand.
//
//	protocol     yes           no                  temporary failure   peer gives up after
//	ejabberd     0 2 0 1       0 2 0 0             0 2 0 2             30 s, kills the program
//	generic      1             0                   0                   5 s
//	saslauthd    OK            NO                  length 0            never
//	tcp_table    200           500                 400                 100 s
//	socketmap    OK            NOTFOUND            TEMP                100 s
//	dovecot      OK            FAIL                closes, or temp     10 s (Postfix)
//	dovecot_     USER          NOTFOUND            FAIL                5 s (chasquid),
//	userdb                                                             155 s (Dovecot)
//	http         200           401, false, ...     503                 2 s (MongooseIM), 60 s (nginx)
//
// Deadlines, frame limits and the peers' time-outs are in package protocol.
//
// # ejabberd
//
// Source: processone/ejabberd, src/extauth.erl and ejabberd_auth_external.erl. A frame is a
// 2-byte big-endian length and op:user:domain[:secret]; a reply is a frame of two bytes, a
// big-endian value. ejabberd sends auth, isuser, setpass, tryregister and removeuser;
// removeuser3 and certauth exist in its interface but have no caller, and certauth is refused.
// Passwords come as raw bytes, with newlines and invalid UTF-8. Several copies of a program run
// for each virtual host, with one request at a time each.
//
// ejabberd knows 1 and 0. Any other value is logged as an error of that one call, is not cached,
// and leaves the program running, so 2 stands for a temporary failure. 0 would do harm in two
// places. It caches 0 to isuser for an hour, and mail and messages to an existing user then bounce.
// And it takes 0 to setpass for success: it reports that the password was changed, and accepts the
// refused password from its cache. A setpass that failed is answered 2 as well. MongooseIM has the
// protocol too, but its decoder fails on anything but 0 and 1; Options.BinaryAnswers is for it.
//
// A length of 0 is never sent by ejabberd and ends the stream, as in xcauth. An oversize frame
// is dropped as it arrives and refused: the length is known, so the stream stays in step.
//
// scripts/prosody/mod_auth_postern.lua speaks this protocol too, and more of it. Its first frame on a
// connection is watch:SINCE:DOMAIN, which ejabberd's programs, and older versions, answer 0. Otherwise
// the low byte of the value is 1, and the high byte holds auth.WatchFlags. After that the module has
//
//   - login:USER:DOMAIN:SERVICE CLIENT SECRET in place of auth; CLIENT is an IP address, or "-";
//   - scram:USER:DOMAIN:SERVICE CLIENT MECHANISM BINDINGS MESSAGE, the client's first message of SCRAM, with the
//     types of channel binding that are offered (separated by commas, or "-"). The answer is a frame with a value as of login, and
//     after 1 the server's message, a space and a state. The value 3 says that the domain does not offer SCRAM;
//   - proof:USER:DOMAIN:SERVICE CLIENT MECHANISM BINDING STATE MESSAGE, the client's last message, with the data of its
//     channel binding (base64, or "-"). After a 1 comes the server's last message;
//   - bearer:USER:DOMAIN:SERVICE CLIENT TOKEN, a login with a bearer token. USER may be empty: the token says who the user
//     is. The answer is a value as of login; after a 1 comes the user if USER is empty, and after a 0 what the client is
//     told (JSON of RFC 7628), if anything. The value 3 says that tokens are not taken here;
//   - account:USER:DOMAIN, answered with a frame of ten bytes: a value as of isuser, or 3 for a disabled
//     account, and the time of the account's last change (see package changes);
//   - and reports of changes of the domain's accounts, between the answers: frames of the letter P, a
//     kind (changes.Kind), the time, and the user, or none for all users. The first are those since
//     SINCE, unless that is 0. They may come twice.
//
// Times are eight bytes, Unix milliseconds; SINCE is that in decimal digits.
//
// # generic
//
// Source: prosody-modules, mod_auth_external_insecure; xcauth's mod_auth_socket. A line is
// op:user:domain[:secret]; the reply is 1 or 0 and LF. xcauth added roster:user:domain, answered
// with the backend's document on one line or None, and quit or exit, which close the connection
// without a reply. Prosody normalises names and passwords before it asks and sends at most 1000
// bytes. It takes every reply but 1 as a refusal of that login and remembers nothing, so 0 also
// stands for a temporary failure.
//
// On a pseudo-terminal (external_auth_command) Prosody waits 5 s. A reply that comes later is
// read as that to the next request, which is how a wrong password gets in, so the deadline is 4 s
// and the process on the terminal stops rather than answer late. Standard error is the same
// terminal. ICRNL turns a CR into LF, and an answer must be written in one piece.
//
// # saslauthd
//
// Source: cyrusimap/cyrus-sasl, saslauthd/ipc_unix.c and lib/checkpw.c. A request is user,
// password, service and realm, each a 2-byte big-endian length and bytes. A reply is a length
// and a text of which the first two bytes, OK or NO, count. There is one request per connection.
// cyrus-sasl's main branch sends a fifth field, the client's address and port, and released
// versions do not; the codec never waits for it, and takes the address when it came with the
// rest. What else comes before the reply is dropped. Then saslauthd closes. xcauth did not, and its
// clients ask on, so a request that comes soon after the reply is answered as well.
//
// svnserve sends the name or number of a repository as the realm, and memcached the host name:
// Options.FixedDomain is for them. Only Postfix reports a temporary failure as one; Cyrus IMAP, slapd,
// sendmail and svnserve have failures of their own.
//
// libsasl2 splits user@realm at the last "@"; testsaslauthd does not, so the codec does where
// the realm is empty. Cyrus limits a field to 256 bytes; tokens are longer, so here it is 8192.
// libsasl2 has no time-out. A reply of length 0 is a temporary failure: Postfix answers 454 in
// place of 535. A closed connection has that effect too, but libsasl2 2.1.28 then leaks a
// descriptor per login.
//
// # tcp_table
//
// Source: tcp_table(5), Postfix's src/util/dict_tcp.c. "get KEY" and LF; the reply is three
// digits, a space, a text and LF. Postfix codes "%", white space, control and non-ASCII bytes of
// a key as %XX. It decodes %XX in the text of every reply, even of a refusal, so no text holds a
// "%"; a 200 without a text is a warning in its log, and 500 without a space is malformed. smtpd
// asks for the whole address in lower case, with a quoted local part where RFC 5321 wants one,
// and leaves it to the table to strip an address extension (Options.RecipientDelimiter). With
// virtual_mailbox_maps 500 bounces the mail, and 400 makes the sender try again. As a table of
// smtpd_sender_login_maps (Options.Table) the text of a 200 is the account, in the same code. Postfix
// splits it at commas and blanks, so an account with one is not found.
//
// # socketmap
//
// Source: socketmap_table(5), Postfix's src/util/dict_sockmap.c. Netstrings both ways: a request is
// NAME, a space and KEY, uncoded. The names served are mailbox (is there such an address?), login
// (the account of an address) and domain (is it one of this machine's?). "OK" without a space and a
// value would be read as not found, which bounces mail. PERM, for a name that is not served, makes
// Postfix log a configuration error and answer 451. Anything but a canonical netstring ends the
// connection.
//
// # dovecot
//
// Source: doc.dovecot.org, "Dovecot Authentication Protocol", versions 1.0 to 1.4; Postfix's
// xsasl_dovecot_server.c, Exim's auths/dovecot.c, Prosody's mod_auth_dovecot. Lines of fields
// split by TAB, with the mechanisms PLAIN and LOGIN, and where a domain takes bearer tokens, with
// OAUTHBEARER (RFC 7628) and XOAUTH2, which Postfix then offers, too. Postfix keeps a connection per smtpd
// process, Exim makes one per login.
//
// The server speaks first, and does not wait for the client: Exim reads the whole greeting before
// it writes. MECH comes before SPID: otherwise Postfix takes the socket for another kind and its
// smtpd exits, with all mail service, and Exim defers. Exactly two numbers follow VERSION, COOKIE
// must be there, and lines end in LF alone. An smtpd that cannot connect at its start exits as
// well, so this listener is opened before all others.
//
// user= is mandatory in OK: Postfix makes it the sasl_username, by which quotas, bans and
// sender_login_maps go, so it is account@domain whatever spelling came. Prosody (service=xmpp) escapes
// the "@": without a domain in the request it gets the account alone. FAIL repeats the name that came.
// Neither Postfix nor Exim (minor version 0) knows a flag for a temporary failure:
// they take each FAIL for a wrong password (535), and only a closed connection for a temporary
// failure (454 and 435). Prosody and Dovecot have minor version 1 and above; Prosody reads "temp",
// Dovecot "code=temp_fail".
//
// Postfix says nothing when its client aborts a login, so unfinished logins are bounded in number
// and age, and a late CONT gets FAIL. A fault that only a broken client program makes, such as a
// missing id or an unknown command, ends the connection, as with Dovecot; an unknown mechanism,
// which ends it there, gets FAIL, since other requests share the connection. A client process id
// (CPID) is not compared: clients on several machines may have the same. A line over the limit with
// the id of a login fails that login; of Prosody, which has one login at a time, it ends the
// connection, as with Dovecot.
//
// Dovecot 2.4 (1.3) has protocol= in place of service=, and the flag final-resp-ok, which is about
// mechanisms with data in a success. From 1.4 on CANCEL is answered CANCELLED. The authorisation name
// of PLAIN may be the login name with the default domain, or without it.
//
// OAUTHBEARER and XOAUTH2 must name the user. A refused token gets a challenge with the reason as
// Dovecot 2.4 writes it (JSON: a status, the scope that is needed, the discovery document), and FAIL
// once the client has answered that, whatever it says. A temporary failure is one as for PLAIN. A
// message that is not well-formed has the status invalid_request, or 400. The token must be a
// token68; the last separator, which Dovecot 2.4.1 did without, is demanded as by RFC 7628.
//
// # dovecot_userdb
//
// Source: Dovecot's auth-master-connection.c and lib-auth-client, chasquid's internal/dovecot. Lines
// as in dovecot. The server greets first, since chasquid reads before it writes:
//
//	server   VERSION 1 2
//	server   SPID pid
//	client   VERSION 1 minor
//	client   USER id name [service=lmtp|protocol=lmtp] [more]
//	server   USER id account [uid=N] [gid=N] [home=PATH]
//	     or  NOTFOUND id
//	     or  FAIL id [reason=...]
//
// FAIL is a temporary failure: Dovecot's LMTP answers 451, chasquid too, and NOTFOUND is 550. Values
// have a byte 1 before the codes 0, 1, t, r and n of NUL, 1, TAB, CR and LF. A name that no user can
// have is not found. LIST, which would list the users, is answered DONE id fail as in a Dovecot that
// cannot, PASS is answered FAIL, and any other command ends the connection.
//
// # http
//
// Sources: MongooseIM's doc/authentication-methods/http.md, nginx's ngx_mail_auth_http_module and
// ngx_http_auth_request_module, Caddy's forward_auth, prosody-modules (mod_auth_http_async,
// mod_auth_custom_http), scripts/dovecot/postern.lua. A carrier, net/http, parses and bounds the requests;
// the path names the dialect. See HTTP.
//
//	/auth_http/METHOD       the auth_http family: query or body of a form, "true" or "false" compared as
//	                        bytes; get_password is not offered. Changes by POST only
//	/basic, /basic/DOMAIN   HTTP Basic; a yes has the account in Remote-User and groups of it in Remote-Groups, a
//	                        no the challenge
//	/nginx-mail             headers coded as paths are. The status counts for nothing, and a reply without
//	                        Auth-Status is a yes, so Auth-Server goes with a yes only. At most 1024 bytes
//	/dovecot/passdb,        forms by POST; a yes has lines NAME=VALUE
//	/dovecot/userdb
//	/dovecot/users          a line for each user of a domain
//	/prosody/DOMAIN         JSON by POST, "true" or "false"; the status counts for nothing
//
// A client's address is taken from trusted proxies only: of X-Forwarded-For the last one that is no
// proxy's. What a browser sends because of a page, with Origin or Sec-Fetch-Site, is no peer's; with /basic
// they are the visitor's, and the secret is the proof. A request without the listener's secret is answered
// 503: a "no" would look like a wrong password.
//
// # relay
//
// The private protocol between `postern pipe` and the process that owns the data directory; see
// relay.go for its frames. The owner speaks first, so that a connection which a dying owner left
// in its backlog is not taken for a living one. Both ends check the version.
package wire
