package roster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"postern/internal/auth"
	"postern/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a store in memory.
type memory struct {
	mu   sync.Mutex
	m    map[string][]byte
	fail func() error // nil, or asked before each change
	runs int          // changes
}

func newMemory() *memory { return &memory{m: map[string][]byte{}} }

func (s *memory) Get(key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.m[string(key)]
	if !ok {
		return nil, store.ErrNotFound
	}
	return bytes.Clone(v), nil
}

func (s *memory) Scan(prefix []byte, fn func(key, value []byte) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(s.m)) {
		if strings.HasPrefix(k, string(prefix)) && !fn([]byte(k), s.m[k]) {
			break
		}
	}
	return nil
}

func (s *memory) Apply(ops []store.Op, _ bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(); err != nil {
			return err
		}
	}
	s.runs++
	for _, op := range ops {
		if op.Value == nil {
			delete(s.m, string(op.Key))
		} else {
			s.m[string(op.Key)] = bytes.Clone(op.Value)
		}
	}
	return nil
}

func (s *memory) DeletePrefix(prefix []byte) error {
	maps.DeleteFunc(s.m, func(k string, _ []byte) bool { return strings.HasPrefix(k, string(prefix)) })
	return nil
}

func (s *memory) Close() error { return nil }

// fakeServer is an ejabberd that keeps the results of its commands.
type fakeServer struct {
	steps  []Step
	groups map[string][]string
	names  map[string]string
	fold   map[Command]bool                   // those that take all letter cases of a user for one
	fail   func(s Step) (before, after error) // errors without, and in spite of, the change
}

func newFake() *fakeServer {
	return &fakeServer{groups: map[string][]string{}, names: map[string]string{}}
}

func (f *fakeServer) Close() {}

func (f *fakeServer) Do(_ context.Context, s Step) ([]string, error) {
	f.steps = append(f.steps, s)
	var after error
	if f.fail != nil {
		var before error
		if before, after = f.fail(s); before != nil {
			return nil, before
		}
	}
	member, key := s.User+"@"+s.Host, s.Group+"@"+s.Home
	if f.fold[s.Command] {
		member = strings.ToLower(member)
	}
	switch s.Command {
	case SetVCard:
		f.names[member] = s.Name
	case GetMembers:
		return slices.Clone(f.groups[key]), after
	case UserAdd:
		f.groups[key] = with(f.groups[key], member)
	case UserDel:
		f.groups[key] = without(f.groups[key], member)
	}
	return nil, after
}

var errDown = errors.New("no connection")

// logsIn carries out the answer that a user got, as the actor does.
func logsIn(server Server, s State, f *Filter, user string, document string) error {
	id := Login(auth.Identity{User: user, Domain: s.Domain})
	a, err := Parse([]byte(document), s.Domain)
	if err != nil {
		return err
	}
	a.Hash = HashOf([]byte(document), f)
	known, err := s.User(id)
	if err != nil || known.Hash == a.Hash {
		return err
	}
	w := NewDesired(s, f)
	w.Add(id, a)
	p, err := NewPlan(w)
	if err != nil {
		return err
	}
	_, err = server.Apply(context.Background(), p)
	return err
}

// planFor is the plan for a login.
func planFor(t *testing.T, s State, user string, document string) *Plan {
	t.Helper()
	a, err := Parse([]byte(document), s.Domain)
	if err != nil {
		t.Fatal(err)
	}
	a.Hash = HashOf([]byte(document), &Filter{})
	w := NewDesired(s, &Filter{})
	w.Add(Login(auth.Identity{User: user, Domain: s.Domain}), a)
	p, err := NewPlan(w)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// document writes a roster: "alice=Alice Doe: G, H; bob: G".
func document(accounts string) string {
	var parts []string
	for account := range strings.SplitSeq(accounts, ";") {
		head, groups, _ := strings.Cut(strings.TrimSpace(account), ":")
		uid, name, named := strings.Cut(head, "=")
		if uid == "" {
			continue
		}
		fields := []string{}
		if named {
			fields = append(fields, fmt.Sprintf(`"name":%q`, name))
		}
		list := []string{}
		for g := range strings.SplitSeq(groups, ",") {
			if g = strings.TrimSpace(g); g != "" {
				list = append(list, fmt.Sprintf("%q", g))
			}
		}
		fields = append(fields, `"groups":[`+strings.Join(list, ",")+`]`)
		parts = append(parts, fmt.Sprintf("%q:{%s}", uid, strings.Join(fields, ",")))
	}
	return `{"result":"success","data":{"sharedRoster":{` + strings.Join(parts, ",") + `}}}`
}
