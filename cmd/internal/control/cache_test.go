package control

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"postern/internal/auth"
	"postern/internal/cache"
)

// What keeps a password from being used is shown.
func TestCacheShowsDoubts(t *testing.T) {
	for _, v := range []cache.Verifier{{}, {Stale: true}, {Stale: true, Suspect: true}} {
		shown := DescribeUser(auth.Identity{User: "joe", Domain: "dom.example"}, &cache.User{Verifiers: []cache.Verifier{v}})
		text, err := json.Marshal(shown)
		if want := fmt.Sprintf(`"stale":%t,"suspect":%t`, v.Stale, v.Suspect); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s, %v; want %s", text, err, want)
		}
	}
}
