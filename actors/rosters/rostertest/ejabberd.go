// Package rostertest is an ejabberd for tests: mod_http_api with the commands for shared roster
// groups, kept in memory, with commands that fail and hosts that are not served where a test asks for
// them. It also writes the roster document that a Nextcloud sends. It is not part of postern.
package rostertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
)

// Ejabberd keeps shared roster groups. Its methods are safe for concurrent use.
type Ejabberd struct {
	server *httptest.Server

	mu       sync.Mutex
	groups   map[string]map[string]bool
	executed map[string]int
	refused  map[string]int
	requests int
	fail     func(n int) bool
	unserved string
}

// NewEjabberd starts a server without groups, which must be closed.
func NewEjabberd() *Ejabberd {
	e := &Ejabberd{groups: map[string]map[string]bool{}, executed: map[string]int{}, refused: map[string]int{}}
	e.server = httptest.NewServer(http.HandlerFunc(e.serve))
	return e
}

// Close ends the server when its requests have been answered.
func (e *Ejabberd) Close() { e.server.Close() }

// API is the URL below which commands are posted.
func (e *Ejabberd) API() string { return e.server.URL + "/api" }

// Fail sets the requests, counted from 1, that are answered with status 503; nil is none.
func (e *Ejabberd) Fail(fail func(n int) bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fail = fail
}

// Unserve has commands refused for users of hosts that end in suffix; "" refuses none.
func (e *Ejabberd) Unserve(suffix string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unserved = suffix
}

// Executed is how often a command was carried out.
func (e *Ejabberd) Executed(command string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.executed[command]
}

// Refused is how many commands were refused because a host is not served.
func (e *Ejabberd) Refused(host string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.refused[host]
}

// Group lists the addresses of a group's members, sorted.
func (e *Ejabberd) Group(name string) (members []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for m := range e.groups[name] {
		members = append(members, m)
	}
	slices.Sort(members)
	return members
}

// SetGroup changes a group as an administrator of the server would.
func (e *Ejabberd) SetGroup(name string, members ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.groups[name] = map[string]bool{}
	for _, m := range members {
		e.groups[name][m] = true
	}
}

func (e *Ejabberd) serve(w http.ResponseWriter, r *http.Request) {
	var args struct{ User, Host, Group string }
	_ = json.NewDecoder(r.Body).Decode(&args)
	command := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.requests++; e.fail != nil && e.fail(e.requests) {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if e.unserved != "" && strings.HasSuffix(args.Host, e.unserved) {
		e.refused[args.Host]++
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	e.executed[command]++
	if e.groups[args.Group] == nil {
		e.groups[args.Group] = map[string]bool{}
	}
	group := e.groups[args.Group]
	switch command {
	case "srg_user_add":
		group[args.User+"@"+args.Host] = true
	case "srg_user_del":
		delete(group, args.User+"@"+args.Host)
	case "srg_get_members":
		list := []string{}
		for m := range group {
			list = append(list, m)
		}
		_ = json.NewEncoder(w).Encode(list)
		return
	}
	_, _ = w.Write([]byte("0"))
}

// Document is a backend's answer about a user of a group with the members user0, user1 and so on.
func Document(group string, users int) []byte {
	accounts := make([]string, users)
	for i := range accounts {
		accounts[i] = fmt.Sprintf(`"user%d":{"groups":[%q]}`, i, group)
	}
	return []byte(`{"result":"success","data":{"sharedRoster":{` + strings.Join(accounts, ",") + `}}}`)
}
