package store_test

import (
	"log/slog"
	"testing"

	"postern/internal/store"
	"postern/internal/store/storetest"
)

func TestConform(t *testing.T) {
	p, err := store.OpenPebble(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	storetest.Conform(t, p)
}
