package registry

import (
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/internal/auth"
	"postern/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const canary = "s3cret-canary"

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func newRegistry(t *testing.T) (*Registry, store.Store) {
	t.Helper()
	p, err := store.OpenPebble(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return New(p), p
}

func example() Record {
	return Record{
		Domain: "example.org", Kind: KindJSXC, URL: "https://cloud.example.org/api?x=1", Secret: auth.NewSecret(canary),
		AuthDomain: "cloud.example.org", Contact: "admin@example.org",
	}
}
