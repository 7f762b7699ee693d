package roster

import (
	"strings"
	"unicode"
)

// Command is a command to an XMPP server.
type Command uint8

// The commands, by their names in ejabberd.
const (
	SetVCard   Command = iota // set_vcard: the full name of a user
	Create                    // srg_create
	GetMembers                // srg_get_members
	UserAdd                   // srg_user_add
	UserDel                   // srg_user_del
	Kick                      // kick_user: ends a user's sessions and, since 25.07, the tokens of mod_auth_fast
)

var commandNames = [...]string{"set_vcard", "srg_create", "srg_get_members", "srg_user_add", "srg_user_del", "kick_user"}

// String returns ejabberd's name of a command.
func (c Command) String() string { return commandNames[c] }

// Step is one command with its arguments: name and host of the user or member, the group and its
// host, the full name.
type Step struct {
	Command     Command
	User, Host  string
	Group, Home string
	Name        string
}

// String returns the step as a line for a shell. Names come from the backend, so all but plain words
// are quoted.
func (s Step) String() string {
	special := func(r rune) bool {
		plain := r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) || strings.ContainsRune("_-.@+/=:,%", r)
		return !plain
	}
	words := s.Args()
	for i, word := range words {
		if word == "" || strings.ContainsFunc(word, special) {
			words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// Args are the command and its arguments as ejabberdctl takes them.
func (s Step) Args() []string {
	switch s.Command {
	case SetVCard:
		return []string{s.Command.String(), s.User, s.Host, "FN", s.Name}
	case Create:
		return []string{s.Command.String(), s.Group, s.Home, s.Group, s.Group, s.Group}
	case GetMembers:
		return []string{s.Command.String(), s.Group, s.Home}
	case Kick:
		return []string{s.Command.String(), s.User, s.Host}
	}
	return []string{s.Command.String(), s.User, s.Host, s.Group, s.Home}
}
