package actors

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"postern/internal/config"
)

// TestKick: ejabberd has to end a user's sessions when the password or the account was changed, if the
// roster block says so, and one that fails keeps no other from it.
func TestKick(t *testing.T) {
	asked := make(chan string, 16)
	ejabberd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked <- r.URL.Path + " " + string(body)
		if strings.Contains(string(body), "bob") {
			http.Error(w, "no", http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, "2")
	}))
	defer ejabberd.Close()
	roster := &config.Roster{Kind: config.RosterEjabberd, API: ejabberd.URL, CutSessions: true, Window: time.Second, Timeout: 10 * time.Second}
	r := newRig(t, func(s *setup) { s.cfg.Domains[0].Roster = roster })
	forget := func(user string) {
		t.Helper()
		if err := r.ForgetUser(context.Background(), joeOf(user)); err != nil {
			t.Fatal(err)
		}
	}
	for _, user := range []string{"bob", "joe"} {
		forget(user)
		want := fmt.Sprintf("/kick_user {\"host\":\"dom.example\",\"user\":%q}", user)
		select {
		case got := <-asked:
			if got != want {
				t.Errorf("asked %s, want %s", got, want)
			}
		case <-time.After(timeout):
			t.Fatal("nothing was asked for " + user)
		}
	}
	eventually(t, "the failure in the log", func() bool { return strings.Contains(r.log.String(), "sessions could not be ended") })
	r.reload(func(c *config.Config) {
		stays := *roster
		stays.CutSessions = false
		c.Domains[0].Roster = &stays
	})
	forget("joe")
	r.stop()
	select {
	case got := <-asked:
		t.Errorf("asked %s, though sessions stay", got)
	default:
	}
}
