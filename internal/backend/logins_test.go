package backend

import (
	"strings"
	"testing"
)

// TestExpandLogin: a rule is expanded in one pass, whatever braces there are.
func TestExpandLogin(t *testing.T) {
	for _, rule := range []string{
		"", "{user}", "{domain}", "x", "{user}@{domain}", "a{user}b{domain}c{user}", "{", "{{user}}", "{user", "}{user}{", "{User}", "{user}{user}",
	} {
		for _, user := range []string{"joe", "{domain}", "{user}", ""} {
			want := strings.NewReplacer("{user}", user, "{domain}", "example.org").Replace(rule)
			if got := ExpandLogin(rule, user, "example.org"); got != want {
				t.Errorf("%q of %q is %q, want %q", rule, user, got, want)
			}
		}
	}
}
