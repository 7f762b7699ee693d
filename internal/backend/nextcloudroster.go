package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"postern/internal/auth"
)

// rosterPage is how many members of a group are asked for at once. The server looks at each
// one's storage, so a page takes its time.
const rosterPage = 200

// contact is a person of a shared roster, as the JSXC app writes it (PROTOCOLS 4.1).
type contact struct {
	Name   string   `json:"name,omitempty"`
	Groups []string `json:"groups"`
}

// errRosterSize means that a roster is not collected to its end: half of one would remove
// people from groups that they are in.
var errRosterSize = errors.New("the user's groups have more members than max_members: raise it, or make smaller groups")

// tooLarge is the answer when the members of a group are too many, with those before.
func tooLarge(group string) Result {
	return Result{Class: Misconfigured, Err: fmt.Errorf("%w (at the group %.100q)", errRosterSize, group)}
}

// roster collects the members of a user's groups but the hidden ones, the user among them, in the
// form of the JSXC app's answer. The same groups give the same document.
func (n *nextcloud) roster(ctx context.Context, q Query, names []string) Result {
	id, r := n.account(ctx, q, names)
	if r.Class != Accepted {
		return r
	}
	a, r, ok := n.asService(ctx, http.MethodGet, "cloud/users/"+url.PathEscape(id)+"/groups", nil, false)
	if !ok {
		return r
	}
	data, err := object(a.data)
	groups, listed := texts(data["groups"])
	switch {
	case !a.fine():
		return Result{Class: Misconfigured, Err: errRights}
	case err != nil, !listed:
		return outage("HTTP 200, but the answer holds no groups")
	}
	slices.Sort(groups)
	people := make(map[string]*contact)
	for _, group := range slices.Compact(groups) {
		if auth.HiddenGroup(group) || strings.Trim(group, ".") == "" { // no path could hold the latter
			continue
		}
		if r, ok := n.members(ctx, group, people); !ok {
			return r
		}
		if !people[id].among(group) { // then others are missing, too
			return outage("the members of a group of the user's lack the user")
		}
	}
	body, err := json.Marshal(map[string]any{
		"result": "success", "data": map[string]any{"sharedRoster": people},
	})
	if err != nil {
		return outage("the roster cannot be written as JSON")
	}
	return Result{Class: Accepted, Known: true, Body: body}
}

// groupPath is the path of a group. The server decodes the name of a group twice, so what
// would not survive it is encoded twice.
func groupPath(group string) string {
	if strings.ContainsAny(group, "%+/") {
		group = strings.ReplaceAll(url.QueryEscape(group), "+", "%20")
	}
	return "cloud/groups/" + url.PathEscape(group) + "/users"
}

// members adds a group's members to the people.
func (n *nextcloud) members(ctx context.Context, group string, people map[string]*contact) (r Result, ok bool) {
	for offset := 0; ; offset += rosterPage {
		a, r, ok := n.asService(ctx, http.MethodGet, fmt.Sprintf("%s/details?limit=%d&offset=%d", groupPath(group), rosterPage, offset), nil, true)
		switch {
		case !ok:
			return r, false
		case offset == 0 && a.denied(): // some versions keep details from group administrators
			return n.memberNames(ctx, group, people)
		case !a.fine():
			return misconfigured(fmt.Sprintf("HTTP %d (code %d): the service account may not see the members of a group", a.status, a.code)), false
		}
		page, ok := parseMembers(a.data)
		if !ok {
			return outage("HTTP 200, but the answer holds no members"), false
		}
		fresh := false
		for _, m := range page {
			fresh = join(people, m, group) || fresh
		}
		if len(people) > n.options.MaxMembers {
			return tooLarge(group), false
		}
		// Members that ceased to exist are missing from their page, however many, so only an empty
		// one is the last; a server that knows no pages is known by bringing nobody new.
		if !fresh {
			return Result{}, true
		}
	}
}

// memberNames adds a group's members where their details are kept from the service account.
func (n *nextcloud) memberNames(ctx context.Context, group string, people map[string]*contact) (r Result, ok bool) {
	a, r, ok := n.asService(ctx, http.MethodGet, groupPath(group), nil, true)
	switch {
	case !ok:
		return r, false
	case !a.fine():
		return Result{Class: Misconfigured, Err: errRights}, false
	}
	data, err := object(a.data)
	ids, listed := texts(data["users"])
	if err != nil || !listed {
		return outage("HTTP 200, but the answer holds no members"), false
	}
	for _, id := range ids {
		join(people, member{id: id}, group)
	}
	if len(people) > n.options.MaxMembers {
		return tooLarge(group), false
	}
	return Result{}, true
}

// member is one member of a group; the name may be unknown.
type member struct{ id, name string }

// join puts a member of a group among the people and reports whether that was news.
func join(people map[string]*contact, m member, group string) bool {
	c := people[m.id]
	if c == nil {
		c = &contact{}
		people[m.id] = c
	}
	if c.Name == "" {
		c.Name = m.name
	}
	if c.among(group) {
		return false
	}
	c.Groups = append(c.Groups, group)
	return true
}

// among reports whether a person, who may be nil, is in the group that is being collected.
func (c *contact) among(group string) bool {
	return c != nil && len(c.Groups) > 0 && c.Groups[len(c.Groups)-1] == group
}

// parseMembers reads {users: {uid: {displayname, ...}}}. Accounts named 0, 1, 2, ... make a
// list of it; the id in an entry goes before its key.
func parseMembers(raw json.RawMessage) (page []member, ok bool) {
	data, err := object(raw)
	if err != nil {
		return nil, false
	}
	var list []json.RawMessage
	if json.Unmarshal(data["users"], &list) == nil {
		if list == nil {
			return nil, false
		}
		for i, entry := range list {
			page = append(page, parseMember(fmt.Sprint(i), entry))
		}
		return page, true
	}
	users, err := object(data["users"])
	if err != nil {
		return nil, false
	}
	for id, entry := range users {
		page = append(page, parseMember(id, entry))
	}
	return page, true
}

func parseMember(key string, entry json.RawMessage) member {
	m := member{id: key}
	fields, err := object(entry)
	if err != nil {
		return m
	}
	if id, ok := text(fields["id"]); ok {
		m.id = id
	}
	for _, word := range []string{"displayname", "display-name"} {
		if name, ok := text(fields[word]); ok {
			m.name = name
			break
		}
	}
	return m
}
