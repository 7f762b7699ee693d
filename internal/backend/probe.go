package backend

import (
	"context"
	"errors"
	"net/netip"
	"time"
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

// Publisher is implemented by backends of an OpenID Connect provider, for package doctor.
type Publisher interface {
	// Discover fetches the discovery document.
	Discover(ctx context.Context) Result
	// Keys fetches the keys, and returns how many can sign tokens.
	Keys(ctx context.Context) (int, Result)
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

	// From is the address of this machine towards the server, which has another one for it if the
	// network translates addresses; not valid through a proxy.
	From netip.Addr
}

// ErrNoThrottle means that the server does not publish its brute-force protection, or has none.
var ErrNoThrottle = errors.New("the server does not say how it delays logins")
