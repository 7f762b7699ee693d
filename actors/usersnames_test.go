package actors

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/auth/passhash"
	"postern/internal/backend"
	"postern/internal/config"
)

// TestNamesInUsersFile: letter case makes no second account in a users file, and where two accounts
// exist that differ by it only, each spelling has the password of its own.
func TestNamesInUsersFile(t *testing.T) {
	const d = "dom.example"
	path := filepath.Join(t.TempDir(), "users")
	var lines strings.Builder
	for name, password := range map[string]string{"Bob": "one", "bob": "two", "Dave": "three"} {
		hash, err := passhash.New(password, passhash.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		lines.WriteString(name + "@" + d + ":" + hash + "\n")
	}
	if err := os.WriteFile(path, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := rigConfig()
	cfg.Backends[0].FoldCase = true
	cfg.Domains[0].Limit.UserRefusals = 0
	r, err := Start(Options{
		Config: cfg, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
		Backend: func(_ config.Backend, hashing backend.Hashing) (backend.Backend, error) {
			return backend.NewUsers(backend.UsersOptions{Path: path, Cost: passhash.MinCost, Fold: true}, hashing)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	block := listenerBlock("generic")
	block.Changes = true
	peer := &rig{t: t, Broker: r}
	address := peer.listen(block)
	for range 2 { // asked, and from memory
		for _, c := range []struct{ line, want string }{
			{"auth:Bob:" + d + ":one", "1"}, {"auth:bob:" + d + ":one", "0"},
			{"auth:bob:" + d + ":two", "1"}, {"auth:Bob:" + d + ":two", "0"},
			{"auth:dave:" + d + ":three", "1"}, {"auth:DAVE:" + d + ":three", "1"}, {"isuser:dAVE:" + d, "1"},
			{"tryregister:DAVE:" + d + ":other", "0"}, {"auth:dave:" + d + ":other", "0"},
		} {
			if got := strings.TrimSpace(peer.exchange(address, c.line+"\n")); got != c.want {
				t.Errorf("%s is answered %s, want %s", c.line, got, c.want)
			}
		}
	}
	for _, c := range []struct{ line, want string }{
		{"tryregister:Newbie:" + d + ":mine", "1"}, {"tryregister:newbie:" + d + ":evil", "0"},
		{"auth:newbie:" + d + ":mine", "1"}, {"auth:newbie:" + d + ":evil", "0"},
		{"setpass:NEWBIE:" + d + ":next", "1"}, {"auth:newbie:" + d + ":mine", "0"}, {"auth:Newbie:" + d + ":next", "1"},
	} {
		if got := strings.TrimSpace(peer.exchange(address, c.line+"\n")); got != c.want {
			t.Errorf("%s is answered %s, want %s", c.line, got, c.want)
		}
	}
}
