package auth

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCheckAccount(t *testing.T) {
	for user, want := range map[string][2]bool{"joe": {true, true}, "a:b": {false, true}, "erin erin": {true, true}, " joe": {false, false}, "a\u3000b": {true, true}, "joe\u3000": {false, false}} {
		for i, unescape := range []bool{false, true} {
			if err := CheckAccount(user, unescape); (err == nil) != want[i] {
				t.Errorf("%q, unescape %t: %v", user, unescape, err)
			}
		}
	}
}

func TestUnescapeUser(t *testing.T) {
	for user, want := range map[string]string{
		`kevin\20k`: "kevin k", `o\27brien`: "o'brien", `a\5c20b`: `a\20b`, `a\3Ab\3a`: "a:b:", `\22\26\2f\3c\3e`: `"&/<>`,
		`joe`: "joe", `a\b\`: `a\b\`, `a\00b`: `a\00b`, `\2`: `\2`,
	} {
		if got, err := UnescapeUser(user); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", user, got, err, want)
		}
	}
	for _, user := range []string{`joe\40other.example`, `\20joe`, `joe\20`, ``} {
		if got, err := UnescapeUser(user); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %q, %v", user, got, err)
		}
	}
}

// TestEscapeUser: what EscapeUser writes has no character that a JID cannot have, and is read back.
func TestEscapeUser(t *testing.T) {
	for user, want := range map[string]string{
		"kevin k": `kevin\20k`, "o'brien": `o\27brien`, `a\20b`: `a\5c20b`, `a\2Fb`: `a\5c2Fb`, `a\b\`: `a\b\`, "a:b:": `a\3ab\3a`,
		`"&/<>`: `\22\26\2f\3c\3e`, "joe": "joe", "josé 😀": `josé\20😀`, `a\5c`: `a\5c5c`, `\\20`: `\\5c20`,
	} {
		if got := EscapeUser(user); got != want {
			t.Errorf("%s: %s, want %s", user, got, want)
		}
		if back, err := UnescapeUser(want); err != nil || back != user {
			t.Errorf("%s is read as %s, %v", want, back, err)
		}
	}
}

func TestCheckNames(t *testing.T) {
	for _, c := range []struct {
		name         string
		text         string
		user, domain bool
	}{
		{"plain", "joe", true, true},
		{"dots", "first.last", true, true},
		{"not ASCII", "josé李😀", true, true},
		{"longest", strings.Repeat("x", 1023), true, true},
		{"too long", strings.Repeat("x", 1024), false, false},
		{"longest in bytes", strings.Repeat("é", 511) + "x", true, true},
		{"too long in bytes", strings.Repeat("é", 512), false, false},
		{"empty", "", false, false},
		{"space", "a b", true, false},
		{"slash", "a/b", true, false},
		{"at", "a@b", false, false},
		{"colon, percent, quote", `a:%"b`, true, true},
		{"NUL", "a\x00b", false, false},
		{"tab", "a\tb", false, false},
		{"LF", "a\nb", false, false},
		{"unit separator", "a\x1fb", false, false},
		{"DEL", "a\x7fb", false, false},
		{"C1", "a\u0085b", false, false},
		{"last C1", "a\u009fb", false, false},
		{"after C1", "a\u00a0b", true, true},
		{"line separator", "a\u2028b", false, false},
		{"paragraph separator", "a\u2029b", false, false},
		{"not UTF-8", "a\xffb", false, false},
		{"overlong form", "\xc0\xaf", false, false},
		{"surrogate", "\xed\xa0\x80", false, false},
		{"beyond Unicode", "\xf4\x90\x80\x80", false, false},
	} {
		for _, k := range []struct {
			what  string
			check func(string) error
			ok    bool
		}{{"user", CheckUser, c.user}, {"domain", CheckDomain, c.domain}} {
			err := k.check(c.text)
			if (err == nil) != k.ok {
				t.Errorf("%s as %s: %v", c.name, k.what, err)
			}
			if err != nil && (!errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), k.what)) {
				t.Errorf("%s as %s: error %q is not clear", c.name, k.what, err)
			}
		}
	}
}

func TestCheckSecret(t *testing.T) {
	for _, c := range []struct {
		name, text string
		ok         bool
	}{
		{"plain", "secret", true},
		{"one byte", "x", true},
		{"colons, spaces, controls", " a:b\r\n\t\x7f ", true},
		{"not ASCII", "pä€🔑", true},
		{"longest", strings.Repeat("x", 8192), true},
		{"too long", strings.Repeat("x", 8193), false},
		{"empty", "", false},
		{"NUL", "marker\x00", false},
		{"not UTF-8", "marker\xff", false},
	} {
		err := CheckSecret(c.text)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && strings.Contains(err.Error(), "marker") {
			t.Errorf("%s: the error contains the password: %v", c.name, err)
		}
	}
}

func TestFoldDomain(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"example.org", "example.org"},
		{"EXAMPLE.Org", "example.org"},
		{"example.org.", "example.org"},
		{"bücher.example", "bücher.example"},
		{"BÜCHER.Example.", "bücher.example"},
		{"xn--bcher-kva.example", "bücher.example"},
		{"XN--BCHER-KVA.EXAMPLE", "bücher.example"},
		{"bu\u0308cher.example", "bücher.example"},
		{"bücher。example", "bücher.example"},
		{"ｅｘａｍｐｌｅ．org", "example.org"},
		{"faß.example", "faß.example"},
		{"my_host.Example", "my_host.example"},
		{"-host.example", "-host.example"},
		{"-HOST.example", "-host.example"},
		{"r3---sn.Example", "r3---sn.example"},
		{"[2001:DB8::1]", "[2001:db8::1]"},
		{"localhost", "localhost"},
		{"", ""},
		{".", ""},
		{"..", ""},
		{"example.org..", ""},
		{".example.org", ""},
		{"example..org", ""},
		{"xn--.org", ""},
		{"xn--example-.org", ""},
		{"xn--a.org", ""},
		{"a b", ""},
		{"a@b", ""},
		{"a／b.org", ""}, // folds to a slash
		{"a＠b.org", ""},
		{"℀.org", ""},
		{"a\xff.org", ""},
		{strings.Repeat("ﷺ.", 200), ""}, // longer once folded than a name may be
	} {
		got, err := FoldDomain(c.in)
		if got != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("FoldDomain(%q) = %q, %v; want %q", c.in, got, err, c.want)
		}
	}
}

func TestFoldDomainCostsNothingWhenFolded(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { _, _ = FoldDomain("chat.example.org") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestNewIdentity(t *testing.T) {
	id, err := NewIdentity("Joe", "DOM.Example.")
	if err != nil || id != (Identity{"Joe", "dom.example"}) || id.String() != "Joe@dom.example" {
		t.Errorf("%v, %v: the domain is folded, the user is not", id, err)
	}
	for _, c := range [][2]string{{"", "dom"}, {"a@b", "dom"}, {"joe", ""}, {"joe", "a@b"}, {"joe", "a..b"}} {
		if id, err := NewIdentity(c[0], c[1]); err == nil || id != (Identity{}) {
			t.Errorf("%q: %v, %v", c, id, err)
		}
	}
}

// FuzzFoldDomain: what folds is valid and folds to itself.
func FuzzFoldDomain(f *testing.F) {
	for _, s := range []string{"EXAMPLE.org.", "xn--bcher-kva.example", "bücher。x", "a／b", "[::1]", "faß.de", "xn--.x", "İ", "a\u00adb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, domain string) {
		folded, err := FoldDomain(domain)
		if err != nil {
			if folded != "" {
				t.Fatalf("%q with %v", folded, err)
			}
			return
		}
		if again, err := FoldDomain(folded); err != nil || again != folded {
			t.Fatalf("%q folds to %q, and that to %q, %v", domain, folded, again, err)
		}
		if CheckDomain(folded) != nil || !utf8.ValidString(folded) {
			t.Fatalf("%q folds to the invalid %q", domain, folded)
		}
	})
}

func TestFoldUser(t *testing.T) {
	for in, want := range map[string]string{
		"Vera": "vera", "vera": "vera", "ÄRGER": "ärger", "straße": "straße", "STRASSE": "strasse",
		"ΣΊΣΥΦΟΣ": "σίσυφοσ", "ｖera": "ｖera", "a.b": "a.b", "": "",
		"İVAN": "İvan", "\u212aATE": "kate", "joſe": "joſe",
	} {
		if got := FoldUser(in); got != want {
			t.Errorf("FoldUser(%q) = %q, want %q", in, got, want)
		}
	}
}
