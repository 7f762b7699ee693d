package limit

import (
	"slices"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"postern/internal/unixtime"
)

// What follows are the values in which limits go to a successor of the process. Questions under way
// are not among them: they have ended with the process.

// SavedTally is an entry of a Table.
type SavedTally[K comparable] struct {
	Of             K
	Marks          []SavedMark
	Level          int
	Until, Stirred unixtime.Time
	Name           string
	Widest         Rules
}

// SavedMark is a refused secret.
type SavedMark struct {
	Secret, From uint64
	At           unixtime.Time
}

// Save returns the entries, those used last at the end.
func (t *Table[K]) Save() []SavedTally[K] {
	list := make([]SavedTally[K], 0, t.watched.Len()+t.limited.Len())
	for _, entries := range []*simplelru.LRU[K, *tally]{t.watched, t.limited} {
		for _, k := range entries.Keys() {
			x, _ := entries.Peek(k)
			s := SavedTally[K]{Of: k, Level: x.level, Until: x.until, Stirred: x.stirred, Name: x.name, Widest: x.widest}
			for _, m := range x.marks {
				s.Marks = append(s.Marks, SavedMark{m.secret, m.from, m.at})
			}
			if s.Level > 0 || len(s.Marks) > 0 {
				list = append(list, s)
			}
		}
	}
	return list
}

// Restore adds entries that Save has returned.
func (t *Table[K]) Restore(list []SavedTally[K]) {
	for i := range list {
		s := &list[i]
		x := &tally{level: max(s.Level, 0), until: s.Until, stirred: s.Stirred, name: s.Name, widest: s.Widest}
		for _, m := range s.Marks {
			x.marks = append(x.marks, mark{secret: m.Secret, from: m.From, at: m.At})
		}
		t.place(s.Of, x)
	}
}

// SavedAccounts are Accounts. The lists are in the order of use, those used last at the end.
type SavedAccounts struct {
	Tallies []SavedTally[uint64]
	Known   []SavedKnown
	Trials  []SavedTrials
	Aliases [][2]uint64 // a name, and its account
}

// SavedKnown has the secrets of an account that were accepted.
type SavedKnown struct {
	Account uint64
	Secrets []uint64
}

// SavedTrials is what is known of a limited account.
type SavedTrials struct {
	Account  uint64
	Asked    []unixtime.Time
	Compared [2]unixtime.Time
	Suspects []SavedSuspect
}

// SavedSuspect is an address with secrets that are not known.
type SavedSuspect struct {
	From    uint64
	Secrets []uint64
	At      unixtime.Time
}

// Save returns all that is known.
func (a *Accounts) Save() SavedAccounts {
	s := SavedAccounts{Tallies: a.table.Save()}
	for _, account := range a.known.Keys() {
		secrets, _ := a.known.Peek(account)
		s.Known = append(s.Known, SavedKnown{account, slices.Clone(secrets)})
	}
	for _, account := range a.trials.Keys() {
		t, _ := a.trials.Peek(account)
		saved := SavedTrials{Account: account, Asked: slices.Clone(t.asked), Compared: t.compared}
		for _, x := range t.suspects {
			saved.Suspects = append(saved.Suspects, SavedSuspect{x.from, slices.Clone(x.secrets[:x.n]), x.at})
		}
		s.Trials = append(s.Trials, saved)
	}
	for _, name := range a.aliases.Keys() {
		account, _ := a.aliases.Peek(name)
		s.Aliases = append(s.Aliases, [2]uint64{name, account})
	}
	return s
}

// Restore adds what Save has returned.
func (a *Accounts) Restore(s SavedAccounts) {
	a.table.Restore(s.Tallies)
	for _, k := range s.Known {
		a.known.Add(k.Account, k.Secrets[max(len(k.Secrets)-maxKnownSecrets, 0):])
	}
	for _, saved := range s.Trials {
		t := &trials{asked: saved.Asked, compared: saved.Compared}
		for _, x := range saved.Suspects[max(len(saved.Suspects)-maxSuspects, 0):] {
			known := suspect{from: x.From, at: x.At}
			known.n = copy(known.secrets[:], x.Secrets)
			t.suspects = append(t.suspects, known)
		}
		a.trials.Add(saved.Account, t)
	}
	for _, alias := range s.Aliases {
		a.aliases.Add(alias[0], alias[1])
	}
}

// SavedBudget is a Budget.
type SavedBudget struct {
	Refused []SavedCharge
	Repeats []SavedRepeat
	Exempt  bool
}

// SavedCharge is a refusal.
type SavedCharge struct {
	Account, From uint64
	Stranger      bool
	At            unixtime.Time
}

// SavedRepeat is a secret that was refused, perhaps several times.
type SavedRepeat struct {
	Secret, Account uint64
	Times           int
	Next            unixtime.Time
}

// Save returns all that is known.
func (b *Budget) Save() SavedBudget {
	s := SavedBudget{Exempt: b.exempt}
	for _, c := range b.refused {
		s.Refused = append(s.Refused, SavedCharge{c.account, c.from, c.stranger, c.at})
	}
	for _, secret := range b.repeats.Keys() {
		r, _ := b.repeats.Peek(secret)
		s.Repeats = append(s.Repeats, SavedRepeat{secret, r.account, r.times, r.next})
	}
	return s
}

// Restore adds what Save has returned. The rules stay those of b.
func (b *Budget) Restore(s SavedBudget) {
	b.exempt = s.Exempt
	if b.rules.Refusals <= 0 {
		return
	}
	for _, c := range s.Refused[max(len(s.Refused)-b.rules.Refusals, 0):] {
		b.refused = append(b.refused, charge{account: c.Account, from: c.From, stranger: c.Stranger, at: c.At})
	}
	for _, r := range s.Repeats {
		b.repeats.Add(r.Secret, &repeat{account: r.Account, times: min(max(r.Times, 0), 8), next: r.Next})
	}
}
