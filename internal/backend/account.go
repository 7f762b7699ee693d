package backend

import (
	"cmp"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// accountNamer is a backend that does not name its accounts by user and domain.
type accountNamer interface {
	accountOf(q Query, confirmed string) string
}

// Account is what distinguishes the account that a question is about from the others of a backend,
// for limits: names with one Account may lead to one account. confirmed is the backend's own name of
// the account (Result.Account), if it has given one. It is coarse, since a limit that two accounts
// share does no harm.
func Account(b Backend, q Query, confirmed string) string {
	if n, ok := b.(accountNamer); ok {
		return coarse(n.accountOf(q, confirmed))
	}
	return coarse(cmp.Or(strings.TrimSuffix(confirmed, "@"+q.Domain), q.User) + "@" + q.Domain)
}

// coarse leaves out of a name what some directory or database ignores when it compares names: letter
// case, blanks, accents, characters without a width of their own, and full-width forms.
func coarse(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Mn, unicode.Cf, unicode.White_Space) {
			return -1
		}
		return unicode.ToLower(r)
	}, norm.NFKD.String(name))
}

// accountOf implements accountNamer: the domain is a part of an account's name only if the rules for
// login names make it one. Of several login names it is the shortest, to which most names lead.
func (n *nextcloud) accountOf(q Query, confirmed string) string {
	if confirmed != "" {
		return confirmed
	}
	shortest := ""
	for _, name := range q.LoginNames() {
		if shortest == "" || len(name) < len(shortest) {
			shortest = name
		}
	}
	return shortest
}

// accountOf implements accountNamer: the app looks for the user alone first.
func (j *jsxc) accountOf(q Query, confirmed string) string { return cmp.Or(confirmed, q.User) }
