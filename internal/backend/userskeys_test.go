package backend

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/scram"
	"postern/internal/scram/scramtest"
	"postern/internal/unixtime"
)

// keyedUsers makes a users backend with SCRAM keys, on a file with these lines.
func keyedUsers(t *testing.T, lines string) (b *users, path string) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "users")
	write(t, path, lines)
	made, err := NewUsers(UsersOptions{Path: path, Cost: passhash.MinCost, Fold: true, SeedFile: filepath.Join(dir, "seed"),
		Log: func(err error) { t.Error(err) }}, (&direct{}).run)
	if err != nil {
		t.Fatal(err)
	}
	b = made.(*users)
	t.Cleanup(func() { b.Close() })
	return b, path
}

// proofOf is the proof of a user's password.
func proofOf(t *testing.T, b *users, user, password string) (*scram.Proof, *scramtest.Client) {
	t.Helper()
	who := auth.Identity{User: user, Domain: "dom.example"}
	s, now := scram.NewSealer(), unixtime.At(time.Now())
	c := &scramtest.Client{Mechanism: "SCRAM-SHA-256", User: user, Password: password}
	client := &scram.Client{ID: who, Mechanism: c.Mechanism, Salt: b.keys.seed.Salt(who)}
	challenge, state, err := s.Begin(client, c.First(), now)
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.Open(client, state, now)
	if err != nil {
		t.Fatal(err)
	}
	p, err := e.Finish(c.Final(challenge), "")
	if err != nil {
		t.Fatal(err)
	}
	return p, c
}

// proves asks about a proof.
func proves(t *testing.T, b *users, user, password string) Class {
	t.Helper()
	p, c := proofOf(t, b, user, password)
	r := b.Ask(t.Context(), Query{Op: auth.OpAuth, User: user, Domain: "dom.example", Proof: p})
	if (r.Class == Accepted) != (len(r.Body) > 0) || len(r.Body) > 0 && string(r.Body) != c.Signature {
		t.Errorf("%s: %v with %q", user, r.Class, r.Body)
	}
	return r.Class
}

func (u *users) must(t *testing.T, op auth.Operation, user, password string, want Class) {
	t.Helper()
	if r := u.Ask(t.Context(), Query{Op: op, User: user, Domain: "dom.example", Secret: auth.NewSecret(password)}); r.Class != want {
		t.Errorf("%v of %s: %v, %v; want %v", op, user, r.Class, r.Err, want)
	}
}

// missing counts the users without keys.
func (u *users) missing(t *testing.T) int {
	t.Helper()
	n, err := u.Keyless("dom.example")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestUserKeys: keys are made with a new password, and at a login with the right one; those of a former password are
// none, by whatever means it was changed.
func TestUserKeys(t *testing.T) {
	b, path := keyedUsers(t, "# a comment\nJoe@dom.example:"+hashed(t, "one")+"\nann@dom.example:"+hashed(t, "two")+"\nx@other.example:"+hashed(t, "x"))
	if n := b.missing(t); n != 2 {
		t.Errorf("%d users have no keys", n)
	}
	if c := proves(t, b, "joe", "one"); c != Unsure {
		t.Errorf("without keys: %v", c)
	}
	b.must(t, auth.OpAuth, "joe", "wrong", Refused)
	b.must(t, auth.OpAuth, "nobody", "one", Refused)
	b.must(t, auth.OpAuth, "joe", "one", Accepted)
	b.must(t, auth.OpAuth, "ann", "two", Accepted)
	b.must(t, auth.OpTryRegister, "new", "three", Accepted)
	b.must(t, auth.OpSetPass, "ann", "four", Accepted) // before what was learnt of her is written
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		user, password string
		want           Class
	}{
		{"joe", "one", Accepted}, {"JOE", "one", Accepted}, {"joe", "two", Refused}, {"ann", "two", Refused}, {"ann", "four", Accepted},
		{"new", "three", Accepted}, {"nobody", "one", Refused},
	} {
		if got := proves(t, b, c.user, c.password); got != c.want {
			t.Errorf("%s with %s: %v, want %v", c.user, c.password, got, c.want)
		}
	}
	if n := b.missing(t); n != 0 {
		t.Errorf("%d users have no keys", n)
	}
	text := read(t, path)
	if broken := BrokenLines([]byte(text)); len(broken) > 0 || !strings.Contains(text, "# a comment\n") || strings.Count(text, keysMark) != 3 {
		t.Errorf("%v\n%s", broken, text)
	}

	write(t, path, strings.Replace(text, "Joe@dom.example:", "Joe@dom.example:"+hashed(t, "five")+"\n#", 1)) // by another program
	if c := proves(t, b, "joe", "one"); c != Unsure || b.missing(t) != 1 {
		t.Errorf("the keys of a former password: %v, %d missing", c, b.missing(t))
	}
	b.must(t, auth.OpRemoveUser, "joe", "", Accepted)
	if text := read(t, path); strings.Contains(text, "#scram Joe@") {
		t.Errorf("the keys of a removed user stay:\n%s", text)
	}
}

// read returns a file.
func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestUserKeysOfManyLogins: what is learnt of several users is written together.
func TestUserKeysOfManyLogins(t *testing.T) {
	var lines strings.Builder
	names := []string{"a", "b", "c", "d"}
	for _, name := range names {
		lines.WriteString(name + "@dom.example:" + hashed(t, "one") + "\n")
	}
	b, path := keyedUsers(t, strings.TrimSuffix(lines.String(), "\n"))
	for _, name := range names {
		b.must(t, auth.OpAuth, name, "one", Accepted)
	}
	_ = b.Close()
	if n := b.missing(t); n != 0 {
		t.Errorf("%d users have no keys", n)
	}
	if broken := BrokenLines([]byte(read(t, path))); len(broken) > 0 {
		t.Error(broken)
	}
	b.must(t, auth.OpAuth, "a", "one", Accepted) // after the end nothing is learnt, nor needed
}

// TestKeysLines: a line that is no line of keys is a comment.
func TestKeysLines(t *testing.T) {
	keys, err := scram.Derive("x", scram.Salt{})
	if err != nil {
		t.Fatal(err)
	}
	line := keysLine(id("a:b"), "hash", keys)
	got, k, ok := parseKeysLine(line)
	if !ok || got != id("a:b") || k.tag != hashTag("hash") || k.keys.Text() != keys.Text() {
		t.Errorf("%q: %v, %+v, %t", line, got, k, ok)
	}
	for _, bad := range []string{"", "#scram", "#scram \n", "# scram joe@x:y:z", line[1:], line[:len(line)-4], "#scram @dom.example:a:" + keys.Text()} {
		if _, _, ok := parseKeysLine(bad); ok {
			t.Errorf("%q is taken for keys", bad)
		}
	}
}

// TestSeed: a seed is made once, for its owner alone.
func TestSeed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "seed")
	first, err := OpenSeed(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenSeed(path)
	if err != nil || *again != *first || *first == (scram.Seed{}) {
		t.Errorf("another seed: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := makeSeed(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("made twice: %v", err)
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
		t.Errorf("left over: %v, %v", files, err)
	}
	write(t, path, "short")
	if _, err := OpenSeed(path); err == nil {
		t.Error("a damaged seed is used")
	}
	b, err := NewUsers(UsersOptions{Path: filepath.Join(t.TempDir(), "users"), SeedFile: path}, (&direct{}).run)
	if err != nil {
		t.Fatal("a damaged seed ends all logins:", err)
	}
	if _, err := b.(Keyed).Keyless("dom.example"); err == nil {
		t.Error("no seed, but no user without keys")
	}
	if r := b.Ask(context.Background(), Query{Op: auth.OpIsUser, User: "joe", Domain: "dom.example"}); r.Class != Refused {
		t.Errorf("%v", r)
	}
}
