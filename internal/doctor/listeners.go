package doctor

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"postern/internal/config"
)

// listeners returns the chains of the listeners, of the metrics, and a note on client addresses.
func (e *Env) listeners(cfg *config.Config, d *Daemon) []Chain {
	var out []Chain
	for _, l := range cfg.Listeners {
		c := Chain{Hop: "listener." + l.Name}
		if l.Network == "unix" {
			c.Steps = append(c.Steps,
				Step{Check: "group", Run: func(context.Context) []Outcome { return e.socketGroup(&l) }},
				Step{Check: "path", Alone: true, Run: func(context.Context) []Outcome { return e.socketPath(&l) }})
		}
		c.Steps = append(c.Steps, Step{Check: "address", Alone: true, Run: func(ctx context.Context) []Outcome { return e.address(ctx, &l, d) }})
		if l.Protocol == "http" {
			c.Steps = append(c.Steps, Step{Check: "peers", Alone: true, Run: func(context.Context) []Outcome { return peers(&l) }},
				Step{Check: "certificate", Alone: true, Run: func(context.Context) []Outcome { return e.certificate(&l) }})
		}
		if l.Bearer.Offered {
			c.Steps = append(c.Steps, Step{Check: "tokens", Alone: true, Run: func(context.Context) []Outcome { return e.postfixTokens() }})
		}
		out = append(out, c)
	}
	if len(cfg.Listeners) == 0 {
		out = append(out, Chain{"listener", []Step{{Check: "any", Run: func(context.Context) []Outcome { return e.noListener(d) }}}})
	}
	if cfg.Metrics != "" {
		out = append(out, Chain{"metrics", []Step{{Check: "address", Alone: true, Run: func(context.Context) []Outcome { return e.metrics(cfg, d) }}}})
	}
	if blind := blind(cfg); len(blind) > 0 {
		out = append(out, Chain{"clients", []Step{{Check: "addresses", Run: func(context.Context) []Outcome {
			return fine("unknown to these listeners, so limits there count users only: %s", strings.Join(blind, ", "))
		}}}})
	}
	return out
}

// peers says what keeps strangers from asking by HTTP.
func peers(l *config.Listener) []Outcome {
	switch {
	case l.TLS.ClientCA != "":
		return fine("need a certificate of client_ca")
	case !l.Secret.Empty():
		return fine("need the secret")
	case l.Network == "unix":
		return fine("those that may open the socket")
	}
	// The configuration does not allow it for a port; of a socket of systemd it is not known which it is.
	return warn("have no secret: if "+l.Address+" is a port, postern does not serve it", `add secret = file("/etc/postern/http.secret") to the listen block`)
}

// certificate checks the validity of a listener's own certificate.
func (e *Env) certificate(l *config.Listener) []Outcome {
	if l.TLS.Certificate == "" {
		return nil
	}
	const renew = "renew it, and have that followed by: postern reload"
	block, _ := pem.Decode([]byte(l.TLS.Certificate))
	if block == nil {
		return nil // the configuration is not valid then
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fail(fmt.Sprintf("the certificate cannot be read: %v", err), renew)
	}
	now, date := e.Now(), func(t time.Time) string { return t.Format(time.DateOnly) }
	switch left := leaf.NotAfter.Sub(now); {
	case now.Before(leaf.NotBefore):
		return fail("the certificate is not valid before "+date(leaf.NotBefore), "correct this machine's clock, or the certificate")
	case left <= 0:
		return fail("the certificate expired on "+date(leaf.NotAfter), renew)
	case left < expirySoon:
		return warn(fmt.Sprintf("the certificate expires on %s, in %s", date(leaf.NotAfter), plural(int(left/(24*time.Hour)), "day")), renew)
	}
	return fine("valid until %s", date(leaf.NotAfter))
}

// noListener is the outcome for a configuration without a listen block: a socket unit, or a server
// that starts `postern pipe`, may be all that is wanted.
func (e *Env) noListener(d *Daemon) []Outcome {
	switch {
	case d.Info != nil && len(d.Info.Listeners) > 0:
		return fine("none in the configuration; systemd passes %s", strings.Join(d.Info.Listeners, ", "))
	case d.Info != nil && d.Info.ForPipes:
		return fine("none; `postern pipe` is in use")
	}
	return e.WayIn()
}

// WayIn is the outcome for a configuration without a listen block where no daemon is asked.
func (e *Env) WayIn() []Outcome {
	if names := e.Sockets(); len(names) > 0 {
		return fine("none in the configuration; %s is enabled", strings.Join(names, ", "))
	}
	for _, place := range ejabberdFiles {
		if data, err := e.ReadFile(place); err == nil && strings.Contains(string(data), "postern pipe") {
			return fine("none; ejabberd starts `postern pipe`")
		}
	}
	return warn("there is no listener, so no server can ask, unless it starts `postern pipe`",
		"add a listen block, or enable a socket unit: systemctl enable --now postern-ejabberd.socket")
}

// metrics checks that the metrics are served, or could be.
func (e *Env) metrics(cfg *config.Config, d *Daemon) []Outcome {
	switch {
	case d.Info != nil && !d.Info.ForPipes && d.Info.Metrics == cfg.Metrics:
		return fine("served at http://%s/metrics", cfg.Metrics)
	case d.Info != nil && !d.Info.ForPipes:
		return fail("the daemon does not serve them", e.cure.reload()+"; if that changes nothing, its log says why they are no longer served; "+e.cure.restart())
	case d.Err != nil:
		return skip("not tried, because a daemon may be listening", "")
	}
	return e.freePort("tcp", cfg.Metrics)
}

// socketGroup checks group and mode of a Unix socket in the configuration.
func (e *Env) socketGroup(l *config.Listener) []Outcome {
	if l.Group != "" {
		if _, err := e.GroupID(l.Group); err != nil {
			return fail(fmt.Sprintf("there is no group %s for the socket", l.Group), "groupadd --system "+l.Group+", or correct group in the listen block")
		}
	}
	switch {
	case l.Users != nil:
		return fine("mode %04o, for processes of %s", l.Mode, strings.Join(l.Users, ", "))
	case l.Mode&0o006 != 0:
		return warn(fmt.Sprintf("every user of this machine may connect (mode %04o), and so try passwords", l.Mode), `set mode = "0660", and group to that of the server that connects`)
	case l.Mode&0o060 == 0o060 && l.Group == "":
		return fine("mode %04o, for the group of the user that postern runs as", l.Mode)
	}
	return fine("mode %04o, group %s", l.Mode, l.Group)
}

// socketPath checks that members of the socket's group can reach it.
func (e *Env) socketPath(l *config.Listener) []Outcome {
	if l.Group == "" {
		return nil // peers run as the same user, or every user may connect
	}
	gid, err := e.GroupID(l.Group)
	if err != nil {
		return nil
	}
	if dir := e.closed(l.Address, account{-1, []int{gid}}); dir != "" {
		return fail(fmt.Sprintf("members of group %s cannot enter %s to reach the socket", l.Group, dir),
			fmt.Sprintf("chgrp %s %s && chmod g+x %[2]s, or put the socket elsewhere", l.Group, dir))
	}
	if f, err := e.Stat(l.Address); err == nil && f.Mode&fs.ModeSocket != 0 && (f.Mode.Perm() != l.Mode || f.GID != gid) {
		return warn(fmt.Sprintf("the socket %s has mode %04o and group %d, not %04o and %s", l.Address, f.Mode.Perm(), f.GID, l.Mode, l.Group),
			e.cure.reload()+"; in a socket unit, correct SocketMode= and SocketGroup=")
	}
	return fine("members of group %s reach %s", l.Group, l.Address)
}

// address checks that the listener is served, or could be. It does not connect to a daemon.
func (e *Env) address(ctx context.Context, l *config.Listener, d *Daemon) []Outcome {
	switch {
	case d.Info != nil && !d.Info.ForPipes && slices.Contains(d.Info.Listeners, l.Name):
		return fine("served at %s", l.Address)
	case d.Info != nil && !d.Info.ForPipes:
		return fail("the daemon does not serve it", e.cure.reload()+"; its log says why if that is refused")
	case l.Network == "systemd":
		return skip("systemd opens the socket "+l.Address+": see systemctl list-sockets", "")
	case d.Err != nil:
		return skip("not tried, because a daemon may be listening", "")
	case l.Network == "unix":
		return e.freePath(ctx, l)
	}
	return e.freePort(l.Network, l.Address)
}

// freePort checks that a port is free by binding it.
func (e *Env) freePort(network, address string) []Outcome {
	s, err := e.Listen(network, address)
	if err == nil {
		_ = s.Close()
		return fine("%s is free", address)
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fail("another program listens on "+address, "find it with ss -ltnp, and stop it, or choose another address; if it is systemd with a socket unit of postern, nothing is wrong")
	case errors.Is(err, syscall.EACCES):
		return fail("this user may not listen on "+address, "use a port above 1023, or a socket unit of systemd")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fail("this machine does not have the address "+address, "correct the address in its block")
	}
	return fail(fmt.Sprintf("%s cannot be bound: %v", address, errors.Unwrap(err)), "correct the address in its block")
}

// freePath checks that no program listens on a socket file.
func (e *Env) freePath(ctx context.Context, l *config.Listener) []Outcome {
	f, err := e.Stat(l.Address)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if dir := e.existing(filepath.Dir(l.Address)); dir != filepath.Dir(l.Address) {
			return warn(fmt.Sprintf("the directory %s does not exist", filepath.Dir(l.Address)), "create it with the ownership that the socket's users need, or postern creates it for itself only")
		}
		return fine("%s is free", l.Address)
	case err != nil:
		return fail(fmt.Sprintf("%s: %v", l.Address, cause(err)), e.cure.doctor()+"; let that user enter the directory")
	case f.Mode&fs.ModeSocket == 0:
		return fail(l.Address+" exists and is not a socket", "move it away, or choose another address")
	}
	c, err := e.Dial(ctx, "unix", l.Address)
	switch {
	case err == nil:
		_ = c.Close()
		return fail("another program listens on "+l.Address, "stop it (saslauthd?), or choose another address")
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return fine("%s is a leftover, and will be replaced", l.Address)
	}
	return fail(fmt.Sprintf("another program may be listening on %s: %v", l.Address, err),
		"stop it (saslauthd?), or choose another address; if there is none, remove the file")
}

// blind lists the listeners of protocols that do not carry client addresses.
func blind(cfg *config.Config) (out []string) {
	for _, l := range cfg.Listeners {
		if l.Protocol != "dovecot" && l.Protocol != "saslauthd" && l.Protocol != "http" && !l.ProxyProtocol {
			out = append(out, l.Name)
		}
	}
	return out
}
