package roster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
)

// maxSlug is the length of the readable part of an identifier, in bytes.
const maxSlug = 40

// GroupID is the identifier of a group on servers that restrict them: ejabberd from 24.06 on takes the
// localparts of addresses only, in lower case, and shows the group's label to users. It is the name
// where that is such a text, and otherwise a readable part of it and of its hash.
func GroupID(name string) string {
	if plain(name) {
		return name
	}
	slug := strings.Map(func(r rune) rune {
		switch {
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		case plain(string(r)):
			return r
		}
		return ' '
	}, name)
	slug = strings.Join(strings.Fields(slug), "-")
	sum := sha256.Sum256([]byte(name))
	return strings.TrimLeft(slug[:min(len(slug), maxSlug)]+"-", "-") + hex.EncodeToString(sum[:6])
}

// plain reports whether each version of ejabberd takes a name as it is.
func plain(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") == ""
}

// prober is an executor that can ask which commands the server has.
type prober interface {
	Executor
	// knows reports whether the server has a command. It carries out nothing.
	knows(ctx context.Context, command string) (bool, error)
}

// newerCommand is a command of the servers that restrict identifiers, and of no others. ejabberd 24.06
// added it.
const newerCommand = "srg_set_info"

// identified is an executor that gives each group an identifier that the server takes. Groups of
// before, with the name as identifier, keep it while they have members.
type identified struct {
	prober
	probed, strict bool
	ids            map[[2]string]string // by host and name
	made           map[[2]string]bool   // whether srg_create has been carried out with the identifier
}

func newIdentified(x prober) Executor {
	return &identified{prober: x, ids: map[[2]string]string{}, made: map[[2]string]bool{}}
}

// Do implements Executor.
func (i *identified) Do(ctx context.Context, s Step) ([]string, error) {
	if s.Group == "" || plain(s.Group) {
		return i.prober.Do(ctx, s)
	}
	if err := i.probe(ctx); err != nil || !i.strict {
		return i.pass(ctx, s, err)
	}
	key := [2]string{s.Home, s.Group}
	if err := i.identify(ctx, key); err != nil {
		return nil, err
	}
	s.ID = i.ids[key]
	if s.Command == UserAdd && s.ID != s.Group && !i.made[key] {
		if err := i.create(ctx, s); err != nil {
			return nil, err
		}
	}
	members, err := i.prober.Do(ctx, s)
	if err == nil && s.Command == Create {
		i.made[key] = true
	}
	if err == nil && s.Command == GetMembers && len(members) == 0 {
		delete(i.ids, key) // an emptied group of before gets another identifier
	}
	return members, err
}

// pass carries out a step with the name as identifier, unless there is an error.
func (i *identified) pass(ctx context.Context, s Step, err error) ([]string, error) {
	if err != nil {
		return nil, err
	}
	return i.prober.Do(ctx, s)
}

// probe asks once whether the server restricts identifiers.
func (i *identified) probe(ctx context.Context) (err error) {
	if !i.probed {
		i.strict, err = i.knows(ctx, newerCommand)
		i.probed = err == nil
	}
	return err
}

// identify finds out the identifier of a group.
func (i *identified) identify(ctx context.Context, key [2]string) error {
	if i.ids[key] != "" {
		return nil
	}
	members, err := i.prober.Do(ctx, Step{Command: GetMembers, Group: key[1], Home: key[0]})
	if err != nil && !errors.Is(err, ErrRefused) {
		return err
	}
	if i.ids[key] = GroupID(key[1]); len(members) > 0 {
		i.ids[key] = key[1]
	}
	return nil
}

// create makes the group of a step that adds a member: the known state may be from before the group
// had its identifier.
func (i *identified) create(ctx context.Context, s Step) error {
	_, err := i.prober.Do(ctx, Step{Command: Create, Group: s.Group, Home: s.Home, ID: s.ID})
	i.made[[2]string{s.Home, s.Group}] = err == nil
	return err
}
