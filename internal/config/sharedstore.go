package config

import (
	"fmt"
	"net"
	"strconv"
	"strings"

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
	Kind     string      // StoreValkey, or empty
	Address  string      // host:port, or unix: and a path
	Username string      // empty: the default user of the server
	Password auth.Secret // may be empty
	Prefix   string      // of all keys
	Refuse   bool        // without it, the cache does not bridge outages of backends
}

// store decodes the store block, and complains about what does not work with it. The domains are known.
func (p *parser) store(root *section, cfg *Config) Store {
	s := p.only(root, "store")
	if s.absent {
		return Store{}
	}
	out := Store{
		Kind: s.labels[0], Username: s.textOr("username", ""), Prefix: s.textOr("prefix", "postern:"),
		Refuse: s.word("isolated", isolatedBridge, isolatedBridge, isolatedRefuse) == isolatedRefuse,
	}
	out.Password, _ = s.secret("password")
	out.Address = p.storeAddress(s)
	if out.Prefix == "" || len(out.Prefix) > 64 || strings.ContainsFunc(out.Prefix, func(r rune) bool { return r <= ' ' || r > '~' }) {
		p.complain(s.at("prefix"), "prefix is not a word that keys can begin with", `write it as in "postern:"`)
	}
	if cfg.Registry.Declared {
		p.complain(s.header, "registered domains cannot be in a shared store yet",
			"remove the block registry, and write a domain block for each domain on each machine")
	}
	for i := range cfg.Domains {
		switch d := &cfg.Domains[i]; {
		case d.Roster != nil:
			p.complain(s.header, fmt.Sprintf("domain %q has shared rosters, which several machines would write at once", clip(d.Name)),
				"remove its block roster, or the block store")
		case d.AppPasswords != nil:
			p.complain(s.header, fmt.Sprintf("domain %q has app passwords, which cannot be in a shared store yet", clip(d.Name)),
				"remove the backend app_passwords from the domain, or the block store")
		case d.Cache.Storage == StorageMemory:
			p.complain(s.header, fmt.Sprintf("domain %q remembers passwords in memory only, so that this machine would not know which another has refused", clip(d.Name)),
				`write storage = "disk", which is the shared store then, or storage = "none"`)
		}
	}
	return out
}

// storeAddress decodes the address of the server.
func (p *parser) storeAddress(s *section) string {
	s.need("address", "the store has no address", `add address = "127.0.0.1:6379", or "unix:/run/valkey/valkey.sock"`)
	v, ok := s.text("address")
	if !ok {
		return ""
	}
	at, text := s.at("address"), v.AsString()
	if path, unix := strings.CutPrefix(text, "unix:"); unix {
		if !strings.HasPrefix(path, "/") || strings.ContainsFunc(path, func(r rune) bool { return r < ' ' }) {
			p.complain(at, "the path of the socket is not absolute", `write it as in "unix:/run/valkey/valkey.sock"`)
		}
		return text
	}
	host, port, err := net.SplitHostPort(text)
	n, errPort := strconv.ParseUint(port, 10, 16)
	if err != nil || host == "" || errPort != nil || n == 0 {
		p.complain(at, "address is neither host:port nor the path of a socket", `write it as in "127.0.0.1:6379" or "unix:/run/valkey/valkey.sock"`)
		return ""
	}
	return text
}

// clearNote returns what to say of a store to which the way may be listened to; "" for any other.
func (s Store) clearNote() string {
	host, _, err := net.SplitHostPort(s.Address)
	if err != nil || strings.HasPrefix(s.Address, "unix:") || loopback(host) {
		return ""
	}
	return fmt.Sprintf("what the store %s has, and its password, are sent in clear text: the network must be private, as a VPN or a cable between the machines is", s.Address)
}
