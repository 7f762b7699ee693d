package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"postern/internal/auth"
)

// Prober is what a backend has that can be examined by an administrator's tool, beside the
// questions of the daemon. Its errors say what to do and hold no secret.
type Prober interface {
	// Status asks what the server says of itself.
	Status(ctx context.Context) (ServerStatus, error)
	// Throttle asks how the server treats logins from postern's own address.
	Throttle(ctx context.Context) (ThrottleState, error)
	// Rights proves that the service account can log in, may look up users, and finds known,
	// an account's name, unless that is empty. It asks anew, whatever is remembered.
	Rights(ctx context.Context, known string) error
}

// Signed is a backend whose server answers only those who sign with the right secret.
type Signed interface {
	// Forged puts a question with a signature that is surely wrong. Its Result should be
	// Misconfigured by ErrSignature.
	Forged(ctx context.Context, q Query) Result
}

// Forged implements Signed.
func (j *jsxc) Forged(ctx context.Context, q Query) Result {
	secret := auth.NewSecret("not " + j.secret.Reveal())
	return (&jsxc{j.client, secret, newSigner(secret)}).Ask(ctx, q)
}

// ServerStatus is what a Nextcloud says of itself in status.php.
type ServerStatus struct {
	Installed    bool
	Maintenance  bool
	NeedsUpgrade bool
	Version      string // such as 31.0.4.1
}

// ThrottleState is how a server treats logins from one address.
type ThrottleState struct {
	Delay       time.Duration // of every login, right or wrong
	Exempt      bool          // failed logins from there are not counted
	ExemptKnown bool          // the server tells whether the address is exempt
}

// Status implements Prober.
func (n *nextcloud) Status(ctx context.Context) (s ServerStatus, err error) {
	r, err := n.client.do(ctx, call{method: http.MethodGet, target: n.base + "/status.php", header: []field{{"Accept", "application/json"}}})
	if err != nil {
		return s, err
	}
	if r.status >= 300 && r.status < 400 {
		return s, redirectError(r.status, r.location, "")
	}
	fields, err := object(r.body)
	if err != nil || r.status != http.StatusOK && r.status != http.StatusServiceUnavailable {
		return s, fmt.Errorf("HTTP %d: there is no Nextcloud at url: it must be where Nextcloud starts, without index.php", r.status)
	}
	for word, into := range map[string]any{"installed": &s.Installed, "maintenance": &s.Maintenance,
		"needsDbUpgrade": &s.NeedsUpgrade, "version": &s.Version} {
		if raw, given := fields[word]; given && json.Unmarshal(raw, into) != nil {
			return ServerStatus{}, fmt.Errorf("status.php answers, but its %s cannot be read", word)
		}
	}
	if fields["installed"] == nil || len(s.Version) > 32 {
		return ServerStatus{}, errors.New("status.php answers, but not as Nextcloud's does; check url")
	}
	return s, nil
}

// ErrNoThrottle means that the server keeps its brute-force state to itself, or has none.
var ErrNoThrottle = errors.New("the server does not tell how it slows down logins")

// Throttle implements Prober. It needs no login, so it is neither counted nor delayed.
func (n *nextcloud) Throttle(ctx context.Context) (s ThrottleState, err error) {
	a, err := n.ask(ctx, http.MethodGet, "cloud/capabilities", "", nil)
	if err != nil {
		return s, err
	}
	if r, ok := a.fault(""); !ok {
		return s, r.Err
	}
	return parseThrottle(a)
}

func parseThrottle(a ocs) (s ThrottleState, err error) {
	fields := map[string]json.RawMessage{"data": a.data}
	for _, word := range []string{"data", "capabilities", "bruteforce"} {
		if fields, err = object(fields[word]); err != nil {
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

// slowed reports whether the server slows every login down for longer than may be: then
// nobody is asked about, since each login would hold one of its processes. It looks only
// after something failed.
func (n *nextcloud) slowed(ctx context.Context) (r Result, slow bool) {
	failures := n.failures.Load()
	if n.looked.Load() == failures {
		return r, false
	}
	s, err := n.Throttle(ctx)
	switch {
	case errors.Is(err, ErrNoThrottle):
	case err != nil:
		return r, false // the login itself will tell
	case s.Delay > n.options.MaxDelay:
		return Result{Class: Throttled, Err: fmt.Errorf("the server slows every login from postern's address down by %v, after failed ones; "+
			"exempt the address there (brute-force settings), or forget the failures with occ security:bruteforce:reset", s.Delay)}, true
	}
	n.looked.Store(failures)
	return r, false
}

// Rights implements Prober.
func (n *nextcloud) Rights(ctx context.Context, known string) error {
	if n.service == nil {
		return errNoService
	}
	n.service.note(time.Time{}, time.Time{})
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
	case !accountName(known), missing(a):
		return errors.New("the service account may look up users, but the server has no account of the given name")
	case !a.fine():
		return errRights
	}
	return nil
}
