package main

import (
	"fmt"
	"net/http"
	"os"
	"syscall"
	"testing"
)

// A run that keeps nothing on disk learns what the store then misses: a password that was refused
// in it does not get in afterwards, whatever happens to the backend.
func TestStoreMissesARun(t *testing.T) {
	for name, c := range map[string]struct {
		between bool
		want    string
	}{"a run without the store": {true, "0\n"}, "none": {false, "1\n"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := newWebApp(t, always(http.StatusOK, jsonYes))
			stored := func(storage string) string {
				return fmt.Sprintf("backend \"json\" \"app\" { url = %q }\ndomain \"dom.example\" {\n"+
					"  backends = [backend.json.app]\n  cache {\n    storage = %q\n    bcrypt_cost = 4\n  }\n}\n", app.URL, storage)
			}
			dir := t.TempDir()
			r := &restartable{t: t, config: configFile(t, dir, oneList+stored("disk"))}
			storage := func(storage string) {
				r.meanwhile(func() {
					text := fmt.Sprintf("data_dir = %q\n", dir) + oneList + stored(storage)
					if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				})
			}
			if got := r.ask(joeLine); got != "1\n" {
				t.Fatalf("answered %q", got)
			}
			r.remembers("joe@dom.example")
			if c.between {
				storage("memory")
				app.becomes(always(http.StatusOK, jsonNo))
				if got := r.ask(joeLine); got != "0\n" {
					t.Errorf("with another password at the backend: answered %q", got)
				}
				storage("disk")
			} else {
				r.meanwhile(func() {})
			}
			app.becomes(appDown)
			if got := r.ask(joeLine); got != c.want {
				t.Errorf("with the backend away: answered %q, want %q", got, c.want)
			}
			if code := r.s.stop(syscall.SIGTERM); code != 0 {
				t.Errorf("exit status %d", code)
			}
		})
	}
}
