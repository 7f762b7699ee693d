// Package nextcloudtest is a Nextcloud for tests: its OCS API as far as a broker meets it, with
// users, app passwords bound to login names, two-factor login, disabled accounts, group
// administrators, maintenance, and the brute-force protection that counts failed logins per
// address and slows down what follows (FIELD 3.2, 3.3). Its clock is virtual: a login that
// is slowed down moves the clock instead of waiting.
package nextcloudtest

import (
	"encoding/base64"
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
	remembered  = 12 * time.Hour   // failed logins that slow down
	blocked     = 30 * time.Minute // failed logins that block
)

// AppPassword is a secret that logs in under one login name only, letter case aside.
type AppPassword struct {
	Secret, Login string
	Expired       bool
}

// User is an account.
type User struct {
	ID, Password, Name, Mail string
	Groups                   []string // those of "admin" are administrators
	Administers              []string // groups
	Disabled, TwoFactor      bool
	AppPasswords             []AppPassword
	Gone                     bool // still listed in its groups, but no account any more
}

// State is what a test may change about a server.
type State struct {
	Users           []*User
	Maintenance     bool
	ProvisioningOff bool                                              // the app provisioning_api is disabled
	TokenOnly       bool                                              // token_auth_enforced
	AllowListed     []netip.Prefix                                    // addresses whose failures do not count
	Before29        bool                                              // 500 with 996 in place of 429, and capabilities without allow-listed
	NoDetails       bool                                              // group administrators see no details (as in 30.0.9)
	StrictConfirm   bool                                              // changes want the account's own password
	MinPassword     int                                               // the password policy
	FixedPasswords  bool                                              // the users' backend sets no passwords
	Instead         func(w http.ResponseWriter, r *http.Request) bool // true: it has answered
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

// Start starts a server with these users. The caller calls stop.
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

// Now is the time of the server's clock.
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

// Slept is how long logins were slowed down, in all.
func (s *Server) Slept() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slept
}

// Attempts is how many failed logins from an address are remembered.
func (s *Server) Attempts(address string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count(subnet(address), remembered)
}

// Session is the User-Agent of an account's last login, which names its session.
func (s *Server) Session(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[id]
}

// Requests returns what was asked since the last call: method, path behind /ocs/v2.php/, and
// the login name, if any.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.requests
	s.requests = nil
	return out
}

// subnet is what failed logins are counted by: an IPv4 address, or 56 bits of IPv6.
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
	prefix, _ := addr.Prefix(bits) // it fails for impossible lengths only
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

// delay is how long each login from an address waits.
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

// sleep slows a login down; false means that it is blocked.
func (s *Server) sleep(from netip.Prefix) bool {
	d := s.delay(from)
	if d == maxDelay && s.count(from, blocked) > maxAttempts {
		return false
	}
	s.now, s.slept = s.now.Add(d), s.slept+d
	return true
}

// outcome is what a login came to.
type outcome uint8

const (
	anonymous outcome = iota // no login, or a password where only app passwords are taken
	loggedIn
	wrong
	tooMany
)

// login is Nextcloud's way with a Basic login.
func (s *Server) login(r *http.Request) (*User, outcome) {
	name, password, ok := basicAuth(r)
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
		return nil, wrong // without a count
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
		return nil, wrong // without a count
	}
	s.sessions[user.ID] = r.UserAgent()
	return user, loggedIn
}

func basicAuth(r *http.Request) (name, password string, ok bool) {
	encoded, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Basic ")
	if !ok {
		return "", "", false
	}
	plain, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(plain), ":")
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

// byID finds an account by its name, letter case aside.
func (s *Server) byID(id string) *User {
	for _, u := range s.state.Users {
		if !u.Gone && strings.EqualFold(u.ID, id) {
			return u
		}
	}
	return nil
}

// byName finds an account by its name, or by a mail address that only one account has.
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
