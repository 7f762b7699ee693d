package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"postern/internal/auth"
)

// StoreValkey is the kind of a store on a Valkey or Redis server.
const StoreValkey = "valkey"

// What a process does when its shared store is away.
const (
	isolatedBridge = "bridge"
	isolatedRefuse = "refuse"
)

// Store is the store block, for a store that several machines share. The zero Store is the directory of the machine.
type Store struct {
	Kind      string      // StoreValkey, or empty
	Addresses []string    // host:port, or unix: and a path: one, or with Sentinel or Cluster those of all that say where it is
	Username  string      // empty: the default user of the server
	Password  auth.Secret // may be empty
	TLS       StoreTLS
	Sentinel  Sentinel
	Cluster   bool
	Prefix    string // of all keys
	Refuse    bool   // without it, the cache does not bridge outages of backends
}

// StoreTLS is how connections to a store are protected, and to its Sentinels.
type StoreTLS struct {
	On          bool
	CA          string // certificates in PEM form; empty: those of the system
	Certificate string // of this machine, with its chain, in PEM form; may be empty
	Key         auth.Secret
	ServerName  string // that the server's certificate has; empty: the host of the address
}

// Config returns the configuration for connections; nil for none by TLS.
func (t *StoreTLS) Config() *tls.Config {
	if !t.On {
		return nil
	}
	c := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		c.RootCAs = x509.NewCertPool()
		c.RootCAs.AppendCertsFromPEM([]byte(t.CA))
	}
	if pair, err := tls.X509KeyPair([]byte(t.Certificate), []byte(t.Key.Reveal())); err == nil {
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}

// Sentinel is what Sentinels call the store, and how to log in there.
type Sentinel struct {
	Master   string // empty: there are none
	Username string
	Password auth.Secret
}

// store decodes the store block, and complains about what does not work with it. The domains are known.
func (p *parser) store(root *section, cfg *Config) Store {
	s := p.only(root, "store")
	if s.absent {
		return Store{}
	}
	out := Store{
		Kind: s.labels[0], Username: s.textOr("username", ""), Cluster: s.flag("cluster", false),
		Refuse: s.word("isolated", isolatedBridge, isolatedBridge, isolatedRefuse) == isolatedRefuse,
	}
	out.Password, _ = s.secret("password")
	out.TLS, out.Sentinel = p.storeTLS(s), p.sentinel(s)
	out.Addresses = p.storeAddresses(s)
	guided := out.Sentinel.Master != "" || out.Cluster
	switch {
	case out.Sentinel.Master != "" && out.Cluster:
		p.complain(s.at("cluster"), "a cluster has no Sentinels", "remove the block sentinel, or cluster = true")
	case len(out.Addresses) > 1 && !guided:
		p.complain(s.at("addresses"), "the store has several addresses, but one server has what is known",
			"write the block sentinel if they are those of Sentinels, or cluster = true")
	case guided && len(out.Addresses) < 3:
		p.warn(s.at("addresses"), "a majority of the addresses says where the store is, which fewer than three cannot do when one of them is away",
			"name all Sentinels, or all nodes of the cluster")
	}
	absent := "postern:"
	if out.Cluster {
		absent = "{postern}:"
	}
	out.Prefix = s.textOr("prefix", absent)
	if out.Prefix == "" || len(out.Prefix) > 64 || strings.ContainsFunc(out.Prefix, func(r rune) bool { return r <= ' ' || r > '~' }) {
		p.complain(s.at("prefix"), "prefix is not a word that keys can begin with", `write it as in "postern:"`)
	}
	if out.Cluster && !hashTag(out.Prefix) {
		p.complain(s.at("prefix"), "prefix has no hash tag, so that the nodes of the cluster would share the keys", `write it as in "{postern}:"`)
	}
	for i := range cfg.Domains {
		switch d := &cfg.Domains[i]; {
		case d.Roster != nil:
			p.complain(s.header, fmt.Sprintf("domain %q has shared rosters, which several machines would write at once", clip(d.Name)),
				"remove its block roster, or the block store")
		case d.Cache.Storage == StorageMemory:
			p.complain(s.header, fmt.Sprintf("domain %q remembers passwords in memory only, so that this machine would not know which another has refused", clip(d.Name)),
				`write storage = "disk", which is the shared store then, or storage = "none"`)
		}
	}
	return out
}

// hashTag reports whether all keys with a prefix are in one slot of a cluster.
func hashTag(prefix string) bool {
	_, after, _ := strings.Cut(prefix, "{")
	return strings.IndexByte(after, '}') > 0
}

// storeTLS decodes the tls block of the store.
func (p *parser) storeTLS(parent *section) (out StoreTLS) {
	s := p.only(parent, "tls")
	if s.absent {
		return out
	}
	out = StoreTLS{On: true, CA: p.pem(s, "ca_file"), Certificate: p.pem(s, "certificate"), Key: auth.NewSecret(p.pem(s, "key")), ServerName: s.textOr("server_name", "")}
	if out.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(out.CA)) {
		p.complain(s.at("ca_file"), "the file holds no certificate", "it must hold CA certificates in PEM form")
	}
	if s.has("certificate") != s.has("key") {
		p.complain(s.header, "certificate and key stand alone", "name both, or none")
	} else if out.Certificate != "" && !out.Key.Empty() {
		if _, err := tls.X509KeyPair([]byte(out.Certificate), []byte(out.Key.Reveal())); err != nil {
			p.complain(s.at("key"), "certificate and key do not make a pair", "name a PEM file with the certificate and its chain, and one with its key")
		}
	}
	return out
}

// sentinel decodes the sentinel block.
func (p *parser) sentinel(parent *section) (out Sentinel) {
	s := p.only(parent, "sentinel")
	if s.absent {
		return out
	}
	s.need("master", "the sentinel block does not say what the Sentinels call the store", `add master = "mymaster", as in "sentinel monitor mymaster ..." of their configuration`)
	out = Sentinel{Master: s.textOr("master", ""), Username: s.textOr("username", "")}
	out.Password, _ = s.secret("password")
	return out
}

// storeAddresses decodes where the server is, or what knows it.
func (p *parser) storeAddresses(s *section) (out []string) {
	s.need("addresses", "the store has no address", `add addresses = ["127.0.0.1:6379"], or ["unix:/run/valkey/valkey.sock"]`)
	s.texts("addresses", func(v value, at hcl.Range) {
		text := v.AsString()
		if path, unix := strings.CutPrefix(text, "unix:"); unix {
			if !strings.HasPrefix(path, "/") || strings.ContainsFunc(path, func(r rune) bool { return r < ' ' }) {
				p.complain(at, "the path of the socket is not absolute", `write it as in "unix:/run/valkey/valkey.sock"`)
			}
			out = append(out, text)
			return
		}
		host, port, err := net.SplitHostPort(text)
		n, errPort := strconv.ParseUint(port, 10, 16)
		if err != nil || host == "" || errPort != nil || n == 0 {
			p.complain(at, "an address is neither host:port nor the path of a socket", `write it as in "127.0.0.1:6379" or "unix:/run/valkey/valkey.sock"`)
			return
		}
		if slices.Contains(out, text) {
			p.complain(at, "an address is there twice", "remove one")
		}
		out = append(out, text)
	})
	return out
}

// Where returns the addresses as one text.
func (s *Store) Where() string { return strings.Join(s.Addresses, ", ") }

// clearNote returns what to say of a store to which the way may be listened to; "" for any other.
func (s *Store) clearNote() string {
	if s.TLS.On {
		return ""
	}
	for _, address := range s.Addresses {
		host, _, err := net.SplitHostPort(address)
		if err == nil && !strings.HasPrefix(address, "unix:") && !loopback(host) {
			return fmt.Sprintf("what the store %s has, and its password, are sent in clear text: add a block tls, or have a private network, as a VPN or a cable between the machines is", s.Where())
		}
	}
	return ""
}
