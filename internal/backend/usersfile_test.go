package backend

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
)

func openUsers(t testing.TB, path string) *UsersFile {
	t.Helper()
	f, err := OpenUsersFile(path, false)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func names(t testing.TB, f *UsersFile) string {
	t.Helper()
	list, err := f.List()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, id := range list {
		out = append(out, id.String())
	}
	return strings.Join(out, " ")
}

func id(user string) auth.Identity { return auth.Identity{User: user, Domain: "dom.example"} }

func TestUsersFileChanges(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "users")
	one, two := hashed(t, "one"), hashed(t, "two")
	f, other := openUsers(t, path), openUsers(t, path)
	if got := names(t, f); got != "" {
		t.Errorf("a file that is not there holds %q", got)
	}
	for _, step := range []struct {
		name string
		err  error
		want error
	}{
		{"set before add", f.Set(ctx, id("joe"), one, nil), ErrUnknownUser},
		{"remove before add", f.Remove(ctx, id("joe")), ErrUnknownUser},
		{"add", f.Add(ctx, id("joe"), one, nil), nil},
		{"add again", other.Add(ctx, id("joe"), two, nil), ErrExists},
		{"add another", other.Add(ctx, id("a:b"), one, nil), nil},
		{"set", f.Set(ctx, id("joe"), two, nil), nil},
		{"bad hash", f.Set(ctx, id("joe"), "secret", nil), nil},
		{"comment", f.Add(ctx, id("#joe"), one, nil), ErrName},
		{"space", f.Add(ctx, id(" joe"), one, nil), ErrName},
		{"colon", f.Add(ctx, auth.Identity{User: "joe", Domain: "::1"}, one, nil), ErrName},
	} {
		if step.name == "bad hash" {
			if step.err == nil {
				t.Error("a text that is no hash was written")
			}
		} else if !errors.Is(step.err, step.want) {
			t.Errorf("%s: %v, want %v", step.name, step.err, step.want)
		}
	}
	for _, file := range []*UsersFile{f, other, openUsers(t, path)} {
		if got := names(t, file); got != "a:b@dom.example joe@dom.example" {
			t.Errorf("holds %q", got)
		}
	}
	if m, err := f.lookup(id("joe")); err != nil || !m.known || m.entry.hash != two {
		t.Errorf("joe: %+v, %v", m, err)
	}
	groupsStay(t, f, other, one)
	if err := f.Remove(ctx, id("joe")); err != nil {
		t.Error(err)
	}
	if got := names(t, other); got != "a:b@dom.example" {
		t.Errorf("after removal: %q", got)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	if len(entries) != 2 { // the file and its lock
		t.Errorf("left behind: %v", entries)
	}
}

// groupsStay: groups are set, survive a change of the password, and are read by other processes; names that a line
// cannot hold change nothing.
func groupsStay(t *testing.T, f, other *UsersFile, hash string) {
	ctx := t.Context()
	if err := errors.Join(f.SetGroups(ctx, id("joe"), []string{"mail", "the staff"}), f.Set(ctx, id("joe"), hash, nil)); err != nil {
		t.Error(err)
	}
	for _, bad := range [][]string{{""}, {" mail"}, {"a,b"}, {"a:b"}, {"a$b"}, {"a\nb"}, {"mail", "\xff"}} {
		if err := f.SetGroups(ctx, id("joe"), bad); !errors.Is(err, ErrName) {
			t.Errorf("groups %q: %v", bad, err)
		}
	}
	if err := f.SetGroups(ctx, id("ann"), []string{"mail"}); !errors.Is(err, ErrUnknownUser) {
		t.Errorf("groups of an unknown user: %v", err)
	}
	if groups, err := other.Groups(id("joe")); err != nil || strings.Join(groups, ",") != "mail,the staff" {
		t.Errorf("joe is in %q, %v", groups, err)
	}
	if m, err := other.lookup(id("joe")); err != nil || m.entry.hash != hash {
		t.Errorf("joe: %+v, %v", m, err)
	}
	if err := f.SetGroups(ctx, id("joe"), nil); err != nil {
		t.Error(err)
	}
	if groups, err := other.Groups(id("joe")); err != nil || groups != nil {
		t.Errorf("joe is in %q, %v", groups, err)
	}
	if _, err := other.Groups(id("ann")); !errors.Is(err, ErrUnknownUser) {
		t.Errorf("groups of an unknown user: %v", err)
	}
}

// TestUsersFileKeepsLines: comments, blank and broken lines, other users' spelling and
// CRs survive a change; only the user's own line changes.
func TestUsersFileKeepsLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	one := hashed(t, "one")
	write(t, path, "# staff\r\n\njoe@DOM.example.:"+one+"\r\nann@Dom.Example:"+one+"\r\n???\nlast@dom.example:"+one)
	f := openUsers(t, path)
	if err := f.Set(t.Context(), id("joe"), one, nil); err != nil {
		t.Fatal(err)
	}
	want := "# staff\r\n\nann@Dom.Example:" + one + "\r\n???\nlast@dom.example:" + one + "\njoe@dom.example:" + one + "\n"
	if got, _ := os.ReadFile(path); string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if m, err := f.lookup(id("unknown")); m.known || !errors.Is(err, ErrBrokenFile) || !strings.Contains(err.Error(), "line 4") {
		t.Errorf("an unknown user beside a broken line: %+v, %v", m, err)
	}
}

func TestParseUser(t *testing.T) {
	good := hashed(t, "x")
	for line, want := range map[string]string{
		"joe@dom.example:" + good:          "joe@dom.example",
		"a:b@dom.example:" + good + "\r\n": "a:b@dom.example",
		"a b@DOM.example.:" + good:         "a b@dom.example",
		"":                                 "@", "   ": "@", "# joe@dom.example:x": "@", "#": "@",
		"joe":                                "no '@'",
		"joe:" + good:                        "no '@'",
		"joe@dom.example":                    "no ':'",
		"@dom.example:" + good:               "empty user",
		"joe@:" + good:                       "empty domain",
		" joe@dom.example:" + good:           "white space",
		"joe @dom.example:" + good:           "white space",
		"joe@dom.example: " + good:           "not a usable",
		"joe@dom.example:" + good + " ":      "not a usable",
		"joe@dom.example:":                   "not a usable",
		"joe@dom.example:" + canary:          "not a usable",
		"joe@a@b:" + good:                    "'@' in domain",
		"joe@dom.example:$2b$31$" + good[7:]: "cost 31",

		"joe@dom.example:" + good + ":groups=mail,the staff":  "joe@dom.example",
		"joe@dom.example:sha256:" + good + ":groups=mail\r\n": "joe@dom.example",
		"joe@dom.example:" + good + ":":                       "unknown field",
		"joe@dom.example:" + good + ":mail":                   "unknown field",
		"joe@dom.example:" + good + ":groups=":                "group is empty",
		"joe@dom.example:" + good + ":groups=mail, staff":     "white space",
		"joe@dom.example:" + good + ":groups=mail:" + canary:  "a group with",
		"joe@dom.example:" + good + ":groups=mail$" + canary:  "not a usable",
	} {
		got, entry, err := parseUser(line)
		hash := strings.TrimPrefix(entry.hash, "sha256:")
		switch {
		case err != nil:
			if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), canary) || hash != "" {
				t.Errorf("%q: %v, want %q", line, err, want)
			}
		case got.String() != want || (hash == good) != (got.User != ""):
			t.Errorf("%q: %s, want %s", line, got, want)
		}
	}
}

// TestUsersFileNoticesChanges changes the file under a reader in every way: renamed over,
// rewritten in place with the same length, removed, made again.
func TestUsersFileNoticesChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	line := func(user string) string { return user + "@dom.example:" + hashed(t, user) + "\n" }
	f := openUsers(t, path)
	past := time.Now().Add(-time.Hour)
	expect := func(how, want string) {
		t.Helper()
		for range 2 {
			if got := names(t, f); got != want {
				t.Errorf("%s: %q, want %q", how, got, want)
			}
		}
	}
	write(t, path, line("joe"))
	expect("created", "joe@dom.example")
	// A recent time stamp may belong to several changes.
	soon := time.Now().Add(time.Hour)
	touch(t, path, soon)
	expect("touched", "joe@dom.example")
	write(t, path, line("ann"))
	touch(t, path, soon)
	expect("same length, same time stamp", "ann@dom.example")
	touch(t, path, past)
	expect("older", "ann@dom.example")
	write(t, path+".new", line("bob"))
	touch(t, path+".new", past)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	expect("another file of the same length and time", "bob@dom.example")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect("removed", "")
	write(t, path, line("joe")+line("ann"))
	expect("made again", "ann@dom.example joe@dom.example")
}

func touch(t *testing.T, path string, at time.Time) {
	t.Helper()
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// TestUsersFileIsNotReread: a file that has not changed costs a stat, no reading.
func TestUsersFileIsNotReread(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	write(t, path, "joe@dom.example:"+hashed(t, "x")+"\n")
	touch(t, path, time.Now().Add(-time.Hour))
	f := openUsers(t, path)
	first, err := f.table()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := f.table(); err != nil || again != first {
		t.Errorf("read again without a change: %v", err)
	}
}

// TestUsersFold: a name finds the user of that spelling first, else the only one that differs by letter
// case, and is added in lower case.
func TestUsersFold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	one := hashed(t, "one")
	if err := os.WriteFile(path, []byte("Dave@Example.NET:"+one+"\nBob@dom.example:"+one+"\nbob@dom.example:"+one+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := OpenUsersFile(path, true)
	if err != nil {
		t.Fatal(err)
	}
	for asked, want := range map[auth.Identity]usersMatch{
		{User: "dave", Domain: "example.net"}: {id: auth.Identity{User: "Dave", Domain: "example.net"}, known: true},
		{User: "Dave", Domain: "example.net"}: {id: auth.Identity{User: "Dave", Domain: "example.net"}, known: true},
		{User: "Bob", Domain: "dom.example"}:  {id: id("Bob"), known: true, twins: true},
		{User: "bob", Domain: "dom.example"}:  {id: id("bob"), known: true, twins: true},
		{User: "BOB", Domain: "dom.example"}:  {id: id("bob"), twins: true},
		{User: "Eve", Domain: "dom.example"}:  {id: id("eve")},
	} {
		got, err := f.lookup(asked)
		if got.entry = (usersEntry{}); err != nil || got != want {
			t.Errorf("%v: %+v, %v; want %+v", asked, got, err, want)
		}
	}
	ctx := t.Context()
	for _, name := range []string{"DAVE@example.net", "BOB@dom.example", "bob@dom.example"} {
		user, domain, _ := strings.Cut(name, "@")
		if err := f.Add(ctx, auth.Identity{User: user, Domain: domain}, one, nil); !errors.Is(err, ErrExists) {
			t.Errorf("added %s: %v", name, err)
		}
	}
	if err := errors.Join(f.Add(ctx, id("Newbie"), one, nil), f.Remove(ctx, auth.Identity{User: "DAVE", Domain: "example.net"})); err != nil {
		t.Error(err)
	}
	if got := names(t, f); got != "Bob@dom.example bob@dom.example newbie@dom.example" {
		t.Errorf("holds %s", got)
	}
	if list, err := f.Twins(); err != nil || len(list) != 2 || list[0] != id("Bob") || list[1] != id("bob") {
		t.Errorf("twins: %v, %v", list, err)
	}
}

// FuzzUsersFile: no content panics, every user listed can be found, errors quote
// nothing, and adding a user keeps all others.
func FuzzUsersFile(f *testing.F) {
	good := hashed(f, "x")
	f.Add([]byte("joe@dom.example:" + good + "\n# x\n\n"))
	f.Add([]byte("joe@dom.example:" + good + ":groups=mail,staff\nann@dom.example:" + good + ":groups="))
	f.Add([]byte("a:b@c:" + good + "\r\na:b@C.:" + good))
	f.Add([]byte("joe@dom.example:" + canary + "\n" + canary))
	f.Add([]byte("\xff@\x00:\n@:\n:@"))
	f.Fuzz(func(t *testing.T, data []byte) {
		before := parseUsers(data)
		broken := []error{before.unowned}
		for _, entry := range before.users {
			broken = append(broken, entry.err)
		}
		for _, err := range broken {
			if err != nil && (!errors.Is(err, ErrBrokenFile) || strings.Contains(err.Error(), canary)) {
				t.Fatalf("%v", err)
			}
		}
		added := id("fuzz")
		rest, had := withoutUser(data, added)
		if _, known := before.users[added]; known != (had > 0) {
			t.Fatalf("known %v, lines %d", known, had)
		}
		after := parseUsers(append(rest, added.String()+":"+good+"\n"...))
		if after.users[added] != (usersEntry{hash: good}) {
			t.Fatal("the added user is not there")
		}
		delete(before.users, added)
		delete(after.users, added)
		if len(before.users) != len(after.users) || (before.unowned == nil) != (after.unowned == nil) {
			t.Fatalf("others changed: %d and %d users", len(before.users), len(after.users))
		}
		for who, entry := range before.users {
			if other := after.users[who]; other.hash != entry.hash || other.groups != entry.groups || (other.err == nil) != (entry.err == nil) {
				t.Fatal("another user changed")
			}
			entry.keys = nil // of another line
			if again, err := parseEntry(entry.text()); entry.err == nil && (err != nil || again != entry) {
				t.Fatalf("written as %q, it is %+v, %v", entry.text(), again, err)
			}
			if who == (auth.Identity{}) {
				t.Fatal("a user without a name")
			}
		}
	})
}
