package apppassword

import (
	"fmt"
	"strings"
	"testing"
)

// TestForm: a new secret is seven groups of four letters, and each is another one.
func TestForm(t *testing.T) {
	seen := map[string]bool{}
	count := map[byte]int{}
	for range 1000 {
		text := NewSecret().Show().Reveal()
		if len(text) != 34 || seen[text] {
			t.Fatalf("%q, seen before: %t", text, seen[text])
		}
		seen[text] = true
		for i, group := range strings.Split(text, "-") {
			if len(group) != 4 || strings.Trim(group, alphabet) != "" {
				t.Fatalf("group %d of %q", i, text)
			}
		}
		for i := range len(text) {
			count[text[i]]++
		}
	}
	for _, c := range []byte(alphabet) { // 1217 of each are expected, with a deviation of 34
		if count[c] < 1000 || count[c] > 1450 {
			t.Errorf("%c occurs %d times", c, count[c])
		}
	}
}

// TestParse: a secret is read as people and phones write it.
func TestParse(t *testing.T) {
	s := NewSecret()
	shown := s.Show().Reveal()
	plain := strings.ReplaceAll(shown, "-", "")
	for name, text := range map[string]string{
		"as shown": shown, "without separators": plain, "upper case": strings.ToUpper(shown),
		"capitalised": strings.ToUpper(shown[:1]) + shown[1:], "spaces": strings.ReplaceAll(shown, "-", " "),
		"full stops": strings.ReplaceAll(shown, "-", ". "), "around it": " " + shown + " \u00a0", "dashes": strings.ReplaceAll(shown, "-", "\u2013"),
		"no break": strings.ReplaceAll(shown, "-", "\u2011"), "each letter": strings.Join(strings.Split(plain, ""), " "),
	} {
		if got, ok := Parse(text); !ok || got != s {
			t.Errorf("%s: not read", name)
		}
	}
	for name, text := range map[string]string{
		"empty": "", "too short": plain[:27], "too long": plain + "a", "line break": shown + "\n", "NUL": shown + "\x00",
		"a digit": "0" + plain[1:], "a look-alike": "l" + plain[1:], "not ASCII": "ä" + plain[1:], "far too long": strings.Repeat("-", 4096) + plain,
		"broken UTF-8": plain + "\xc2", "a passphrase": "correct horse battery staple",
	} {
		if _, ok := Parse(text); ok {
			t.Errorf("%s: taken for an app password", name)
		}
	}
}

// TestCheckLetter: each wrong letter and each exchange of neighbours is found.
func TestCheckLetter(t *testing.T) {
	plain := []byte(strings.ReplaceAll(NewSecret().Show().Reveal(), "-", ""))
	for i := range plain {
		for _, c := range []byte(alphabet) {
			wrong := append([]byte(nil), plain...)
			if wrong[i] = c; c == plain[i] {
				continue
			}
			if _, ok := Parse(string(wrong)); ok {
				t.Errorf("letter %d may be %c, too", i, c)
			}
		}
		if i+1 < len(plain)-1 && plain[i] != plain[i+1] {
			wrong := append([]byte(nil), plain...)
			wrong[i], wrong[i+1] = wrong[i+1], wrong[i]
			if _, ok := Parse(string(wrong)); ok {
				t.Errorf("letters %d and %d may be exchanged", i, i+1)
			}
		}
	}
}

func TestSecretIsNotPrinted(t *testing.T) {
	s := NewSecret()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, struct{ S Secret }{s}); !strings.Contains(got, "redacted") {
			t.Errorf("%s: %s", verb, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	s := NewSecret()
	f.Add(s.Show().Reveal())
	f.Add("aaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaa")
	f.Add(strings.Repeat("\u2010", 40))
	f.Add("\xe2\xc2")
	f.Fuzz(func(t *testing.T, text string) {
		s, ok := Parse(text)
		if !ok {
			return
		}
		if again, ok := Parse(s.Show().Reveal()); !ok || again != s {
			t.Errorf("%q is read, but not what it shows", text)
		}
	})
}
