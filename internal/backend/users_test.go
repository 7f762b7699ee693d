package backend

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/internal/auth"
	"postern/internal/auth/passhash"
)

// hashed is a cheap hash of a password.
func hashed(t testing.TB, password string) string {
	t.Helper()
	hash, err := passhash.New(password, passhash.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

// newUsers makes a users backend of a file with these lines.
func newUsers(t *testing.T, lines string, hashing Hashing) (b Backend, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "users")
	if lines != "" {
		if err := os.WriteFile(path, []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := NewUsers(UsersOptions{Path: path, Cost: passhash.MinCost}, hashing)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b, path
}

func TestUsersOperations(t *testing.T) {
	other := canary + "2"
	type step struct {
		op           auth.Operation
		user, secret string
		want         Class
		known        bool
		hashes       int // bcrypt computations it costs
	}
	steps := []step{
		{auth.OpAuth, "joe", canary, Accepted, true, 1},
		{auth.OpAuth, "joe", other, Refused, true, 1},
		{auth.OpAuth, "Joe", canary, Refused, false, 1}, // names are not folded, and cost the same
		{auth.OpAuth, "ann", canary, Refused, false, 1},
		{auth.OpAuth, "joe", "", Refused, false, 0},
		{auth.OpAuth, "joe", canary + "\x00", Refused, false, 0},
		{auth.OpAuth, "j@e", canary, Refused, false, 0},
		{auth.OpIsUser, "joe", "", Accepted, true, 0},
		{auth.OpIsUser, "ann", "", Refused, false, 0},
		{auth.OpSetPass, "ann", other, Refused, false, 0},
		{auth.OpTryRegister, "joe", other, Refused, true, 0},
		{auth.OpAuth, "joe", canary, Accepted, true, 1},
		{auth.OpSetPass, "joe", "", Refused, false, 0},
		{auth.OpSetPass, "joe", other, Accepted, true, 1},
		{auth.OpAuth, "joe", canary, Refused, true, 1},
		{auth.OpAuth, "joe", other, Accepted, true, 1},
		{auth.OpTryRegister, "ann", canary, Accepted, true, 1},
		{auth.OpAuth, "ann", canary, Accepted, true, 1},
		{auth.OpTryRegister, "#x", canary, Refused, false, 1},
		{auth.OpRemoveUser3, "ann", other, Refused, true, 1},
		{auth.OpIsUser, "ann", "", Accepted, true, 0},
		{auth.OpRemoveUser3, "ann", canary, Accepted, true, 1},
		{auth.OpIsUser, "ann", "", Refused, false, 0},
		{auth.OpRemoveUser3, "ann", canary, Refused, false, 1},
		{auth.OpRemoveUser, "ann", "", Refused, false, 0},
		{auth.OpRemoveUser, "joe", "", Accepted, true, 0},
		{auth.OpAuth, "joe", other, Refused, false, 1},
		{auth.OpRoster, "joe", "", Unsupported, false, 0},
		{auth.OpCertAuth, "joe", "x", Unsupported, false, 0},
		{auth.OpNone, "joe", "", Unsupported, false, 0},
	}
	count := &direct{}
	b, _ := newUsers(t, "# staff\njoe@dom.example:"+hashed(t, canary)+"\n", count.run)
	for i, s := range steps {
		count.runs = 0
		r := askAs(t, b, s.op, s.user, s.secret)
		if r.Class != s.want || r.Known != s.known || count.runs != s.hashes {
			t.Errorf("step %d, %s of %q: %s (%v), known %v, %d hashes; want %s, %v, %d",
				i, s.op, s.user, r.Class, r.Err, r.Known, count.runs, s.want, s.known, s.hashes)
		}
	}
}

func TestUsersDomainIsFolded(t *testing.T) {
	b, _ := newUsers(t, "joe@xn--bcher-kva.Example:"+hashed(t, canary)+"\n", (&direct{}).run)
	for _, domain := range []string{"bücher.example", "BÜCHER.example.", "xn--bcher-kva.example"} {
		r := checked(t, b.Ask(t.Context(), Query{Op: auth.OpAuth, User: "joe", Domain: domain, Secret: auth.NewSecret(canary)}))
		if r.Class != Accepted {
			t.Errorf("%s: %s, %v", domain, r.Class, r.Err)
		}
	}
}

// TestDummyHash: bcrypt computes it in full, so that the answer for an unknown user is not faster.
func TestDummyHash(t *testing.T) {
	b, _ := newUsers(t, "", (&direct{}).run)
	u := b.(*users)
	if err := passhash.Check(u.dummy); err != nil || !strings.HasPrefix(u.dummy, "$2b$04$") {
		t.Errorf("%q: %v", u.dummy, err)
	}
	if passhash.Match(u.dummy, canary) {
		t.Error("the dummy hash has a password")
	}
	u.dummy = hashed(t, canary)
	if r := askAs(t, b, auth.OpAuth, "ann", canary); r.Class != Refused {
		t.Errorf("an unknown user whose password fits the dummy hash: %s", r.Class)
	}
}

// TestUsersCostAlike: each login costs one computation of bcrypt, for every user and every length
// of the password and of the guess.
func TestUsersCostAlike(t *testing.T) {
	short, long := strings.Repeat("p", 72), strings.Repeat("p", 73)
	sum := sha256.Sum256([]byte(long))
	inner := base64.StdEncoding.EncodeToString(sum[:]) // what bcrypt is given for long, and no password
	b, _ := newUsers(t, "short@dom.example:"+hashed(t, short)+"\nlong@dom.example:"+hashed(t, long)+"\n", (&direct{}).run)
	computed := 0
	b.(*users).match = func(hash, password string) bool {
		if strings.HasPrefix(hash, "sha256:") == (len(password) > 72) { // or Match does not compute
			computed++
		}
		return passhash.Match(hash, password)
	}
	for _, user := range []string{"short", "long", "nobody"} {
		for _, guess := range []string{"p", short, long, long + "p", inner} {
			computed = 0
			want := answer(user == "short" && guess == short || user == "long" && guess == long, user != "nobody")
			r := askAs(t, b, auth.OpAuth, user, guess)
			if r.Class != want.Class || r.Known != want.Known || r.Absent != want.Absent || computed != 1 {
				t.Errorf("%s, %d bytes: %+v after %d computations, want %+v", user, len(guess), r, computed, want)
			}
		}
	}
}

// TestUsersBusy: without time to hash there is neither a yes nor a no.
func TestUsersBusy(t *testing.T) {
	busy := errors.New("busy")
	never := func(context.Context, auth.Identity, func()) error { return busy }
	b, _ := newUsers(t, "joe@dom.example:"+hashed(t, canary)+"\n", never)
	for _, c := range []struct {
		op   auth.Operation
		user string
	}{
		{auth.OpAuth, "joe"}, {auth.OpAuth, "ann"}, {auth.OpSetPass, "joe"}, {auth.OpTryRegister, "ann"}, {auth.OpRemoveUser3, "joe"},
	} {
		if r := askAs(t, b, c.op, c.user, canary); r.Class != Outage || !errors.Is(r.Err, busy) {
			t.Errorf("%s of %s: %s, %v", c.op, c.user, r.Class, r.Err)
		}
	}
	if r := ask(t, b, auth.OpIsUser); r.Class != Accepted {
		t.Errorf("isuser needs no hash: %s", r.Class)
	}
}

// TestUsersNoHash: a password without a hash changes no user.
func TestUsersNoHash(t *testing.T) {
	b, path := newUsers(t, "joe@dom.example:"+hashed(t, canary)+"\n", func(context.Context, auth.Identity, func()) error { return nil })
	before, _ := os.ReadFile(path)
	for op, user := range map[auth.Operation]string{auth.OpSetPass: "joe", auth.OpTryRegister: "ann"} {
		if r := askAs(t, b, op, user, canary); r.Class != Outage {
			t.Errorf("%s: %s, %v", op, r.Class, r.Err)
		}
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the file is %q, %v", after, err)
	}
}

// TestUsersSameCost: for users without a line a hash is compared of a cost that lines have, whatever
// the configuration says; a name always has the same one, and all costs occur.
func TestUsersSameCost(t *testing.T) {
	costly, err := passhash.New(canary, passhash.MinCost+1)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := newUsers(t, "joe@dom.example:"+hashed(t, canary)+"\nann@dom.example:"+costly+"\n", (&direct{}).run)
	u := b.(*users)
	u.dummy = "$2b$12" + u.dummy[6:] // as bcrypt_cost = 12
	var compared string
	u.match = func(hash, _ string) bool { compared = hash; return false }
	cost := func(user string) string {
		if r := askAs(t, b, auth.OpAuth, user, canary); r.Class != Refused {
			t.Fatalf("%s: %s, %v", user, r.Class, r.Err)
		}
		return passhash.Cost(compared)
	}
	costs := map[string]int{}
	for i := range 200 {
		name := fmt.Sprint("unknown", i)
		first := cost(name)
		costs[first]++
		if again := cost(name); again != first {
			t.Errorf("%s: cost %s, then %s", name, first, again)
		}
	}
	if len(costs) != 2 || costs["04"] < 50 || costs["05"] < 50 {
		t.Errorf("costs of unknown users: %v", costs)
	}
}

// TestUsersLateHash: a Hashing that gives up may still run the function later; its
// outcome must not count. (The race detector watches.)
func TestUsersLateHash(t *testing.T) {
	done := make(chan struct{})
	late := func(_ context.Context, _ auth.Identity, f func()) error {
		go func() { defer close(done); f() }()
		return context.DeadlineExceeded
	}
	b, _ := newUsers(t, "joe@dom.example:"+hashed(t, canary)+"\n", late)
	if r := ask(t, b, auth.OpAuth); r.Class != Outage {
		t.Errorf("%s, %v", r.Class, r.Err)
	}
	<-done
}

// TestUsersBrokenLines: good lines work, and a broken one refuses no user.
func TestUsersBrokenLines(t *testing.T) {
	good := hashed(t, canary)
	b, path := newUsers(t, "joe@dom.example:"+good+"\n"+"bad@dom.example:$1$"+canary+"\n", (&direct{}).run)
	expect := func(user string, want Class, says string) {
		t.Helper()
		r := askAs(t, b, auth.OpAuth, user, canary)
		if r.Class != want || says != "" && (r.Err == nil || !strings.Contains(r.Err.Error(), says)) {
			t.Errorf("%s: %s, %v; want %s with %q", user, r.Class, r.Err, want, says)
		}
	}
	expect("joe", Accepted, "")
	expect("bad", Misconfigured, "line 2")
	expect("ann", Refused, "") // line 2 has an identity
	write(t, path, "# c\n\njoe@dom.example:"+good+"\n"+canary+":"+canary+"\n")
	expect("joe", Accepted, "")
	expect("ann", Misconfigured, "line 4")
	write(t, path, "joe@dom.example:"+good+"\njoe@DOM.example:"+hashed(t, "other")+"\n")
	expect("joe", Misconfigured, "line 2")
	expect("ann", Refused, "")
	write(t, path, "")
	expect("joe", Refused, "")
}

// write replaces a file in place, as an editor would.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestUsersUnreadable: an unreadable file is not a refusal, and its previous content is not used.
func TestUsersUnreadable(t *testing.T) {
	b, path := newUsers(t, "joe@dom.example:"+hashed(t, canary)+"\n", (&direct{}).run)
	if r := ask(t, b, auth.OpAuth); r.Class != Accepted {
		t.Fatalf("%s, %v", r.Class, r.Err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil { // root may read any file, but no directory
		t.Fatal(err)
	}
	for _, op := range []auth.Operation{auth.OpAuth, auth.OpIsUser, auth.OpSetPass, auth.OpTryRegister, auth.OpRemoveUser} {
		if r := ask(t, b, op); r.Class != Outage {
			t.Errorf("%s: %s, %v", op, r.Class, r.Err)
		}
	}
	if _, err := NewUsers(UsersOptions{Path: path}, (&direct{}).run); err == nil {
		t.Error("NewUsers takes a directory")
	}
	if _, err := NewUsers(UsersOptions{Path: path + "x", Cost: passhash.MaxCost + 1}, (&direct{}).run); err == nil {
		t.Error("NewUsers takes any cost")
	}
	if r := failure(&os.PathError{Op: "open", Path: path, Err: os.ErrPermission}); r.Class != Misconfigured {
		t.Errorf("no permission: %s", r.Class)
	}
}
