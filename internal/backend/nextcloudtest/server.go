// Package nextcloudtest is a Nextcloud for tests: status.php and the part of the OCS API that a
// broker uses. It was written from the source of Nextcloud 28 to 31, and covers what distinguishes
// them from a plain password check:
//
//   - app passwords, which work only with the login name they were made for;
//   - accounts with two-factor login, which refuse their real password without counting a failure,
//     and disabled accounts;
//   - logins by mail address, which lead to an account of another name;
//   - group administrators, and the 404 that accounts without rights get for every user;
//   - PHP's JSON, in which a map with the keys 0, 1, 2 and so on is a list;
//   - the brute-force protection: failed logins are counted per IPv4 address or IPv6 /56 for 12
//     hours and delay every login from there, right or wrong, by 0.1 s times 2^n up to 25 s; more
//     than 10 failures within 30 minutes block it (429, or 500 with code 996 before version 29).
//
// The server's clock is virtual: a delayed login advances it instead of waiting.
package nextcloudtest

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// The figures of Nextcloud's brute-force protection.
const (
	maxAttempts = 10
	maxDelay    = 25 * time.Second
	remembered  = 12 * time.Hour   // how long a failed login delays others
	blocked     = 30 * time.Minute // how long it counts towards maxAttempts
)

// AppPassword is a secret that works with one login name only. The name's letter case is ignored.
type AppPassword struct {
	Secret, Login string
	Expired       bool
}

// User is an account.
type User struct {
	ID, Password, Name, Mail string
	Groups                   []string // members of "admin" are administrators
	Administers              []string // groups of which it is a group administrator
	Disabled, TwoFactor      bool
	AppPasswords             []AppPassword
	Gone                     bool // deleted, but still a member of its groups
}

// State is the data and the settings of a server, for tests to change.
type State struct {
	Users           []*User
	Maintenance     bool
	ProvisioningOff bool                                              // the app provisioning_api is disabled
	TokenOnly       bool                                              // token_auth_enforced
	AllowListed     []netip.Prefix                                    // addresses exempt from the brute-force protection
	Before29        bool                                              // 500 with code 996 instead of 429, and capabilities without allow-listed
	NoDetails       bool                                              // group administrators may not see details of members (as in 30.0.9)
	StrictConfirm   bool                                              // changes need the real password, not an app password
	MinPassword     int                                               // minimum length of new passwords
	FixedPasswords  bool                                              // the user backend cannot set passwords
	Instead         func(w http.ResponseWriter, r *http.Request) bool // called first; true if it has answered
}

// Server is a running Nextcloud.
type Server struct {
	URL string

	mu       sync.Mutex
	state    State
	now      time.Time
	slept    time.Duration
	attempts map[netip.Prefix][]time.Time
	requests []string
	sessions map[string]string
}

// Start starts a server with these users. The caller must call stop.
func Start(users ...*User) (s *Server, stop func()) {
	s = &Server{
		state: State{Users: users}, now: time.Unix(1_700_000_000, 0),
		attempts: make(map[netip.Prefix][]time.Time), sessions: make(map[string]string),
	}
	server := httptest.NewServer(s)
	s.URL = server.URL
	return s, server.Close
}

// Change changes the server's state.
func (s *Server) Change(change func(*State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.state)
}

// Now returns the time of the server's clock.
func (s *Server) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// Advance moves the server's clock.
func (s *Server) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

// Slept returns the total delay of logins.
func (s *Server) Slept() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slept
}

// Attempts returns how many failed logins from an address are remembered.
func (s *Server) Attempts(address string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count(subnet(address), remembered)
}

// Session returns the User-Agent of an account's last login, which is the name of its session.
func (s *Server) Session(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[id]
}

// Requests returns the requests since the last call: method, path relative to /ocs/v2.php/, and
// login name, if any.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.requests
	s.requests = nil
	return out
}

// subnet is the unit of counting failed logins: an IPv4 address, or an IPv6 /56.
func subnet(address string) netip.Prefix {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}
	}
	addr = addr.Unmap()
	bits := 32
	if addr.Is6() {
		bits = 56
	}
	prefix, _ := addr.Prefix(bits) // fails for impossible lengths only
	return prefix
}

func (s *Server) count(from netip.Prefix, within time.Duration) (n int) {
	for _, at := range s.attempts[from] {
		if s.now.Sub(at) < within {
			n++
		}
	}
	return n
}

func (s *Server) exempt(from netip.Prefix) bool {
	return slices.ContainsFunc(s.state.AllowListed, func(p netip.Prefix) bool { return p.Contains(from.Addr()) })
}

// delay returns the delay of each login from an address.
func (s *Server) delay(from netip.Prefix) time.Duration {
	n := s.count(from, remembered)
	switch {
	case n == 0, s.exempt(from):
		return 0
	case n > maxAttempts:
		return maxDelay
	}
	return min(100*time.Millisecond<<n, maxDelay)
}

// sleep delays a login. It returns false if the login is blocked.
func (s *Server) sleep(from netip.Prefix) bool {
	d := s.delay(from)
	if d == maxDelay && s.count(from, blocked) > maxAttempts {
		return false
	}
	s.now, s.slept = s.now.Add(d), s.slept+d
	return true
}

// outcome is the result of a login.
type outcome uint8

const (
	anonymous outcome = iota // no login, or a real password where only app passwords are accepted
	loggedIn
	wrong
	tooMany
)

// login handles a Basic login as Nextcloud does.
func (s *Server) login(r *http.Request) (*User, outcome) {
	name, password, ok := r.BasicAuth()
	if !ok || password == "" || password == "0" || name == "" || name == "0" {
		return nil, anonymous
	}
	host, _, _ := net.SplitHostPort(r.RemoteAddr) // the server's own
	from := subnet(host)
	waited := s.delay(from)
	if !s.sleep(from) {
		return nil, tooMany
	}
	owner, token := s.appPassword(password)
	user := s.byName(name)
	switch {
	case token != nil && token.Expired:
		return nil, wrong // not counted
	case token == nil && s.state.TokenOnly, token == nil && user != nil && user.TwoFactor:
		return nil, anonymous
	case token != nil && !strings.EqualFold(token.Login, name), token == nil && (user == nil || user.Password != password):
		if !s.exempt(from) {
			s.attempts[from] = append(s.attempts[from], s.now)
		}
		if waited == 0 && !s.sleep(from) {
			return nil, tooMany
		}
		return nil, wrong
	case token != nil:
		user = owner
	}
	if user.Disabled {
		return nil, wrong // not counted
	}
	s.sessions[user.ID] = r.UserAgent()
	return user, loggedIn
}

func (s *Server) appPassword(secret string) (*User, *AppPassword) {
	for _, u := range s.state.Users {
		for i := range u.AppPasswords {
			if u.AppPasswords[i].Secret == secret {
				return u, &u.AppPasswords[i]
			}
		}
	}
	return nil, nil
}

// byID finds an account by its name, ignoring case.
func (s *Server) byID(id string) *User {
	for _, u := range s.state.Users {
		if !u.Gone && strings.EqualFold(u.ID, id) {
			return u
		}
	}
	return nil
}

// byName finds an account by its name, or by a mail address that no other account has.
func (s *Server) byName(name string) *User {
	if u := s.byID(name); u != nil || !strings.Contains(name, "@") {
		return u
	}
	var found *User
	for _, u := range s.state.Users {
		if !u.Gone && u.Mail != "" && strings.EqualFold(u.Mail, name) {
			if found != nil {
				return nil
			}
			found = u
		}
	}
	return found
}
