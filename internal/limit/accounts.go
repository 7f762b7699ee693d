package limit

import (
	"slices"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"postern/internal/unixtime"
)

// Trials of unknown secrets while an account is limited.
const (
	trialEvery  = time.Minute      // one
	trialsDaily = 60               // at most, in 24 hours
	trialLater  = 20 * time.Second // than that, for each other secret from the same address
	maxOthers   = 3                // with so many others, an address waits for the pause to end
	suspectFor  = time.Hour        // since the last secret from an address
)

// Pauses between comparisons with stored hashes while an account is limited, each of which takes a
// processor for a quarter of a second at the default cost.
const (
	compareEvery      = time.Second     // of secrets from addresses without others
	compareEveryOther = 2 * time.Second // of all others
)

// Bounds of Accounts.
const (
	maxKnownAccounts = 65536
	maxKnownSecrets  = 8 // of one account, the last ones that were accepted; or addresses
	maxTrials        = 2048
	maxSuspects      = 128 // addresses of one account
)

// Guess is a question about a secret that the cache has not seen accepted.
type Guess struct {
	Account uint64 // stands for the account at the backend
	Secret  uint64 // stands for account and secret
	From    uint64 // stands for the client's network; 0: not known, or shared by many users
	Tainted bool   // other passwords from there were refused
	Rules   *Rules // of the domain that is asked; nil limits nothing
	Alike   uint16 // stands for the secret with other processes, see Peers; 0: it is like no other
	Proof   bool   // the client has proved the secret, which is not known: Secret stands for this proof alone

	// Stranger: nothing shows that the account exists. Absent: a backend has said lately that it does
	// not.
	Stranger, Absent bool
}

// Accounts limits the guesses at the accounts of one backend, whichever domains they come by. It is
// owned by one goroutine.
//
// Until an account has a pause, Accounts does what a Table does. From then on the account is limited,
// and a secret that the backend has not accepted before is put to it as a trial: one a minute and 60
// a day, so that guessing does not pay, while the owner of a new password still gets in. A client's
// address from which no other secret came is first in line: it does not wait for the pause to end.
// With each other secret, refused or withheld, it comes 20 seconds later. From the third on, as
// without an address, it waits for the pause besides, and for half of the day's trials only. So a
// crowd of guessers does not take all trials, and the owner, who repeats one secret, gets the next.
//
// Secrets that the backend has accepted are always put to it. A proof does not show whether it is of one of these; in place
// of that, proofs are always put to it from addresses from which the last one was accepted, so that a crowd of guessers
// does not shut out the owner.
type Accounts struct {
	table   *Table[uint64]
	known   *simplelru.LRU[uint64, []uint64] // secrets that were accepted, by account
	proved  *simplelru.LRU[uint64, []uint64] // addresses from which the last proof was accepted, by account
	trials  *simplelru.LRU[uint64, *trials]  // of limited accounts
	aliases *simplelru.LRU[uint64, uint64]   // accounts by other names that lead to them
}

// NewAccounts returns limits without refusals.
func NewAccounts() *Accounts {
	a := &Accounts{table: NewTable[uint64]()}
	a.known, _ = simplelru.NewLRU[uint64, []uint64](maxKnownAccounts, nil) // it fails for sizes under 1 only
	a.proved, _ = simplelru.NewLRU[uint64, []uint64](maxKnownAccounts, nil)
	a.trials, _ = simplelru.NewLRU[uint64, *trials](maxTrials, nil)
	a.aliases, _ = simplelru.NewLRU[uint64, uint64](maxKnownAccounts, nil)
	return a
}

// trials is what is known of a limited account.
type trials struct {
	asked    []unixtime.Time  // within a day
	compared [2]unixtime.Time // last: for addresses without other secrets, and for the others
	suspects []suspect        // the one seen last is the last
}

// suspect is an address with secrets that are not known.
type suspect struct {
	from    uint64
	secrets [maxOthers + 1]uint64
	n       int
	at      unixtime.Time // of the last secret
}

// others is how many secrets other than secret came from an address, up to maxOthers.
func (t *trials) others(from, secret uint64, now unixtime.Time) (n int) {
	for i := range t.suspects {
		if s := &t.suspects[i]; s.from == from && s.at.Within(suspectFor, now) {
			for _, other := range s.secrets[:s.n] {
				if other != secret {
					n++
				}
			}
		}
	}
	return min(n, maxOthers)
}

// note remembers that a secret came from an address.
func (t *trials) note(from, secret uint64, now unixtime.Time) {
	s := suspect{from: from}
	if i := slices.IndexFunc(t.suspects, func(s suspect) bool { return s.from == from }); i >= 0 {
		if t.suspects[i].at.Within(suspectFor, now) {
			s = t.suspects[i]
		}
		t.suspects = slices.Delete(t.suspects, i, i+1)
	} else if len(t.suspects) >= maxSuspects {
		t.suspects = slices.Delete(t.suspects, 0, 1)
	}
	if s.n < len(s.secrets) && !slices.Contains(s.secrets[:s.n], secret) {
		s.secrets[s.n] = secret
		s.n++
	}
	s.at = now
	t.suspects = append(t.suspects, s)
}

// due reports whether the next trial may be one from an address with so many other secrets.
func (t *trials) due(others int, paused bool, now unixtime.Time) bool {
	t.asked = slices.DeleteFunc(t.asked, func(at unixtime.Time) bool { return !at.Within(24*time.Hour, now) })
	most, wait := trialsDaily, trialEvery+time.Duration(others)*trialLater
	if others >= maxOthers {
		most /= 2 // the rest is for others
	}
	n := len(t.asked)
	return n < most && (n == 0 || !t.asked[n-1].Within(wait, now)) && (others < maxOthers || !paused)
}

// mayCompare reports whether a stored hash may be compared, and counts that as done.
func (t *trials) mayCompare(clean bool, now unixtime.Time) bool {
	i, every := 1, compareEveryOther
	if clean {
		i, every = 0, compareEvery
	}
	if t.compared[i].Within(every, now) {
		return false
	}
	t.compared[i] = now
	return true
}

// account follows an alias.
func (a *Accounts) account(name uint64) uint64 {
	if account, ok := a.aliases.Get(name); ok {
		return account
	}
	return name
}

// Knows reports whether the secret is one of the last that the backend has accepted for the account.
func (a *Accounts) Knows(account, secret uint64) bool {
	secrets, _ := a.known.Get(a.account(account))
	return slices.Contains(secrets, secret)
}

// Trusts reports whether a guess is a proof from an address from which the last one was accepted.
func (a *Accounts) Trusts(g *Guess) bool {
	from, _ := a.proved.Get(a.account(g.Account))
	return g.Proof && g.From != 0 && slices.Contains(from, g.From)
}

// Familiar reports whether the backend has accepted a secret of the account.
func (a *Accounts) Familiar(account uint64) bool {
	account = a.account(account)
	return a.known.Contains(account) || a.proved.Contains(account)
}

// Admit decides about a guess with the deadline end. Each Pass must be followed by a Done, or by a
// Withdraw if the question was not put after all. If it is Blocked or must Wait, compare reports
// whether stored hashes may be searched for the secret.
func (a *Accounts) Admit(g *Guess, now, end unixtime.Time) (d Decision, compare bool) {
	if g.Rules == nil || g.Rules.Refusals <= 0 || a.Knows(g.Account, g.Secret) || a.Trusts(g) {
		return PassUncounted, true
	}
	account := a.account(g.Account)
	x := a.table.get(account, g.Rules, now)
	defer func() { a.table.place(account, x) }()
	if x.level == 0 {
		return x.admit(g.Secret, g.Rules, now, end), true
	}
	t := a.limited(account)
	others := maxOthers
	if g.From != 0 {
		if others = t.others(g.From, g.Secret, now); g.Tainted || x.refusedFrom(g.From, g.Secret) {
			others = max(others, 1)
		}
		t.note(g.From, g.Secret, now)
	}
	if x.has(g.Secret) >= 0 { // refused lately
		return Blocked, false
	}
	if len(x.pending) > 0 || !t.due(others, now < x.until, now) {
		x.stirred = now
		return Blocked, t.mayCompare(others == 0, now)
	}
	t.asked = append(t.asked, now)
	x.pending = append(x.pending, min(end, now.Add(MaxPending)))
	return Pass, true
}

func (a *Accounts) limited(account uint64) *trials {
	t, ok := a.trials.Get(account)
	if !ok {
		t = new(trials)
		a.trials.Add(account, t)
	}
	return t
}

// Done ends a question that Admit let Pass, whatever its result.
func (a *Accounts) Done(g *Guess, now unixtime.Time) {
	a.table.Done(a.account(g.Account), g.Rules, now)
}

// Withdraw ends a question that Admit let Pass and that was not put.
func (a *Accounts) Withdraw(g *Guess, now unixtime.Time) {
	a.Done(g, now)
	if t, ok := a.trials.Peek(a.account(g.Account)); ok && len(t.asked) > 0 {
		t.asked = t.asked[:len(t.asked)-1]
	}
}

// Refused counts a refusal. begins is true when the account becomes limited by it; name is the
// account's for display.
func (a *Accounts) Refused(g *Guess, name string, now unixtime.Time) (begins bool) {
	account := a.account(g.Account)
	if g.Proof {
		without(a.proved, account, g.From)
	} else {
		without(a.known, account, g.Secret)
	}
	if g.Rules == nil {
		return false
	}
	begins = a.table.refused(account, mark{secret: g.Secret, at: now, from: g.From, alike: g.Alike}, name, g.Rules)
	if begins {
		a.trials.Remove(account)
	}
	return begins
}

// Learn counts a refusal that another process has sent, at a time. begins is true when the account becomes limited by
// it. While it is limited, the other's question was a trial, which are as many as for one process.
func (a *Accounts) Learn(account uint64, e *Event, from uint64, at, now unixtime.Time) (begins bool) {
	account = a.account(account)
	was := a.table.State(account, now).Pauses > 0
	begins = a.table.Learn(account, e, from, at, now)
	switch {
	case begins:
		a.trials.Remove(account)
	case was:
		if t := a.limited(account); len(t.asked) == 0 || t.asked[len(t.asked)-1] < at {
			t.asked = append(t.asked, at)
		}
	}
	return begins
}

// Accepted remembers a secret that was accepted. account stands for the name that the backend gives
// the account, which need not be the name that was asked for.
func (a *Accounts) Accepted(g *Guess, account uint64) {
	if account == g.Account {
		a.aliases.Remove(g.Account)
	} else {
		a.aliases.Add(g.Account, account)
	}
	if g.Proof {
		with(a.proved, account, g.From)
	} else {
		with(a.known, account, g.Secret)
	}
}

// with puts a value last into a list of an account, of which the first has to go when there are too many.
func with(lists *simplelru.LRU[uint64, []uint64], account, value uint64) {
	list, _ := lists.Get(account)
	list = slices.DeleteFunc(list, func(v uint64) bool { return v == value })
	if len(list) == maxKnownSecrets {
		list = list[1:]
	}
	lists.Add(account, append(list, value))
}

// without takes a value out of a list of an account.
func without(lists *simplelru.LRU[uint64, []uint64], account, value uint64) {
	list, ok := lists.Peek(account)
	if !ok {
		return
	}
	if list = slices.DeleteFunc(list, func(v uint64) bool { return v == value }); len(list) > 0 {
		lists.Add(account, list)
	} else {
		lists.Remove(account)
	}
}

// Forget forgets an account, and returns what was counted.
func (a *Accounts) Forget(account uint64, now unixtime.Time) State {
	account = a.account(account)
	s := a.State(account, now)
	a.table.Forget(account)
	a.trials.Remove(account)
	a.known.Remove(account)
	a.proved.Remove(account)
	return s
}

// State returns the state of an account.
func (a *Accounts) State(account uint64, now unixtime.Time) State {
	return a.table.State(a.account(account), now)
}

// LimitedUntil is when an account ceases to be limited if no secret is refused until then; 0 if it is
// not limited.
func (a *Accounts) LimitedUntil(account uint64, now unixtime.Time) unixtime.Time {
	x := a.table.get(a.account(account), &Rules{}, now)
	if x.level == 0 {
		return 0
	}
	return max(x.until, x.stirred).Add(time.Duration(x.level) * x.widest.Window)
}

// Limited lists up to most limited accounts, the most recently seen first; watched is the number of
// accounts with refusals, but without a pause.
func (a *Accounts) Limited(most int, now unixtime.Time) (list []State, watched int) {
	watched, _ = a.table.Len()
	return a.table.Limited(most, now), watched
}
