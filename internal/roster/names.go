package roster

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"postern/internal/auth"
)

// kept are the Unicode categories that a group's name keeps. They are those of xcauth, which has
// created the groups on existing servers; so combining marks and title-case letters are dropped.
var kept = []*unicode.RangeTable{
	unicode.Lu, unicode.Ll, unicode.Lm, unicode.Lo, unicode.Nd, unicode.Nl, unicode.No,
	unicode.Pc, unicode.Pd, unicode.Ps, unicode.Pe, unicode.Pi, unicode.Pf, unicode.Po,
	unicode.Sm, unicode.Sc, unicode.Sk, unicode.So, unicode.Zs,
}

// CleanGroup returns the name on the XMPP server of a group of the backend. It is false for a group
// to be ignored: a hidden one, or one with an empty or too long cleaned name.
func CleanGroup(raw string) (name string, ok bool) {
	if auth.HiddenGroup(raw) {
		return "", false
	}
	name = strings.Map(func(r rune) rune {
		if r == '@' || !unicode.In(r, kept...) {
			return -1
		}
		return r
	}, raw)
	return name, name != "" && len(name) <= auth.MaxName
}

// cleanFullName drops what cannot stand in a program's argument or in a line of a file.
func cleanFullName(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return -1
		}
		return r
	}, name)
}

// Filter selects groups by their cleaned names, and accounts by their domains.
type Filter struct {
	Include    []string // patterns; none: every group
	Exclude    []string // patterns; they outweigh Include
	MaxMembers int      // larger groups are ignored; 0: no limit
	// Foreign are the domains, besides that of the login, with accounts that an answer may name and
	// put into groups; "*" is every domain. An answer is the word of one domain's backend, and other
	// domains may be other people's.
	Foreign []string
}

// owns reports whether the answers of a domain may change an account of another domain.
func (f *Filter) owns(domain, other string) bool {
	return other == domain || slices.Contains(f.Foreign, other) || slices.Contains(f.Foreign, "*")
}

// allows reports whether the patterns let a group through.
func (f *Filter) allows(group string) bool {
	in := len(f.Include) == 0
	for _, p := range f.Include {
		in = in || Match(p, group)
	}
	for _, p := range f.Exclude {
		in = in && !Match(p, group)
	}
	return in
}

// Match reports whether the whole text matches a pattern: * is any text, ? any character.
func Match(pattern, text string) bool {
	star, from := -1, 0 // the last * so far, and the end of the text that it matches
	p, t := 0, 0
	for t < len(text) {
		_, size := utf8.DecodeRuneInString(text[t:])
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, t
			p++
		case p < len(pattern) && pattern[p] == '?':
			p, t = p+1, t+size
		case p < len(pattern) && strings.HasPrefix(text[t:], pattern[p:p+runeLen(pattern[p:])]):
			n := runeLen(pattern[p:])
			p, t = p+n, t+n
		case star >= 0: // let the * match one character more
			_, size = utf8.DecodeRuneInString(text[from:])
			from += size
			p, t = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

func runeLen(text string) int {
	_, n := utf8.DecodeRuneInString(text)
	return n
}
