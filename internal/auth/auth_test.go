package auth

import (
	"slices"
	"testing"
)

func TestOperations(t *testing.T) {
	for _, c := range []struct {
		op              Operation
		word            string
		changes, secret bool
	}{
		{OpAuth, "auth", false, true},
		{OpIsUser, "isuser", false, false},
		{OpSetPass, "setpass", true, true},
		{OpTryRegister, "tryregister", true, true},
		{OpRemoveUser, "removeuser", true, false},
		{OpRemoveUser3, "removeuser3", true, true},
		{OpCertAuth, "certauth", false, true},
		{OpRoster, "roster", false, false},
	} {
		if got := ParseOperation([]byte(c.word)); got != c.op {
			t.Errorf("ParseOperation(%q) = %v", c.word, got)
		}
		if c.op.String() != c.word {
			t.Errorf("%d.String() = %q, want %q", c.op, c.op, c.word)
		}
		if c.op.Changes() != c.changes {
			t.Errorf("%v.Changes() = %v", c.op, !c.changes)
		}
		if c.op.NeedsSecret() != c.secret {
			t.Errorf("%v.NeedsSecret() = %v", c.op, !c.secret)
		}
	}
	for _, word := range []string{"", "none", "unknown", "AUTH", "auth ", " auth", "aut", "removeuser33", "auth\x00"} {
		if got := ParseOperation([]byte(word)); got != OpNone {
			t.Errorf("ParseOperation(%q) = %v, want none", word, got)
		}
	}
	if OpNone.Changes() || OpNone.NeedsSecret() || OpNone.String() != "none" || Operation(99).String() != "unknown" {
		t.Error("an operation that is none is taken for one")
	}
}

func TestVerdicts(t *testing.T) {
	var zero Verdict
	for _, c := range []struct {
		v    Verdict
		word string
		exit int
	}{
		{zero, "unavailable", 75}, {Unavailable, "unavailable", 75}, {Allow, "allow", 0}, {Deny, "deny", 1},
		{Unsupported, "unsupported", 1}, {Verdict(99), "unavailable", 75},
	} {
		if c.v.String() != c.word || c.v.ExitCode() != c.exit {
			t.Errorf("verdict %d: %q, exit %d; want %q, %d", c.v, c.v, c.v.ExitCode(), c.word, c.exit)
		}
	}
}

func TestSources(t *testing.T) {
	var words []string
	for s := SourceNone; s <= SourceStore; s++ {
		words = append(words, s.String())
	}
	// Logs and metrics rely on these words.
	want := []string{"none", "token", "hot", "cache", "coalesced", "backend", "grace", "refused-before", "malformed",
		"unknown-domain", "overload", "deadline", "panic", "stopping", "config", "unsupported",
		"draining", "limit-user", "limit-address", "limit-budget", "forbidden", "app-password", "scram", "groups", "store"}
	if !slices.Equal(words, want) {
		t.Errorf("%q\nwant %q", words, want)
	}
	if got := (SourceStore + 1).String(); got != "unknown" {
		t.Errorf("a source without a word is %q", got)
	}
}

func TestRequestCheck(t *testing.T) {
	for _, c := range []struct {
		name string
		req  Request
		ok   bool
	}{
		{"auth", Request{Op: OpAuth, Secret: NewSecret("pw")}, true},
		{"auth without password", Request{Op: OpAuth}, false},
		{"setpass with NUL", Request{Op: OpSetPass, Secret: NewSecret("a\x00")}, false},
		{"isuser needs none", Request{Op: OpIsUser}, true},
		{"a certificate is no password", Request{Op: OpCertAuth, Secret: NewSecret("\xff")}, true},
	} {
		if err := c.req.Check(); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestRequestIdentity(t *testing.T) {
	for _, c := range []struct {
		domain, standard, want string
		ok                     bool
	}{
		{"dom.example", "other.example", "joe@dom.example", true},
		{"", "Other.Example", "joe@other.example", true},
		{"", "", "", false},
	} {
		req := Request{User: "joe", Domain: c.domain}
		id, err := req.Identity(c.standard)
		if (err == nil) != c.ok || c.ok && id.String() != c.want {
			t.Errorf("%q, default %q: %v, %v", c.domain, c.standard, id, err)
		}
	}
}
