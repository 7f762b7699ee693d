package token_test

import (
	"fmt"
	"time"

	"postern/internal/auth"
	"postern/internal/token"
)

func ExampleJSXC() {
	j, err := token.NewJSXC([]auth.Secret{auth.NewSecret("the API secret")})
	if err != nil {
		panic(err)
	}
	joe := auth.Identity{User: "joe", Domain: "dom.example"}
	expires := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	secret, err := j.Issue(joe, expires)
	if err != nil {
		panic(err)
	}
	fmt.Println(len(secret.Reveal()), j.Verify(joe, secret.Reveal(), expires))
	fmt.Println(j.Verify(joe, secret.Reveal(), expires.Add(time.Second)))
	fmt.Println(j.Verify(auth.Identity{User: "ann", Domain: "dom.example"}, secret.Reveal(), expires))
	fmt.Println(j.Verify(joe, "a password", expires))
	// Output:
	// 31 valid
	// expired
	// invalid
	// not a token
}

// A one-time token is valid once: its nonce is noted before the login is allowed.
func ExampleTOTP() {
	t, err := token.NewTOTP(auth.NewSecret("GEZDGNBVGY3TQOJQ"), []auth.Secret{auth.NewSecret("the token secret")}, token.DefaultNonceDigits)
	if err != nil {
		panic(err)
	}
	joe, now := auth.Identity{User: "joe", Domain: "dom.example"}, time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	secret, err := t.Issue(joe, now)
	if err != nil {
		panic(err)
	}
	replay := token.NewReplay(0)
	for range 2 {
		status, nonce := t.Verify(joe, secret.Reveal(), now)
		first, _ := replay.Use(nonce, now)
		fmt.Println(status, first)
	}
	// Output:
	// valid true
	// valid false
}
