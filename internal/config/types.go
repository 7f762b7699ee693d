package config

import (
	"net/netip"
	"os"
	"time"

	"postern/internal/auth"
)

// Config is a validated configuration with every default filled in.
type Config struct {
	DataDir      string        // absolute
	DrainTimeout time.Duration // how long SIGTERM waits for requests in flight
	Listeners    []Listener
	Backends     []Backend // in the order of the file
	Domains      []Domain  // "*", if present, is the fallback
	Registry     Registry
	Metrics      string // host:port at which they are served by HTTP; empty: nowhere
	Log          Log
}

// Listener is one endpoint.
type Listener struct {
	Name     string
	Protocol string // ejabberd, generic, saslauthd, tcp_table or socketmap
	Network  string // "tcp", "unix" or "systemd"
	Address  string // host:port, an absolute path (relative ones are resolved against DataDir), or a socket's name

	// Unix sockets only. Owner and Group are names or numbers; empty keeps the process's own.
	Mode         os.FileMode
	Owner, Group string

	DefaultDomain  string        // for logins that carry no domain; canonical, may be empty
	Deadline       time.Duration // a request is answered within it, whatever happens
	IdleTimeout    time.Duration // between requests; 0 means none
	FrameTimeout   time.Duration // for the rest of a request whose first byte has come
	WriteTimeout   time.Duration // for a peer that does not read its answers
	MaxFrame       int           // bytes of a frame or line
	Pipeline       int           // requests of one connection in flight before reading stops
	MaxConnections int           // further ones wait in the kernel's queue
	BinaryAnswers  bool          // ejabberd: never answer 2, for MongooseIM

	// tcp_table and socketmap: the characters of which the first one in a local part begins an
	// address extension, as in Postfix; empty: none does.
	RecipientDelimiter string
}

// BackendRef names a backend as the configuration does: backend.KIND.NAME.
type BackendRef struct{ Kind, Name string }

// String returns KIND.NAME.
func (r BackendRef) String() string { return r.Kind + "." + r.Name }

// Backend is one backend block. Fields that a kind does not have stay zero.
type Backend struct {
	BackendRef
	URL            string      // nextcloud, jsxc, json
	Secret         auth.Secret // jsxc: the API secret
	CAFile         string      // PEM file that replaces the system's roots
	CASum          [32]byte    // SHA-256 of what it held, so that a reload sees another content
	UserAgent      string
	ConnectTimeout time.Duration
	Timeout        time.Duration // of a whole request
	MaxResponse    int64         // bytes
	Path           string        // users: the file, absolute
	BcryptCost     int           // users: for new passwords

	AdminUser     string        // nextcloud: the service account, empty: none
	AdminPassword auth.Secret   // nextcloud
	AcceptOtherID bool          // nextcloud: a login may resolve to an account of another name
	MaxDelay      time.Duration // nextcloud: slowed down further, it is left alone
	MaxMembers    int           // nextcloud: people of one shared roster

	Slots           int           // requests at the backend at once
	Queue           int           // requests that may wait for a slot; further ones are answered at once
	BreakerFailures int           // outages in a row that open the breaker
	BreakerCooldown time.Duration // first pause of an open breaker; it doubles up to ten times as long

	RefusalBudget int           // refusals that may reach it within RefusalWindow; 0: any number
	RefusalWindow time.Duration // 0 for kinds without a budget
}

// Domain is what postern knows of one XMPP or mail domain.
type Domain struct {
	Name        string // canonical, or "*"
	Backends    []BackendRef
	AuthDomains []string // names of the domain at its backends, asked in turn; empty: its own
	Login       []string // rules for login names at nextcloud backends, in turn
	JSXC        *JSXCToken
	TOTP        *TOTPToken
	Cache       Cache
	Limit       Limit
	Roster      *Roster // nil: shared rosters are not kept
}

// Limit says how many refused passwords are too many. Zero numbers limit nothing.
type Limit struct {
	UserRefusals    int // of different passwords of a user within Window
	AddressRefusals int // of what comes from a client's address
	Window          time.Duration
	FirstPause      time.Duration // doubles with each refusal that follows
	LongestPause    time.Duration
	Exempt          []netip.Prefix // addresses that are not limited
}

// Registry says how the domains live that are registered with `postern domain`.
type Registry struct {
	Declared bool          // the block is there, so the store is opened for it
	Idle     time.Duration // without a request, after which a domain's actors are stopped; 0 means never
	MaxLive  int           // domains that may have actors when there are idle ones among them; 0 means any number
	Cache    Cache         // of each
	Limit    Limit         // of each: that of the file
}

// JSXCToken configures time-limited tokens of JSXC.
type JSXCToken struct {
	Secrets []auth.Secret // all are valid; the first one issues
	TTL     time.Duration // of issued tokens
}

// TOTPToken configures the single-use tokens of Prosody's mod_auth_token.
type TOTPToken struct {
	Seed    auth.Secret // base32
	Secrets []auth.Secret
}

// Storage says where verifiers live.
type Storage string

// The places a cache may use.
const (
	StorageNone   Storage = "none"
	StorageMemory Storage = "memory"
	StorageDisk   Storage = "disk"
)

// Cache holds a domain's cache rules (DESIGN, "The cache").
type Cache struct {
	Storage    Storage
	QueryTTL   time.Duration // since last used
	VerifyTTL  time.Duration // since last verified by the backend
	OutageTTL  time.Duration // since last verified, while the backend cannot answer
	RefusedTTL time.Duration // how long a refused password is remembered
	ExistsTTL  time.Duration // positive isuser answers
	AbsentTTL  time.Duration // negative isuser answers
	BcryptCost int
	Secrets    int // verifiers per user
	HotEntries int // users held in memory
}

// Log says what is logged and where.
type Log struct {
	Level  string // debug, info, warn, error
	Format string // text, json
	File   string // absolute; empty: stderr
}
