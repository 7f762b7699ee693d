package backend

import (
	"testing"

	"postern/internal/auth"
)

// TestAccount: spellings, and domains that the backend does not look at, lead to one account.
func TestAccount(t *testing.T) {
	cloud, err := NewNextcloud(NextcloudOptions{HTTPOptions: HTTPOptions{URL: "https://cloud.example"}})
	if err != nil {
		t.Fatal(err)
	}
	app, err := NewJSXC(JSXCOptions{HTTPOptions: HTTPOptions{URL: "https://cloud.example"}, Secret: auth.NewSecret("secret")})
	if err != nil {
		t.Fatal(err)
	}
	web, err := NewJSON(HTTPOptions{URL: "https://app.example"})
	if err != nil {
		t.Fatal(err)
	}
	both := []string{"{user}@{domain}", "{user}"}
	for _, c := range []struct {
		b         Backend
		q         Query
		confirmed string
		want      string
	}{
		{cloud, Query{User: "Alice", Domain: "a.example"}, "", "alice"},
		{cloud, Query{User: "ALICE", Domain: "invented.example"}, "", "alice"},
		{cloud, Query{User: "alice", Domain: "a.example", Logins: both[:1]}, "", "alice@a.example"},
		{cloud, Query{User: "alice", Domain: "a.example", Logins: both}, "", "alice"},
		{cloud, Query{User: "alice.smith", Domain: "a.example"}, "Alice", "alice"},
		{app, Query{User: "Alice", Domain: "invented.example"}, "", "alice"},
		{app, Query{User: "alice.smith", Domain: "a.example"}, "Alice", "alice"},
		{app, Query{User: " a\u00adli ce\u200b\u3000", Domain: "a.example"}, "", "alice"}, // for some directories they are one name
		{app, Query{User: "ａＬｉｃé", Domain: "a.example"}, "", "alice"},
		{web, Query{User: "Alice", Domain: "a.example"}, "", "alice@a.example"},
		{web, Query{User: "alice", Domain: "b.example"}, "alice@b.example", "alice@b.example"},
		{web, Query{User: "alice", Domain: "b.example"}, "Alice", "alice@b.example"},
	} {
		if got := Account(c.b, c.q, c.confirmed); got != c.want {
			t.Errorf("%T, %+v, %q: %q, want %q", c.b, c.q, c.confirmed, got, c.want)
		}
	}
}
