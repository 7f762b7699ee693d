package cache

import (
	"slices"
	"time"

	"postern/internal/allow"
	"postern/internal/auth"
	"postern/internal/store"
	"postern/internal/unixtime"
)

// Rules are a domain's lifetimes and bounds.
type Rules struct {
	Off      bool          // storage none: nothing is remembered
	Hashed   bool          // storage disk: verifiers need a password hash, or a seal, to be kept
	Query    time.Duration // since its last use a verifier answers without a question
	Verify   time.Duration // the same, since the backend last accepted its secret
	Outage   time.Duration // since then it answers while the backend cannot
	Refused  time.Duration // a refused secret is refused again without a question
	Exists   time.Duration // lifetime of a "yes" to isuser
	Absent   time.Duration // lifetime of a "no" to isuser
	Secrets  int           // verifiers per user
	Refusals int           // remembered refused secrets per user

	// Authorities are the backends of the domain, in the order in which they are asked; see User.Settle.
	Authorities []auth.Authority
	// Sealer makes the verifiers at rest; nil: they are hashes.
	Sealer *Sealer
	// Allow are conditions of logins on the account's groups; nil: there are none.
	Allow *allow.Rules
	// Isolated: what other processes have refused meanwhile is not known. Every secret is asked about, and
	// memory only bridges outages; with Strict it does not do that either.
	Isolated, Strict bool
}

// settled reports whether an account's groups, as they were at a time, decide on a login for a service without a
// question. That they forbid it does so for as long as a refused secret is remembered: it is to be known soon if the
// account gets into a group.
func (r *Rules) settled(g auth.Groups, at unixtime.Time, service string, now unixtime.Time) bool {
	switch r.Allow.Judge(g, service) {
	case allow.In:
		return true
	case allow.Out:
		return at.Within(r.Refused, now)
	}
	return false
}

// Verifier is a secret that the backend has accepted.
type Verifier struct {
	Name
	By       auth.AuthorityID // the backend
	Hash     string           // passhash text, or that of a Sealer; empty while there is none
	Key      Key              // zero while this process has not seen the secret
	First    unixtime.Time    // first verified by the backend
	Verified unixtime.Time    // last verified by the backend
	Used     unixtime.Time    // last used
	Groups   auth.Groups      // of the account, when last verified
	Stale    bool             // must be verified again at its next use
	// Suspect: since the secret was last accepted, one backend has refused it while another was
	// unavailable.
	Suspect bool
	// Until is when the secret ends by itself, as a bearer token does; 0 for a password. Such a verifier is in memory
	// only and answers nothing after it.
	Until unixtime.Time

	graced unixtime.Time // when it was allowed last because the backend could not answer; in memory only
}

// alive reports whether the secret has not ended by itself.
func (v *Verifier) alive(now unixtime.Time) bool { return v.Until == 0 || now < v.Until }

// fresh reports whether a login for a service with a matching secret may be answered without asking.
func (v *Verifier) fresh(r *Rules, service string, now unixtime.Time) bool {
	return !r.Isolated && !v.Stale && v.alive(now) && v.Used.Within(r.Query, now) && v.Verified.Within(r.Verify, now) && r.settled(v.Groups, v.Verified, service, now)
}

// grace reports whether a matching secret may be allowed while the backend cannot answer. A token is let in for no
// longer than without an outage: there is always a newer one where it is still good.
func (v *Verifier) grace(r *Rules, now unixtime.Time) bool {
	lifetime := r.Outage
	if v.Until != 0 {
		lifetime = min(lifetime, r.Verify)
	}
	return !r.Strict && !v.Suspect && v.alive(now) && v.Verified.Within(lifetime, now)
}

// stillGraced reports whether a matching secret may be allowed without asking, since the backend could
// not answer lately: the next logins need not wait for a backend that hangs. Not so for a secret that
// must be verified again because another one was accepted since, and not where another process may have refused it
// meanwhile: as soon as the backend can answer, it is to be asked.
func (v *Verifier) stillGraced(r *Rules, service string, now unixtime.Time) bool {
	return !r.Isolated && !v.Stale && v.graced.Within(r.Query, now) && v.grace(r, now) && r.Allow.Judge(v.Groups, service) == allow.In
}

// suspect keeps a verifier from answering until the backend accepts its secret again, and reports
// whether that changes it.
func (v *Verifier) suspect() (changed bool) {
	changed = !v.Suspect || !v.Stale
	v.Suspect, v.Stale = true, true
	return changed
}

// Existence is the backend's last answer to isuser.
type Existence struct {
	Name
	By    auth.AuthorityID // the backend that said yes
	Known bool
	Yes   bool
	// Disabled: the account exists, but may not log in.
	Disabled bool
	At       unixtime.Time
	Groups   auth.Groups // of the account
}

// Refusal is a secret that the backend has refused.
type Refusal struct {
	Name // for which it is refused again without a question
	Key  Key
	At   unixtime.Time

	comparing *searches // under way, that may find a verifier of this secret; nil: none yet

	// seq orders the user's refusals. Times cannot, since a clock may be set back.
	seq      uint64
	standing standing
}

// standing is the effect of a refusal. The lower one outweighs the higher.
type standing uint8

const (
	held      standing = iota // the secret is refused without a question, for a while
	muted                     // it only invalidates acceptances that were asked for before it
	suspected                 // as muted; only one backend has refused, and another is unavailable
)

// Alias says that a login with this name leads to an account of another name, as logins by mail
// address do. What is known of the account is in the record of its own name.
type Alias struct {
	Account string
	By      auth.AuthorityID // the backend that said so
}

// User is all that is remembered of the accounts of one domain with one folded name: one account,
// unless the backend does not fold letter case. The zero value remembers nothing. It is owned by one goroutine.
type User struct {
	Verifiers []Verifier
	Refusals  []Refusal
	Exists    Existence
	Alias     Alias // no verifier stands beside it

	// Version and Seen are for its owner, beside a store that other processes use as well: the version of the
	// record that it was read from or last written as, and the term of the store in which that was so.
	Version store.Version
	Seen    uint64

	revoked  bool   // see Revoked
	refusals uint64 // number of refusals since the user was loaded into memory
	lost     uint64 // the highest seq among forgotten refusals
}

// Disposable reports whether forgetting the user would lose nothing but refusals. Such
// users must not push others out of memory.
func (u *User) Disposable() bool {
	return len(u.Verifiers) == 0 && !(u.Exists.Known && u.Exists.Yes) && u.Alias == (Alias{})
}

// Revoked reports whether a secret that the backend had accepted has been refused since the last call.
func (u *User) Revoked() bool {
	was := u.revoked
	u.revoked = false
	return was
}

// Forget drops everything, as after a change of password.
func (u *User) Forget() {
	*u = User{Version: u.Version, Seen: u.Seen, refusals: u.refusals, lost: u.refusals}
}

// Invalidate has everything verified again at its next use, as after a change with an unknown
// outcome.
func (u *User) Invalidate() {
	u.staleOthers(Key{})
	u.dropRefusals()
	u.Exists.Known = false
}

// ForgetRefusals ends all refusals without a question, as when the domain gets other backends.
// Refused secrets stay without a verifier all the same.
func (u *User) ForgetRefusals() {
	u.dropRefusals()
	if !u.Exists.Yes {
		u.Exists = Existence{}
	}
}

// Clone returns a copy that shares nothing with u.
func (u *User) Clone() User {
	c := *u
	c.Verifiers = slices.Clone(u.Verifiers)
	c.Refusals = slices.Clone(u.Refusals)
	return c
}

// Reasons of refusals.
const (
	reasonRefused       = "the backend refused the password"
	reasonRefusedBefore = "the backend refused this password a while ago"
	reasonNoUser        = "the backend has no such user"
)

// Hot answers a login for a service with the spelling as from memory alone, without work or allocation. It is the
// first step of every Login, and the only one that most logins need. A yes is one to the secret: whether the account's
// groups let it in is for Rules.Allow to decide.
func (u *User) Hot(key Key, as, service string, r *Rules, now unixtime.Time) (step Step, ok bool) {
	if r.Off {
		return step, false
	}
	if past := u.refusal(key); past != nil && past.standing == held && past.Covers(as) {
		if past.At.Within(r.Refused, now) {
			return answered(auth.Answer{Verdict: auth.Deny, Source: auth.SourceRefusedBefore, Reason: reasonRefusedBefore}), true
		}
		if !past.settled() {
			return step, false
		}
		past.standing = muted
	}
	if v := u.keyed(key, as); v != nil && v.fresh(r, service, now) {
		v.Used = now
		step = accept(auth.SourceHot, v.Account, v.Groups)
		step.Touched = r.Hashed
		return step, true
	} else if v != nil && v.stillGraced(r, service, now) && u.refusal(key) == nil {
		return accept(auth.SourceGrace, v.Account, v.Groups), true
	}
	return step, false
}

// MissReason explains to an administrator why Hot had no answer.
func (u *User) MissReason(key Key, as string) string {
	if key != (Key{}) && u.keyed(key, as) != nil {
		return "stale: in memory, but to be verified again"
	}
	return "not in memory"
}

// IsUser answers isuser for the spelling as from memory. ok is false when the backend must be asked.
func (u *User) IsUser(as string, r *Rules, now unixtime.Time) (a auth.Answer, ok bool) {
	if r.Off || !u.Exists.Known || !u.Exists.Covers(as) {
		return a, false
	}
	switch {
	case u.Exists.Yes && u.Exists.At.Within(u.Exists.lifetime(r), now):
		return auth.Answer{Verdict: auth.Allow, Source: auth.SourceHot, Account: u.Exists.Account, Disabled: u.Exists.Disabled, Groups: u.Exists.Groups}, true
	case !u.Exists.Yes && u.Exists.At.Within(r.Absent, now):
		return auth.Answer{Verdict: auth.Deny, Source: auth.SourceHot, Reason: reasonNoUser}, true
	}
	return a, false
}

// Standing answers as IsUser does, for a login for a service that is proven by other means than a remembered secret.
// What is known of the account's groups must decide on it.
func (u *User) Standing(as, service string, r *Rules, now unixtime.Time) (a auth.Answer, ok bool) {
	a, ok = u.IsUser(as, r, now)
	return a, ok && (a.Verdict != auth.Allow || a.Disabled || r.settled(a.Groups, u.Exists.At, service, now))
}

// IsUserUnasked answers isuser where no backend can be asked: what logins have shown counts for the outage lifetime,
// but the groups of the account only as long as they do without an outage.
func (u *User) IsUserUnasked(as string, r *Rules, now unixtime.Time) (a auth.Answer, ok bool) {
	a, ok = u.IsUserGrace(as, r, now)
	a.Source, a.Bridged = auth.SourceCache, false
	if !u.Exists.At.Within(r.Verify, now) {
		a.Groups = ""
	}
	return a, ok
}

// IsUserGrace answers isuser while the backend cannot: yes for a user that existed within the
// outage lifetime, since mail must not bounce, and never no.
func (u *User) IsUserGrace(as string, r *Rules, now unixtime.Time) (a auth.Answer, ok bool) {
	if r.Off {
		return a, false
	}
	yes := auth.Answer{Verdict: auth.Allow, Source: auth.SourceGrace, Bridged: true}
	if u.Exists.Known && u.Exists.Covers(as) {
		yes.Account, yes.Disabled, yes.Groups = u.Exists.Account, u.Exists.Disabled, u.Exists.Groups
		return yes, u.Exists.Yes && u.Exists.At.Within(r.Outage, now)
	}
	// A suspect verifier counts too: whatever the password is, the user existed.
	for i := range u.Verifiers {
		if v := &u.Verifiers[i]; v.Covers(as) && v.Verified.Within(r.Outage, now) {
			yes.Account, yes.Groups = v.Account, v.Groups
			return yes, true
		}
	}
	return a, false
}

// lifetime is that of a "yes". An account that was disabled may be enabled again, which is soon to be known.
func (e *Existence) lifetime(r *Rules) time.Duration {
	if e.Disabled {
		return min(r.Exists, r.Absent)
	}
	return r.Exists
}

// SetDisabled notes whether an account that exists may log in, and reports whether that changes the
// record.
func (u *User) SetDisabled(disabled bool) (changed bool) {
	changed = u.Exists.Yes && u.Exists.Disabled != disabled
	u.Exists.Disabled = u.Exists.Yes && disabled
	return changed
}

// SetGroups notes the groups of the account that exists, as the answer of a backend has them. They are those of the
// account's secrets as well.
func (u *User) SetGroups(g auth.Groups) {
	if !u.Exists.Yes {
		return
	}
	u.Exists.Groups = g
	for i := range u.Verifiers {
		if v := &u.Verifiers[i]; g != "" && v.Account == u.Exists.Account && v.By == u.Exists.By {
			v.Groups = g
		}
	}
}

// LetIn notes that a backend has let the account in, and reports whether that changes the record. It may have been
// asked before the account was disabled, so whether it is must be asked again.
func (u *User) LetIn() (changed bool) {
	if changed = u.Exists.Disabled; changed {
		u.Exists = Existence{}
	}
	return changed
}

// SetExists remembers the backend's answer to isuser, a yes by a backend, and reports whether the
// record should be written: a "no" is short-lived and stays in memory, unless it takes back a "yes".
// It does not take back that of another spelling.
func (u *User) SetExists(yes bool, name Name, by auth.AuthorityID, r *Rules, now unixtime.Time) (changed bool) {
	was := u.Exists
	if r.Off || !yes && was.Yes && name.Exact && !was.Covers(name.Account) {
		return false
	}
	u.Exists = Existence{Name: name, By: by, Known: true, Yes: yes, At: now}
	return yes || was.Known && was.Yes
}

// SetAlias notes that a backend has let a login in as an account of another name, and reports whether
// that changes the record. A name that has an account of its own keeps it.
func (u *User) SetAlias(account string, by auth.AuthorityID, r *Rules) (changed bool) {
	alias := Alias{account, by}
	if r.Off || len(u.Verifiers) > 0 || u.Alias == alias {
		return false
	}
	u.Alias = alias
	return true
}

// Import takes over a verifier of another program, and reports whether that changes the user. It
// does not replace newer knowledge; a newer one makes the user's other verifiers stale, as its
// acceptance would have. Times in the future are set to now: they would prolong every lifetime.
func (u *User) Import(v Verifier, secrets int, now unixtime.Time) bool {
	if v.Hash == "" || u.hashed(v.Hash) >= 0 {
		return false
	}
	v.Verified = min(v.Verified, now)
	v.First, v.Used = min(v.First, v.Verified), min(v.Used, now)
	for i := range u.Verifiers {
		if u.Verifiers[i].Verified >= v.Verified {
			return false
		}
	}
	u.staleOthers(Key{})
	u.add(v, &Rules{Secrets: secrets})
	return true
}

// keyed returns the verifier of the secret key for the spelling as, or nil.
func (u *User) keyed(key Key, as string) *Verifier {
	for i := range u.Verifiers {
		if v := &u.Verifiers[i]; v.Key == key && v.Covers(as) {
			return v
		}
	}
	return nil
}

// hashed returns the index of the verifier with a hash, or -1. No verifier has the hash "".
func (u *User) hashed(hash string) int {
	if hash == "" {
		return -1
	}
	return slices.IndexFunc(u.Verifiers, func(v Verifier) bool { return v.Hash == hash })
}

func (u *User) drop(i int) { u.Verifiers = slices.Delete(u.Verifiers, i, i+1) }

// revoke drops the verifier of a secret that was refused.
func (u *User) revoke(i int) {
	u.drop(i)
	u.revoked = true
}

// dropKeyed removes the verifiers of the secret key, whatever their accounts: the refusal of one
// spelling has the others asked about again. It reports whether there was one.
func (u *User) dropKeyed(key Key) bool {
	n := len(u.Verifiers)
	u.Verifiers = slices.DeleteFunc(u.Verifiers, func(v Verifier) bool { return v.Key == key })
	return len(u.Verifiers) < n
}

// dropPassword forgets the secret key where it was taken for a password, and reports whether it was.
func (u *User) dropPassword(key Key) (changed bool) {
	n := len(u.Verifiers)
	u.Verifiers = slices.DeleteFunc(u.Verifiers, func(v Verifier) bool { return v.Key == key && v.Until == 0 })
	return len(u.Verifiers) < n
}

// Token reports whether the secret key is remembered as a bearer token.
func (u *User) Token(key Key) bool {
	return slices.ContainsFunc(u.Verifiers, func(v Verifier) bool { return v.Key == key && v.Until != 0 })
}

// add remembers a new secret. To make room it forgets the least recently used one, of the passwords or of the
// tokens: neither pushes out the other.
func (u *User) add(v Verifier, r *Rules) {
	u.Verifiers = slices.DeleteFunc(u.Verifiers, func(old Verifier) bool { return !old.alive(v.Verified) })
	for {
		oldest, n := -1, 0
		for i := range u.Verifiers {
			old := &u.Verifiers[i]
			if (old.Until == 0) != (v.Until == 0) {
				continue
			}
			n++
			if oldest < 0 || old.Used < u.Verifiers[oldest].Used {
				oldest = i
			}
		}
		if n < r.Secrets || oldest < 0 {
			break
		}
		u.drop(oldest)
	}
	u.Verifiers = append(u.Verifiers, v)
}

// staleOthers has every verifier but key's ask the backend at its next use; with the zero key,
// every verifier.
func (u *User) staleOthers(key Key) {
	for i := range u.Verifiers {
		if v := &u.Verifiers[i]; v.Key != key || key == (Key{}) {
			u.Verifiers[i].Stale = true
		}
	}
}

// refusal returns the remembered refusal of key, or nil.
func (u *User) refusal(key Key) *Refusal {
	for i := range u.Refusals {
		if u.Refusals[i].Key == key {
			return &u.Refusals[i]
		}
	}
	return nil
}

// refuse remembers a refusal. An earlier one with a stronger effect keeps it.
func (u *User) refuse(key Key, name Name, s standing, r *Rules, now unixtime.Time) {
	u.refusals++
	if past := u.refusal(key); past != nil {
		past.seq = u.refusals
		if s <= past.standing {
			past.At, past.standing, past.Name = now, s, name
		}
		return
	}
	if len(u.Refusals) >= r.Refusals {
		if i := slices.IndexFunc(u.Refusals, Refusal.settled); i >= 0 {
			u.dropRefusal(i)
		}
	}
	u.Refusals = append(u.Refusals, Refusal{Name: name, Key: key, At: now, seq: u.refusals, standing: s})
}

// settled reports whether no comparison needs the refusal any more.
func (f Refusal) settled() bool { return f.comparing == nil || f.comparing.n == 0 }

// searches counts the comparisons under way that may find a verifier of a refused secret. They outlive
// the refusal, and those of a user that is read again do not count for its new ones.
type searches struct{ n int }

// search begins one.
func (f *Refusal) search() *searches {
	if f.comparing == nil {
		f.comparing = new(searches)
	}
	f.comparing.n++
	return f.comparing
}

// end ends one, if there is one.
func (s *searches) end() *searches {
	if s != nil {
		s.n--
	}
	return nil
}

// dropRefusal forgets a refusal but for its seq: an acceptance that was asked for before it may
// still come.
func (u *User) dropRefusal(i int) {
	u.lost = max(u.lost, u.Refusals[i].seq)
	u.Refusals = slices.Delete(u.Refusals, i, i+1)
}

// dropRefusals forgets all refusals but those that are being compared with the user's hashes.
func (u *User) dropRefusals() {
	for i := len(u.Refusals) - 1; i >= 0; i-- {
		if u.Refusals[i].settled() {
			u.dropRefusal(i)
		}
	}
}

// comparing reports whether a refused, or a suspected, secret is being compared with the user's
// hashes.
func (u *User) comparing() (refused, suspect bool) {
	for _, f := range u.Refusals {
		if !f.settled() {
			refused, suspect = refused || f.standing != suspected, suspect || f.standing == suspected
		}
	}
	return refused, suspect
}
