package config

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"postern/internal/auth"
	"postern/internal/protocol"
)

// PipeListener is the name of the listener for the requests of `postern pipe`, for example in logs.
const PipeListener = "pipe"

// DefaultListener returns the listener for a socket from systemd that no block configures. It is
// named after a protocol, or as xcauth named its sockets; ok is false for other names.
func DefaultListener(name string) (l Listener, ok bool) {
	spec, ok := protocol.Find(protocol.Name(name))
	if !ok {
		spec, ok = protocol.FindAlias(name)
	}
	l = defaultsOf(spec)
	l.Name = name
	return l, ok
}

// DefaultListener is DefaultListener with what depends on the domains.
func (c *Config) DefaultListener(name string) (l Listener, ok bool) {
	if l, ok = DefaultListener(name); l.Protocol == string(protocol.Dovecot) {
		l.Bearer = c.Bearer()
	}
	return l, ok
}

// defaultsOf returns a listener of a protocol before its block is read.
func defaultsOf(spec protocol.Spec) Listener {
	out := Listener{
		Protocol: string(spec.Name), Deadline: spec.Deadline, IdleTimeout: spec.IdleTimeout, FrameTimeout: 30 * time.Second,
		WriteTimeout: 10 * time.Second, MaxFrame: spec.MaxFrame, Pipeline: 64, MaxConnections: 16384,
	}
	if spec.Name == protocol.HTTP {
		out.TrustedProxies = localProxies()
	}
	return out
}

// listener decodes a listen block.
func (p *parser) listener(s *section, cfg *Config) Listener {
	name := s.labels[0]
	switch {
	case !plainWord(name) || name == "" || len(name) > 64: // also for logs, metrics and command lines
		p.complain(s.label, "the label is not usable as a name", "use up to 64 letters, digits and . _ -")
	case name == PipeListener:
		p.complain(s.label, "this name is reserved for `postern pipe`", "choose another label")
	case slices.ContainsFunc(cfg.Listeners, func(l Listener) bool { return l.Name == name }):
		p.complain(s.label, fmt.Sprintf("two listeners are named %q", name),
			"the label is a name of your choice: change one and give its protocol")
	}
	spec := p.protocolOf(s)
	out := defaultsOf(spec)
	out.Name, out.BinaryAnswers = name, s.flag("binary_answers", false)
	if out.BinaryAnswers && spec.Name != protocol.Ejabberd {
		p.complain(s.at("binary_answers"), "binary_answers is for the ejabberd protocol only", "remove the line")
	}
	out.Deadline = s.duration("deadline", out.Deadline, 100*time.Millisecond)
	if spec.PeerTimeout > 0 && out.Deadline >= spec.PeerTimeout {
		p.warn(s.at("deadline"), fmt.Sprintf("peers of this protocol give up after %v", spec.PeerTimeout),
			fmt.Sprintf("stay well under it; the default is %v", spec.Deadline))
	}
	out.IdleTimeout = s.duration("idle_timeout", out.IdleTimeout, 0)
	out.FrameTimeout = s.duration("frame_timeout", out.FrameTimeout, 100*time.Millisecond)
	out.WriteTimeout = s.duration("write_timeout", out.WriteTimeout, 100*time.Millisecond)
	out.MaxFrame = s.number("max_frame", out.MaxFrame, 1024, 16<<20)
	out.Pipeline = s.number("pipeline", out.Pipeline, 1, 65536)
	out.MaxConnections = s.number("max_connections", out.MaxConnections, 1, 1<<20)
	if v, ok := s.text("default_domain"); ok {
		domain, err := auth.FoldDomain(v.AsString())
		if err != nil || domain == "*" {
			p.complain(s.at("default_domain"), "default_domain is not a domain", `write one as in "example.org"`)
		}
		out.DefaultDomain = domain
		known := slices.ContainsFunc(cfg.Domains, func(d Domain) bool { return d.Name == domain || d.Name == "*" })
		if domain != "" && !cfg.Registry.Declared && !known {
			p.warn(s.at("default_domain"), fmt.Sprintf("no domain block answers for %q", clip(domain)),
				"add one, or correct default_domain; until then these logins are refused")
		}
	}
	out.RecipientDelimiter = p.recipientDelimiter(s, spec.Name)
	out.FixedDomain = p.fixedDomain(s, spec.Name)
	if out.Logins = s.word("map", "mailbox", "mailbox", "login") == "login"; s.has("map") && spec.Name != protocol.TCPTable {
		p.complain(s.at("map"), "map is for the tcp_table protocol only", "remove the line; a socketmap client names its map itself")
	}
	out.Userdb = p.userdb(s, spec.Name)
	if spec.Name == protocol.Dovecot {
		out.Bearer = cfg.Bearer()
	}
	if spec.Name == protocol.Relay && !s.has("address") {
		p.relaySocket(s, cfg, &out)
	} else {
		out.Users = p.users(s)
		p.web(s, &out)
		p.endpoint(s, cfg, &out)
	}
	p.changes(s, &out)
	return out
}

// RelayPath is where `postern pipe` looks for the listener of a daemon that another user runs. It is in what
// systemd gives the shipped unit (RuntimeDirectory=).
const RelayPath = "/run/postern/relay.sock"

// relayUsers are the users of a relay listener that names neither them nor its socket.
var relayUsers = []string{"ejabberd", "prosody"}

// users decodes which users' processes may connect.
func (p *parser) users(s *section) (users []string) {
	s.texts("users", func(v value, at hcl.Range) {
		switch name := v.AsString(); {
		case !plainWord(name) || name == "":
			p.complain(at, "users has a text that is no name of a user", `write them as in ["ejabberd", "prosody"]`)
		case slices.Contains(users, name):
			p.warn(at, "this user is named twice", "remove one")
		default:
			users = append(users, name)
		}
	})
	return users
}

// changes decodes whether the peers of a listener, or the processes of some users, may change accounts.
func (p *parser) changes(s *section, out *Listener) {
	if attr := s.body.Attributes["changes"]; attr != nil {
		if _, list := attr.Expr.(*hclsyntax.TupleConsExpr); list {
			s.texts("changes", func(v value, at hcl.Range) {
				if !slices.Contains(out.Users, v.AsString()) {
					p.complain(at, "changes names a user that users does not", `write changes = true, or name users of this listener`)
				}
				out.ChangeUsers = append(out.ChangeUsers, v.AsString())
			})
			out.Changes = true
		} else {
			out.Changes = s.flag("changes", false)
		}
	}
	if s.has("changes") && !out.changeable() {
		p.complain(s.at("changes"), "protocol "+out.Protocol+" has no requests that change accounts", "remove the line")
	}
	out.ChangesSaid = s.has("changes")
}

// changeable reports whether the protocol has requests that change accounts.
func (l *Listener) changeable() bool {
	switch protocol.Name(l.Protocol) {
	case protocol.Ejabberd, protocol.Generic, protocol.Relay, protocol.HTTP:
		return true
	}
	return false
}

// ChangesNote returns what to say of a listener that refuses changes though the configuration does
// not say so; "" for any other.
func (l *Listener) ChangesNote() string {
	if l.Changes || l.ChangesSaid || !l.changeable() || l.Protocol == string(protocol.HTTP) { // most of its peers have none
		return ""
	}
	return fmt.Sprintf("listener %q refuses requests that set passwords, register or remove accounts: %s if its peers may do that, or changes = false to be silent about it",
		clip(l.Name), l.ChangesLine())
}

// Notes lists what is no fault, but may be not what was meant.
func (c *Config) Notes() (notes []string) {
	for i := range c.Listeners {
		if note := c.Listeners[i].ChangesNote(); note != "" {
			notes = append(notes, note)
		}
	}
	if note := c.Store.clearNote(); note != "" {
		notes = append(notes, note)
	}
	return notes
}

// ChangesLine is what to write into the configuration so that a listener takes changes.
func (l *Listener) ChangesLine() string {
	if len(l.ChangeUsers) > 0 {
		return fmt.Sprintf("add the user to changes in listen %q", clip(l.Name))
	}
	return fmt.Sprintf("add changes = true to listen %q", clip(l.Name))
}

// fixedDomain decodes the domain that replaces every realm.
func (p *parser) fixedDomain(s *section, name protocol.Name) string {
	v, ok := s.text("fixed_domain")
	if !ok {
		return ""
	}
	at := s.at("fixed_domain")
	if name != protocol.Saslauthd {
		p.complain(at, "fixed_domain is for the saslauthd protocol only", "write default_domain, for logins without a domain")
	}
	if s.has("default_domain") {
		p.complain(at, "fixed_domain leaves no login without a domain", "remove default_domain")
	}
	domain, err := auth.FoldDomain(v.AsString())
	if err != nil || domain == "*" {
		p.complain(at, "fixed_domain is not a domain", `write one as in "example.org"`)
	}
	return domain
}

// userdb decodes the userdb block of a dovecot_userdb listener.
func (p *parser) userdb(parent *section, name protocol.Name) Userdb {
	s := p.only(parent, "userdb")
	if !s.absent && name != protocol.DovecotUserdb && name != protocol.HTTP {
		p.complain(s.header, "userdb is for the protocols dovecot_userdb and http only", "remove the block")
	}
	out := Userdb{UID: p.account(s, "uid", p.env.LookupUser), GID: p.account(s, "gid", p.env.LookupGroup), Home: s.textOr("home", "")}
	rest := strings.NewReplacer("%{user}", "", "%{domain}", "").Replace(out.Home)
	switch {
	case out.Home == "":
	case !strings.HasPrefix(out.Home, "/"):
		p.complain(s.at("home"), "home is not an absolute path", `write it as in "/var/vmail/%{domain}/%{user}"`)
	case strings.Contains(rest, "%{"):
		p.complain(s.at("home"), "home has a template that is not known", "known here: %{user}, %{domain}")
	}
	return out
}

// account decodes the number or name of a user or group, and returns the number: Dovecot takes no
// names in answers.
func (p *parser) account(s *section, name string, lookup func(string) (string, error)) string {
	attr := s.body.Attributes[name]
	if attr == nil {
		return ""
	}
	v, ok := p.eval(attr.Expr)
	switch {
	case !ok:
	case v.isText() && plainWord(v.AsString()) && v.AsString() != "":
		number := v.AsString()
		if _, err := strconv.ParseUint(number, 10, 31); err != nil && lookup != nil {
			if number, err = lookup(number); err != nil {
				p.complain(attr.Expr.Range(), name+": there is no "+v.AsString()+" on this machine", "correct the name, or write its number")
			}
		}
		if number == "0" {
			p.complain(attr.Expr.Range(), name+" is root's", "write a user or group for mail")
		}
		return number
	case v.Type() == cty.Number && !v.IsNull():
		return strconv.Itoa(s.number(name, 0, 1, 1<<31-1))
	default:
		p.complain(attr.Expr.Range(), name+" is not a user or group", `write a number, or a name in quotes`)
	}
	return ""
}

// recipientDelimiter decodes the characters that separate an address extension.
func (p *parser) recipientDelimiter(s *section, name protocol.Name) string {
	v, ok := s.text("recipient_delimiter")
	if !ok {
		return ""
	}
	at, text := s.at("recipient_delimiter"), v.AsString()
	if name != protocol.TCPTable && name != protocol.Socketmap {
		p.complain(at, "recipient_delimiter is for the lookup tables tcp_table and socketmap only", "remove the line")
	}
	bad := strings.ContainsFunc(text, func(r rune) bool {
		return r <= ' ' || r > '~' || r == '@' || r == '"' || r == '\\' || unicode.IsLetter(r) || unicode.IsDigit(r)
	})
	if bad || len(text) > 8 {
		p.complain(at, "recipient_delimiter has a character that cannot begin an address extension, or too many", `write it as in Postfix, such as "+" or "+-"`)
	}
	return text
}

// metrics decodes the metrics block, which may be absent, and returns its address.
func (p *parser) metrics(s *section, cfg *Config) string {
	if s.absent {
		return ""
	}
	s.need("address", "the block has no address", `add address = "127.0.0.1:23669"`)
	v, ok := s.text("address")
	if !ok {
		return ""
	}
	network, address, ok := p.address(v, s.at("address"), cfg.DataDir)
	if ok && network != "tcp" {
		p.complain(s.at("address"), "metrics are served at host:port only", `write it as in "127.0.0.1:23669"`)
	}
	return address
}

// protocolOf returns the protocol that a listener gives or is named after.
func (p *parser) protocolOf(s *section) protocol.Spec {
	name, at, given := s.labels[0], s.label, s.has("protocol")
	if given {
		v, ok := s.text("protocol")
		if !ok {
			return protocol.Table[0]
		}
		name, at = v.AsString(), s.at("protocol")
	}
	if spec, ok := protocol.Find(protocol.Name(name)); ok {
		return spec
	}
	if spec, ok := protocol.FindAlias(name); ok {
		p.complain(at, fmt.Sprintf("protocol %s is called %s here", name, spec.Name), fmt.Sprintf("write protocol = %q", spec.Name))
	} else if given {
		p.complain(at, "the protocol is unknown", didYouMean(name, protocol.Names()))
	} else {
		p.complain(s.header, "the listener's protocol is not given, and its label is not a protocol",
			"add protocol = ...; this version has "+strings.Join(protocol.Names(), ", "))
	}
	return protocol.Table[0]
}

// relaySocket is endpoint for a relay listener without an address: the socket that `postern pipe` finds by
// itself.
func (p *parser) relaySocket(s *section, cfg *Config, out *Listener) {
	out.Network, out.Address = "unix", RelayPath
	p.unusedAddress(cfg, out, s.header)
	if out.Users = p.users(s); !s.has("users") && !s.has("mode") && !s.has("owner") && !s.has("group") {
		out.Users = relayUsers
	}
	p.permissions(s, out)
}

// unusedAddress complains of an address that another listener has.
func (p *parser) unusedAddress(cfg *Config, out *Listener, at hcl.Range) {
	for i := range cfg.Listeners {
		other := &cfg.Listeners[i]
		if other.Network == out.Network && other.Address == out.Address && !strings.HasSuffix(out.Address, ":0") {
			p.complain(at, fmt.Sprintf("listener %q has the same address", clip(other.Name)), "give each its own")
		}
	}
}

// endpoint decodes the address of a listener and the permissions of a Unix socket.
func (p *parser) endpoint(s *section, cfg *Config, out *Listener) {
	s.need("address", "the listener has no address", "add address = ...: "+writeAddress)
	v, ok := s.text("address")
	if !ok {
		return
	}
	at := s.at("address")
	if out.Network, out.Address, ok = p.address(v, at, cfg.DataDir); !ok {
		return
	}
	p.unusedAddress(cfg, out, at)
	if out.Network == "unix" {
		if out.ProxyProtocol {
			p.complain(s.at("proxy_protocol"), "proxy_protocol is for ports only", "remove the line, or listen on host:port")
		}
		p.permissions(s, out)
		return
	}
	if out.Protocol == string(protocol.Relay) && out.Network != "systemd" {
		p.complain(at, "the relay protocol needs a Unix socket", `write "unix:/run/postern/relay.sock"`)
	}
	cure := `remove the line, or listen on "unix:/path"`
	if out.Network == "systemd" {
		cure = "remove the line, and write SocketMode=, SocketUser= or SocketGroup= in the socket unit"
	}
	names := []string{"mode", "owner", "group", "users"}
	if out.Network == "systemd" {
		names = names[:3]
	}
	for _, name := range names {
		if s.has(name) {
			p.complain(s.at(name), name+" is for Unix sockets only", cure)
		}
	}
	if out.Protocol == string(protocol.HTTP) && out.Network == "tcp" && out.Secret.Empty() && out.TLS.ClientCA == "" {
		p.complain(at, "every process of this machine, and every page in a browser on it, can reach a TCP port",
			`add secret = file("/etc/postern/http.secret"), or tls with client_ca, or listen on "unix:/path"`)
	}
	if host, _, err := net.SplitHostPort(out.Address); err == nil && !loopback(host) && out.TLS.Certificate == "" {
		p.warn(at, "passwords are sent in clear text to this address",
			"listen on 127.0.0.1 or a Unix socket, or make sure that the network is private")
	}
}

// permissions decodes the attributes of a Unix socket.
func (p *parser) permissions(s *section, out *Listener) {
	out.Mode = 0o660
	if len(out.Users) > 0 && !s.has("group") {
		out.Mode = 0o666 // the users decide
	}
	out.Owner, out.Group = s.textOr("owner", ""), s.textOr("group", "")
	v, ok := s.get("mode", cty.String, `write it in octal and in quotes, as in "0660": a number would be decimal`)
	if !ok {
		return
	}
	bits, err := strconv.ParseUint(v.AsString(), 8, 32)
	if err != nil || bits > 0o777 {
		p.complain(s.at("mode"), "mode does not have three octal digits", `write it as in "0660"`)
		return
	}
	out.Mode = os.FileMode(bits)
}
