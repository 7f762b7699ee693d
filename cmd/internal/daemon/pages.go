package daemon

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"postern/actors"
	"postern/actors/slots"
	"postern/cmd/internal/listen"
	"postern/cmd/internal/pages"
	"postern/internal/audit"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/store/valkeystore"
	"postern/internal/version"
	"postern/internal/web"
	"postern/internal/web/selfservice"
	"postern/internal/web/session"
	"postern/internal/web/signin"
	"postern/internal/web/status"
)

// openPages opens the sockets of the pages that are not served at the same address already, and gives those that are
// the mode and owner of their new configuration. What takes these steps back is added to undo.
func (d *Daemon) openPages(cfg *config.Config, undo *[]func()) (map[string]net.Listener, error) {
	sockets := make(map[string]net.Listener)
	var was map[string]*config.Page
	if d.cfg != nil {
		was = d.cfg.Web.Pages()
	}
	for name, page := range cfg.Web.Pages() {
		if old := was[name]; d.pages[name] != nil && old.Socket.Network == page.Socket.Network && old.Socket.Address == page.Socket.Address {
			restore, err := listen.Chown(config.Change[config.Listener]{Old: old.Socket, New: page.Socket})
			if err != nil {
				return nil, err
			}
			*undo = append(*undo, restore)
			continue
		}
		socket, err := pages.Open(page)
		if err != nil {
			return nil, err
		}
		*undo = append(*undo, func() { _ = socket.Close() })
		sockets[name] = socket
	}
	return sockets, nil
}

// servePages serves the pages of a configuration, on new sockets or on those that are open already.
func (d *Daemon) servePages(cfg *config.Config, sockets map[string]net.Listener) {
	now := cfg.Web.Pages()
	for name, server := range d.pages {
		if now[name] == nil || sockets[name] != nil {
			server.Close()
			delete(d.pages, name)
		}
	}
	d.recent.Switch(cfg.Web.Status != nil, time.Now())
	// A certificate that was renewed ends no sessions. Anything else does: the accounts that may sign in may be others.
	was, will := d.web, cfg.Web
	was.TLS, will.TLS = config.TLS{}, config.TLS{}
	same := reflect.DeepEqual(was, will)
	d.web = cfg.Web
	for name, page := range now {
		var handler http.Handler
		if !same || d.pages[name] == nil {
			handler = d.page(name, cfg)
		}
		var err error
		if server := d.pages[name]; server != nil {
			err = server.Replace(cfg.Web.TLS, handler)
		} else if server, err = pages.Serve(name, page, sockets[name], d.log, cfg.Web.TLS, handler); err == nil {
			d.pages[name] = server
		}
		if err != nil { // the configuration was checked
			d.log.Error("a page is not served", "page", name, "err", err)
		}
	}
}

// closePages ends the pages.
func (d *Daemon) closePages() {
	for _, server := range d.pages {
		server.Close()
	}
}

// page returns what serves a page.
func (d *Daemon) page(name string, cfg *config.Config) http.Handler {
	site := web.Site{Origin: cfg.Web.Pages()[name].Origin, Proxies: cfg.Web.TrustedProxies, Log: d.log}
	if own := cfg.Web.SelfService; name == ownPage {
		guard := d.guard(name, signin.Options{Site: "my account", DefaultDomain: own.DefaultDomain, Allows: func(signin.Account) bool { return true }})
		return web.Handler(site, selfservice.New(selfservice.Options{
			Source: accounts{d}, Guard: guard, Servers: selfservice.Servers{IMAP: own.IMAP, SMTP: own.SMTP}, Clock: time.Now,
		}).Routes())
	}
	own := cfg.Web.Status
	guard := d.guard(name, signin.Options{Site: "status", DefaultDomain: own.DefaultDomain, Groups: own.Groups, Allows: mayWatch(own)})
	return web.Handler(site, status.New(status.Options{
		Source: statusSource{d}, Recent: d.recent, Guard: guard, Privacy: cfg.Web.Privacy, Token: own.Token, Clock: time.Now,
	}).Routes())
}

// statusSource is what the status page asks of the daemon.
type statusSource struct{ *Daemon }

var _ status.Source = statusSource{}

// State implements status.Source.
func (s statusSource) State(ctx context.Context) status.State {
	d := s.Daemon
	counts, err := d.broker.Counts(ctx)
	node, _ := os.Hostname()
	reload := d.reloads.state.Load()
	out := status.State{
		Version: version.Version, Node: node, Started: d.reloads.started.UTC(),
		Connections: counts.Connections, InFlight: counts.InFlight, Restarts: counts.Restarts,
		Registered: counts.Registered, Live: counts.Live, CacheStalled: err != nil,
		Store: d.statusOfStore(), Config: status.Config{File: d.reloads.flags.File, Loaded: reload.loaded.UTC()},
	}
	if d.reloads.flags.Embedded {
		out.Config.File = ""
	}
	if reload.failed != nil {
		out.Config.Refused, out.Config.Rejected = reload.failed.Error(), reload.at.UTC()
	}
	cfg := reload.cfg
	for _, l := range cfg.Listeners {
		address := l.Address
		if l.Network != "tcp" {
			address = l.Network + ":" + address
		}
		out.Listeners = append(out.Listeners, status.Listener{Name: l.Name, Protocol: l.Protocol, Address: address})
	}
	for _, b := range cfg.Backends { // in the order of the file
		if c, ok := counts.Backends[b.BackendRef]; ok {
			out.Backends = append(out.Backends, statusOfBackend(b.String(), c))
		}
	}
	for _, domain := range cfg.Domains {
		if c, ok := counts.Domains[domain.Name]; ok {
			out.Domains = append(out.Domains, status.Domain{
				Name: domain.Name, Users: c.Users, Strangers: c.Strangers, Hashes: c.Hashes, Compares: c.Compares, StoreFailing: c.StoreFailing > 0,
			})
		}
	}
	out.Limits = d.statusOfLimits(ctx)
	return out
}

func statusOfBackend(name string, c slots.Counts) status.Backend {
	out := status.Backend{
		Name: name, Slots: c.Slots, Limit: c.Limit, Busy: c.Busy, Queued: c.Waiting,
		Open: c.Health.Open, Since: c.Health.Since.UTC(), Withheld: c.Withheld, Slowed: status.Duration(c.Slowed),
	}
	if c.Health.Cause != nil {
		out.Cause, out.Failed = c.Health.Cause.Error(), c.Health.Failed.UTC()
	}
	return out
}

func (d *Daemon) statusOfStore() status.Store {
	p := d.Store()
	out := status.Store{Kind: "disk", Failed: d.StoreFailed()}
	switch shared, ok := p.(*valkeystore.Store); {
	case p == nil:
		out.Kind = "none"
	case ok:
		c := shared.Counts()
		out.Kind = "shared"
		out.Shared = &status.SharedStore{
			Connected: c.Up, Lag: status.Duration(c.Lag), RoundTrips: c.RoundTrips, Invalidations: c.Invalidations, Losses: c.Losses,
		}
	default:
		out.Bytes = p.Size()
	}
	return out
}

func (d *Daemon) statusOfLimits(ctx context.Context) (out status.Limits) {
	limits, err := d.broker.Limits(ctx)
	if err != nil {
		out.Failed = err.Error()
	}
	add := func(kind, backend string, list actors.WatchList) {
		out.Watched += list.Watched
		for _, l := range list.Limited {
			one := status.Limited{Kind: kind, Name: l.Name, Backend: backend, Refusals: l.Refusals}
			if l.Until != nil {
				one.Until = *l.Until
			}
			out.Limited = append(out.Limited, one)
		}
	}
	add(status.Address, "", limits.Addresses)
	for _, name := range slices.Sorted(maps.Keys(limits.Backends)) {
		add(status.User, name, limits.Backends[name].Users)
	}
	return out
}

// Forget implements status.Source.
func (s statusSource) Forget(ctx context.Context, l status.Limited, by, from string) (err error) {
	e := audit.Event{Kind: audit.Admin, Action: "limit forget", Outcome: audit.Done, By: by, Peer: from, Front: "status"}
	if l.Kind == status.Address {
		address, _, _ := strings.Cut(l.Name, "/")
		e.Client = address
		_, err = s.broker.ForgetAddressLimit(address)
	} else {
		at := strings.LastIndexByte(l.Name, '@')
		id := auth.Identity{User: l.Name[:max(at, 0)], Domain: l.Name[at+1:]}
		e.User, e.Domain = id.User, id.Domain
		_, err = s.broker.ForgetUserLimit(ctx, id)
	}
	if err != nil {
		e.Outcome = audit.Failed
	}
	s.audit.Note(e)
	return err
}

// CanExamine implements status.Source.
func (s statusSource) CanExamine() bool { return s.doctor != nil }

// Examine implements status.Source.
func (s statusSource) Examine(ctx context.Context) (findings []status.Finding) {
	for _, f := range s.doctor(ctx) {
		findings = append(findings, status.Finding{Hop: f.Hop, Check: f.Check, Status: string(f.Status), Text: f.Text, Cure: f.Cure})
	}
	return findings
}

// signInTimeout is how long the check of a password for a page may take.
const signInTimeout = 20 * time.Second

// authority has the broker check passwords for a page.
type authority struct {
	*Daemon
	page string
}

var _ signin.Authority = authority{}

// SignIn implements signin.Authority.
func (a authority) SignIn(ctx context.Context, q signin.Question) (signin.Account, error) {
	client := ""
	if q.Client.IsValid() {
		client = q.Client.String()
	}
	answer, folds := a.broker.SignIn(ctx, a.page, auth.Request{
		User: q.ID.User, Domain: q.ID.Domain, Secret: q.Password, Client: client,
	}, auth.Own{Groups: q.Groups}, signInTimeout)
	switch answer.Verdict {
	case auth.Allow:
		id, err := auth.NewIdentity(answer.Account, q.ID.Domain)
		if err != nil { // a name with which no server can ask
			return signin.Account{}, fmt.Errorf("%w: %w", signin.ErrRefused, err)
		}
		return signin.Account{ID: id, Groups: answer.Groups, Folds: folds}, nil
	case auth.Deny:
		return signin.Account{}, signin.ErrRefused
	}
	return signin.Account{}, signin.ErrUnavailable
}

// guard returns what lets people sign in to a page.
func (d *Daemon) guard(page string, o signin.Options) *signin.Guard {
	o.Authority = authority{d, page}
	o.Sessions = session.New(session.Options{Page: page})
	o.Noted = func(a signin.Account, from netip.Addr, allowed bool) {
		e := audit.Event{Kind: audit.SignIn, Outcome: audit.Done, Domain: a.ID.Domain, User: a.ID.User, Front: page}
		if from.IsValid() {
			e.Client = from.String()
		}
		if !allowed {
			e.Outcome, e.Reason = audit.Failed, "the account may not see this page"
		}
		d.audit.Note(e)
	}
	return signin.New(o)
}

// mayWatch returns which accounts may see the status page.
func mayWatch(cfg *config.Status) func(signin.Account) bool {
	return func(a signin.Account) bool {
		named := slices.ContainsFunc(cfg.Accounts, func(id auth.Identity) bool { return id == a.ID || a.Folds && id.Fold() == a.ID.Fold() })
		return named || a.ID.Domain == cfg.DefaultDomain && slices.ContainsFunc(cfg.Groups, func(group string) bool {
			in, _ := a.Groups.In(group)
			return in
		})
	}
}
