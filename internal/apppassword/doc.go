// Package apppassword has the rules of app passwords: secrets that postern makes for the devices of
// an account, which no other backend knows. It is pure: the clock is an argument, and nothing is
// read or written here but bytes.
//
// # Form
//
// A secret is 28 letters in seven groups of four, "abcd-efgh-...": 27 are random, and the last is a
// check letter. There are 23 letters (no i, l, o), and no digits, so that a phone's keyboard need not be
// switched: 122 bits. Letter case, spaces, hyphens and dots do not count. The check letter finds each
// single wrong letter and each exchange of neighbours, and it marks the form: one in 23 of other
// texts of 28 such letters has it. Everything of the form is decided here and goes to no other backend,
// whether it is known or not. So a backend never sees a secret that was revoked, and nothing need be
// kept of one for ever. A text that is not of the form is a password like any other.
//
// # Verification
//
// A secret of 122 random bits needs no slow hash. The record has its HMAC-SHA-256 under a key that is
// apart from the store: of domain, account and secret, each after its length. So a secret is good for
// one account, and a copy of the store is of no use without the key. Each entry names its key by an
// identity. Where the secret matches none of the entries and one is under another key, the answer
// is not known ([Unknowable]): the key was changed or mixed up, and a "no" would have
// devices forget good passwords.
//
// Where the client proves the secret instead of sending it (SCRAM), the record has keys for that, of the
// secret as it is shown and without its hyphens, under one salt for all secrets of the account. They are made with
// the secret, or when it is next accepted as a password.
//
// # Records
//
// An account has one record, under its domain and folded name, with all of its entries ([Account]), so
// that a change is one write. An entry is alive, expired or revoked. A revoked one is kept for a
// while, for the reason in the log and for lists. Where a backend does not fold letter case, the entry
// belongs to the spelling for which it was made.
//
// # Lifetime
//
// A valid secret is not enough: the account must exist and be enabled at the domain's other backends. The
// actors ask them, as for any question whether an account exists, and the cache bridges outages. Where
// no backend can be asked, an entry ends a time after it was made, or after the account's last
// login with its own password ([Password.Confirmed]). That is kept in the record, since the cache may forget it.
// An account that is removed or made anew through postern has no entries of the one before.
package apppassword
