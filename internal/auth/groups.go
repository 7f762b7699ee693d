package auth

import "strings"

// Groups says of some groups whether an account is in them, as its backend has said. Of all others nothing is
// known, and by the zero value of none.
type Groups string

// Signs before the name of a group. Each name ends with a line break, which no name contains.
const (
	member  = '+'
	outside = '-'
)

// GroupsOf returns which of the groups asked are among those of an account. They are all known, but for names with
// a line break or without a letter.
func GroupsOf(asked, has []string) Groups {
	if len(asked) == 0 {
		return ""
	}
	in := make(map[string]bool, len(has))
	for _, name := range has {
		in[name] = true
	}
	var b strings.Builder
	for _, name := range asked {
		if name == "" || strings.Contains(name, "\n") {
			continue
		}
		sign := byte(outside)
		if in[name] {
			sign = member
		}
		b.WriteByte(sign)
		b.WriteString(name)
		b.WriteByte('\n')
	}
	return Groups(b.String())
}

// In reports whether the account is in a group, and whether that is known.
func (g Groups) In(name string) (in, known bool) {
	for rest := string(g); rest != ""; {
		end := strings.IndexByte(rest, '\n')
		if end < 1 {
			return false, false // not made by GroupsOf
		}
		if rest[1:end] == name {
			return rest[0] == member, rest[0] == member || rest[0] == outside
		}
		rest = rest[end+1:]
	}
	return false, false
}

// Members lists the groups in which the account is known to be.
func (g Groups) Members() (names []string) {
	for line := range strings.Lines(string(g)) {
		if name := strings.TrimSuffix(line[1:], "\n"); line[0] == member && name != "" {
			names = append(names, name)
		}
	}
	return names
}
