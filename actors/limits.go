package actors

import (
	"net/netip"
	"time"

	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/limit"
	"postern/internal/unixtime"
)

// limits are a domain's limits on refused passwords.
type limits struct {
	user, address limit.Rules
	exempt        []netip.Prefix
}

// addressAhead is how many questions from one address may be under way while it has no pause:
// as many as a backend takes and lets wait by default, since many users may stand behind it.
const addressAhead = 96

func newLimits(cfg config.Limit) limits {
	rules := limit.Rules{Window: cfg.Window, First: cfg.FirstPause, Longest: cfg.LongestPause}
	l := limits{user: rules, address: rules, exempt: cfg.Exempt}
	l.user.Refusals = cfg.UserRefusals
	l.address.Refusals, l.address.InFlight = cfg.AddressRefusals, addressAhead
	return l
}

// What of a call the router's tables have counted as under way.
const (
	heldUser uint8 = 1 << iota
	heldAddress
)

// bar is what is answered to a secret that the cache does not know, in place of asking about
// it. The zero bar is none.
type bar struct {
	verdict auth.Verdict
	source  auth.Source
}

// limiter is the part of a router that applies the limits. It sees what memory could not answer,
// so its word holds only for secrets that the cache turns out not to know: the shard has it.
type limiter struct {
	*domain
	users     *limit.Table[uint64] // by the hash of the identity, so that long names cost nothing
	addresses *limit.Table[netip.Prefix]
}

func newLimiter(d *domain) *limiter {
	return &limiter{domain: d, users: limit.NewTable[uint64](), addresses: limit.NewTable[netip.Prefix]()}
}

// look notes on a call what is to be answered if the cache does not know its secret.
func (l *limiter) look(c *Call) {
	c.bar, c.held = bar{}, 0
	if c.Req.Op != auth.OpAuth {
		return
	}
	rules, secret := &l.params.Load().limits, c.Key.Fingerprint()
	now := unixtime.At(l.broker.clock())
	end := unixtime.At(l.broker.clock().Add(time.Until(c.Deadline)))
	c.counts(heldUser, l.users.Admit(c.hash, secret, &rules.user, now, end), auth.SourceLimitUser)
	if c.bar != (bar{}) {
		return
	}
	if from, ok := limit.Network(c.Req.Client, rules.exempt); ok {
		c.counts(heldAddress, l.addresses.Admit(from, secret, &rules.address, now, end), auth.SourceLimitAddress)
	}
}

// counts takes a limit's decision.
func (c *Call) counts(flag uint8, d limit.Decision, source auth.Source) {
	switch d {
	case limit.Pass:
		c.held |= flag
	case limit.Wait:
		c.bar = bar{auth.Unavailable, source}
		c.Trace.Add("limit", "unless the cache knows the password, nobody can tell while others are being asked about ("+source.String()+")")
	case limit.Blocked:
		c.bar = bar{auth.Deny, source}
		c.Trace.Add("limit", "unless the cache knows the password, it is refused: there were too many wrong ones ("+source.String()+")")
	}
}

// landed takes the end of a call that was looked at.
func (l *limiter) landed(c *Call, refused bool) {
	if c.held == 0 && !refused {
		return
	}
	rules, now := &l.params.Load().limits, unixtime.At(l.broker.clock())
	from, known := limit.Network(c.Req.Client, rules.exempt)
	if c.held&heldUser != 0 {
		l.users.Done(c.hash, &rules.user, now)
	}
	if c.held&heldAddress != 0 && known {
		l.addresses.Done(from, &rules.address, now)
	}
	c.held = 0
	if !refused {
		return
	}
	secret := c.Key.Fingerprint()
	if l.users.Refused(c.hash, secret, c.ID.String(), &rules.user, now) {
		if held, ok := l.userNag.due(time.Now()); ok {
			l.log.Warn("user limited: too many wrong passwords; those that the cache does not know are refused for a while",
				"domain", c.ID.Domain, "user", c.ID.User, "refusals", rules.user.Refusals, "within", rules.user.Window, "alike", held)
		}
	}
	if known && l.addresses.Refused(from, secret, from.String(), &rules.address, now) {
		if held, ok := l.addressNag.due(time.Now()); ok {
			l.log.Warn("client address limited: too many wrong passwords; those that the cache does not know are refused for a while",
				"domain", l.name, "client", from.String(), "refusals", rules.address.Refusals, "within", rules.address.Window, "alike", held)
		}
	}
}
