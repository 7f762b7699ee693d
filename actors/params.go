package actors

import (
	"fmt"

	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/token"
)

// params are what the configuration says of a domain. They are immutable: a reload puts others
// in their place, while the domain and all that its actors remember stay. A task keeps those
// with which it began, since it may be between two backends of their list; every other step
// takes those in force.
type params struct {
	lease // held by tasks; at its end the backends are let go

	rules  cache.Rules
	cost   int // bcrypt, for new verifiers
	disk   bool
	hot    int // users held in memory, over all shards
	jsxc   *token.JSXC
	totp   *token.TOTP
	hops   []hop
	logins []string // rules for login names at the backends
	limits limits
	roster *rosterRules // nil: shared rosters are not kept
}

// hop is one backend of a domain under one of its names there.
type hop struct {
	backend    *backendRef
	authDomain string // empty: the request's own domain
}

// newParams makes the parameters of a domain block, and takes hold of its backends.
func newParams(cfg config.Domain, backends map[config.BackendRef]*backendRef) (*params, error) {
	p := &params{
		cost: cfg.Cache.BcryptCost, hot: cfg.Cache.HotEntries, disk: cfg.Cache.Storage == config.StorageDisk,
		logins: cfg.Login, limits: newLimits(cfg.Limit),
		rules: cache.Rules{
			Off: cfg.Cache.Storage == config.StorageNone, Hashed: cfg.Cache.Storage == config.StorageDisk,
			Query: cfg.Cache.QueryTTL, Verify: cfg.Cache.VerifyTTL, Outage: cfg.Cache.OutageTTL,
			Refused: cfg.Cache.RefusedTTL, Exists: cfg.Cache.ExistsTTL, Absent: cfg.Cache.AbsentTTL,
			Secrets: cfg.Cache.Secrets, Refusals: maxRefusals,
		},
	}
	var err error
	if cfg.JSXC != nil {
		if p.jsxc, err = token.NewJSXC(cfg.JSXC.Secrets); err != nil {
			return nil, fmt.Errorf("domain %q: %w", cfg.Name, err)
		}
	}
	if cfg.TOTP != nil {
		if p.totp, err = token.NewTOTP(cfg.TOTP.Seed, cfg.TOTP.Secrets); err != nil {
			return nil, fmt.Errorf("domain %q: %w", cfg.Name, err)
		}
	}
	names := cfg.AuthDomains
	if len(names) == 0 {
		names = []string{""}
	}
	for _, ref := range cfg.Backends {
		backends[ref].acquire() // it is not retired before these parameters are
		for _, name := range names {
			p.hops = append(p.hops, hop{backends[ref], name})
		}
	}
	p.roster = newRosterRules(cfg.Roster)
	p.ended = func() {
		p.roster.close()
		for _, ref := range cfg.Backends {
			backends[ref].release()
		}
	}
	return p, nil
}

// maxRefusals is how many refused passwords of one user are remembered.
const maxRefusals = 16

// mayBeToken reports whether a password might be a token.
func (p *params) mayBeToken(secret auth.Secret) bool {
	return p.jsxc != nil && token.LooksJSXC(secret.Reveal()) ||
		p.totp != nil && token.LooksTOTP(secret.Reveal())
}
