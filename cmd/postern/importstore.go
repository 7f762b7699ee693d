package main

import (
	"crypto/sha256"
	"errors"
	"maps"
	"slices"
	"time"

	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/registry"
	"postern/internal/roster"
	"postern/internal/store"
	"postern/internal/unixtime"
	"postern/internal/xcauth"
)

// importBatch is how many changes are written at once.
const importBatch = 1000

// importer brings what xcauth knew into a store. With dry it only counts.
type importer struct {
	cfg   *config.Config
	store store.Store // nil: nothing is in it yet
	now   time.Time
	dry   bool

	registered map[string]*config.Domain // domains of the table that the configuration lacks

	ops    []store.Op
	counts importCounts
}

// importCounts is what became of the rows.
type importCounts struct {
	Domains   counted
	Passwords counted
	People    counted
	Groups    counted
}

// counted is what became of the rows of a table.
type counted struct {
	Found    int
	Imported int
	Known    int // imported before, or something newer is known
	Old      int // past every lifetime
	Foreign  int // of a domain whose block has no use for it, or that has none
}

// importedKey marks an imported row, so that it is never imported again: its password may have
// been refused since. It holds nobody's name.
func importedKey(row *xcauth.Account) []byte {
	sum := sha256.Sum256([]byte(row.ID.String() + "\x00" + row.Hash))
	return append([]byte(store.Meta+"xcauth/"), sum[:]...)
}

// domains registers the domains of the table that have no block of their own. What is registered
// already stays as it is: somebody may have changed it since.
func (m *importer) domains(data *xcauth.Data) error {
	m.registered = map[string]*config.Domain{}
	var fresh []registry.Record
	for _, d := range data.Domains {
		m.counts.Domains.Found++
		if found := configured(m.cfg, d.Name); found != nil && found.Name == d.Name {
			m.counts.Domains.Foreign++
			continue
		}
		r := registry.Record{Domain: d.Name, Kind: config.KindJSXC, URL: d.URL, Secret: d.Secret, AuthDomain: d.AuthDomain,
			Contact: d.Contact, First: d.First, Latest: d.Latest}
		if err := r.Check(); err != nil {
			data.Skipped = append(data.Skipped, xcauth.Skipped{Table: "domains", Key: d.Name, Why: err.Error()})
			continue
		}
		_, block := m.cfg.Registered(r.Domain, r.Kind, r.URL, r.Secret, r.AuthDomain)
		m.registered[d.Name] = &block
		known, err := m.has([]byte(store.Domains + d.Name))
		if err != nil {
			return err
		}
		if known {
			m.counts.Domains.Known++
			continue
		}
		m.counts.Domains.Imported++
		fresh = append(fresh, r)
	}
	if len(fresh) > 0 && !m.cfg.NeedsStore() {
		return errNotKept
	}
	if m.dry || m.store == nil || len(fresh) == 0 {
		return nil
	}
	_, err := registry.New(m.store).Put(m.now, fresh...)
	return err
}

// domain is the block that answers for a name, of the configuration or as registered; nil if
// there is none.
func (m *importer) domain(name string) *config.Domain {
	if d := m.registered[name]; d != nil {
		return d
	}
	return configured(m.cfg, name)
}

// accounts imports the password cache.
func (m *importer) accounts(rows []xcauth.Account) error {
	pending := map[auth.Identity]*cache.User{}
	for i := range rows {
		if err := m.account(&rows[i], pending); err != nil {
			return err
		}
		if len(m.ops)+len(pending) >= importBatch {
			if err := m.flush(pending); err != nil {
				return err
			}
		}
	}
	return m.flush(pending)
}

func (m *importer) account(row *xcauth.Account, pending map[auth.Identity]*cache.User) error {
	m.counts.Passwords.Found++
	domain := m.domain(row.ID.Domain)
	if domain == nil || domain.Cache.Storage != config.StorageDisk {
		m.counts.Passwords.Foreign++
		return nil
	}
	if m.now.Sub(row.Last) >= max(domain.Cache.OutageTTL, domain.Cache.VerifyTTL) {
		m.counts.Passwords.Old++
		return nil
	}
	mark := importedKey(row)
	if before, err := m.has(mark); err != nil {
		return err
	} else if before {
		m.counts.Passwords.Known++
		return nil
	}
	user := pending[row.ID]
	if user == nil {
		var err error
		if user, err = m.user(row.ID); err != nil {
			return err
		}
	}
	m.ops = append(m.ops, store.Op{Key: mark, Value: []byte{1}})
	v := cache.Verifier{Hash: row.Hash, First: unixtime.At(row.First), Verified: unixtime.At(row.Last), Used: unixtime.At(row.Used)}
	if !user.Import(v, domain.Cache.Secrets, unixtime.At(m.now)) {
		m.counts.Passwords.Known++
		return nil
	}
	m.counts.Passwords.Imported++
	pending[row.ID] = user
	return nil
}

// rosters imports what ejabberd was told. The hashes of answers are left behind: xcauth wrote
// them before the work was done, so the first answer after the move is compared anew, and groups
// are compared with what ejabberd has.
func (m *importer) rosters(data *xcauth.Data) error {
	for _, address := range slices.Sorted(maps.Keys(data.RosterUsers)) {
		p := data.RosterUsers[address]
		u := roster.User{Named: p.Named, Name: p.Name, Groups: p.Groups}
		err := m.adopt(&m.counts.People, p.ID.Domain, func(s roster.State) ([]store.Op, error) { return s.ImportUser(p.ID, u) })
		if err != nil {
			return err
		}
	}
	for _, g := range data.Groups {
		err := m.adopt(&m.counts.Groups, g.Domain, func(s roster.State) ([]store.Op, error) {
			return s.ImportGroup(g.Name, g.Members)
		})
		if err != nil {
			return err
		}
	}
	return m.flush(nil)
}

func (m *importer) adopt(n *counted, domain string, changes func(roster.State) ([]store.Op, error)) error {
	n.Found++
	if d := m.domain(domain); d == nil || d.Roster == nil {
		n.Foreign++
		return nil
	}
	if m.store == nil {
		n.Imported++
		return nil
	}
	ops, err := changes(roster.State{Store: m.store, Domain: domain})
	if err != nil {
		return err
	}
	if len(ops) == 0 {
		n.Known++
		return nil
	}
	n.Imported++
	if m.ops = append(m.ops, ops...); len(m.ops) >= importBatch {
		return m.flush(nil)
	}
	return nil
}

// user reads a user's record. One that cannot be read is as good as none, here as in the daemon.
func (m *importer) user(id auth.Identity) (*cache.User, error) {
	if m.store == nil {
		return new(cache.User), nil
	}
	record, err := m.store.Get(cache.RecordKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return new(cache.User), nil
	}
	if err != nil {
		return nil, err
	}
	if user, err := cache.Decode(record); err == nil {
		return user, nil
	}
	return new(cache.User), nil
}

func (m *importer) has(key []byte) (bool, error) {
	if m.store == nil {
		return false, nil
	}
	_, err := m.store.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// flush writes what has come together.
func (m *importer) flush(pending map[auth.Identity]*cache.User) error {
	for id, user := range pending {
		m.ops = append(m.ops, store.Op{Key: cache.RecordKey(id), Value: user.Encode()})
	}
	clear(pending)
	ops := m.ops
	m.ops = nil
	if m.dry || len(ops) == 0 || m.store == nil {
		return nil
	}
	return m.store.Apply(ops, true)
}

// configured is the block that answers for a domain, or nil.
func configured(cfg *config.Config, name string) (found *config.Domain) {
	for i := range cfg.Domains {
		switch cfg.Domains[i].Name {
		case name:
			return &cfg.Domains[i]
		case "*":
			found = &cfg.Domains[i]
		}
	}
	return found
}
