package roster

import (
	"fmt"
	"strings"
	"testing"

	"postern/internal/auth"
)

// BenchmarkAnswer reads and folds the answer of a user in a group of 500.
func BenchmarkAnswer(b *testing.B) {
	var accounts []string
	for i := range 500 {
		accounts = append(accounts, fmt.Sprintf("user%d=Name of user %d:Team, Sports, All of us", i, i))
	}
	doc := []byte(document(strings.Join(accounts, ";")))
	state := State{newMemory(), "d.example"}
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		a, err := Parse(doc, "d.example")
		if err != nil {
			b.Fatal(err)
		}
		NewDesired(state, &Filter{}).Add(auth.Identity{User: "user1", Domain: "d.example"}, a)
	}
}
