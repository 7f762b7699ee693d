package token

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
)

func mustJSXC(tb testing.TB, texts ...string) *JSXC {
	tb.Helper()
	j, err := NewJSXC(secrets(texts...))
	if err != nil {
		tb.Fatal(err)
	}
	return j
}

type jsxcVector struct {
	Name       string `json:"name"`
	User       string `json:"user"`
	Domain     string `json:"domain"`
	Secret     string `json:"secret"`
	Now        int64  `json:"now"`
	Token      string `json:"token"`
	Expect     bool   `json:"expect"`
	Reason     string `json:"reason"`
	DecodedHex string `json:"decoded_hex"`
}

// jsxcReasons are the statuses that fit the reason of a refusal.
var jsxcReasons = map[string][]Status{
	"": {Valid}, "expired": {Expired}, "mac": {Invalid}, "name": {Invalid}, "key id": {Invalid},
	"key id or mac": {Invalid}, "expired or mac": {Expired, Invalid}, "version": {NotToken}, "alphabet": {NotToken},
	"length": {NotToken}, "not canonical": {NotToken}, "alphabet or mac": {NotToken},
}

func TestJSXCVectors(t *testing.T) {
	for _, v := range loadVectors[jsxcVector](t, "token_jsxc.json") {
		j, err := NewJSXC(secrets(v.Secret))
		if v.Secret == "" {
			if err == nil {
				t.Errorf("%s: an empty secret is accepted", v.Name)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		id := auth.Identity{User: v.User, Domain: v.Domain}
		status := j.Verify(id, v.Token, time.Unix(v.Now, 0))
		if (status == Valid) != v.Expect || !slices.Contains(jsxcReasons[v.Reason], status) {
			t.Errorf("%s: %v, want %v %s", v.Name, status, v.Expect, v.Reason)
		}
		if looks := LooksJSXC(v.Token); looks != (status != NotToken) {
			t.Errorf("%s: LooksJSXC is %v, Verify says %v", v.Name, looks, status)
		}
		if status != Valid {
			continue
		}
		raw, _ := decodeJSXC(v.Token)
		if got := hex.EncodeToString(raw[:]); got != v.DecodedHex {
			t.Errorf("%s: decodes to %s, want %s", v.Name, got, v.DecodedHex)
		}
		again, err := j.Issue(id, time.Unix(jsxcExpires(&raw), 0))
		if err != nil || again.Reveal() != v.Token {
			t.Errorf("%s: Issue gives %q, %v; want %q", v.Name, again.Reveal(), err, v.Token)
		}
	}
}

func TestNewJSXCRefuses(t *testing.T) {
	for name, list := range map[string][]auth.Secret{
		"none": nil, "an empty one": secrets(""), "an empty one after another": secrets("marker", ""),
	} {
		j, err := NewJSXC(list)
		if j != nil || !errors.Is(err, ErrSecret) || strings.Contains(err.Error(), "marker") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestJSXCRotation(t *testing.T) {
	id, now := auth.Identity{User: "joe", Domain: "dom.example"}, time.Unix(1700000000, 0)
	old, both, after := mustJSXC(t, "old"), mustJSXC(t, "new", "old"), mustJSXC(t, "new")
	issue := func(j *JSXC) string {
		s, err := j.Issue(id, now)
		if err != nil {
			t.Fatal(err)
		}
		return s.Reveal()
	}
	for _, c := range []struct {
		name  string
		j     *JSXC
		token string
		want  Status
	}{
		{"old secret during the rotation", both, issue(old), Valid},
		{"the first one signs", after, issue(both), Valid},
		{"not the old one", old, issue(both), Invalid},
		{"old secret afterwards", after, issue(old), Invalid},
	} {
		if got := c.j.Verify(id, c.token, now); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestJSXCEqualKeyIDs: two bytes are few; these two secrets share theirs.
func TestJSXCEqualKeyIDs(t *testing.T) {
	seen := map[[2]byte]string{}
	first, second := "", ""
	for i := 0; second == ""; i++ {
		text := "secret" + strings.Repeat("x", i)
		if other, ok := seen[KeyID(auth.NewSecret(text))]; ok {
			first, second = other, text
		}
		seen[KeyID(auth.NewSecret(text))] = text
	}
	id, now := auth.Identity{User: "joe", Domain: "dom.example"}, time.Unix(1700000000, 0)
	token, err := mustJSXC(t, second).Issue(id, now)
	if err != nil {
		t.Fatal(err)
	}
	if got := mustJSXC(t, first, second).Verify(id, token.Reveal(), now); got != Valid {
		t.Errorf("the second secret of one key id: %v", got)
	}
	if got := mustJSXC(t, first).Verify(id, token.Reveal(), now); got != Invalid {
		t.Errorf("another secret of the same key id: %v", got)
	}
}

func TestJSXCLifetime(t *testing.T) {
	j, id := mustJSXC(t, "s"), auth.Identity{User: "joe", Domain: "dom.example"}
	for _, c := range []struct {
		name    string
		expires int64
		now     time.Time
		want    Status
	}{
		{"before", 1000, time.Unix(999, 999), Valid},
		{"the last instant", 1000, time.Unix(1000, 999_999_999), Valid},
		{"after", 1000, time.Unix(1001, 0), Expired},
		{"a clock before 1970", 0, time.Unix(-1, 0), Valid},
		{"the last expiry", 1<<32 - 1, time.Unix(1<<32-1, 0), Valid},
		{"after 2106", 1<<32 - 1, time.Unix(1<<32, 0), Expired},
	} {
		token, err := j.Issue(id, time.Unix(c.expires, 0))
		if err != nil {
			t.Fatal(err)
		}
		if got := j.Verify(id, token.Reveal(), c.now); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		info, err := InspectJSXC(token.Reveal())
		want := Info{KeyID: KeyID(auth.NewSecret("s")), Expires: time.Unix(c.expires, 0).UTC()}
		if err != nil || info != want {
			t.Errorf("%s: %+v, %v; want %+v", c.name, info, err, want)
		}
	}
}

func TestJSXCIssueRefuses(t *testing.T) {
	j, good := mustJSXC(t, "marker"), auth.Identity{User: "joe", Domain: "dom.example"}
	for _, c := range []struct {
		name    string
		id      auth.Identity
		expires int64
		bad     bool
	}{
		{"no user", auth.Identity{Domain: "dom.example"}, 1, true},
		{"no domain", auth.Identity{User: "joe"}, 1, true},
		{"@ in the user", auth.Identity{User: "a@b", Domain: "dom.example"}, 1, true},
		{"@ in the domain", auth.Identity{User: "a", Domain: "b@dom.example"}, 1, true},
		{"before 1970", good, -1, false},
		{"after 2106", good, 1 << 32, false},
	} {
		token, err := j.Issue(c.id, time.Unix(c.expires, 0))
		if err == nil || !token.Empty() || errors.Is(err, auth.ErrMalformed) != c.bad || strings.Contains(err.Error(), "marker") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestJSXCNamesAreChecked: a correct signature does not make up for a name that is
// missing or reads in two ways.
func TestJSXCNamesAreChecked(t *testing.T) {
	j := mustJSXC(t, "s")
	for _, id := range []auth.Identity{{User: "", Domain: "d"}, {User: "u", Domain: ""}, {User: "a@b", Domain: "d"}, {User: "a", Domain: "b@d"}} {
		var raw [jsxcBytes]byte
		copy(raw[jsxcKeyID:], j.keys[0].id[:])
		copy(raw[jsxcExpiry:], "\xff\xff\xff\xff")
		copy(raw[jsxcMAC:jsxcKeyID], j.keys[0].mac.begin().jsxcSum(id, &raw))
		text := base64.NewEncoding(jsxcAlphabet).WithPadding(base64.NoPadding).EncodeToString(raw[:])
		if !j.signed(id, &raw) {
			t.Fatalf("%+v: the forgery is not signed", id)
		}
		if got := j.Verify(id, text, time.Unix(1, 0)); got != Invalid {
			t.Errorf("%+v: %v", id, got)
		}
	}
}

func TestInspectJSXC(t *testing.T) {
	info, err := InspectJSXC("/3ULcArjFg21nfEC-ApFdqAhJWVT/xA") // the vector of version 255
	if err != nil || info.Version != 255 || info.KeyID != [2]byte{0x21, 0x25} || info.Expires.Unix() != 0x6553ff10 {
		t.Errorf("%+v, %v", info, err)
	}
	for _, text := range []string{"", "password", strings.Repeat("l", 31)} {
		if _, err := InspectJSXC(text); !errors.Is(err, ErrFormat) || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestJSXCAlphabet(t *testing.T) {
	for c := range 256 {
		want := strings.IndexByte(jsxcAlphabet, byte(c))
		if got := int(jsxcSextet(byte(c))); got != want && (want >= 0 || got != 255) {
			t.Errorf("%q stands for %d, want %d", byte(c), got, want)
		}
	}
}
