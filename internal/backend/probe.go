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

// Prober is implemented by backends with further questions for package doctor. The errors say
// what to do and hold no secret.
type Prober interface {
	// Status reads the server's public status page.
	Status(ctx context.Context) (ServerStatus, error)
	// Throttle asks how the server treats logins from postern's address.
	Throttle(ctx context.Context) (ThrottleState, error)
	// Rights checks that the service account can log in, may look up users, and finds the account
	// known, unless that is empty. It ignores earlier checks.
	Rights(ctx context.Context, known string) error
}

// Signed is implemented by backends that sign their requests.
type Signed interface {
	// Forged asks q with a wrong signature. Its result should be Misconfigured with ErrSignature.
	Forged(ctx context.Context, q Query) Result
}

// Forged implements Signed.
func (j *jsxc) Forged(ctx context.Context, q Query) Result {
	secret := auth.NewSecret("not " + j.secret.Reveal())
	return (&jsxc{j.client, secret, newSigner(secret)}).Ask(ctx, q)
}

// ServerStatus is the content of Nextcloud's status.php.
type ServerStatus struct {
	Installed    bool
	Maintenance  bool
	NeedsUpgrade bool
	Version      string // such as 31.0.4.1
}

// ThrottleState is how a server treats logins from postern's address.
type ThrottleState struct {
	Delay       time.Duration // of every login, right or wrong
	Exempt      bool          // failed logins from there are not counted
	ExemptKnown bool          // the server says whether the address is exempt
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
	fields, err := object(r.body)
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

// ErrNoThrottle means that the server does not publish its brute-force protection, or has none.
var ErrNoThrottle = errors.New("the server does not say how it delays logins")

// Throttle implements Prober. It needs no login, so it is neither counted nor delayed.
func (n *nextcloud) Throttle(ctx context.Context) (s ThrottleState, err error) {
	a, err := n.call(ctx, http.MethodGet, "cloud/capabilities", "", nil)
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
		return Result{Class: Throttled, Err: fmt.Errorf("after failed logins the server delays every login from postern's address by %v; "+
			"exempt the address there (brute-force settings), or reset the failures with occ security:bruteforce:reset", s.Delay)}, true
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
