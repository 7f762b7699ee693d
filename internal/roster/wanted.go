package roster

import (
	"slices"

	"postern/internal/auth"
)

// Wanted is what the answers of one run ask for. Of several answers that speak of one group or
// one name the latest counts, so that a group is compared once however many log in.
type Wanted struct {
	state  State
	filter *Filter
	names  []auth.Identity // in order of first appearance
	name   map[auth.Identity]string
	groups []string // in order of first appearance
	member map[string][]auth.Identity
	logins []*login

	// Oversize are the groups that had more members than the filter allows.
	Oversize []string
}

// login is a user whose own answer is among them.
type login struct {
	id    auth.Identity
	given []string // groups, by that answer or a later one
	hash  Hash
}

// NewWanted asks for nothing yet.
func NewWanted(s State, f *Filter) *Wanted {
	return &Wanted{state: s, filter: f, name: map[auth.Identity]string{}, member: map[string][]auth.Identity{}}
}

// Empty reports whether no answer has been added.
func (w *Wanted) Empty() bool { return len(w.logins) == 0 }

// Add takes the answer that was given for a user.
func (w *Wanted) Add(user auth.Identity, a Answer) {
	l := &login{id: user, hash: a.Hash}
	order, members := w.gather(a)
	for _, group := range order {
		if _, seen := w.member[group]; !seen {
			w.groups = append(w.groups, group)
		}
		w.member[group] = members[group]
		for _, id := range members[group] {
			if id == user {
				l.given = append(l.given, group)
			}
			w.laterGiven(id, group)
		}
	}
	for _, account := range a.Accounts {
		if !account.Named {
			continue
		}
		if _, seen := w.name[account.ID]; !seen {
			w.names = append(w.names, account.ID)
		}
		w.name[account.ID] = account.Name
	}
	w.logins = append(w.logins, l)
}

// laterGiven notes that an answer puts a user into a group that the user's own, earlier one
// did not give.
func (w *Wanted) laterGiven(id auth.Identity, group string) {
	for _, l := range w.logins {
		if l.id == id && !slices.Contains(l.given, group) {
			l.given = append(l.given, group)
		}
	}
}

// gather lists the members of each group of an answer under its cleaned name, each once. Two
// names that are one when cleaned are one group.
func (w *Wanted) gather(a Answer) (order []string, members map[string][]auth.Identity) {
	members = map[string][]auth.Identity{}
	seen := map[auth.Identity]map[string]bool{}
	for _, account := range a.Accounts {
		for _, raw := range account.Groups {
			group, ok := CleanGroup(raw)
			if !ok || !w.filter.allows(group) || seen[account.ID][group] {
				continue
			}
			if seen[account.ID] == nil {
				seen[account.ID] = map[string]bool{}
			}
			seen[account.ID][group] = true
			if members[group] == nil {
				order = append(order, group)
			}
			members[group] = append(members[group], account.ID)
		}
	}
	if w.filter.MaxMembers == 0 {
		return order, members
	}
	return slices.DeleteFunc(order, func(group string) bool {
		large := len(members[group]) > w.filter.MaxMembers
		if large {
			w.Oversize = append(w.Oversize, group)
		}
		return large
	}), members
}
