package daemon

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// TestCacheKey: with a key, a password that is known on disk is answered after a restart without bcrypt,
// though the backend is down; under another key it is not known. A key beside the store is refused.
func TestCacheKey(t *testing.T) {
	dir, keys := t.TempDir(), t.TempDir()
	key, other := filepath.Join(keys, "cache.key"), filepath.Join(keys, "other.key")
	harness.WriteFile(t, key, strings.Repeat("5a", 32)+"\n")
	harness.WriteFile(t, other, strings.Repeat("a5", 32)+"\n")
	harness.WriteFile(t, filepath.Join(dir, "beside.key"), strings.Repeat("5a", 32))
	app := harness.NewWebApp(t, harness.Always(http.StatusOK, harness.JSONYes))
	config := func(key string) string {
		return harness.ConfigFile(t, dir, harness.OneList+harness.MetricsBlock+fmt.Sprintf("backend \"json\" \"app\" { url = %q }\n"+
			"domain \"dom.example\" {\n  backends = [backend.json.app]\n  cache {\n    key = file(%q)\n  }\n}\n", app.URL, key))
	}
	r := &harness.Restartable{T: t, Config: config(key)}
	if got := r.Ask(harness.JoeLine); got != "1\n" {
		t.Fatalf("answered %q", got)
	}
	r.Remembers("joe@dom.example")
	app.Becomes(harness.AppDown)
	for _, c := range []struct{ key, want string }{{key, "1\n"}, {other, "0\n"}, {key, "1\n"}} {
		r.Meanwhile(func() { r.Config = config(c.key) })
		if got := r.Ask(harness.JoeLine); got != c.want {
			t.Errorf("after a restart with %s: answered %q, want %q", filepath.Base(c.key), got, c.want)
		}
		r.Running().Metrics().Want(`cache_compares_total{domain="dom.example"}`, "0", `cache_hashes_total{domain="dom.example"}`, "0")
	}
	beside := config(filepath.Join(dir, "beside.key"))
	if got := harness.Command(t, "", "config", "check", beside); got.Code == 0 || !strings.Contains(got.Out+got.Err, "in data_dir") {
		t.Errorf("a key beside the store: %+v", got)
	}
}
