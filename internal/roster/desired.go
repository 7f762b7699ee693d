package roster

import (
	"slices"

	"postern/internal/auth"
)

// Desired is the state that the answers of one run ask for. Of several answers about one group or
// one name the latest counts, so that a group is compared once, however many of its members log in.
type Desired struct {
	state  State
	filter *Filter
	names  []auth.Identity // in order of first appearance
	name   map[auth.Identity]string
	groups []string // in order of first appearance
	member map[string][]auth.Identity
	logins []*login
	last   Hash                       // of the answer added last
	given  map[auth.Identity][]string // groups by that answer

	// Oversize are the groups that had more members than the filter allows.
	Oversize []string
	// Foreign are the domains with accounts that were left out; see Filter.
	Foreign []string
}

// login is a user with an answer among those of the run.
type login struct {
	id    auth.Identity
	given []string // groups, by that answer or a later one
	hash  Hash     // zero: a later answer differs in a group of the user, or in the name
}

// NewDesired returns the desired state of no answers.
func NewDesired(s State, f *Filter) *Desired {
	return &Desired{state: s, filter: f, name: map[auth.Identity]string{}, member: map[string][]auth.Identity{}}
}

// Empty reports whether no answer has been added.
func (d *Desired) Empty() bool { return len(d.logins) == 0 }

// Add adds the answer for a user. Answers are added in the order in which they came.
func (d *Desired) Add(user auth.Identity, a Answer) {
	l := &login{id: user, hash: a.Hash}
	if a.Hash != (Hash{}) && a.Hash == d.last { // the same document, for another user
		l.given = slices.Clone(d.given[user])
		d.logins = append(d.logins, l)
		return
	}
	d.last, d.given = a.Hash, map[auth.Identity][]string{}
	a.Accounts = d.own(a.Accounts)
	order, members := d.gather(a)
	overruled := map[auth.Identity]bool{}
	for _, group := range order {
		old, seen := d.member[group]
		if !seen {
			d.groups = append(d.groups, group)
		}
		if !sameMembers(old, members[group]) {
			for _, id := range slices.Concat(old, members[group]) {
				overruled[id] = true
			}
		}
		d.member[group] = members[group]
		for _, id := range members[group] {
			d.given[id] = append(d.given[id], group)
		}
	}
	l.given = slices.Clone(d.given[user])
	for _, account := range a.Accounts {
		if !account.Named {
			continue
		}
		old, seen := d.name[account.ID]
		if !seen {
			d.names = append(d.names, account.ID)
		}
		if old != account.Name {
			overruled[account.ID] = true
		}
		d.name[account.ID] = account.Name
	}
	for _, earlier := range d.logins {
		earlier.laterGiven(d.given[earlier.id])
		if overruled[earlier.id] {
			earlier.hash = Hash{}
		}
	}
	d.logins = append(d.logins, l)
}

// own returns the accounts that the domain's answers may change.
func (d *Desired) own(all []Account) []Account {
	return slices.DeleteFunc(slices.Clone(all), func(a Account) bool {
		if d.filter.owns(d.state.Domain, a.ID.Domain) {
			return false
		}
		if !slices.Contains(d.Foreign, a.ID.Domain) {
			d.Foreign = append(d.Foreign, a.ID.Domain)
		}
		return true
	})
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

// laterGiven adds groups from a later answer that the user's own one may not have given.
func (l *login) laterGiven(groups []string) {
	for _, group := range groups {
		if !slices.Contains(l.given, group) {
			l.given = append(l.given, group)
		}
	}
}

// gather lists the members of each group of an answer under its cleaned name, each once. Groups
// with equal cleaned names are one group.
func (d *Desired) gather(a Answer) (order []string, members map[string][]auth.Identity) {
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
				if group, ok = CleanGroup(raw); !ok || !d.filter.allows(group) {
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
	if d.filter.MaxMembers == 0 {
		return order, members
	}
	return slices.DeleteFunc(order, func(group string) bool {
		large := len(members[group]) > d.filter.MaxMembers
		if large {
			d.Oversize = append(d.Oversize, group)
		}
		return large
	}), members
}
