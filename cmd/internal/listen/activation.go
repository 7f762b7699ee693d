package listen

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

// Endpoint is a listener with the socket that systemd passed for it, or that a former process of
// postern has left for it.
type Endpoint struct {
	config.Listener
	Passed *systemd.Socket // by systemd; nil: postern opens its own
	Kept   *os.File        // from a former process; nil: there is none
}

// Open returns the socket that the endpoint accepts on.
func (e Endpoint) Open() (net.Listener, error) {
	if e.Passed != nil {
		return e.Passed.Listen()
	}
	if e.Kept != nil {
		return e.openKept()
	}
	return Open(e.Listener)
}

// Match assigns the sockets that systemd passed to the listeners of a configuration:
//
//   - a listener at "systemd:NAME" takes all sockets of that name, of which there must be one;
//   - a listener takes the socket at its own host:port or path, which it could not open itself;
//   - of the others, a socket is served if it is named after a listener, or after a protocol: as
//     the first listener of that protocol or, without one, by the protocol's defaults.
//
// Sockets of other names are returned in unserved. The list is in the order in which the
// endpoints are to be opened.
func Match(cfg *config.Config, passed []*systemd.Socket) (list []Endpoint, unserved []*systemd.Socket, err error) {
	m := matcher{left: passed, names: map[string]bool{}}
	for _, l := range cfg.Listeners {
		m.names[l.Name] = true
	}
	for _, l := range cfg.Listeners {
		taken := m.take(func(s *systemd.Socket) bool {
			return l.Network == "systemd" && s.Name == l.Address || sameAddress(l, s)
		})
		switch {
		case len(taken) > 0:
			m.add(l, taken)
		case l.Network == "systemd":
			return nil, nil, notPassed(l, passed)
		default:
			m.list = append(m.list, Endpoint{Listener: l})
		}
	}
	for len(m.left) > 0 {
		name := m.left[0].Name
		taken := m.take(func(s *systemd.Socket) bool { return s.Name == name })
		if l, ok := listenerFor(cfg, name); ok {
			m.add(l, taken)
		} else {
			unserved = append(unserved, taken...)
		}
	}
	slices.SortStableFunc(m.list, func(a, b Endpoint) int { return a.order() - b.order() })
	return m.list, unserved, nil
}

// order is lower for endpoints that are opened earlier. Dovecot's come first: an smtpd of Postfix
// that cannot connect to its dovecot socket exits, and with it the mail service.
func (e Endpoint) order() int {
	if e.Protocol == string(wire.Dovecot) {
		return 0
	}
	return 1
}

// matcher is the state of Match.
type matcher struct {
	left  []*systemd.Socket
	names map[string]bool // of configured listeners
	list  []Endpoint
}

// take removes the sockets that match from those that are left.
func (m *matcher) take(match func(*systemd.Socket) bool) (taken []*systemd.Socket) {
	var left []*systemd.Socket
	for _, s := range m.left {
		if match(s) {
			taken = append(taken, s)
		} else {
			left = append(left, s)
		}
	}
	m.left = left
	return taken
}

// add serves sockets as a listener. The broker knows each as a listener of its own, so the second
// and further ones get names of their own.
func (m *matcher) add(l config.Listener, sockets []*systemd.Socket) {
	served := func(name string) bool {
		return slices.ContainsFunc(m.list, func(e Endpoint) bool { return e.Name == name })
	}
	base := l.Name
	for _, s := range sockets {
		for n := 2; served(l.Name) || l.Name != base && m.names[l.Name]; n++ {
			l.Name = fmt.Sprintf("%s-%d", base, n)
		}
		l.Network, l.Address = s.Network, s.Address
		l.Mode, l.Owner, l.Group = 0, "", "" // systemd has set them
		m.list = append(m.list, Endpoint{Listener: l, Passed: s})
	}
}

// listenerFor returns the listener for a socket at an address that no configured listener has.
func listenerFor(cfg *config.Config, name string) (config.Listener, bool) {
	for _, l := range cfg.Listeners {
		if l.Name == name {
			return l, true
		}
	}
	l, ok := cfg.DefaultListener(name)
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

// sameAddress reports whether a passed socket has the address of a listener.
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
	anyAddress := func(ip net.IP) bool { return len(ip) == 0 || ip.IsUnspecified() }
	return a.IP.Equal(b.IP) || anyAddress(a.IP) && anyAddress(b.IP)
}

// notPassed says that a listener's socket is missing, and which sockets there are.
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

// OpenAll opens all endpoints, or none.
func OpenAll(list []Endpoint) (sockets []net.Listener, err error) {
	for _, e := range list {
		socket, err := e.Open()
		if err != nil {
			CloseAll(sockets)
			return nil, err
		}
		sockets = append(sockets, socket)
	}
	return sockets, nil
}

// CloseAll closes sockets; those that are closed already stay so.
func CloseAll(sockets []net.Listener) {
	for _, s := range sockets {
		_ = s.Close()
	}
}
