package backend

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/auth"
	"postern/internal/jsonobject"
)

// NextcloudOptions configure a backend that asks Nextcloud itself. Zero numbers and durations mean
// the defaults of config.hcl.example.
type NextcloudOptions struct {
	HTTPOptions // URL is the base URL of Nextcloud
	// AdminUser is the name of the service account, an administrator or group administrator. Empty
	// means that there is none.
	AdminUser     string
	AdminPassword auth.Secret
	// AcceptOtherID allows logins that resolve to an account of another name, as mail addresses do.
	AcceptOtherID bool
	// MaxDelay is the longest delay of logins, which Nextcloud raises after failed ones, at which it
	// is still asked.
	MaxDelay time.Duration
	// MaxMembers bounds the members of one shared roster.
	MaxMembers int
}

const (
	maxLogins = 50000          // users in the loginCache
	knownFor  = 24 * time.Hour // how long a login proves that the user exists here
)

// nextcloud asks Nextcloud through its OCS API, which needs no app.
type nextcloud struct {
	client  *httpClient
	options NextcloudOptions
	base    string // path of the URL without a trailing slash
	now     func() time.Time
	logins  *loginCache
	service *service // nil without a service account

	// Each failed login may make Nextcloud delay all logins from postern's address, so the delay is
	// asked for when failures differs from checked.
	failures atomic.Uint64
	checked  atomic.Uint64

	version atomic.Int32 // the server's major version; 0: not known
}

var _ Prober = (*nextcloud)(nil)

// NewNextcloud returns a backend that asks the Nextcloud at o.URL. It answers auth, and with a
// service account isuser, roster and setpass; without one, isuser is Unsure. It is a Prober. Its
// errors say what to correct in the options.
func NewNextcloud(o NextcloudOptions) (Backend, error) {
	o.URL = strings.TrimRight(o.URL, "/")
	if strings.ContainsAny(o.URL, "?#") {
		return nil, errors.New("url must have no query and no fragment: it is the base URL of Nextcloud")
	}
	if (o.AdminUser == "") != o.AdminPassword.Empty() || strings.Contains(o.AdminUser, ":") {
		return nil, errors.New("a service account needs both admin_user, without a colon, and admin_password")
	}
	client, err := newHTTPClient(o.HTTPOptions)
	if err != nil {
		return nil, err
	}
	o.MaxDelay = cmp.Or(o.MaxDelay, 1600*time.Millisecond)
	o.MaxMembers = cmp.Or(o.MaxMembers, 10000)
	n := &nextcloud{client: client, options: o, base: strings.TrimSuffix(client.target, "/"), now: time.Now, logins: newLoginCache(maxLogins)}
	if o.AdminUser != "" {
		n.service = &service{}
	}
	return n, nil
}

// Close implements Backend.
func (n *nextcloud) Close() error { n.client.close(); return nil }

// Ask implements Backend. The body of a roster has the form of the JSXC app's.
func (n *nextcloud) Ask(ctx context.Context, q Query) Result {
	switch q.Op {
	case auth.OpAuth, auth.OpIsUser:
	case auth.OpRoster, auth.OpSetPass:
		if n.service == nil && (q.Op == auth.OpRoster || q.Old.Empty()) {
			return Result{Class: Unsupported}
		}
	default:
		return Result{Class: Unsupported}
	}
	names := q.LoginNames()
	if len(names) == 0 {
		return Result{Class: Refused, Absent: true}
	}
	if q.Op == auth.OpIsUser && n.service == nil {
		return Result{Class: Unsure, Err: errNoService}
	}
	if r, delayed := n.delayed(ctx); delayed {
		return r
	}
	switch q.Op {
	case auth.OpAuth:
		return n.login(ctx, q, names)
	case auth.OpIsUser:
		id, r := n.account(ctx, q, names)
		if r.Class == Accepted {
			r.Account = q.accountOf(id)
		}
		return r
	case auth.OpSetPass:
		if !q.Old.Empty() {
			return n.changeOwn(ctx, q, names)
		}
		return n.setPassword(ctx, q, names)
	}
	return n.roster(ctx, q, names)
}

// Reasons for results.
var (
	errNoService = errors.New("users cannot be looked up without a service account (admin_user)")
	errOtherID   = errors.New("the login leads to an account of another name; accept_other_id would allow it")
	errAppToken  = errors.New("it has the form of an app password of Nextcloud, which is for programs: the page wants the account's own password")
	errAppOnly   = errors.New("the server refused the login without calling the password wrong: the user may need an app password (two-factor login, token_auth_enforced)")
)

// isAppToken reports whether a password has one of the forms in which Nextcloud makes app passwords: five groups of five
// letters and digits, for people to copy, and 72 of them, for its own programs. Nothing in its API separates them from
// passwords without making or deleting one.
func isAppToken(password string) bool {
	letters := 0
	for i, c := range []byte(password) {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
			letters++
		case c == '-' && len(password) == 29 && i%6 == 5:
		default:
			return false
		}
	}
	return letters == 72 || len(password) == 29 && letters == 25
}

// login checks a password. Every refused login name counts as a failure of postern's address, so
// once the login name of a user is known, no other is tried.
func (n *nextcloud) login(ctx context.Context, q Query, names []string) Result {
	switch password := q.Secret.Reveal(); {
	case password == "", password == "0": // PHP takes "0" for empty
		return Result{Class: Refused}
	case q.Own && isAppToken(password):
		return Result{Class: Refused, Err: errAppToken}
	}
	tried := names
	last, known := n.logins.get(q.key(), names)
	if known {
		tried = []string{last.name}
	}
	answer := Result{Class: Refused, Known: known && n.now().Sub(last.at) < knownFor}
	for i, name := range tried {
		id, r := n.try(ctx, q, name, names)
		switch {
		case r.Known && !n.options.AcceptOtherID && !among(id, names):
			answer.Err = errOtherID
			return answer
		case r.Class == Accepted:
			n.logins.put(q.key(), lastLogin{name, id, n.now()})
			r.Attempts, r.Account = i, q.accountOf(id)
			return r
		case r.Class == Refused:
			answer.Err = r.Err
			answer.Attempts++
			if r.Known { // a disabled account: no other backend may accept
				answer.Known, answer.Disabled = true, r.Disabled
				return answer
			}
		case i > 0:
			// The refusal may be right, so no cache may serve in grace.
			return Result{Class: Misconfigured, Suspect: true, Attempts: i, Err: fmt.Errorf("the password was refused under one login name, and under the next: %w", r.Err)}
		default:
			return r
		}
	}
	if n.service != nil {
		// A chain of backends needs to know whether the refused user exists here. This is not
		// asked before the login, since some of Nextcloud's user backends create an account at its
		// first login.
		_, r := n.account(ctx, q, names)
		switch {
		case r.Class == Accepted:
			answer.Known = true
		case r.Class == Refused && r.Absent:
			answer.Known, answer.Absent = false, true
		}
	}
	return answer
}

// accountOf returns the user of q as the server spells it, if id is one of the login names, and else
// id: the name of another account.
func (q *Query) accountOf(id string) string {
	rules := q.Logins
	if len(rules) == 0 {
		rules = []string{"{user}"}
	}
	for _, rule := range rules {
		before, after, _ := strings.Cut(rule, "{user}")
		before, after = ExpandLogin(before, q.User, q.Domain), ExpandLogin(after, q.User, q.Domain)
		if len(id) < len(before)+len(after) || auth.FoldUser(id) != auth.FoldUser(ExpandLogin(rule, q.User, q.Domain)) {
			continue
		}
		if user := id[len(before) : len(id)-len(after)]; auth.FoldUser(user) == auth.FoldUser(q.User) {
			return user
		}
		return q.User
	}
	return id
}

// among reports whether id is one of the login names. Nextcloud ignores their case.
func among(id string, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return auth.FoldUser(id) == auth.FoldUser(name) })
}

// try makes one attempt to log in. It returns the account's id. An account that is none of names may
// be that of a late response to an earlier request: the server is asked once more.
func (n *nextcloud) try(ctx context.Context, q Query, name string, names []string) (id string, r Result) {
	begun := n.now()
	login := n.request(http.MethodGet, "cloud/user", basic(name, q.Secret.Reveal()), nil)
	a, err := n.do(ctx, login)
	if err == nil && a.response.kept && a.ok() {
		if late, r := classifyAccount(a); r.Known && !among(late, names) {
			login.fresh = true
			a, err = n.do(ctx, login)
			if id, _ := classifyAccount(a); err == nil && id != late {
				n.client.pool.distrust(time.Now())
			}
		}
	}
	if n.now().Sub(begun) > n.options.MaxDelay {
		n.failures.Add(1) // other logins from this address may have failed
	}
	if err != nil {
		return "", unanswered(err)
	}
	if a.exception() && n.version.Load() == 0 { // its meaning depends on the version
		if _, err := n.Throttle(ctx); err == nil || errors.Is(err, ErrNoThrottle) {
			a.before29 = n.before29()
		}
	}
	id, r = classifyLogin(a, q.Secret.Reveal())
	r.Groups = groupsIn(a, r, q.Groups)
	if r.Class == Refused || r.Class == Throttled || a.status == http.StatusInternalServerError {
		n.failures.Add(1)
	}
	return id, r
}

// before29 reports whether the server is known to be older than Nextcloud 29.
func (n *nextcloud) before29() bool {
	v := n.version.Load()
	return v > 0 && v < 29
}

// classifyLogin classifies the answer to a login.
func classifyLogin(a ocs, secret string) (id string, r Result) {
	if r, ok := a.fault(secret); !ok {
		return "", r
	}
	switch {
	case a.refused():
		// Newer versions say this where they require an app password. The text is not translated.
		if strings.Contains(a.message, "not logged in") {
			return "", Result{Class: Refused, Err: errAppOnly}
		}
		return "", Result{Class: Refused}
	case a.ok():
		return classifyAccount(a)
	case a.status == http.StatusNotFound:
		return "", misconfigured("HTTP 404: the server has no user API; enable its app provisioning_api")
	}
	if a.status == http.StatusBadRequest {
		return "", misconfigured("HTTP 400: the server rejects the request")
	}
	return "", outage("HTTP %d (code %d): the server rejects the request, but does not call the login wrong", a.status, a.code)
}

// classifyAccount reads the account in an answer.
func classifyAccount(a ocs) (id string, r Result) {
	data, err := jsonobject.Split(a.data)
	if err != nil {
		return "", outage("HTTP 200, but the answer holds no account")
	}
	id, ok := text(data["id"])
	if !ok {
		return "", outage("HTTP 200, but the account has no id")
	}
	enabled := true
	if raw, given := data["enabled"]; given && json.Unmarshal(raw, &enabled) != nil {
		return "", outage("HTTP 200, but not whether the account is enabled")
	}
	if !enabled {
		return id, Result{Class: Refused, Known: true, Disabled: true, Err: errors.New("the account is disabled")}
	}
	return id, Result{Class: Accepted, Known: true}
}

// groupsIn returns what an answer about an account says of some groups.
func groupsIn(a ocs, r Result, asked []string) auth.Groups {
	if r.Class != Accepted || len(asked) == 0 {
		return ""
	}
	data, _ := jsonobject.Split(a.data)
	groups, listed := texts(data["groups"])
	if !listed {
		return ""
	}
	return auth.GroupsOf(asked, groups)
}

// basic is the value of an Authorization header.
func basic(name, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

// call sends a request to the API; see request and do.
func (n *nextcloud) call(ctx context.Context, method, path, authorization string, form []param) (ocs, error) {
	return n.do(ctx, n.request(method, path, authorization, form))
}

// request makes a request to the API. path is relative to /ocs/v2.php/ and may have a query.
// authorization may be empty.
func (n *nextcloud) request(method, path, authorization string, form []param) request {
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	q := request{method: method, target: n.base + "/ocs/v2.php/" + path + separator + "format=json",
		header: []headerField{{"Accept", "application/json"}, {"OCS-APIRequest", "true"}}}
	if authorization != "" {
		q.header = append(q.header, headerField{"Authorization", authorization})
	}
	if form != nil {
		q.header = append(q.header, headerField{"Content-Type", "application/x-www-form-urlencoded"})
		q.body = encodeForm(form)
	}
	return q
}

// do sends a request. An error means that no complete response came.
func (n *nextcloud) do(ctx context.Context, q request) (ocs, error) {
	r, err := n.client.do(ctx, q)
	if err != nil {
		return ocs{}, err
	}
	a := parseOCS(r)
	a.before29 = n.before29()
	return a, nil
}

// Status implements Prober.
func (n *nextcloud) Status(ctx context.Context) (s ServerStatus, err error) {
	r, err := n.client.do(ctx, request{method: http.MethodGet, target: n.base + "/status.php", header: []headerField{{"Accept", "application/json"}}})
	if err != nil {
		return s, err
	}
	if r.status >= 300 && r.status < 400 {
		return s, redirect(r, "").Err
	}
	fields, err := jsonobject.Split(r.body)
	if err != nil || r.status != http.StatusOK && r.status != http.StatusServiceUnavailable {
		return s, fmt.Errorf("HTTP %d: there is no Nextcloud at url: it must be the base URL of Nextcloud, without index.php", r.status)
	}
	for word, into := range map[string]any{"installed": &s.Installed, "maintenance": &s.Maintenance,
		"needsDbUpgrade": &s.NeedsUpgrade, "version": &s.Version} {
		if raw, given := fields[word]; given && json.Unmarshal(raw, into) != nil {
			return ServerStatus{}, fmt.Errorf("status.php answers, but its %s cannot be read", word)
		}
	}
	if fields["installed"] == nil || len(s.Version) > 32 {
		return ServerStatus{}, errors.New("status.php answers, but not like Nextcloud's; check url")
	}
	return s, nil
}

// Throttle implements Prober. It needs no login, so it is neither counted nor delayed.
func (n *nextcloud) Throttle(ctx context.Context) (s ThrottleState, err error) {
	a, err := n.call(ctx, http.MethodGet, "cloud/capabilities", "", nil)
	if err != nil {
		return s, err
	}
	if r, ok := a.fault(""); !ok {
		return s, r.Err
	}
	if v := parseVersion(a); v > 0 {
		n.version.Store(v)
	}
	s, err = parseThrottle(a)
	s.From = a.response.from
	return s, err
}

// parseVersion reads the server's major version in its capabilities; 0 if it is not there.
func parseVersion(a ocs) int32 {
	data, _ := jsonobject.Split(a.data)
	version, _ := jsonobject.Split(data["version"])
	var major int32
	if json.Unmarshal(version["major"], &major) != nil {
		return 0
	}
	return major
}

func parseThrottle(a ocs) (s ThrottleState, err error) {
	fields := map[string]json.RawMessage{"data": a.data}
	for _, word := range []string{"data", "capabilities", "bruteforce"} {
		if fields, err = jsonobject.Split(fields[word]); err != nil {
			return s, ErrNoThrottle
		}
	}
	var milliseconds float64
	if json.Unmarshal(fields["delay"], &milliseconds) != nil || milliseconds < 0 || milliseconds > 1e9 {
		return s, ErrNoThrottle
	}
	s.Delay = time.Duration(milliseconds * float64(time.Millisecond))
	s.ExemptKnown = json.Unmarshal(fields["allow-listed"], &s.Exempt) == nil
	return s, nil
}

// delayed reports whether the server delays logins by more than MaxDelay. Then it is not asked,
// since each delayed login occupies one of its processes. The delay is requested only after
// something failed.
func (n *nextcloud) delayed(ctx context.Context) (r Result, yes bool) {
	failures := n.failures.Load()
	if n.checked.Load() == failures {
		return r, false
	}
	s, err := n.Throttle(ctx)
	switch {
	case errors.Is(err, ErrNoThrottle):
	case err != nil:
		return r, false // the login itself will fail
	case s.Delay > n.options.MaxDelay:
		return Result{Class: Throttled, Err: fmt.Errorf("after failed logins the server delays every login from postern's address by %v: "+
			"%s in its brute-force settings, or reset the failures: %s", s.Delay, Exempting(s.From), ResetFailures(s.From))}, true
	}
	n.checked.Store(failures)
	return r, false
}

// Rights implements Prober.
func (n *nextcloud) Rights(ctx context.Context, known string) error {
	if n.service == nil {
		return errNoService
	}
	n.service.set(time.Time{}, time.Time{})
	if r, ok := n.prove(ctx, 0); !ok {
		return r.Err
	}
	if known == "" {
		return nil
	}
	a, r, ok := n.asService(ctx, http.MethodGet, "cloud/users/"+url.PathEscape(known), nil, false)
	switch {
	case !ok:
		return r.Err
	case !validAccount(known), missing(a):
		return errors.New("the service account may look up users, but the server has no account of the given name")
	case !a.ok():
		return errRights
	}
	return nil
}

const (
	rightsTTL  = time.Hour // how long a check of the service account's rights is valid
	refusalTTL = time.Hour // how long it is not tried again: each refusal counts as a failure
)

// service is the state of the service account. It is safe for concurrent use.
type service struct {
	mu      sync.Mutex
	proven  time.Time // when it last showed its rights
	refused time.Time // when its password was refused
	id      string    // of its account; empty: not known yet
}

// account returns the id of the service account, or "" if that is not known yet.
func (s *service) account() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

func (s *service) setAccount(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id = id
}

func (s *service) set(proven, refused time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proven, s.refused = proven, refused
}

func (s *service) get() (proven, refused time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proven, s.refused
}

// Retry implements Retrier: the service account, if there is one, is tried again.
func (n *nextcloud) Retry() {
	if s := n.service; s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.refused = time.Time{}
	}
}

// errService means that the service account cannot log in.
var errService = errors.New("the server refuses the service account: check admin_user and admin_password " +
	"(an app password made under that login name); it is not tried again for an hour, or until a restart or reload")

// errRights means that users may exist that the service account does not find.
var errRights = errors.New("the service account may not look up users: make admin_user an administrator, or a group administrator of their groups")

// validAccount reports whether a name can be an account's and a segment of a path. Neither a proxy
// nor Nextcloud may read another path in it.
func validAccount(name string) bool {
	return strings.Trim(name, ".") != "" && !strings.ContainsAny(name, "/\\")
}

// asService calls the API as the service account. If ok is false, r says why there is no answer.
// 400, 403 and 404 are answers for the caller to interpret. 401 means that the account is refused,
// unless expect401 is set.
func (n *nextcloud) asService(ctx context.Context, method, path string, form []param, expect401 bool) (a ocs, r Result, ok bool) {
	proven, refused := n.service.get()
	if !refused.IsZero() && n.now().Sub(refused) < refusalTTL {
		return a, Result{Class: Misconfigured, Err: errService}, false
	}
	password := n.options.AdminPassword.Reveal()
	a, err := n.call(ctx, method, path, basic(n.options.AdminUser, password), form)
	if err != nil {
		return a, unanswered(err), false
	}
	if r, ok = a.fault(password); !ok {
		return a, r, false
	}
	if a.status == http.StatusUnauthorized && !expect401 {
		n.failures.Add(1)
		n.service.set(proven, n.now())
		return a, Result{Class: Misconfigured, Err: errService}, false
	}
	return a, r, true
}

// missing reports whether the API says that an account does not exist. It uses the same code where
// the whole API is missing.
func missing(a ocs) bool {
	return a.status == http.StatusNotFound && a.code == http.StatusNotFound && !strings.HasPrefix(a.message, "Invalid query")
}

// find returns the first of some names that is an account. If none is, the class is Refused only
// if the service account may look users up; otherwise it is Unsure or Misconfigured.
func (n *nextcloud) find(ctx context.Context, q Query, names []string) (id string, r Result) {
	hidden := false
	for _, name := range names {
		if !validAccount(name) {
			continue
		}
		a, r, ok := n.asService(ctx, http.MethodGet, "cloud/users/"+url.PathEscape(name), nil, false)
		switch {
		case !ok:
			return "", r
		case missing(a):
		case a.ok():
			found, r := classifyAccount(a)
			if r.Class == Outage || !among(found, names) {
				return "", outage("HTTP 200, but the answer is of another account")
			}
			r = Result{Class: Accepted, Known: true, Disabled: r.Disabled} // a disabled account exists, too
			r.Groups = groupsIn(a, r, q.Groups)
			return found, r
		default:
			hidden = true
		}
	}
	switch r, ok := n.prove(ctx, rightsTTL); {
	case !ok:
		return "", r
	case hidden:
		return "", Result{Class: Unsure, Err: errRights}
	}
	return "", Result{Class: Refused, Absent: true}
}

// prove checks that the service account may look up users: an account without rights gets a 404
// for every name. A check is valid for ttl.
func (n *nextcloud) prove(ctx context.Context, ttl time.Duration) (r Result, ok bool) {
	if proven, _ := n.service.get(); !proven.IsZero() && n.now().Sub(proven) < ttl {
		return r, true
	}
	a, r, ok := n.asService(ctx, http.MethodGet, "cloud/users?limit=1", nil, false)
	switch {
	case !ok:
		return r, false
	case a.ok():
		n.service.set(n.now(), time.Time{})
		return Result{}, true
	case a.status == http.StatusNotFound:
		return misconfigured("HTTP 404: the server has no user API; enable its app provisioning_api"), false
	}
	return Result{Class: Misconfigured, Err: errRights}, false
}

// account returns the id of a user's account: that of the last login, if it still exists, or the
// first of the login names that is one.
func (n *nextcloud) account(ctx context.Context, q Query, names []string) (id string, r Result) {
	if last, known := n.logins.get(q.key(), names); known {
		if id, r = n.find(ctx, q, []string{last.id}); r.Class != Refused {
			return id, r
		}
		n.logins.remove(q.key())
	}
	id, r = n.find(ctx, q, names)
	if r.Class == Refused && n.options.AcceptOtherID {
		return "", Result{Class: Unsure, Err: errors.New("no account has this name, but a login may lead to one of another name")}
	}
	return id, r
}

// Reasons against setting a password.
var (
	errOtherChange    = errors.New("logins by this name lead to an account of another name, whose password is not set")
	errServiceAccount = errors.New("it is the service account, whose password is not set on request")
	errAdministrator  = errors.New("it is an administrator of the server, whose password is not set unless change_admins = true")
	errGroups         = errors.New("the service account may not see the user's groups, so the user may be an administrator")
)

// adminGroup has the administrators of a Nextcloud.
const adminGroup = "admin"

// changeable checks that an account is not the service account, under whatever name that logs in,
// and not an administrator's unless admins allows it. If ok is false, r says why.
func (n *nextcloud) changeable(ctx context.Context, id string, admins bool) (r Result, ok bool) {
	own := n.service.account()
	if own == "" {
		a, r, ok := n.asService(ctx, http.MethodGet, "cloud/user", nil, false)
		if !ok {
			return r, false
		}
		if !a.ok() {
			return misconfigured(fmt.Sprintf("HTTP %d: the service account cannot see its own account", a.status)), false
		}
		if own, r = classifyAccount(a); own == "" {
			return r, false
		}
		n.service.setAccount(own)
	}
	if auth.FoldUser(id) == auth.FoldUser(own) || auth.FoldUser(id) == auth.FoldUser(n.options.AdminUser) {
		return Result{Class: Refused, Known: true, Err: errServiceAccount}, false
	}
	if admins {
		return r, true
	}
	a, r, ok := n.asService(ctx, http.MethodGet, "cloud/users/"+url.PathEscape(id)+"/groups", nil, false)
	if !ok {
		return r, false
	}
	data, err := jsonobject.Split(a.data)
	groups, listed := texts(data["groups"])
	switch {
	case !a.ok():
		return Result{Class: Unsure, Err: errGroups}, false
	case err != nil, !listed:
		return outage("HTTP 200, but the answer holds no groups"), false
	case slices.Contains(groups, adminGroup):
		return Result{Class: Refused, Known: true, Err: errAdministrator}, false
	}
	return r, true
}

// changeOwn sets a user's password as that user, by the old one. So it needs no service account, and
// administrators may do it as well.
func (n *nextcloud) changeOwn(ctx context.Context, q Query, names []string) Result {
	login := q
	login.Op, login.Secret, login.Own = auth.OpAuth, q.Old, true
	if r := n.login(ctx, login, names); r.Class != Accepted {
		return r
	}
	last, known := n.logins.get(q.key(), names)
	if !known {
		return outage("the login that was just accepted is not known any more")
	}
	form := []param{{"key", "password"}, {"value", q.Secret.Reveal()}}
	a, err := n.call(ctx, http.MethodPut, "cloud/users/"+url.PathEscape(last.id), basic(last.name, q.Old.Reveal()), form)
	if err != nil {
		return unanswered(err)
	}
	if r, ok := a.fault(q.Old.Reveal()); !ok {
		return r
	}
	if a.ok() {
		return Result{Class: Accepted, Known: true, Account: q.accountOf(last.id)}
	}
	return a.refusal("the server does not let the user change the password")
}

// refusal is the result of an answer other than success to a change of a password. forbidden says what it means
// that it is not for the password.
func (a *ocs) refusal(forbidden string) Result {
	switch {
	case a.status == http.StatusBadRequest && a.code == ocsNoPassword:
		return Result{Class: Unsupported}
	case a.status == http.StatusBadRequest:
		return Result{Class: Refused, Known: true, Err: fmt.Errorf("the server rejects the new password (code %d): see its password policy", a.code)}
	}
	return misconfigured(fmt.Sprintf("HTTP %d: %s", a.status, forbidden))
}

// setPassword sets a user's password as the service account: most front ends do not send the old
// password, which the user would need for it.
func (n *nextcloud) setPassword(ctx context.Context, q Query, names []string) Result {
	id, r := n.account(ctx, q, names)
	if r.Class != Accepted {
		return r
	}
	if !among(id, names) { // where the last login led to
		return Result{Class: Refused, Err: errOtherChange}
	}
	if r, ok := n.changeable(ctx, id, q.ChangeAdmins); !ok {
		return r
	}
	password := q.Secret.Reveal()
	form := []param{{"key", "password"}, {"value", password}}
	a, r, ok := n.asService(ctx, http.MethodPut, "cloud/users/"+url.PathEscape(id), form, true)
	switch {
	case !ok:
		return r
	case a.ok():
		return Result{Class: Accepted, Known: true, Account: q.accountOf(id)}
	}
	return a.refusal("the service account may not change this user's password; some versions want its real password for that, not an app password")
}

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
	data, err := jsonobject.Split(a.data)
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
		case offset == 0 && (a.status == http.StatusUnauthorized || a.status == http.StatusForbidden): // some versions hide details from group administrators
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
	data, err := jsonobject.Split(a.data)
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
	data, err := jsonobject.Split(raw)
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
	users, err := jsonobject.Split(data["users"])
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
	fields, err := jsonobject.Split(entry)
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
