// Package cache decides which logins may be answered from earlier answers of the backend. It is
// pure: it has no clock, computes no hash and asks no backend. A Login names the work it needs as
// Steps, and its caller carries them out and reports the results.
//
// # The promise
//
// A secret is never accepted from memory after the backend has refused it since it last accepted
// it, and never past a lifetime. The tests check this with a moving clock over random orders of
// logins, answers, outages, restarts and changes of the account. Everything below serves it.
//
// # Names and authorities
//
// A User is the record of one folded name in one domain: one account, unless a backend does not
// fold letter case. What a backend has answered is kept with the account as the backend spells it,
// and holds for other spellings only if they are the same account there (Name.Covers). Where a
// login leads to an account of another name, as by a mail address, the record of the name asked has
// an Alias alone, and all else is in the record of the account.
//
// Each acceptance also keeps the authority that gave it: the kind, url and auth_domain of the
// backend, or the name that the configuration gives it. One that is not asked any more has no say:
// User.Settle drops what came from it. The order of the backends, or another one behind them,
// changes nothing.
//
// # Verifiers
//
// Of each user the cache keeps a few verifiers (four by default), since one person has several
// app passwords. Each is a secret that the backend has accepted, with three times: first
// verified, last verified and last used. A login with a matching secret finds its verifier in one
// of these states:
//
//   - fresh: used within Rules.Query and verified within Rules.Verify. It is allowed without a
//     question, and counts as used now.
//   - stale: older than that, or marked Stale. The backend is asked. Yes makes it fresh again; no
//     removes it.
//   - grace: the backend is asked and cannot answer, and the last verification is within
//     Rules.Outage. It is allowed. An outage of the backend must not lock all users out, but a
//     misconfigured backend is not an outage: Misconfigured gives no grace. Within Rules.Query the
//     next logins with the secret are allowed without a question, as they are while it is fresh.
//   - suspect: one backend of the domain has refused the secret while another was unavailable.
//     Which of them knows the user is not known, so the secret has no grace until it is accepted.
//     Its verifier is kept: it costs no new hash once the other backend is back, and limits on
//     unknown secrets do not apply to it.
//
// The acceptance of a secret never seen before makes the user's other verifiers stale: it may be a
// changed password, and the old one must stop working at its next use. Two app passwords used in
// turn are both fresh after three questions.
//
// A bearer token (Login.Expires) ends by itself: its verifier answers nothing after that, nor after Rules.Verify, not in
// an outage either. It is in memory only, makes no other verifier stale, is compared with no hash if it is known to be a
// token beforehand (Login.Bearer), and tokens and passwords have room for Rules.Secrets each.
//
// A refused secret is remembered in memory for Rules.Refused. A device that retries an old
// password would otherwise make the backend throttle or lock out postern itself.
//
// # Two tiers
//
// On disk a verifier is a bcrypt hash, so a stolen store does not reveal passwords. At the default
// cost one comparison takes a quarter of a second of CPU, so it must not be paid twice for the same
// login. In memory, a verifier therefore has a Key besides: a MAC of account and secret under a key
// that is random. Once a hash has matched, or a new secret is accepted, the verifier gets the Key
// and all later logins compare Keys (User.Hot). Keys are never stored: only an orderly restart
// hands them, and their key, to the next process (SavedUser).
//
// With a key for the verifiers at rest (Rules.Sealer), what is on disk is an HMAC-SHA-256 of
// authority, domain, account and secret in place of the hash. It is compared when the record is
// read, in microseconds. Hashes from before are replaced when a login has matched one. A verifier
// names its key; under a lost one it is as good as none, and is dropped as soon as a backend has
// said anything of a secret of the user, so that it cannot come back with its key after a refusal.
//
// A hash is compared only if the answer may depend on it: to answer without a question, to give
// grace, or to find the verifier that an accepted or refused secret already has. The last two
// happen after the answer is given.
//
// # Storms
//
// After a reboot all users log in at once, and at cost 12 a processor compares four to ten hashes a
// second. A login whose comparison would have to wait is better put to the backend, if that is healthy
// and answers sooner (AskSooner, Login.AskInstead). The promise allows a question at any time; limits
// and budgets count it as the question about an unknown secret that it is. If the backend says neither
// yes nor no, the comparison decides after all.
//
// What the backend accepts then has a verifier with a Key at once; which of the hashes is its own is
// not known yet, and finding out would take as long as the comparisons that were spared: ten thousand
// users, 18 a second on two processors, nine minutes. So that comparison is left out if it would have
// to wait for more than ten seconds (memory.mergePatience). The other verifiers are stale then, as
// after the acceptance of a new secret, so that a changed password dies all the same; the price is a
// question at the next login after a further restart, or grace in an outage. The next acceptance of
// the secret looks for the hash again. Comparisons of refused and of suspected secrets are never left
// out.
//
// # Order of events
//
// Answers arrive in any order, and a user may be evicted from memory and loaded again between a
// question and its answer. A late acceptance must not outweigh a refusal: it is remembered only
// if no refusal of the secret can have come in since the question was put. Refusals are numbered
// for this, since the wall clock may be set back. A refusal that is being compared with the
// hashes is never forgotten, and hashes that may be the refused secret's are left out of the
// record until the comparison has ended, so that a crash cannot bring a refused secret back.
//
// Two events make the answer to an earlier question doubtful:
//
//   - Outdate: the configuration was reloaded. The answer comes from a backend that may no longer
//     be responsible, so an acceptance is not remembered. A refusal still is: it errs on the safe
//     side.
//   - Supersede: the account was changed or forgotten. The answer may concern the former
//     password, so an acceptance is not remembered, and a refusal is not held against the secret,
//     which may be the new password.
package cache
