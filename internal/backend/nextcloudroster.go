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

// rosterPage is how many members of a group are requested at once. A page takes long, because the
// server looks at the storage of each member.
const rosterPage = 200

// contact is a member of a shared roster, as the JSXC app writes it.
type contact struct {
	Name   string   `json:"name,omitempty"`
	Groups []string `json:"groups"`
}

// errRosterSize means that a roster is incomplete. It is not used: it would remove users from
// groups that they are in.
var errRosterSize = errors.New("the user's groups have more members than max_members: raise it, or make smaller groups")

// tooLarge is the result for a roster that exceeds MaxMembers at a group.
func tooLarge(group string) Result {
	return Result{Class: Misconfigured, Err: fmt.Errorf("%w (at the group %.100q)", errRosterSize, group)}
}

// roster collects the members of a user's groups, except hidden groups, in the form of the JSXC
// app's answer. The same groups give the same document.
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
	case !a.ok():
		return Result{Class: Misconfigured, Err: errRights}
	case err != nil, !listed:
		return outage("HTTP 200, but the answer holds no groups")
	}
	slices.Sort(groups)
	contacts := make(map[string]*contact)
	for _, group := range slices.Compact(groups) {
		if auth.HiddenGroup(group) || strings.Trim(group, ".") == "" { // a path cannot hold names of dots
			continue
		}
		if r, ok := n.members(ctx, group, contacts); !ok {
			return r
		}
		if !contacts[id].in(group) { // then others may be missing, too
			return outage("the user is missing among the members of one of the user's groups")
		}
	}
	body, err := json.Marshal(map[string]any{
		"result": "success", "data": map[string]any{"sharedRoster": contacts},
	})
	if err != nil {
		return outage("the roster cannot be written as JSON")
	}
	return Result{Class: Accepted, Known: true, Body: body}
}

// groupPath is the path of a group's members. The server decodes the group's name twice, so
// characters that would not survive it are encoded twice.
func groupPath(group string) string {
	if strings.ContainsAny(group, "%+/") {
		group = strings.ReplaceAll(url.QueryEscape(group), "+", "%20")
	}
	return "cloud/groups/" + url.PathEscape(group) + "/users"
}

// members adds a group's members to the contacts.
func (n *nextcloud) members(ctx context.Context, group string, contacts map[string]*contact) (r Result, ok bool) {
	for offset := 0; ; offset += rosterPage {
		a, r, ok := n.asService(ctx, http.MethodGet, fmt.Sprintf("%s/details?limit=%d&offset=%d", groupPath(group), rosterPage, offset), nil, true)
		switch {
		case !ok:
			return r, false
		case offset == 0 && a.denied(): // some versions hide details from group administrators
			return n.memberNames(ctx, group, contacts)
		case !a.ok():
			return misconfigured(fmt.Sprintf("HTTP %d (code %d): the service account may not see the members of a group", a.status, a.code)), false
		}
		page, ok := parseMembers(a.data)
		if !ok {
			return outage("HTTP 200, but the answer holds no members"), false
		}
		fresh := false
		for _, m := range page {
			fresh = join(contacts, m, group) || fresh
		}
		if len(contacts) > n.options.MaxMembers {
			return tooLarge(group), false
		}
		// Deleted accounts are missing from their page, so a short page need not be the last. A
		// page without new members is: the last one is empty, and a server without paging repeats
		// itself.
		if !fresh {
			return Result{}, true
		}
	}
}

// memberNames adds a group's members where the service account may not see their details.
func (n *nextcloud) memberNames(ctx context.Context, group string, contacts map[string]*contact) (r Result, ok bool) {
	a, r, ok := n.asService(ctx, http.MethodGet, groupPath(group), nil, true)
	switch {
	case !ok:
		return r, false
	case !a.ok():
		return Result{Class: Misconfigured, Err: errRights}, false
	}
	data, err := object(a.data)
	ids, listed := texts(data["users"])
	if err != nil || !listed {
		return outage("HTTP 200, but the answer holds no members"), false
	}
	for _, id := range ids {
		join(contacts, member{id: id}, group)
	}
	if len(contacts) > n.options.MaxMembers {
		return tooLarge(group), false
	}
	return Result{}, true
}

// member is one member of a group; the name may be unknown.
type member struct{ id, name string }

// join adds a member of a group to the contacts, and reports whether it was new there.
func join(contacts map[string]*contact, m member, group string) bool {
	c := contacts[m.id]
	if c == nil {
		c = &contact{}
		contacts[m.id] = c
	}
	if c.Name == "" {
		c.Name = m.name
	}
	if c.in(group) {
		return false
	}
	c.Groups = append(c.Groups, group)
	return true
}

// in reports whether c, which may be nil, is in the group that is being collected.
func (c *contact) in(group string) bool {
	return c != nil && len(c.Groups) > 0 && c.Groups[len(c.Groups)-1] == group
}

// parseMembers reads {users: {uid: {displayname, ...}}}. PHP makes a list of it if the accounts are
// named 0, 1, 2 and so on. An id in an entry has priority over its key.
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
