package backend_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
)

// A web application that accepts one password, then fails. The login page of the failing
// application is an outage, not a refusal.
func ExampleNewJSON() {
	failing := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if failing {
			fmt.Fprint(w, "<html>Please log in</html>")
			return
		}
		var question struct{ Username, Password string }
		_ = json.NewDecoder(r.Body).Decode(&question)
		fmt.Fprintf(w, `{"success": %t}`, question.Username == "alice@example.org" && question.Password == "right")
	}))
	defer server.Close()
	b, err := backend.NewJSON(backend.HTTPOptions{URL: server.URL, Timeout: 5 * time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close()
	ask := func(password string) backend.Result {
		return b.Ask(context.Background(), backend.Query{
			Op: auth.OpAuth, User: "alice", Domain: "example.org", Secret: auth.NewSecret(password),
		})
	}
	fmt.Println(ask("right").Class)
	fmt.Println(ask("wrong").Class)
	failing = true
	r := ask("right")
	fmt.Println(r.Class, r.Err)
	// Output:
	// accepted
	// refused
	// outage HTTP 200 with an HTML page instead of the API's JSON: the application failed, or something in front of it answered (a proxy, a firewall, a login or maintenance page)
}

// The first backend does not have the user and the second is down: the chain cannot refuse.
func ExampleChain() {
	chain := backend.NewChain(auth.OpAuth)
	chain.Add(backend.Result{Class: backend.Refused, Absent: true})
	chain.Add(backend.Result{Class: backend.Outage, Err: errors.New("no answer in time")})
	fmt.Println(chain.Result().Class)
	// Output: outage
}

// A breaker of one failure keeps a backend from being asked for a second, then lets one probe pass.
func ExampleBreaker() {
	b := backend.NewBreaker(backend.BreakerOptions{Failures: 1, Cooldown: time.Second})
	now := time.Now()
	b.Report(backend.Outage, "", now)
	fmt.Println(b.Allow("joe", now), b.Allow("joe", now.Add(time.Second)), b.Allow("ann", now.Add(time.Second)))
	// Output: false true false
}
