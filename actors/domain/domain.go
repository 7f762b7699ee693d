// Package domain is what the configuration says of one domain, as a value that actors may share: a
// reload makes another one, and the old one ends when its last holder has released it.
package domain

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"postern/actors/slots"
	"postern/actors/supervise"
	"postern/internal/allow"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/limit"
	"postern/internal/oidc"
	"postern/internal/roster"
	"postern/internal/token"
)

// Domain is immutable. While its RefCount is held its backends are open: a task holds the Domain
// with which it began, since it may be between two backends of the list.
type Domain struct {
	*supervise.RefCount
	*Shared

	Rules       cache.Rules
	HashCost    int  // bcrypt cost of new verifiers
	Disk        bool // users are remembered on disk
	HotEntries  int  // users held in memory, over all shards
	JSXC        *token.JSXC
	TOTP        *token.TOTP
	Hops        []Hop
	Local       bool     // all backends compare hashes themselves: a cached one saves nothing, and would show which users are known
	Folds       bool     // every backend takes spellings that differ by letter case for one account
	Mixed       bool     // some of them do, and some do not
	Logins      []string // rules for login names at the backends
	Unescape    bool     // users come with the escapes of XEP-0106
	Introspects bool     // one of the backends takes opaque tokens
	signed      bool     // one of them takes signed ones
	// Told is what clients are told of the tokens that the domain takes.
	Told config.Bearer
	// ChangeAdmins: passwords of administrators may be set, too; those of services may not.
	ChangeAdmins bool
	services     []string // folded names of the service accounts of the backends
	Limits       Limits
	Roster       *Roster       // nil: shared rosters are not kept
	AppPasswords *AppPasswords // nil: there are none
	Scram        *Scram        // nil: it is off, or cannot work
	ScramFault   error         // why it cannot
	Mark         Mark          // when the value was made
}

// Mark describes of what a domain's memory is, over restarts of the process.
type Mark struct {
	Backends auth.AuthorityID // the backends that are asked, and in which way
	Files    auth.AuthorityID // the state of the files that they answer from
}

// MarkNow returns the domain's mark at this moment. It looks at files.
func (d *Domain) MarkNow() Mark {
	asked, files := slices.Clone(d.Logins), []string(nil)
	for _, h := range d.Hops {
		asked = append(asked, string(h.By.ID[:]), fmt.Sprint(h.By.Folds), h.AuthDomain)
		files = append(files, h.Backend.Stamp())
	}
	return Mark{auth.NewAuthorityID(asked...), auth.NewAuthorityID(files...)}
}

// Hop is one backend of a domain under one of the domain's names there.
type Hop struct {
	Backend    *slots.Backend
	AuthDomain string // empty: the request's own domain
	By         auth.Authority
	Alike      bool // this backend and those before it take spellings that differ by letter case for one account
}

// Shared is what all values of one name have in common, as long as the name is in use.
type Shared struct {
	Name    string         // canonical, or "*"
	Rosters *supervise.Ref // handles LoginNote; nil for a name that has never had shared rosters

	// Questions not asked because of a limit.
	LimitedByUser, LimitedByAddress, LimitedByBudget atomic.Int64

	AddressLimitLog, NonceLog supervise.LogThrottle
}

// LoginNote says that users have logged in. Their rosters are to be brought up to date.
type LoginNote struct {
	IDs    []auth.Identity
	Urgent bool // asked for by an administrator: the interval does not count
	Lost   func(supervise.Reason)
}

var _ supervise.Request = (*LoginNote)(nil)

// Fail implements supervise.Request. A note that is lost comes again with the user's next login.
func (n *LoginNote) Fail(why supervise.Reason) {
	if n.Lost != nil {
		n.Lost(why)
	}
}

// Limits are the limits on refused passwords.
type Limits struct {
	User, Address limit.Rules
	Exempt        []netip.Prefix // client addresses without a limit
}

// addressAhead is how many questions from one address may be under way while it has no pause:
// as many as a backend takes and lets wait by default, since many users may share an address.
const addressAhead = 96

func newLimits(cfg config.Limit) Limits {
	rules := limit.Rules{Window: cfg.Window, First: cfg.FirstPause, Longest: cfg.LongestPause}
	l := Limits{User: rules, Address: rules, Exempt: cfg.Exempt}
	l.User.Refusals = cfg.UserRefusals
	l.Address.Refusals, l.Address.InFlight = cfg.AddressRefusals, addressAhead
	return l
}

// Roster is what the configuration says of shared rosters.
type Roster struct {
	Server   roster.Server
	Kicker   roster.Executor // ends sessions; nil: they stay
	Filter   roster.Filter
	Window   time.Duration // logins are gathered for so long
	Interval time.Duration // a user is asked about at most so often
}

func newRoster(cfg *config.Roster) *Roster {
	if cfg == nil {
		return nil
	}
	r := &Roster{
		Window: cfg.Window, Interval: cfg.MinInterval,
		Filter: roster.Filter{Include: cfg.Include, Exclude: cfg.Exclude, MaxMembers: cfg.MaxMembers, Foreign: cfg.Foreign},
	}
	if cfg.Kind == config.RosterProsody {
		r.Server = roster.NewGroupsFile(cfg.GroupsFile, cfg.Reload, cfg.Timeout)
		return r
	}
	executor := func() roster.Executor {
		if cfg.API != "" {
			return roster.NewEjabberdAPI(cfg.API, cfg.Token, cfg.Timeout)
		}
		return roster.NewEjabberdctl(cfg.Ejabberdctl, cfg.Timeout)
	}
	r.Server = roster.NewServer(executor())
	if cfg.CutSessions { // of its own: a run for the rosters may be under way
		r.Kicker = executor()
	}
	return r
}

// maxRefusals is how many refused passwords of one user are remembered.
const maxRefusals = 16

// New makes the value of a domain block. It holds its backends until its own RefCount ends.
func New(cfg config.Domain, backends map[config.BackendRef]*slots.Backend, shared *Shared) (*Domain, error) {
	d := &Domain{
		Shared: shared, HashCost: cfg.Cache.BcryptCost, HotEntries: cfg.Cache.HotEntries, Disk: cfg.Cache.Storage == config.StorageDisk,
		Logins: cfg.Login, Unescape: cfg.UnescapeJID, Limits: newLimits(cfg.Limit), ChangeAdmins: cfg.ChangeAdmins,
		Rules: cache.Rules{
			Off: cfg.Cache.Storage == config.StorageNone, Hashed: cfg.Cache.Storage == config.StorageDisk,
			Query: cfg.Cache.QueryTTL, Verify: cfg.Cache.VerifyTTL, Outage: cfg.Cache.OutageTTL,
			Refused: cfg.Cache.RefusedTTL, Exists: cfg.Cache.ExistsTTL, Absent: cfg.Cache.AbsentTTL,
			Secrets: cfg.Cache.Secrets, Refusals: maxRefusals, Sealer: cache.NewSealer(cfg.Cache.Key),
			Allow: allow.New(cfg.Allow),
		},
	}
	var err error
	if cfg.JSXC != nil {
		if d.JSXC, err = token.NewJSXC(cfg.JSXC.Secrets); err != nil {
			return nil, fmt.Errorf("domain %q: %w", cfg.Name, err)
		}
	}
	if cfg.TOTP != nil {
		if d.TOTP, err = token.NewTOTP(cfg.TOTP.Seed, cfg.TOTP.Secrets, cfg.TOTP.NonceDigits); err != nil {
			return nil, fmt.Errorf("domain %q: %w", cfg.Name, err)
		}
	}
	d.addHops(cfg, backends)
	d.Local = !slices.ContainsFunc(d.Hops, func(h Hop) bool { return h.Backend.Block.Kind != config.KindUsers })
	d.Roster = newRoster(cfg.Roster)
	d.AppPasswords = newAppPasswords(&cfg)
	d.Scram, d.ScramFault = newScram(&cfg)
	d.Mark = d.MarkNow()
	held := cfg.Backends // and not the rest of cfg, for as long as the domain is there
	d.RefCount = supervise.NewRefCount(func() {
		if d.Roster != nil {
			d.Roster.Server.Close()
			if d.Roster.Kicker != nil {
				d.Roster.Kicker.Close()
			}
		}
		for _, ref := range held {
			backends[ref].Release()
		}
	})
	return d, nil
}

// Guards reports whether a user is, under any of the login names, the service account of a backend:
// nothing that a peer asks for may change it.
func (d *Domain) Guards(id auth.Identity) bool {
	if len(d.services) == 0 {
		return false
	}
	names := []string{id.User}
	for _, h := range d.Hops {
		q := d.Query(h, id)
		names = append(names, q.LoginNames()...)
	}
	return slices.ContainsFunc(names, func(name string) bool { return slices.Contains(d.services, auth.FoldUser(name)) })
}

// addHops adds the backends of a block, which the domain then holds, and their authorities.
func (d *Domain) addHops(cfg config.Domain, backends map[config.BackendRef]*slots.Backend) {
	names := cfg.AuthDomains
	if len(names) == 0 {
		names = []string{""}
	}
	var blocks []config.Backend
	var told []*config.Backend
	for _, ref := range cfg.Backends {
		backends[ref].Acquire()
		blocks = append(blocks, backends[ref].Block)
		b := &backends[ref].Block
		told = append(told, b)
		d.Introspects = d.Introspects || b.Accepts(config.AcceptIntrospection)
		d.signed = d.signed || b.Accepts(config.AcceptJWT)
		if name := backends[ref].Block.AdminUser; name != "" {
			d.services = append(d.services, auth.FoldUser(name))
		}
		for _, name := range names {
			d.Hops = append(d.Hops, Hop{Backend: backends[ref], AuthDomain: name})
		}
	}
	d.Told = config.BearerOf(told)
	d.Rules.Authorities = cfg.Authorities(blocks)
	d.Folds = true
	some := false
	for i := range d.Hops {
		by := d.Rules.Authorities[i]
		d.Folds, some = d.Folds && by.Folds, some || by.Folds
		d.Hops[i].By, d.Hops[i].Alike = by, d.Folds
	}
	d.Mixed = some && !d.Folds
}

// Bearer is a password that one of the domain's backends takes for a token of its own issuer. The others are not asked
// about it, and it is compared with nothing.
type Bearer struct {
	JWT  *oidc.Unverified
	Hops []int // of those backends, by index
}

// Bearer looks whether a password is a token; nil if it is none of a backend of the domain. Where it came as a token, it is
// never nil, and has the backends that take it for one.
func (d *Domain) Bearer(id auth.Identity, r *auth.Request) *Bearer {
	if !r.Bearer && !d.signed && !d.Introspects {
		return nil
	}
	b := Bearer{JWT: oidc.Read(r.Secret.Reveal())}
	if b.JWT == nil && !r.Bearer {
		return nil
	}
	for i, h := range d.Hops {
		q := d.Query(h, id)
		q.Op, q.Secret, q.JWT, q.Bearer = auth.OpAuth, r.Secret, b.JWT, r.Bearer
		v := h.Backend.Screen(q)
		if v.Own || r.Bearer && v.Answer == nil && h.Backend.Block.TakesTokens() {
			b.Hops = append(b.Hops, i)
		}
	}
	if b.Hops == nil && !r.Bearer {
		return nil
	}
	return &b
}

// NamedBy returns the user that a bearer token names, as the XMPP server has it, for a login that names none; "" if it
// cannot be read in the token. Its issuer's backend decides on it then, as on any login of that user.
func (d *Domain) NamedBy(secret auth.Secret) string {
	u := oidc.Read(secret.Reveal())
	if u == nil {
		return ""
	}
	for i := range d.Hops {
		b := &d.Hops[i].Backend.Block
		if !b.TakesTokens() {
			continue
		}
		name := u.Named(b.URL, b.OIDC.UsernameClaim, b.OIDC.UsernameDomain)
		if d.Folds { // as XMPP servers write names
			name = auth.FoldUser(name)
		}
		if name != "" {
			return d.XMPPUser(name)
		}
	}
	return ""
}

// MayBeSigned reports whether a password has the beginning of a token that Bearer may know.
func (d *Domain) MayBeSigned(secret auth.Secret) bool {
	return (d.signed || d.Introspects) && strings.HasPrefix(secret.Reveal(), "eyJ")
}

// MayBeOpaque reports whether a password may be a token that only the provider can read.
func (d *Domain) MayBeOpaque(secret auth.Secret) bool {
	return d.Introspects && oidc.LooksOpaque(secret.Reveal())
}

// Query is a question about a user to one of the domain's backends, without operation and secret.
func (d *Domain) Query(h Hop, id auth.Identity) backend.Query {
	return backend.Query{User: id.User, Domain: cmp.Or(h.AuthDomain, id.Domain), Logins: d.Logins, ChangeAdmins: d.ChangeAdmins, Groups: d.Rules.Allow.Groups()}
}

// MayBeToken reports whether a password might be a token.
func (d *Domain) MayBeToken(secret auth.Secret) bool {
	return d.JSXC != nil && token.LooksJSXC(secret.Reveal()) ||
		d.TOTP != nil && token.LooksTOTP(secret.Reveal())
}

// HasTokens reports whether the domain knows tokens at all.
func (d *Domain) HasTokens() bool { return d.JSXC != nil || d.TOTP != nil }

// SameAuthority reports whether both ask the same backends in the same way. What was refused by
// another authority says nothing about this one.
func (d *Domain) SameAuthority(other *Domain) bool {
	return slices.Equal(d.Hops, other.Hops) && slices.Equal(d.Logins, other.Logins)
}

// SameQuestion reports whether the answer to a question that was put for the one is an answer for the other.
func (d *Domain) SameQuestion(other *Domain) bool {
	return d == other || d.SameAuthority(other) && slices.Equal(d.Rules.Allow.Groups(), other.Rules.Allow.Groups())
}

// XMPPUser returns a user as the XMPP server of the domain has it.
func (d *Domain) XMPPUser(user string) string {
	if d.Unescape {
		return auth.EscapeUser(user)
	}
	return user
}

// NoteLogin has the user's shared roster brought up to date, if the domain has shared rosters. It
// never blocks.
func (d *Domain) NoteLogin(id auth.Identity) {
	if d.Roster != nil && d.Rosters != nil {
		id.User = d.XMPPUser(id.User)
		d.Rosters.Send(&LoginNote{IDs: []auth.Identity{roster.Login(id)}})
	}
}
