package daemon

import (
	"fmt"
	"net/http"
	"os"
	"syscall"
	"testing"

	"postern/cmd/e2e/harness"
)

// A run without the store learns things that the store then lacks: a password that was refused in
// it is not accepted afterwards, not even in an outage of the backend.
func TestStoreMissesARun(t *testing.T) {
	for name, c := range map[string]struct {
		between bool
		want    string
	}{"a run without the store": {true, "0\n"}, "none": {false, "1\n"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := harness.NewWebApp(t, harness.Always(http.StatusOK, harness.JSONYes))
			stored := func(storage string) string {
				return fmt.Sprintf("backend \"json\" \"app\" { url = %q }\ndomain \"dom.example\" {\n"+
					"  backends = [backend.json.app]\n  cache {\n    storage = %q\n    bcrypt_cost = 4\n  }\n}\n", app.URL, storage)
			}
			dir := t.TempDir()
			r := &harness.Restartable{T: t, Config: harness.ConfigFile(t, dir, harness.OneList+stored("disk"))}
			storage := func(storage string) {
				r.Meanwhile(func() {
					text := fmt.Sprintf("data_dir = %q\n", dir) + harness.OneList + stored(storage)
					if err := os.WriteFile(r.Config, []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				})
			}
			if got := r.Ask(harness.JoeLine); got != "1\n" {
				t.Fatalf("answered %q", got)
			}
			r.Remembers("joe@dom.example")
			if c.between {
				storage("memory")
				app.Becomes(harness.Always(http.StatusOK, harness.JSONNo))
				if got := r.Ask(harness.JoeLine); got != "0\n" {
					t.Errorf("with another password at the backend: answered %q", got)
				}
				storage("disk")
			} else {
				r.Meanwhile(func() {})
			}
			app.Becomes(harness.AppDown)
			if got := r.Ask(harness.JoeLine); got != c.want {
				t.Errorf("with the backend away: answered %q, want %q", got, c.want)
			}
			if code := r.Server.Stop(syscall.SIGTERM); code != 0 {
				t.Errorf("exit status %d", code)
			}
		})
	}
}
