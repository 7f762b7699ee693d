package auth_test

import (
	"fmt"

	"postern/internal/auth"
)

func ExampleNewIdentity() {
	id, err := auth.NewIdentity("Joe", "XN--BCHER-KVA.Example.")
	fmt.Println(id, err)
	_, err = auth.NewIdentity("joe@other.example", "dom.example")
	fmt.Println(err)
	// Output:
	// Joe@bücher.example <nil>
	// malformed request: '@' in user
}

func ExampleSecret() {
	req := auth.Request{Op: auth.OpAuth, User: "joe", Secret: auth.NewSecret("hunter2")}
	fmt.Println(req.Secret, req.Secret.Len())
	// Output: [redacted] 7
}
