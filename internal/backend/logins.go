package backend

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// ExpandLogin makes a login name by a rule: {user} and {domain} stand for those names.
func ExpandLogin(rule, user, domain string) string {
	return strings.NewReplacer("{user}", user, "{domain}", domain).Replace(rule)
}

// LoginNames lists the login names of a question's user, in the order of the rules, each
// once. HTTP Basic authentication ends a login name at the first colon, and PHP takes "0"
// for empty, so such names are nobody's.
func (q *Query) LoginNames() (names []string) {
	rules := q.Logins
	if len(rules) == 0 {
		rules = []string{"{user}"}
	}
	for _, rule := range rules {
		name := ExpandLogin(rule, q.User, q.Domain)
		if name != "" && name != "0" && !strings.Contains(name, ":") && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// account is what the last successful login of a user told.
type account struct {
	name string    // that was sent
	id   string    // of the account behind it
	at   time.Time // of the login
}

// accounts remembers the last successful login of users, bounded: who has not been seen for
// longest is forgotten. It is safe for concurrent use.
type accounts struct {
	mu   sync.Mutex
	list *simplelru.LRU[string, account]
}

func newAccounts(size int) *accounts {
	list, _ := simplelru.NewLRU[string, account](max(size, 1), nil) // it fails for sizes under 1 only
	return &accounts{list: list}
}

// key is the user of a question. No name holds NUL.
func (q *Query) key() string { return q.User + "\x00" + q.Domain }

// get returns the user's last login, if its name is still one of the names.
func (a *accounts) get(key string, names []string) (account, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	known, ok := a.list.Get(key)
	return known, ok && slices.Contains(names, known.name)
}

func (a *accounts) put(key string, known account) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list.Add(key, known)
}

func (a *accounts) forget(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list.Remove(key)
}
