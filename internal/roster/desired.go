package roster

import (
	"slices"

	"postern/internal/auth"
)

// Desired is what the answers of one run ask for. Of several answers that speak of one group or
// one name the latest counts, so that a group is compared once however many log in.
type Desired struct {
	state  State
	filter *Filter
	names  []auth.Identity // in order of first appearance
	name   map[auth.Identity]string
	groups []string // in order of first appearance
	member map[string][]auth.Identity
	logins []*login
	last   Hash                       // of the answer added last
	given  map[auth.Identity][]string // by that answer

	// Oversize are the groups that had more members than the filter allows.
	Oversize []string
}

// login is a user whose own answer is among them.
type login struct {
	id    auth.Identity
	given []string // groups, by that answer or a later one
	hash  Hash     // zero: a later answer says otherwise of a group of the user, or of the name
}

// NewDesired asks for nothing yet.
func NewDesired(s State, f *Filter) *Desired {
	return &Desired{state: s, filter: f, name: map[auth.Identity]string{}, member: map[string][]auth.Identity{}}
}

// Empty reports whether no answer has been added.
func (w *Desired) Empty() bool { return len(w.logins) == 0 }

// Add takes the answer that was given for a user.
func (w *Desired) Add(user auth.Identity, a Answer) {
	l := &login{id: user, hash: a.Hash}
	if a.Hash != (Hash{}) && a.Hash == w.last { // all is said, but whom it was said to
		l.given = slices.Clone(w.given[user])
		w.logins = append(w.logins, l)
		return
	}
	w.last, w.given = a.Hash, map[auth.Identity][]string{}
	order, members := w.gather(a)
	overruled := map[auth.Identity]bool{}
	for _, group := range order {
		old, seen := w.member[group]
		if !seen {
			w.groups = append(w.groups, group)
		}
		if !sameMembers(old, members[group]) {
			for _, id := range slices.Concat(old, members[group]) {
				overruled[id] = true
			}
		}
		w.member[group] = members[group]
		for _, id := range members[group] {
			w.given[id] = append(w.given[id], group)
		}
	}
	l.given = slices.Clone(w.given[user])
	for _, account := range a.Accounts {
		if !account.Named {
			continue
		}
		old, seen := w.name[account.ID]
		if !seen {
			w.names = append(w.names, account.ID)
		}
		if old != account.Name {
			overruled[account.ID] = true
		}
		w.name[account.ID] = account.Name
	}
	for _, earlier := range w.logins {
		earlier.laterGiven(w.given[earlier.id])
		if overruled[earlier.id] {
			earlier.hash = Hash{}
		}
	}
	w.logins = append(w.logins, l)
}

// sameMembers compares two lists in which each member stands once.
func sameMembers(a, b []auth.Identity) bool {
	if len(a) != len(b) || slices.Equal(a, b) {
		return len(a) == len(b)
	}
	in := make(map[auth.Identity]bool, len(a))
	for _, id := range a {
		in[id] = true
	}
	return !slices.ContainsFunc(b, func(id auth.Identity) bool { return !in[id] })
}

// laterGiven notes that an answer puts a user into groups that the user's own, earlier one may
// not have given.
func (l *login) laterGiven(groups []string) {
	for _, group := range groups {
		if !slices.Contains(l.given, group) {
			l.given = append(l.given, group)
		}
	}
}

// gather lists the members of each group of an answer under its cleaned name, each once. Two
// names that are one when cleaned are one group.
func (w *Desired) gather(a Answer) (order []string, members map[string][]auth.Identity) {
	members = map[string][]auth.Identity{}
	clean := map[string]string{} // "": to be ignored
	type entry struct {
		id    auth.Identity
		group string
	}
	seen := map[entry]bool{}
	for _, account := range a.Accounts {
		for _, raw := range account.Groups {
			group, known := clean[raw]
			if !known {
				var ok bool
				if group, ok = CleanGroup(raw); !ok || !w.filter.allows(group) {
					group = ""
				}
				clean[raw] = group
			}
			if group == "" || seen[entry{account.ID, group}] {
				continue
			}
			seen[entry{account.ID, group}] = true
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
