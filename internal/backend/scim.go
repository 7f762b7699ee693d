package backend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"postern/internal/auth"
	"postern/internal/jsonobject"
)

// SCIMOptions are where a provider says of its accounts whether they exist and are enabled (RFC 7644).
type SCIMOptions struct {
	URL   string      // the base URL of the API: "/Users" is appended
	Token auth.Secret // of a client that may read users; empty: postern gets tokens as its own client at the provider
	// Scopes are those that it asks for then; may be empty.
	Scopes []string
}

// scim looks accounts up at a provider. It is safe for concurrent use.
type scim struct {
	client *httpClient
	token  string        // that of the configuration
	issued *clientTokens // nil: there is one in the configuration
	fold   bool          // names that differ by letter case are one account
}

// newSCIM returns the client of an API. of is the provider that issues tokens, if the options have none.
func newSCIM(s SCIMOptions, o HTTPOptions, of *oidcBackend, fold bool) (*scim, error) {
	o.URL = strings.TrimRight(s.URL, "/")
	switch {
	case strings.ContainsAny(o.URL, "?#"):
		return nil, errors.New("the url of scim must have no query and no fragment")
	case s.Token.Empty() && of.options.ClientID == "":
		return nil, errors.New("scim has no token, and client_id is empty")
	}
	client, err := newHTTPClient(o)
	if err != nil {
		return nil, fmt.Errorf("scim: %w", err)
	}
	out := &scim{client: client, token: s.Token.Reveal(), fold: fold}
	if out.token == "" {
		out.issued = newClientTokens(of, s.Scopes)
	}
	return out, nil
}

// exists finds out whether a user of the provider exists and is enabled: the first of the login names that is one.
func (s *scim) exists(ctx context.Context, q Query) Result {
	for _, name := range q.LoginNames() {
		if r := s.user(ctx, q, name); r.Class != Refused {
			return r
		}
	}
	return Result{Class: Refused, Absent: true}
}

// user asks about one name. An answer about another one may be the late response to an earlier request: the provider
// is asked once more over a new connection. So it is with another token where one that was issued is refused.
func (s *scim) user(ctx context.Context, q Query, name string) Result {
	token, none := s.bearer(ctx, "")
	if none != nil {
		return *none
	}
	target, fresh, renewed := strings.TrimSuffix(s.client.target, "/")+"/Users?count=2&filter="+scimFilter(name), false, false
	for {
		resp, err := s.client.do(ctx, request{method: http.MethodGet, target: target, fresh: fresh, header: []headerField{
			{"Accept", "application/scim+json, application/json"}, {"Authorization", "Bearer " + token},
		}})
		switch {
		case err != nil:
			return unanswered(err)
		case resp.status == http.StatusUnauthorized && s.issued != nil && renewed:
			s.issued.rejected()
			return Result{Class: Misconfigured, Err: errFreshRefused}
		case resp.status == http.StatusUnauthorized && s.issued != nil:
			if token, none = s.bearer(ctx, token); none != nil {
				return *none
			}
			renewed = true
			continue
		}
		if r, ok := s.failed(q, resp); !ok {
			return r
		}
		list, err := parseSCIM(resp.body)
		if err != nil {
			return outage("the provider's SCIM API answers, but %w", err)
		}
		// Letter case does not count there (RFC 7643, section 4.1.1).
		other := slices.ContainsFunc(list, func(u scimUser) bool { return auth.FoldUser(u.name) != auth.FoldUser(name) })
		switch {
		case !other:
			return s.answer(q, name, list)
		case !resp.kept || fresh:
			return misconfigured("the provider's SCIM API names another user than it was asked for: it does not filter by userName")
		}
		fresh = true
	}
}

// bearer returns a token for a request, another one than that which was refused.
func (s *scim) bearer(ctx context.Context, refused string) (string, *Result) {
	if s.issued == nil {
		return s.token, nil
	}
	return s.issued.get(ctx, refused)
}

// answer is the Result for the users of a name. Those of another spelling are others, where letter case counts.
func (s *scim) answer(q Query, name string, list []scimUser) Result {
	if !s.fold {
		list = slices.DeleteFunc(list, func(u scimUser) bool { return u.name != name })
	}
	switch len(list) {
	case 0:
		return Result{Class: Refused, Absent: true}
	case 1:
	default:
		return misconfigured("the provider has several users of one userName")
	}
	u := list[0]
	r := Result{Class: Accepted, Known: true, Disabled: !u.active, Account: q.accountOf(u.name)}
	if u.grouped {
		r.Groups = auth.GroupsOf(q.Groups, u.groups)
	}
	return r
}

// failed classifies a response that is not the list. ok is true for one that may be.
func (s *scim) failed(q Query, resp response) (r Result, ok bool) {
	switch resp.status {
	case http.StatusOK:
		return r, true
	case http.StatusUnauthorized, http.StatusForbidden:
		return Result{Class: Misconfigured, Err: errTokenRefused}, false
	case http.StatusBadRequest:
		return misconfigured("the provider's SCIM API does not take the filter userName eq (HTTP 400)"), false
	case http.StatusNotFound:
		return misconfigured("HTTP 404: there is no SCIM API at the url of scim, to which postern appends /Users"), false
	}
	return foreign(q, resp), false
}

// scimFilter is the filter that finds a user, encoded for a URL. The name is a JSON string there (RFC 7644, section
// 3.4.2.2), which no name can leave.
func scimFilter(name string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(name) // a text can be encoded
	return strings.ReplaceAll(url.QueryEscape("userName eq "+strings.TrimSuffix(b.String(), "\n")), "+", "%20")
}

// scimUser is a resource of the type User.
type scimUser struct {
	name    string
	active  bool
	groups  []string
	grouped bool // the resource lists its groups, perhaps none
}

// scimList is the schema of a list of resources.
const scimList = "urn:ietf:params:scim:api:messages:2.0:ListResponse"

// Why an answer is not used.
var (
	errNoList     = errors.New("not with a list of users (ListResponse)")
	errTotal      = errors.New("totalResults is not the number of users in the list")
	errSCIMUser   = errors.New("a user in the list has no userName")
	errActive     = errors.New("active of a user in the list is neither true nor false")
	errSCIMGroups = errors.New("the groups of a user in the list cannot be read")
)

// parseSCIM reads a list of users. It takes nothing for granted: an answer that is not complete says nothing.
func parseSCIM(body []byte) ([]scimUser, error) {
	fields, err := jsonobject.Split(body)
	if err != nil {
		return nil, errNoList
	}
	var schemas []string
	var total *int
	var resources []json.RawMessage
	if json.Unmarshal(fields["schemas"], &schemas) != nil || !slices.Contains(schemas, scimList) {
		return nil, errNoList
	}
	if json.Unmarshal(fields["totalResults"], &total) != nil || total == nil {
		return nil, errTotal
	}
	if raw, given := fields["Resources"]; given && json.Unmarshal(raw, &resources) != nil {
		return nil, errNoList
	}
	if *total != len(resources) {
		return nil, errTotal
	}
	list := make([]scimUser, len(resources))
	for i, raw := range resources {
		if list[i], err = parseSCIMUser(raw); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func parseSCIMUser(raw json.RawMessage) (u scimUser, err error) {
	fields, err := jsonobject.Split(raw)
	if err != nil {
		return u, errSCIMUser
	}
	var name *string
	if json.Unmarshal(fields["userName"], &name) != nil || name == nil || *name == "" {
		return u, errSCIMUser
	}
	u.name, u.active = *name, true
	if raw, given := fields["active"]; given {
		switch string(raw) {
		case "true":
		case "false":
			u.active = false
		default:
			return u, errActive
		}
	}
	raw, given := fields["groups"]
	if !given || string(raw) == "null" {
		return u, nil
	}
	var groups []struct{ Value, Display *string }
	if json.Unmarshal(raw, &groups) != nil {
		return u, errSCIMGroups
	}
	u.grouped = true
	for _, g := range groups {
		switch {
		case g.Display != nil:
			u.groups = append(u.groups, *g.Display)
		case g.Value != nil:
			u.groups = append(u.groups, *g.Value)
		}
	}
	return u, nil
}
