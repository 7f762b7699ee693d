package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// cloud is a JSXC server whose users and groups a test changes. Every password is right.
type cloud struct {
	*webApp
	mu     sync.Mutex
	names  map[string]string   // of every user
	groups map[string][]string // members
}

func newCloud(t *testing.T) *cloud {
	c := &cloud{names: map[string]string{}, groups: map[string][]string{}}
	c.webApp = newWebApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("operation") != "sharedroster" {
			_, _ = io.WriteString(w, `{"result":"success","data":{"uid":"x"}}`)
			return
		}
		_, _ = w.Write(c.roster(r.FormValue("username")))
	})
	return c
}

// roster is the document for a user: all members of the user's groups.
func (c *cloud) roster(user string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
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
			accounts[member] = account{c.names[member], append(accounts[member].Groups, group)}
		}
	}
	document, _ := json.Marshal(map[string]any{"result": "success", "data": map[string]any{"sharedRoster": accounts}})
	return document
}

// team makes a group of the users from low to high.
func (c *cloud) team(group string, low, high int) (addresses []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.groups[group] = nil
	for i := low; i < high; i++ {
		user := fmt.Sprintf("user%d", i)
		c.groups[group] = append(c.groups[group], user)
		if c.names[user] == "" {
			c.names[user] = "Name of " + user
		}
		addresses = append(addresses, user+"@dom.example")
	}
	slices.Sort(addresses)
	return addresses
}

// members describes all groups: a line of each, with its members in order.
func (c *cloud) members() string {
	c.mu.Lock()
	defer c.mu.Unlock()
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

// groupsOf are the groups of a user, sorted.
func (c *cloud) groupsOf(address string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	groups := []string{}
	for _, name := range slices.Sorted(maps.Keys(c.groups)) {
		if slices.Contains(c.groups[name], strings.TrimSuffix(address, "@dom.example")) {
			groups = append(groups, name)
		}
	}
	return groups
}

// rosterConfig is a daemon's configuration with shared rosters from a cloud.
func (c *cloud) rosterConfig(t *testing.T, block string) string {
	return configFile(t, t.TempDir(), fmt.Sprintf(`
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

// logIn logs the users from low to high in, on one connection.
func (s *server) logIn(low, high int) {
	s.t.Helper()
	var input strings.Builder
	for i := low; i < high; i++ {
		input.WriteString(frame(fmt.Sprintf("auth:user%d:dom.example:secret", i)))
	}
	want := strings.Repeat("\x00\x02\x00\x01", high-low)
	if got := exchange(s.t, s.address("ejabberd"), input.String()); got != want {
		s.t.Fatalf("logins were answered %q", got)
	}
}

// rosterShown is the output of `roster show`.
type rosterShown struct {
	User     string         `json:"user"`
	FullName *string        `json:"full_name"`
	Groups   map[string]int `json:"groups"`
	Own      []string       `json:"groups_at_login"`
	Complete bool           `json:"last_answer_carried_out"`
	Doubtful []string       `json:"groups_being_changed"`
}

// domainShown is an entry of the output of `domain list --json`.
type domainShown struct {
	Domain, Source, Backend, Contact string
	Shadowed                         bool
}
