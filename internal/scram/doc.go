// Package scram is the server's side of SCRAM-SHA-1 and SCRAM-SHA-256 (RFC 5802, RFC 7677), also with
// channel binding (-PLUS): the keys that are kept of a secret, the messages, and the proof. It is pure:
// the clock is an argument, and nothing is read or written but texts.
//
// # Keys
//
// Of a secret are kept, for each hash, StoredKey and ServerKey ([Keys]). They are weaker at rest than
// bcrypt: a guess costs [Iterations] of HMAC, which graphics cards do fast. Their iteration count is that
// of Prosody, since the client pays it at each login; keys with another one are not used.
//
// Not for app passwords: these have 122 random bits, which no number of guesses finds.
//
// # Salts
//
// A salt is not drawn but computed: the HMAC of domain and folded user under a [Seed] of the data
// directory. So all secrets of an account have the same salt, wherever they are kept, and the proof can be
// tried against each. And a name without an account has its salt in the same way, by the same work, so
// that the first answer does not show which accounts there are; no record is read for it. A salt is no
// secret, as any client may ask for it, but without the seed no tables can be made before that.
// Keys carry the salt that they were made with: after the loss of a seed they do not fit any more, and
// are made anew as those of an account without keys are.
//
// # Exchange
//
// An exchange has two steps. What the second must know of the first is not kept by the server: [Sealer.Begin]
// returns it as a text, encrypted and authenticated under a key of the process, for the peer to bring
// back. Connections of the peer's pool need not be matched with exchanges then, and a stream of exchanges
// that are not finished takes no memory and displaces none. The text is bound to the account and the
// mechanism, and is good for [Lifetime]. That each is used once is up to the caller: [Spent] is for it. A
// process that takes over has another key; an exchange in between is a temporary failure, and the
// client's next one succeeds.
//
// The authorization identity of a client is not looked at, as with PLAIN: users log in as themselves.
//
// # Why not a library
//
// github.com/xdg-go/scram, the one that is kept well, has one stored key for a user, looks it up by a
// blocking call in the first step, has no salt for unknown users, and keeps the state of an exchange in
// an object. SASLprep comes from its sister, github.com/xdg-go/stringprep.
package scram
