package roster

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"postern/internal/auth"
	"postern/internal/store"
)

// vectorState is a state of xcauth.
type vectorState struct {
	Users map[string]struct {
		Fullname *string  `json:"fullname"`
		Groups   []string `json:"groups"`
		Hash     *string  `json:"responsehash"`
	} `json:"rosterinfo"`
	Groups map[string][]string `json:"rostergroups"`
}

type vector struct {
	Name   string                        `json:"name"`
	Login  struct{ User, Domain string } `json:"login"`
	Before vectorState                   `json:"state_before"`
	After  vectorState                   `json:"state_after"`
	Body   string                        `json:"response_body"`
	Status int                           `json:"http_status"`
	Lists  map[string][]string           `json:"srg_get_members_prints"`
	Fails  bool                          `json:"ejabberdctl_fails"`
	Want   [][]string                    `json:"expect_commands"`
}

// records turns a state of xcauth into ours.
func (v *vectorState) records(t *testing.T, domain string) map[string][]byte {
	s := State{Domain: domain}
	out := map[string][]byte{}
	add := func(op store.Op) { out[string(op.Key)] = op.Value }
	for address, info := range v.Users {
		u := User{Groups: info.Groups}
		if len(u.Groups) == 0 {
			u.Groups = nil
		}
		if info.Fullname != nil {
			u.Named, u.Name = true, *info.Fullname
		}
		if info.Hash != nil {
			if raw, err := hex.DecodeString(*info.Hash); err == nil {
				copy(u.Hash[:], raw)
			} else {
				u.Hash[0] = 'x' // some other answer
			}
		}
		name, host, _ := strings.Cut(address, "@")
		add(s.putUser(auth.Identity{User: name, Domain: host}, &u))
	}
	for key, members := range v.Groups {
		i := strings.LastIndexByte(key, '@')
		if key[i+1:] != domain {
			t.Fatalf("group of another domain: %s", key)
		}
		add(s.putGroup(key[:i], &Group{Members: members}))
	}
	return out
}

// leave removes the users from the groups from which the last commands remove them because of the
// user's own list. xcauth keeps them in its member list, and so never adds them again.
func (v *vectorState) leave(user string, commands [][]string, given string) {
	for _, c := range commands {
		if c[0] == UserDel.String() && c[1]+"@"+c[2] == user && !strings.Contains(given, c[3]) {
			key := c[3] + "@" + c[4]
			v.Groups[key] = without(v.Groups[key], user)
		}
	}
}

// doubt drops the answers of the others in the groups that the commands change. xcauth keeps
// them, and so passes over an answer that would undo the change.
func (v *vectorState) doubt(user string, commands [][]string, before vectorState) {
	for _, c := range commands {
		if c[0] != UserAdd.String() && c[0] != UserDel.String() {
			continue
		}
		who, key := c[1]+"@"+c[2], c[3]+"@"+c[4]
		if slices.Contains(before.Groups[key], who) == slices.Contains(v.Groups[key], who) {
			continue // only to make sure
		}
		for _, member := range slices.Concat(before.Groups[key], v.Groups[key]) {
			if info, known := v.Users[member]; known && member != user {
				info.Hash = nil
				v.Users[member] = info
			}
		}
	}
}

func TestVectors(t *testing.T) {
	data, err := os.ReadFile("testdata/roster.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 40 {
		t.Fatalf("only %d cases", len(vectors))
	}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) { runVector(t, v) })
	}
}

func runVector(t *testing.T, v vector) {
	mem, fake := newMemory(), newFake()
	mem.m = v.Before.records(t, v.Login.Domain)
	for key, list := range v.Lists {
		fake.groups[key] = list
	}
	if v.Fails {
		fake.fail = func(Step) (error, error) { return fmt.Errorf("%w: exit status 1", ErrRefused), nil }
	}
	if v.Status == 200 {
		filter := &Filter{}
		if v.Name == "user-of-other-domain" { // xcauth changes every account
			filter.Foreign = []string{"*"}
			hash := HashOf([]byte(v.Body), filter)
			*v.After.Users[v.Login.User+"@"+v.Login.Domain].Hash = hex.EncodeToString(hash[:])
		}
		_ = logsIn(NewServer(fake), State{mem, v.Login.Domain}, filter, v.Login.User, v.Body)
	}
	got := [][]string{}
	for _, s := range fake.steps {
		got = append(got, s.Args())
	}
	if !equalCommands(got, v.Want) {
		t.Errorf("commands\n%q\nwant\n%q", got, v.Want)
	}
	v.After.leave(v.Login.User+"@"+v.Login.Domain, v.Want, v.Body)
	v.After.doubt(v.Login.User+"@"+v.Login.Domain, v.Want, v.Before)
	if want := v.After.records(t, v.Login.Domain); !sameRecords(mem.m, want) {
		t.Errorf("state\n%q\nwant\n%q", mem.m, want)
	}
}

// equalCommands leaves the order of the members of one group free.
func equalCommands(a, b [][]string) bool {
	return reflect.DeepEqual(runsSorted(a), runsSorted(b))
}

// runsSorted sorts each run of additions or removals of one group.
func runsSorted(commands [][]string) (out []string) {
	for i := 0; i < len(commands); {
		j := i
		var run []string
		for ; j < len(commands) && commands[j][0] == commands[i][0] && len(commands[j]) == 5 && commands[j][0] != SetVCard.String() &&
			commands[j][3] == commands[i][3]; j++ {
			run = append(run, fmt.Sprintf("%q", commands[j]))
		}
		if j == i {
			run, j = []string{fmt.Sprintf("%q", commands[i])}, i+1
		}
		slices.Sort(run)
		out = append(out, run...)
		i = j
	}
	return out
}

// sameRecords compares states; a record that says nothing equals none.
func sameRecords(a, b map[string][]byte) bool {
	trim := func(m map[string][]byte) map[string]string {
		out := map[string]string{}
		for k, v := range m {
			if u, err := decodeUser(v); strings.Contains(k, "\x00user\x00") && err == nil && reflect.DeepEqual(u, User{}) {
				continue
			}
			out[k] = string(v)
		}
		return out
	}
	return reflect.DeepEqual(trim(a), trim(b))
}
