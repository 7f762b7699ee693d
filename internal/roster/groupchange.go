package roster

import (
	"slices"
	"strings"

	"postern/internal/store"
)

// groupChange plans the steps that give a group its desired members. If the group is not known, or
// is dirty, the server is asked for its members first.
type groupChange struct {
	p       *Plan
	name    string
	desired []string // addresses in the order of the answer
	remove  bool     // the group is to be emptied and forgotten
	left    int      // steps until it is done
	opened  bool     // the store says that the group is being changed
	refused bool
}

// plan appends the first steps of the change to the plan. It is false if there are none.
func (c *groupChange) plan() bool {
	g := c.p.group(c.name)
	if g == nil || g.Dirty {
		c.query(Create)
		return true
	}
	actions := c.compare(g.Members)
	c.p.actions = append(c.p.actions, actions...)
	return len(actions) > 0
}

// query appends a step about the group as a whole, after which the plan goes on with the change.
func (c *groupChange) query(command Command) {
	c.p.actions = append(c.p.actions, c.groupAction(command))
}

func (c *groupChange) groupAction(command Command) action {
	return action{
		step: Step{Command: command, Group: c.name, Home: c.p.state.Domain},
		done: func(members []string) []store.Op {
			if command == Create {
				c.next(c.groupAction(GetMembers))
				return c.open()
			}
			c.next(c.compare(members, c.unlisted(members)...)...)
			if c.left == 0 {
				return c.close()
			}
			return nil
		},
		refuse: func() bool { return true },
	}
}

// next puts actions at the head of the plan.
func (c *groupChange) next(actions ...action) { c.p.actions = append(actions, c.p.actions...) }

// compare returns the actions that lead from the present members to the desired ones: the additions,
// then the removals. Members in maybe may be present or not.
func (c *groupChange) compare(present []string, maybe ...string) (actions []action) {
	have, want := set(present), set(c.desired)
	var removals []action
	for _, address := range slices.Concat(present, maybe) {
		if want[address] {
			continue
		}
		removal := c.memberAction(UserDel, address)
		if folded := fold(address); want[folded] {
			// The member in another letter case. If ejabberd keeps the two apart, it still
			// announces to clients, which do not, that the member is gone; if not, the member is
			// gone. So the removal comes first, and the member is added after it in either case.
			actions, have[folded] = append(actions, removal), false
			continue
		}
		removals = append(removals, removal)
	}
	for _, address := range c.desired {
		if !have[address] {
			actions = append(actions, c.memberAction(UserAdd, address))
		}
	}
	actions = append(actions, removals...)
	c.left = len(actions)
	return actions
}

func set(list []string) map[string]bool {
	m := make(map[string]bool, len(list))
	for _, text := range list {
		m[text] = true
	}
	return m
}

// memberAction is a change of one member. Before the first one, the group is marked as being
// changed: if the store does not learn of a change that was made, the server will be asked.
func (c *groupChange) memberAction(command Command, address string) action {
	return action{
		step: c.p.memberStep(command, address, c.name),
		before: func() []store.Op {
			if c.opened {
				return nil
			}
			return c.open()
		},
		done: func([]string) []store.Op {
			if c.left--; c.left == 0 {
				return c.close()
			}
			return nil
		},
		refuse: func() bool {
			c.left--
			c.refused = true
			return true
		},
	}
}

// open writes that the group has its old members, its new ones, or some of both, and that the next
// answers of all of them must be applied.
func (c *groupChange) open() (ops []store.Op) {
	c.opened = true
	members := slices.Clone(c.desired)
	if g := c.p.groups[c.name]; g != nil {
		members = append(members, g.Members...)
	}
	slices.Sort(members)
	g := &Group{Members: slices.Compact(members), Dirty: true}
	c.p.groups[c.name] = g
	ops = append(ops, c.p.state.putGroup(c.name, g))
	ops = append(ops, c.p.doubt(g.Members)...)
	for _, l := range c.p.logins {
		u := c.p.users[l.id]
		if slices.Contains(l.given, c.name) && !slices.Contains(u.Groups, c.name) {
			u.Groups = with(u.Groups, c.name)
			ops = append(ops, c.p.state.putUser(l.id, u))
		}
	}
	return ops
}

// unlisted are known members of other domains, which ejabberd may have and not list.
func (c *groupChange) unlisted(listed []string) (maybe []string) {
	g := c.p.groups[c.name]
	if g == nil {
		return nil
	}
	have := set(listed)
	for _, address := range g.Members {
		if !have[address] && !strings.HasSuffix(address, "@"+c.p.state.Domain) {
			maybe = append(maybe, address)
		}
	}
	return maybe
}

// close writes that the group has the desired members, unless a step was refused.
func (c *groupChange) close() []store.Op {
	if c.refused {
		return nil
	}
	if c.remove {
		c.p.groups[c.name] = nil
		return []store.Op{{Key: c.p.state.groupKey(c.name)}}
	}
	g := &Group{Members: slices.Sorted(slices.Values(c.desired))}
	c.p.groups[c.name] = g
	return []store.Op{c.p.state.putGroup(c.name, g)}
}
