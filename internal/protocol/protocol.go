// Package protocol is the table of the front-end protocols: their names, and the limits of a
// listener that its configuration does not set. Package wire has their codecs.
package protocol

import "time"

// Name is a protocol as the configuration writes it.
type Name string

// The protocols.
const (
	Ejabberd  Name = "ejabberd"  // external authentication of ejabberd and MongooseIM
	Generic   Name = "generic"   // lines, as Prosody's mod_auth_external and xcauth have them
	Saslauthd Name = "saslauthd" // Cyrus SASL
	TCPTable  Name = "tcp_table" // Postfix, tcp_table(5)
	Socketmap Name = "socketmap" // Postfix, socketmap_table(5)
	Dovecot   Name = "dovecot"   // Dovecot's authentication clients, Postfix, Exim
	Relay     Name = "relay"     // between processes of postern

	DovecotUserdb Name = "dovecot_userdb" // what Dovecot's LMTP and chasquid ask of a recipient

	HTTP Name = "http" // requests of HTTP, in a dialect for each path
)

// Spec is a row of the table.
type Spec struct {
	Name  Name
	Alias string // what xcauth's units call its socket; empty: the same

	Deadline    time.Duration // a request is answered within it
	IdleTimeout time.Duration // a connection without a request is closed after it; 0: never
	MaxFrame    int           // bytes of a frame or line, without length prefix or LF; of HTTP: of a header, and of a body
	PeerTimeout time.Duration // when peers stop waiting for an answer; 0: never, or not known
}

// Table has every protocol. A deadline is well under the peers' time-out. Peers may leave a
// connection idle for ever: Postfix's smtpd answers the next logins with an error after the
// server has closed an idle dovecot one. saslauthd's peers ask once per connection. Every
// request that is not refused for the length of a name or password fits into MaxFrame.
var Table = []Spec{
	{Name: Ejabberd, Deadline: 9 * time.Second, MaxFrame: 65536, PeerTimeout: 30 * time.Second},
	{Name: Generic, Alias: "prosody", Deadline: 4 * time.Second, MaxFrame: 65536, PeerTimeout: 5 * time.Second},
	{Name: Saslauthd, Deadline: 8 * time.Second, IdleTimeout: 30 * time.Second, MaxFrame: 32768},
	{Name: TCPTable, Alias: "postfix", Deadline: 20 * time.Second, MaxFrame: 65536, PeerTimeout: 100 * time.Second},
	{Name: Socketmap, Deadline: 20 * time.Second, MaxFrame: 65536, PeerTimeout: 100 * time.Second},
	{Name: Dovecot, Deadline: 8 * time.Second, MaxFrame: 16384, PeerTimeout: 10 * time.Second},
	{Name: DovecotUserdb, Deadline: 4 * time.Second, MaxFrame: 8192, PeerTimeout: 5 * time.Second},
	{Name: HTTP, Deadline: 8 * time.Second, MaxFrame: 32768},
	{Name: Relay, Deadline: 30 * time.Second, MaxFrame: 65536},
}

// Find returns the protocol of that name.
func Find(name Name) (spec Spec, ok bool) {
	return find(func(s *Spec) bool { return s.Name == name })
}

// FindAlias returns the protocol for which xcauth has another name.
func FindAlias(alias string) (spec Spec, ok bool) {
	return find(func(s *Spec) bool { return s.Alias == alias && alias != "" })
}

func find(match func(*Spec) bool) (spec Spec, ok bool) {
	for i := range Table {
		if match(&Table[i]) {
			return Table[i], true
		}
	}
	return Spec{}, false
}

// Names lists the protocols as the configuration writes them.
func Names() []string {
	names := make([]string, len(Table))
	for i, p := range Table {
		names[i] = string(p.Name)
	}
	return names
}

// Service is that of a login for which a peer with the protocol names none; empty: it is not known. What speaks the
// protocols of XMPP servers is one.
func (n Name) Service() string {
	if n == Ejabberd || n == Generic {
		return "xmpp"
	}
	return ""
}
