package wire

import (
	"bytes"
	"strings"
	"time"

	"postern/internal/auth"
)

// Bounds on the unfinished logins of a connection. Postfix sends nothing when its own client
// gives up.
const (
	dialogueAge  = 150 * time.Second // as in Dovecot
	maxDialogues = 256
)

// dialogue is a login, from AUTH to its answer.
type dialogue struct {
	serial  uint32 // distinguishes logins of the same id
	mech    mechanism
	user    string // LOGIN: the name, once it has come
	service string
	client  string
	since   time.Time
	asked   bool   // its answer is pending
	failure []byte // its end, for which a refused token waits until the client has heard why
}

// tag returns the Tag of the login's request: the serial number and the id.
func (g *dialogue) tag(id uint32) uint64 { return uint64(g.serial)<<32 | uint64(id) }

// stale reports whether the login is too old to be finished.
func (g *dialogue) stale(now time.Time) bool { return !g.asked && now.Sub(g.since) > dialogueAge }

// enter adds g to the open logins. If there are too many, it drops the oldest.
func (d *dovecot) enter(id uint32, g *dialogue) {
	d.serial++
	g.serial = d.serial
	d.open[id] = g
	if len(d.open) <= maxDialogues {
		return
	}
	oldest := uint32(0)
	for other, h := range d.open {
		if first := d.open[oldest]; other != id && !h.asked && (first == nil || h.serial < first.serial) {
			oldest = other
		}
	}
	delete(d.open, oldest)
}

// prompt asks the client for the next data. LOGIN has texts for that, which clients ignore.
func (d *dovecot) prompt(id uint32, g *dialogue) Event {
	switch {
	case g.mech != mechLogin:
		return d.say("CONT\t%d\t\n", id)
	case g.user == "":
		return d.say("CONT\t%d\tVXNlcm5hbWU6\n", id) // Username:
	}
	return d.say("CONT\t%d\tUGFzc3dvcmQ6\n", id) // Password:
}

// data continues a login with the client's data.
func (d *dovecot) data(id uint32, g *dialogue, data []byte, req *auth.Request) Event {
	defer func() { clear(d.plain) }()
	if !d.decode64(data) {
		delete(d.open, id)
		return d.say("FAIL\t%d\tcode=invalid_base64\treason=invalid base64\n", id)
	}
	user, secret := []byte(g.user), d.plain
	switch {
	case g.mech.bearer():
		name, token, ok := splitBearer(g.mech, d.plain)
		if !ok {
			return g.refuse(id, req, auth.Request{}, "not a message with a user and a bearer token")
		}
		user, secret = []byte(name), token
	case g.mech == mechPlain:
		var ok bool
		if user, secret, ok = d.splitPlain(); !ok {
			return g.refuse(id, req, auth.Request{}, "not a PLAIN message, or for another user")
		}
	case g.user == "":
		if len(d.plain) == 0 || len(d.plain) > 2*auth.MaxName+1 {
			return g.refuse(id, req, auth.Request{}, "user is empty or over-long")
		}
		g.user = string(d.plain)
		return d.prompt(id, g)
	}
	r := auth.Request{Op: auth.OpAuth, User: string(user), Service: g.service, Client: g.client, Named: true, Bearer: g.mech.bearer()}
	if at := strings.LastIndexByte(r.User, '@'); at >= 0 {
		if r.User, r.Domain = r.User[:at], r.User[at+1:]; r.Domain == "" {
			return g.refuse(id, req, r, faultDomain)
		}
	}
	if !plainText(r.Service) {
		return g.refuse(id, req, r, faultService)
	}
	g.asked = true
	ev := fill(req, r, secret)
	req.Tag = g.tag(id)
	return ev
}

// splitPlain decodes the message of SASL PLAIN (RFC 4616) in d.plain: authorisation name, login name
// and password with a NUL between them. An authorisation name that is not the login name's is
// refused.
func (d *dovecot) splitPlain() (user, secret []byte, ok bool) {
	authz, rest, ok := bytes.Cut(d.plain, []byte{0})
	user, secret, found := bytes.Cut(rest, []byte{0})
	return user, secret, ok && found && (len(authz) == 0 || bytes.Equal(authz, user) || d.sameName(authz, user))
}

// sameName reports whether two names are one, up to the spelling of the domain and to a domain that
// is left out. The user is not folded: only its backend knows whether letter case counts.
func (d *dovecot) sameName(a, b []byte) bool {
	if max(len(a), len(b)) > 2*auth.MaxName+1 {
		return false
	}
	x, okX := d.identity(string(a))
	y, okY := d.identity(string(b))
	return okX && okY && x == y
}

// identity completes a name.
func (d *dovecot) identity(name string) (auth.Identity, bool) {
	r := auth.Request{User: name}
	if at := strings.LastIndexByte(name, '@'); at >= 0 {
		if r.User, r.Domain = name[:at], name[at+1:]; r.Domain == "" {
			return auth.Identity{}, false
		}
	}
	id, err := r.Identity(d.defaultDomain)
	return id, err == nil
}

// refuse refuses a login without asking a backend.
func (g *dialogue) refuse(id uint32, req *auth.Request, r auth.Request, fault string) Event {
	g.asked = true
	r.Op, r.Service, r.Client = auth.OpAuth, g.service, g.client
	ev := refuseNamed(req, r, fault)
	req.Tag = g.tag(id)
	return ev
}
