package harness

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Cloud is a JSXC server with users and groups that a test changes. Every password is right.
type Cloud struct {
	*WebApp
	Mu     sync.Mutex
	Names  map[string]string   // of every user
	groups map[string][]string // members
}

// NewCloud starts a cloud without users.
func NewCloud(t *testing.T) *Cloud {
	c := &Cloud{Names: map[string]string{}, groups: map[string][]string{}}
	c.WebApp = NewWebApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("operation") != "sharedroster" {
			_, _ = fmt.Fprintf(w, `{"result":"success","data":{"uid":%q}}`, r.FormValue("username"))
			return
		}
		_, _ = w.Write(c.roster(r.FormValue("username")))
	})
	return c
}

// roster is the document for a user: all members of the user's groups.
func (c *Cloud) roster(user string) []byte {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	type account struct {
		Name   string   `json:"name"`
		Groups []string `json:"groups"`
	}
	accounts := map[string]account{}
	for _, group := range slices.Sorted(maps.Keys(c.groups)) {
		if !slices.Contains(c.groups[group], user) {
			continue
		}
		for _, member := range c.groups[group] {
			accounts[member] = account{c.Names[member], append(accounts[member].Groups, group)}
		}
	}
	document, _ := json.Marshal(map[string]any{"result": "success", "data": map[string]any{"sharedRoster": accounts}})
	return document
}

// Team makes a group of the users from low to high.
func (c *Cloud) Team(group string, low, high int) (addresses []string) {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	c.groups[group] = nil
	for i := low; i < high; i++ {
		user := fmt.Sprintf("user%d", i)
		c.groups[group] = append(c.groups[group], user)
		if c.Names[user] == "" {
			c.Names[user] = "Name of " + user
		}
		addresses = append(addresses, user+"@dom.example")
	}
	slices.Sort(addresses)
	return addresses
}

// Members describes all groups: a line of each, with its members in order.
func (c *Cloud) Members() string {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(c.groups)) {
		addresses := []string{}
		for _, user := range c.groups[name] {
			addresses = append(addresses, user+"@dom.example")
		}
		if slices.Sort(addresses); len(addresses) > 0 {
			fmt.Fprintln(&b, name, addresses)
		}
	}
	return b.String()
}

// GroupsOf are the groups of a user, sorted.
func (c *Cloud) GroupsOf(address string) []string {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	groups := []string{}
	for _, name := range slices.Sorted(maps.Keys(c.groups)) {
		if slices.Contains(c.groups[name], strings.TrimSuffix(address, "@dom.example")) {
			groups = append(groups, name)
		}
	}
	return groups
}

// RosterConfig is a daemon's configuration with shared rosters from a cloud.
func (c *Cloud) RosterConfig(t *testing.T, block string) string {
	return ConfigFile(t, t.TempDir(), fmt.Sprintf(`
listen "ejabberd" { address = "127.0.0.1:0" }
backend "jsxc" "cloud" {
  url    = %q
  secret = "test"
}
domain "dom.example" {
  backends = [backend.jsxc.cloud]
  cache { bcrypt_cost = 4 }
  %s
}
`, c.URL, block))
}
