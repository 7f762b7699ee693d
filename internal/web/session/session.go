// Package session keeps the sign-ins to a page, in memory: a restart ends all sessions.
//
// A session is known by a random number in a cookie that no other site of a domain can set or read, and that browsers
// send with requests of this site only. The store has hashes of the numbers. Forms carry a token of their session.
package session

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"sync"
	"time"

	"postern/internal/auth"
)

// Options are the rules of a page's sessions. Zero values mean the defaults.
type Options struct {
	Page  string           // name of the page, which its cookie has
	Idle  time.Duration    // a session without a request for so long ends; 15 minutes
	Life  time.Duration    // the longest session; 12 hours
	Most  int              // sessions; one more ends the one that was idle for longest; 1,024
	Each  int              // sessions of one account, likewise, so that it cannot end those of all others; 16
	Clock func() time.Time // time.Now
}

// Refresh is the header of requests that a page makes by itself. They do not keep a session from ending.
const Refresh = "X-Postern-Refresh"

// Store has the sessions of a page. It is safe for concurrent use.
type Store struct {
	options Options

	mu  sync.Mutex
	all map[key]*Session
}

// key is the hash of the number in a cookie.
type key [sha256.Size]byte

// Session is an account that is signed in. It is immutable but for used.
type Session struct {
	Account auth.Identity // as its authority names it
	Since   time.Time

	token string
	used  time.Time // last; under the lock of the store
}

// New returns a store without sessions.
func New(o Options) *Store {
	if o.Idle == 0 {
		o.Idle = 15 * time.Minute
	}
	if o.Life == 0 {
		o.Life = 12 * time.Hour
	}
	if o.Most == 0 {
		o.Most = 1024
	}
	if o.Each == 0 {
		o.Each = 16
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return &Store{options: o, all: make(map[key]*Session)}
}

// cookie returns the cookie of the page. The prefix has browsers refuse it unless it comes from this host by https.
func (s *Store) cookie(value string) *http.Cookie {
	return &http.Cookie{
		Name: s.Cookie(), Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	}
}

// Cookie is the name of the page's cookie.
func (s *Store) Cookie() string { return "__Host-postern-" + s.options.Page }

// Begin signs an account in, under a new number, whatever the browser has sent. A session of the browser before ends.
func (s *Store) Begin(w http.ResponseWriter, r *http.Request, account auth.Identity) *Session {
	now := s.options.Clock()
	session := &Session{Account: account, Since: now, token: rand.Text(), used: now}
	number := rand.Text() + rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	if k, ok := s.sent(r); ok {
		delete(s.all, k)
	}
	s.prune(account, now)
	s.all[sha256.Sum256([]byte(number))] = session
	http.SetCookie(w, s.cookie(number))
	return session
}

// prune ends the sessions that are over, and makes room for one more of an account.
func (s *Store) prune(account auth.Identity, now time.Time) {
	of := 0
	for k, session := range s.all {
		if s.over(session, now) {
			delete(s.all, k)
		} else if session.Account == account {
			of++
		}
	}
	if of >= s.options.Each {
		s.endIdlest(func(o *Session) bool { return o.Account == account })
	} else if len(s.all) >= s.options.Most {
		s.endIdlest(func(*Session) bool { return true })
	}
}

// endIdlest ends the session that was idle for longest, of those that count.
func (s *Store) endIdlest(counts func(*Session) bool) {
	var idlest *Session
	var at key
	for k, session := range s.all {
		if counts(session) && (idlest == nil || session.used.Before(idlest.used)) {
			idlest, at = session, k
		}
	}
	delete(s.all, at)
}

func (s *Store) over(session *Session, now time.Time) bool {
	return now.Sub(session.used) >= s.options.Idle || now.Sub(session.Since) >= s.options.Life || now.Before(session.Since)
}

// sent returns the key of the cookie in a request. Two of the name are none: browsers send one.
func (s *Store) sent(r *http.Request) (k key, ok bool) {
	cookies := r.CookiesNamed(s.Cookie())
	if len(cookies) != 1 || len(cookies[0].Value) > 128 {
		return k, false
	}
	return sha256.Sum256([]byte(cookies[0].Value)), true
}

// Of returns the session of a request; nil if there is none.
func (s *Store) Of(r *http.Request) *Session {
	k, ok := s.sent(r)
	if !ok {
		return nil
	}
	now := s.options.Clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.all[k]
	if session == nil {
		return nil
	}
	if s.over(session, now) {
		delete(s.all, k)
		return nil
	}
	if r.Header.Get(Refresh) == "" {
		session.used = now
	}
	return session
}

// End ends the session of a request, and has the browser forget its cookie.
func (s *Store) End(w http.ResponseWriter, r *http.Request) {
	if k, ok := s.sent(r); ok {
		s.mu.Lock()
		delete(s.all, k)
		s.mu.Unlock()
	}
	gone := s.cookie("")
	gone.MaxAge = -1
	http.SetCookie(w, gone)
}

// EndAll ends the sessions of an account in all browsers.
func (s *Store) EndAll(account auth.Identity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, session := range s.all {
		if session.Account == account {
			delete(s.all, k)
		}
	}
}

// Token is what the forms of the session carry.
func (s *Session) Token() string { return s.token }

// Owns reports whether a form is of this session, by its token. It takes the same time for every token of the right
// length.
func (s *Session) Owns(token string) bool {
	return subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) == 1
}
