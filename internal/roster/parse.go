package roster

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"postern/internal/auth"
)

// ErrNoRoster is wrapped by every error about a document that is not a roster. Nothing may be
// changed, or remembered, because of it.
var ErrNoRoster = errors.New("the answer is not a shared roster")

// Answer is a backend's view of the groups of one user.
type Answer struct {
	Accounts []Account // in the order of the document
	Skipped  int       // accounts with names that are not valid for XMPP users
	Hash     Hash      // of the document
}

// Hash identifies a document.
type Hash [sha256.Size]byte

// Account is a user in a roster.
type Account struct {
	ID     auth.Identity // the user in lower case, as XMPP servers have it
	Named  bool
	Name   string   // full name, if Named
	Groups []string // as the backend has them
}

// HashOf is the hash of a document and of the filter, since with another filter the same document
// gives other groups.
func HashOf(document []byte, f *Filter) Hash {
	if len(f.Include) == 0 && len(f.Exclude) == 0 && f.MaxMembers == 0 && len(f.Foreign) == 0 {
		return sha256.Sum256(document)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %d %q\n", f.Include, f.Exclude, f.MaxMembers, f.Foreign)
	h.Write(document)
	return Hash(h.Sum(nil))
}

// Parse reads the document that answers the JSXC app's operation sharedroster. Accounts without a
// domain belong to domain, and so do those of aliases, the domain's names at the backend. Errors
// wrap ErrNoRoster: a malformed document must not count as a smaller roster.
func Parse(document []byte, domain string, aliases ...string) (Answer, error) {
	return parse(document, domain, aliases, plain)
}

// plain leaves a user as it is.
func plain(user string) string { return user }

// ParseEscaping is Parse for an XMPP server that has what a JID cannot have in the escapes of XEP-0106.
func ParseEscaping(document []byte, domain string, aliases ...string) (Answer, error) {
	return parse(document, domain, aliases, func(user string) string {
		escaped := auth.EscapeUser(user)
		if _, err := auth.UnescapeUser(escaped); err != nil { // it could not log in
			return ""
		}
		return escaped
	})
}

func parse(document []byte, domain string, aliases []string, escape func(user string) string) (Answer, error) {
	var reply struct {
		Result string `json:"result"`
		Data   struct {
			Roster json.RawMessage `json:"sharedRoster"`
		} `json:"data"`
	}
	if err := json.Unmarshal(document, &reply); err != nil {
		return Answer{}, fmt.Errorf("%w: it is not valid JSON", ErrNoRoster)
	}
	if reply.Result != "success" || len(reply.Data.Roster) == 0 {
		return Answer{}, fmt.Errorf("%w: result or data.sharedRoster is missing", ErrNoRoster)
	}
	var a Answer
	err := entries(reply.Data.Roster, func(uid string, raw json.RawMessage) error {
		account, err := parseAccount(raw)
		if err != nil {
			return err
		}
		id, ok := address(uid, domain, aliases, escape)
		if !ok {
			a.Skipped++
			return nil
		}
		account.ID = id
		a.Accounts = append(a.Accounts, account)
		return nil
	})
	if err != nil {
		return Answer{}, fmt.Errorf("%w: %w", ErrNoRoster, err)
	}
	return a, nil
}

// entries calls use for each member of an object in its order, or for each element of a list:
// PHP encodes an empty array, or one with the keys 0, 1, 2, ..., as a list.
func entries(raw json.RawMessage, use func(key string, value json.RawMessage) error) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	open, err := dec.Token()
	if err != nil || open != json.Delim('{') && open != json.Delim('[') {
		return errors.New("neither an object nor a list where one is expected")
	}
	for n := 0; dec.More(); n++ {
		key := strconv.Itoa(n)
		if open == json.Delim('{') {
			token, err := dec.Token()
			if err != nil {
				return err
			}
			key, _ = token.(string)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		if err := use(key, value); err != nil {
			return err
		}
	}
	return nil
}

func parseAccount(raw json.RawMessage) (a Account, err error) {
	if len(raw) == 0 || raw[0] == '[' { // PHP encodes an empty array so
		return a, entries(raw, func(string, json.RawMessage) error { return errors.New("a list where an account is expected") })
	}
	var fields struct {
		Name   *string         `json:"name"`
		Groups json.RawMessage `json:"groups"`
	}
	if raw[0] != '{' || json.Unmarshal(raw, &fields) != nil {
		return a, errors.New("an account is not an object, or its name is not a string")
	}
	if fields.Name != nil {
		a.Named, a.Name = true, cleanFullName(*fields.Name)
	}
	if len(fields.Groups) == 0 {
		return a, nil
	}
	return a, entries(fields.Groups, func(_ string, raw json.RawMessage) error {
		var group string
		if raw[0] != '"' || json.Unmarshal(raw, &group) != nil {
			return errors.New("the name of a group is not a string")
		}
		a.Groups = append(a.Groups, group)
		return nil
	})
}

// notInLocal are the ASCII characters that the local part of a JID may not hold (RFC 7622
// section 3.3.1).
const notInLocal = "\"&'/:<>@ "

// address returns the JID of an account. It is false if no XMPP user can have that name.
func address(uid, domain string, aliases []string, escape func(user string) string) (auth.Identity, bool) {
	user, host := uid, domain
	if i := strings.LastIndexByte(uid, '@'); i >= 0 {
		user, host = uid[:i], uid[i+1:]
	}
	user = escape(user)
	id, err := auth.NewIdentity(strings.ToLower(user), host)
	if err != nil || strings.ContainsAny(user, notInLocal) {
		return auth.Identity{}, false
	}
	for _, alias := range aliases {
		if folded, err := auth.FoldDomain(alias); err == nil && folded == id.Domain {
			id.Domain = domain
		}
	}
	return id, true
}

// Login is a user as rosters name it: in lower case, as XMPP servers do.
func Login(id auth.Identity) auth.Identity {
	id.User = strings.ToLower(id.User)
	return id
}
