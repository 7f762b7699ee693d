package roster

import (
	"slices"
	"strings"

	"postern/internal/auth"
	"postern/internal/store"
)

// Command is what an XMPP server can be told.
type Command uint8

// The commands, by their names in ejabberd.
const (
	SetVCard   Command = iota // set_vcard: the full name of a user
	Create                    // srg_create
	GetMembers                // srg_get_members
	UserAdd                   // srg_user_add
	UserDel                   // srg_user_del
)

var commandNames = [...]string{"set_vcard", "srg_create", "srg_get_members", "srg_user_add", "srg_user_del"}

// String returns ejabberd's word for a command.
func (c Command) String() string { return commandNames[c] }

// Step is one command with what it needs: the user's or member's name and host, the group and
// its host, the full name.
type Step struct {
	Command     Command
	User, Host  string
	Group, Home string
	Name        string
}

// Args are the command and its arguments as ejabberdctl takes them.
func (s Step) Args() []string {
	switch s.Command {
	case SetVCard:
		return []string{s.Command.String(), s.User, s.Host, "FN", s.Name}
	case Create:
		return []string{s.Command.String(), s.Group, s.Home, s.Group, s.Group, s.Group}
	case GetMembers:
		return []string{s.Command.String(), s.Group, s.Home}
	}
	return []string{s.Command.String(), s.User, s.Host, s.Group, s.Home}
}

// Plan is the way from what is known to what is wanted: its steps in order, and what to write
// to the store around each, so that the store never claims what was not carried out. A plan
// whose owner stops halfway, or dies, is simply made anew: what is in the store tells where
// it stopped.
type Plan struct {
	state  State
	users  map[auth.Identity]*User // working copies of the records
	groups map[string]*Group       // nil: not known
	logins []*login

	removed   string          // the group that is removed for good
	forgotten []auth.Identity // users who were given it

	tasks   []task
	at      int
	begun   bool
	refused int
}

// task is a part of a plan: one name, one group, one group to leave.
type task interface {
	// next returns the step whose turn it is; false when the task is over.
	next() (Step, bool)
	// before lists what to write before that step.
	before() []store.Op
	// done takes note that the step was carried out, with the answer of GetMembers, and
	// lists what to write now.
	done(members []string) []store.Op
	// skip goes on without the step, which the server refused; false if nobody misses it.
	skip() (missed bool)
}

// NewPlan compares what is wanted with what is known.
func NewPlan(w *Desired) (*Plan, error) {
	p := &Plan{state: w.state, users: map[auth.Identity]*User{}, groups: map[string]*Group{}, logins: w.logins}
	for _, id := range w.names {
		u, err := p.user(id)
		if err != nil {
			return nil, err
		}
		if name := w.name[id]; !u.Named || u.Name != name {
			p.tasks = append(p.tasks, &nameTask{p: p, id: id, name: name})
		}
	}
	for _, group := range w.groups {
		if err := p.group(group); err != nil {
			return nil, err
		}
		t := newGroupTask(p, group, w.member[group])
		p.tasks = append(p.tasks, t)
		if t.over {
			continue
		}
		if err := p.members(group, t.wanted); err != nil {
			return nil, err
		}
	}
	for _, l := range p.logins {
		u, err := p.user(l.id)
		if err != nil {
			return nil, err
		}
		for _, group := range u.Groups {
			if slices.Contains(l.given, group) {
				continue
			}
			if err := p.group(group); err != nil {
				return nil, err
			}
			if err := p.members(group, nil); err != nil {
				return nil, err
			}
			p.tasks = append(p.tasks, &leaveTask{p: p, id: l.id, group: group})
		}
	}
	return p, nil
}

// user returns the working copy of a user's record.
func (p *Plan) user(id auth.Identity) (*User, error) {
	if u := p.users[id]; u != nil {
		return u, nil
	}
	u, err := p.state.User(id)
	p.users[id] = &u
	return &u, err
}

// group loads the working copy of a group's record.
func (p *Plan) group(name string) error {
	if _, loaded := p.groups[name]; loaded {
		return nil
	}
	g, known, err := p.state.Group(name)
	p.groups[name] = nil
	if known {
		p.groups[name] = &g
	}
	return err
}

// members loads the working copies of the records of a group's members, and of those it is to
// have.
func (p *Plan) members(group string, wanted []string) error {
	var known []string
	if g := p.groups[group]; g != nil {
		known = g.Members
	}
	for _, address := range slices.Concat(known, wanted) {
		if _, err := p.user(identity(address)); err != nil {
			return err
		}
	}
	return nil
}

// doubt forgets the answers of those whose group changes. What the answers said of it does not
// hold any more: should the backend give one of them again, it must not be passed over.
func (p *Plan) doubt(members []string) (ops []store.Op) {
	for _, address := range members {
		id := identity(address)
		if u := p.users[id]; u != nil && u.Hash != (Hash{}) {
			u.Hash = Hash{}
			ops = append(ops, p.state.putUser(id, u))
		}
	}
	return ops
}

// Next returns the next step and what must be durable before it is carried out; false when
// nothing is left to do.
func (p *Plan) Next() (s Step, before []store.Op, ok bool) {
	for ; p.at < len(p.tasks); p.at++ {
		if s, ok = p.tasks[p.at].next(); ok {
			before = p.tasks[p.at].before()
			if !p.begun {
				p.begun = true
				before = append(before, p.unhash()...)
			}
			return s, before, true
		}
	}
	return Step{}, nil, false
}

// unhash forgets the answers that were carried out last: should this plan stop halfway, and
// the backend give one of them again, it must not be taken for carried out.
func (p *Plan) unhash() (ops []store.Op) {
	for _, l := range p.logins {
		if u := p.users[l.id]; u.Hash != (Hash{}) {
			u.Hash = Hash{}
			ops = append(ops, p.state.putUser(l.id, u))
		}
	}
	return ops
}

// Done takes note that the last step was carried out, with what GetMembers gave, and returns
// what to write.
func (p *Plan) Done(members []string) []store.Op { return p.tasks[p.at].done(members) }

// Refuse takes note that the server does not take the last step; the plan goes on with those
// that do not need it. It is false for a step that nobody misses.
func (p *Plan) Refuse() (missed bool) {
	if missed = p.tasks[p.at].skip(); missed {
		p.refused++
	}
	return missed
}

// Refused is how many steps were refused that are missed.
func (p *Plan) Refused() int { return p.refused }

// Finish returns what to write when no step is left. Answers of which something was refused
// are not remembered, so that the next login tries again; nor are those that a later answer of
// the plan has overruled.
func (p *Plan) Finish() (ops []store.Op) {
	for _, l := range p.logins {
		u := p.users[l.id]
		hash, old := u.Hash, len(u.Groups)
		for _, group := range l.given {
			if g := p.groups[group]; g != nil {
				u.Groups = with(u.Groups, group)
			}
		}
		if p.refused == 0 {
			u.Hash = l.hash
		}
		if u.Hash != hash || len(u.Groups) != old {
			ops = append(ops, p.state.putUser(l.id, u))
		}
	}
	for _, id := range p.forgotten {
		if p.refused == 0 {
			u := p.users[id]
			u.Groups, u.Hash = without(u.Groups, p.removed), Hash{}
			ops = append(ops, p.state.putUser(id, u))
		}
	}
	return ops
}

// with returns a sorted list with a text added.
func with(list []string, text string) []string {
	i, found := slices.BinarySearch(list, text)
	if found {
		return list
	}
	return slices.Insert(slices.Clone(list), i, text)
}

// without returns a list without a text.
func without(list []string, text string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(t string) bool { return t == text })
}

// member is the step that adds an address to a group or takes it out.
func (p *Plan) member(c Command, address, group string) Step {
	id := identity(address)
	return Step{Command: c, User: id.User, Host: id.Domain, Group: group, Home: p.state.Domain}
}

// identity is whom an address names.
func identity(address string) auth.Identity {
	if i := strings.LastIndexByte(address, '@'); i >= 0 {
		return auth.Identity{User: address[:i], Domain: address[i+1:]}
	}
	return auth.Identity{User: address}
}

// fold is an address in the letter case in which rosters know users.
func fold(address string) string { return Login(identity(address)).String() }
