package config

import (
	"net/netip"
	"os"
	"time"

	"postern/internal/allow"
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
	Store        Store
	Metrics      string // host:port at which they are served by HTTP; empty: nowhere
	Web          Web
	Log          Log
	Audit        Audit
	Files        []string // that file() and ca_file have read: absolute, sorted; the daemon's user reads them again
}

// Listener is one endpoint.
type Listener struct {
	Name     string
	Protocol string // a name in package protocol
	Network  string // "tcp", "unix" or "systemd"
	Address  string // host:port, an absolute path, or the name of a socket in systemd

	// Unix sockets only. Owner and Group are names or numbers; empty means those of the process.
	Mode         os.FileMode
	Owner, Group string
	// Users are the only users whose processes may connect, besides root and the daemon's own; nil
	// means any. One that the machine does not have is no error.
	Users []string

	DefaultDomain  string        // for logins without a domain; canonical, may be empty
	Deadline       time.Duration // every request is answered within it
	IdleTimeout    time.Duration // between requests; 0 means none
	FrameTimeout   time.Duration // from the first byte of a request to its last
	WriteTimeout   time.Duration // for a peer that does not read its answers
	MaxFrame       int           // bytes of a frame or line
	Pipeline       int           // requests of one connection in flight before reading stops
	MaxConnections int           // others wait in the kernel's queue
	BinaryAnswers  bool          // ejabberd: never answer 2, for MongooseIM

	// ejabberd, generic, http and relay: peers may set passwords, register and remove accounts: all of them
	// or, if there are ChangeUsers, the processes of these users. ChangesSaid: the configuration says
	// whether; see ChangesNote.
	Changes, ChangesSaid bool
	ChangeUsers          []string
	ProxyProtocol        bool   // on TCP: each connection begins with a header of a trusted proxy
	FixedDomain          string // saslauthd: the domain of every login, whatever realm it has; canonical, may be empty
	Logins               bool   // tcp_table: it serves the accounts of addresses, not the addresses that exist
	Userdb               Userdb // dovecot_userdb: what is said of each user
	Bearer               Bearer // dovecot: what is said of tokens; it is of the domains

	// tcp_table and socketmap: the characters that separate a user from an address extension,
	// as in Postfix; empty: addresses have no extensions.
	RecipientDelimiter string

	// http only.
	Secret         auth.Secret       // that requests must have; empty: none
	TrustedProxies []netip.Prefix    // peers that may name the address of a client; also with ProxyProtocol
	Realm          string            // of the challenge to a browser; empty: the domain's name
	NginxMail      map[string]string // where nginx is sent after a login, an address and port: by imap, pop3, smtp
	TLS            TLS
}

// TLS is the tls block of a listener: the contents of its files, in PEM form. Empty: no TLS.
type TLS struct {
	Certificate string // with its chain
	Key         auth.Secret
	ClientCA    string // the authorities of the clients' certificates, which are then demanded; empty: none are
}

// Userdb is the userdb block of a dovecot_userdb listener. Empty texts are left out of the answer.
type Userdb struct {
	UID, GID string // numbers
	Home     string // an absolute path with %{user} and %{domain}
}

// BackendRef is a reference to a backend: backend.KIND.NAME.
type BackendRef struct{ Kind, Name string }

// String returns KIND.NAME.
func (r BackendRef) String() string { return r.Kind + "." + r.Name }

// Backend is a backend block. Fields that its kind does not have are zero.
type Backend struct {
	BackendRef
	URL            string      // nextcloud, jsxc, json, http, auth_http
	Secret         auth.Secret // jsxc: the API secret
	CAFile         string      // PEM file with the only authorities to trust; empty: those of the system
	CASum          [32]byte    // SHA-256 of the file, so that Diff sees another content
	UserAgent      string
	Proxy          auth.Secret // URL, which may hold a password, or "environment"; empty: none
	ConnectTimeout time.Duration
	Timeout        time.Duration // of a whole request
	MaxResponse    int64         // bytes
	Path           string        // users: the file, absolute
	BcryptCost     int           // users: for new passwords
	ScramSeed      string        // users: of a domain with scram, see Domain; empty: no SCRAM keys are kept
	Key            auth.Secret   // app_passwords: of KeySize bytes
	UnconfirmedTTL time.Duration // app_passwords: see AppPasswords
	FoldCase       bool          // spellings of a user that differ by letter case are one account
	AuthorityName  string        // see Authority; empty: kind and place

	Method          string      // http: GET or POST
	Realm, DenyBody string      // http: which 401 is a no; empty: not by this
	TrueAt          string      // http: the JSON pointer to what is true for a yes; empty: the status decides
	ServiceUser     string      // auth_http: with which the endpoint is asked, empty: none
	ServicePassword auth.Secret // auth_http

	AdminUser     string        // nextcloud: the service account, empty: none
	AdminPassword auth.Secret   // nextcloud
	AcceptOtherID bool          // nextcloud, jsxc: a login may lead to an account of another name
	MaxDelay      time.Duration // nextcloud: throttled by more, it is not asked
	MaxMembers    int           // nextcloud: users in one shared roster

	OIDC OIDC // oidc; its URL is the issuer

	Slots           int           // requests to the backend at a time
	MinSlots        int           // as many of them a slow backend still gets
	Queue           int           // requests that may wait for a slot, at most; time bounds them as well
	BreakerFailures int           // outages in a row that open the breaker
	BreakerCooldown time.Duration // first pause of an open breaker; later ones are up to ten times as long

	RefusalBudget int           // refusals by it within RefusalWindow; 0: any number
	RefusalWindow time.Duration // 0 for kinds without a budget
}

// Domain is a domain block: an XMPP or mail domain.
type Domain struct {
	Name     string       // canonical, or "*"
	Backends []BackendRef // in turn; without app_passwords, unless that is the only one
	// AppPasswords are looked at before the backends; nil: the domain has none.
	AppPasswords *AppPasswords
	AuthDomains  []string // names of the domain at its backends, tried in turn; empty: its own
	Login        []string // rules for login names at nextcloud backends, tried in turn
	UnescapeJID  bool     // users come with the escapes of XEP-0106
	ScramSeed    string   // file, absolute, from which the salts of SCRAM are made; empty: scram is off
	// ChangeAdmins: passwords of Nextcloud's administrators may be set, too.
	ChangeAdmins bool
	JSXC         *JSXCToken
	TOTP         *TOTPToken
	Allow        []allow.Block // conditions of logins on the account's groups; none: there are none
	Cache        Cache
	Limit        Limit
	Roster       *Roster // nil: no shared rosters

	// Local, of "*", has domains of this machine beside those that are known anyway: mail for them
	// is local (socketmap, map domain). Canonical.
	Local []string
}

// Limit is a limit block: how many passwords may be refused. A number of 0 is no limit.
type Limit struct {
	UserRefusals    int // of different passwords of one user within Window
	AddressRefusals int // of requests from one client address within Window
	Window          time.Duration
	FirstPause      time.Duration // doubles with each further refusal
	LongestPause    time.Duration
	Exempt          []netip.Prefix // addresses that are not limited
}

// Registry is the registry block, for the domains registered by `postern domain`.
type Registry struct {
	Declared bool          // the configuration has the block, so the store must be opened
	Idle     time.Duration // without a request for so long a domain is unloaded; 0 means never
	MaxLive  int           // loaded domains, before idle ones are unloaded earlier; 0 means any number
	Proxy    auth.Secret   // of each domain's backend, as in a backend block
	Cache    Cache         // of each domain
	Limit    Limit         // of each domain: the limit block of the file
}

// JSXCToken configures time-limited tokens of JSXC.
type JSXCToken struct {
	Secrets []auth.Secret // all of them verify; the first one issues
	TTL     time.Duration // of issued tokens
}

// TOTPToken configures the single-use tokens of Prosody's mod_auth_token.
type TOTPToken struct {
	Seed        auth.Secret // base32
	Secrets     []auth.Secret
	NonceDigits int // of every valid token, and of issued ones
}

// Storage is where a cache keeps its records.
type Storage string

// The kinds of storage.
const (
	StorageNone   Storage = "none"
	StorageMemory Storage = "memory"
	StorageDisk   Storage = "disk"
)

// Cache is a cache block: what a domain remembers of logins, and for how long.
type Cache struct {
	Storage    Storage
	QueryTTL   time.Duration // since a password was last used
	VerifyTTL  time.Duration // since the backend last accepted it
	OutageTTL  time.Duration // the same, while the backend cannot answer
	RefusedTTL time.Duration // of a refused password
	ExistsTTL  time.Duration // of positive isuser answers
	AbsentTTL  time.Duration // of negative isuser answers
	BcryptCost int
	Key        auth.Secret // of KeySize bytes, for verifiers on disk; empty: they are bcrypt hashes
	Secrets    int         // passwords per user
	HotEntries int         // users in memory
}

// Log is the log block.
type Log struct {
	Level  string // debug, info, warn, error
	Format string // text, json
	File   string // absolute; empty: stderr
}

// Audit is the audit block: where the audit log is written to. Without either path there is none.
type Audit struct {
	File   string // absolute
	Syslog string // the socket of syslog, absolute
}
