package backend

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// ExpandLogin replaces {user} and {domain} in a rule for login names.
func ExpandLogin(rule, user, domain string) string {
	at := strings.IndexByte(rule, '{')
	switch {
	case rule == "{user}":
		return user
	case at < 0:
		return rule
	}
	var b strings.Builder
	for ; at >= 0; at = strings.IndexByte(rule, '{') {
		b.WriteString(rule[:at])
		rule = rule[at:]
		if rest, ok := strings.CutPrefix(rule, "{user}"); ok {
			b.WriteString(user)
			rule = rest
		} else if rest, ok := strings.CutPrefix(rule, "{domain}"); ok {
			b.WriteString(domain)
			rule = rest
		} else {
			b.WriteByte('{')
			rule = rule[1:]
		}
	}
	b.WriteString(rule)
	return b.String()
}

// LoginNames lists the login names of a question's user, in the order of the rules, without
// duplicates. It leaves out names that cannot log in: HTTP Basic authentication ends a name at
// the first colon, and PHP takes "0" for empty.
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

// lastLogin is the last successful login of a user.
type lastLogin struct {
	name string // that was sent
	id   string // of the account
	at   time.Time
}

// loginCache holds the last successful logins of a bounded number of users, the most recent ones.
// It is safe for concurrent use.
type loginCache struct {
	mu   sync.Mutex
	list *simplelru.LRU[string, lastLogin]
}

func newLoginCache(size int) *loginCache {
	list, _ := simplelru.NewLRU[string, lastLogin](max(size, 1), nil) // fails only for sizes below 1
	return &loginCache{list: list}
}

// key identifies the user of a question. Names do not contain NUL.
func (q *Query) key() string { return q.User + "\x00" + q.Domain }

// get returns the user's last login, if its name is still among the login names.
func (c *loginCache) get(key string, names []string) (lastLogin, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	login, ok := c.list.Get(key)
	return login, ok && slices.Contains(names, login.name)
}

func (c *loginCache) put(key string, login lastLogin) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list.Add(key, login)
}

func (c *loginCache) remove(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list.Remove(key)
}
