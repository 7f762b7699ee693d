package token

import (
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"postern/internal/auth"
)

func loadVectors[T any](tb testing.TB, file string) []T {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		tb.Fatal(err)
	}
	var vectors []T
	if err := json.Unmarshal(text, &vectors); err != nil {
		tb.Fatal(err)
	}
	if len(vectors) < 50 {
		tb.Fatalf("only %d vectors in %s", len(vectors), file)
	}
	return vectors
}

func secrets(texts ...string) []auth.Secret {
	var all []auth.Secret
	for _, text := range texts {
		all = append(all, auth.NewSecret(text))
	}
	return all
}

// TestSignaturesAreWiped: the buffers that are used again keep no signature.
func TestSignaturesAreWiped(t *testing.T) {
	m := newKeyedMAC(sha256.New, []byte("key"))
	s := m.begin()
	sum := s.sum()
	if slices.Max(sum) == 0 {
		t.Fatal("no signature")
	}
	m.end(s)
	if slices.Max(sum) != 0 {
		t.Error("the signature is left in the buffer")
	}
}

func TestConcurrentUse(t *testing.T) {
	j, m := mustJSXC(t, "s", "t"), mustTOTP(t, testSeed, "s", "t")
	id, now := auth.Identity{User: "joe", Domain: "dom.example"}, time.Unix(1700000000, 0)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 200 {
				timed, err1 := j.Issue(id, now)
				once, err2 := m.Issue(id, now)
				if err1 != nil || err2 != nil || j.Verify(id, timed.Reveal(), now) != Valid {
					t.Errorf("%d: a token for a time is not verified: %v, %v", i, err1, err2)
				}
				if status, _ := m.Verify(id, once.Reveal(), now); status != Valid {
					t.Errorf("%d: a one-time token is %v", i, status)
				}
			}
		})
	}
	wg.Wait()
}

func TestStatusWords(t *testing.T) {
	for s, want := range map[Status]string{NotToken: "not a token", Valid: "valid", Expired: "expired", Invalid: "invalid"} {
		if s.String() != want {
			t.Errorf("%d is %q, want %q", s, s, want)
		}
	}
}
