package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"postern/cmd/internal/systemd"
	"postern/internal/config"
	"postern/wire"
)

// endpoint is a listener with the socket that systemd passed for it.
type endpoint struct {
	config.Listener
	passed *systemd.Socket // nil: postern opens its own
}

// open returns what the endpoint accepts on.
func (e endpoint) open() (net.Listener, error) {
	if e.passed != nil {
		return e.passed.Listen()
	}
	return openSocket(e.Listener)
}

// endpoints brings the listeners of the configuration and the sockets that systemd passed
// together:
//
//   - a listener at "systemd:NAME" takes all sockets of that name, of which there must be one;
//   - a listener takes the socket at its own host:port or path, where it could not open one;
//   - what is left is served if it is named after a listener, or after a protocol, as the first
//     listener of that protocol or else by the protocol's defaults.
//
// Sockets of other names are returned in unserved.
func endpoints(cfg *config.Config, passed []*systemd.Socket) (list []endpoint, unserved []*systemd.Socket, err error) {
	p := plan{left: passed, names: map[string]bool{}}
	for _, l := range cfg.Listeners {
		p.names[l.Name] = true
	}
	for _, l := range cfg.Listeners {
		taken := p.take(func(s *systemd.Socket) bool {
			return l.Network == "systemd" && s.Name == l.Address || sameAddress(l, s)
		})
		switch {
		case len(taken) > 0:
			p.add(l, taken)
		case l.Network == "systemd":
			return nil, nil, notPassed(l, passed)
		default:
			p.list = append(p.list, endpoint{Listener: l})
		}
	}
	for len(p.left) > 0 {
		name := p.left[0].Name
		taken := p.take(func(s *systemd.Socket) bool { return s.Name == name })
		if l, ok := listenerFor(cfg, name); ok {
			p.add(l, taken)
		} else {
			unserved = append(unserved, taken...)
		}
	}
	slices.SortStableFunc(p.list, func(a, b endpoint) int { return a.urgency() - b.urgency() })
	return p.list, unserved, nil
}

// urgency is 0 for those that are opened first, for their peers cannot wait: an smtpd of Postfix
// that finds nobody at the dovecot listener ends, and with it the mail service.
func (e endpoint) urgency() int {
	if e.Protocol == string(wire.Dovecot) {
		return 0
	}
	return 1
}

// plan is the work of endpoints.
type plan struct {
	left  []*systemd.Socket
	names map[string]bool // of listeners, configured or added
	list  []endpoint
}

// take removes the sockets that match from those that are left.
func (p *plan) take(match func(*systemd.Socket) bool) (taken []*systemd.Socket) {
	var left []*systemd.Socket
	for _, s := range p.left {
		if match(s) {
			taken = append(taken, s)
		} else {
			left = append(left, s)
		}
	}
	p.left = left
	return taken
}

// add serves sockets as a listener. Each is a listener to the broker, so the second and
// further ones get names of their own.
func (p *plan) add(l config.Listener, sockets []*systemd.Socket) {
	served := func(name string) bool {
		for _, e := range p.list {
			if e.Name == name {
				return true
			}
		}
		return false
	}
	base := l.Name
	for _, s := range sockets {
		for n := 2; served(l.Name) || l.Name != base && p.names[l.Name]; n++ {
			l.Name = fmt.Sprintf("%s-%d", base, n)
		}
		l.Network, l.Address = s.Network, s.Address
		l.Mode, l.Owner, l.Group = 0, "", "" // are systemd's matter
		p.list = append(p.list, endpoint{l, s})
	}
}

// listenerFor is how a socket is served that no listener has by its address.
func listenerFor(cfg *config.Config, name string) (config.Listener, bool) {
	for _, l := range cfg.Listeners {
		if l.Name == name {
			return l, true
		}
	}
	l, ok := config.DefaultListener(name)
	if !ok {
		return l, false
	}
	for _, like := range cfg.Listeners {
		if like.Protocol == l.Protocol {
			like.Name = name
			return like, true
		}
	}
	return l, true
}

// sameAddress reports whether a passed socket stands where a listener is to listen.
func sameAddress(l config.Listener, s *systemd.Socket) bool {
	if l.Network != s.Network {
		return false
	}
	if l.Network == "unix" {
		a, errA := os.Stat(l.Address)
		b, errB := os.Stat(s.Address)
		return l.Address == s.Address || errors.Join(errA, errB) == nil && os.SameFile(a, b)
	}
	a, errA := net.ResolveTCPAddr("tcp", l.Address)
	b, errB := net.ResolveTCPAddr("tcp", s.Address)
	if errors.Join(errA, errB) != nil || a.Port != b.Port {
		return false
	}
	everywhere := func(ip net.IP) bool { return len(ip) == 0 || ip.IsUnspecified() }
	return a.IP.Equal(b.IP) || everywhere(a.IP) && everywhere(b.IP)
}

// notPassed says that a listener's socket is missing, and what there is.
func notPassed(l config.Listener, passed []*systemd.Socket) error {
	there := "none: was postern started by hand, or without its socket unit?"
	if len(passed) > 0 {
		names := make([]string, len(passed))
		for i, s := range passed {
			names[i] = fmt.Sprintf("%q at %s", s.Name, s.Address)
		}
		there = strings.Join(names, ", ")
	}
	return fmt.Errorf("listener %q: systemd passed no socket named %q: enable a socket unit with FileDescriptorName=%s and Service=postern.service, or write host:port; passed were %s",
		l.Name, l.Address, l.Address, there)
}

// served is a configuration with the listeners that are served in the place of those that are
// written: with the sockets of systemd, and none at all for the broker of pipes.
func (d *daemon) served(cfg *config.Config) (*config.Config, []endpoint, error) {
	in := *cfg
	in.Listeners = nil
	if d.yield != nil {
		return &in, nil, nil
	}
	list, unserved, err := endpoints(cfg, d.passed)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range unserved {
		d.log.Error("a socket from systemd is not served, for its name is neither a protocol nor a listener: set FileDescriptorName= in its unit, or add a listener at systemd:NAME",
			"name", s.Name, "address", s.Address)
	}
	d.unserved.Store(int64(len(unserved)))
	for _, e := range list {
		in.Listeners = append(in.Listeners, e.Listener)
	}
	return &in, list, nil
}

// openAll opens all endpoints, or none.
func openAll(list []endpoint) (sockets []net.Listener, err error) {
	for _, e := range list {
		socket, err := e.open()
		if err != nil {
			closeAll(sockets)
			return nil, err
		}
		sockets = append(sockets, socket)
	}
	return sockets, nil
}

func closeAll(sockets []net.Listener) {
	for _, s := range sockets {
		_ = s.Close()
	}
}

// takeSockets takes over what systemd passed to this process.
func (d *daemon) takeSockets() {
	var problems []error
	d.passed, problems = systemd.Sockets()
	for _, err := range problems {
		d.log.Error("not served", "err", err)
	}
}

// status is the line for `systemctl status`.
func (d *daemon) status() string {
	text := fmt.Sprintf("serving %s on %s", plural(len(d.cfg.Domains), "domain"), plural(len(d.cfg.Listeners), "listener"))
	if n := d.unserved.Load(); n > 0 {
		text += fmt.Sprintf("; %s of unknown name not served", plural(int(n), "socket"))
	}
	return text
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
