// Package migrate moves installations of other programs to postern.
//
// Import brings over the configuration, the domains, the cached passwords and the roster state of
// xcauth. Compat makes postern a replacement for xcauth and ejabberd-auth under their own names
// and options: their settings are turned into a configuration of postern's at each start, which
// the broker of pipes reads as any other.
package migrate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"postern/cmd/internal/admin"
	"postern/cmd/internal/configfile"
	"postern/cmd/internal/datadir"
	"postern/cmd/internal/pipe"
	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/registry"
	"postern/internal/roster"
	"postern/internal/store"
	"postern/internal/unixtime"
	"postern/internal/xcauth"
)

// ImportOptions are the flags of `postern import xcauth`.
type ImportOptions struct {
	Conf   string   // xcauth's configuration file; empty: the default ones
	DB     string   // xcauth's SQLite database; empty: the one that its configuration names
	Dumps  []string // outputs of db_dump; "-" is standard input
	Out    string   // configuration to write; empty: use the one of Flags
	DryRun bool     // change nothing
	Flags  configfile.Flags
}

// Import imports from xcauth, and reports the outcome for each table.
func Import(ctx context.Context, std pipe.Stdio, o ImportOptions) error {
	settings, err := xcauthSettings(o.Conf)
	if err != nil {
		return err
	}
	for _, w := range settings.Warnings {
		fmt.Fprintln(std.Err, "warning: "+w)
	}
	data := new(xcauth.Data)
	if err := readSources(ctx, std, o, settings, data); err != nil {
		return err
	}
	m := importer{now: time.Now(), dry: o.DryRun}
	if o.Out != "" {
		m.cfg, m.files, err = newConfig(o, settings, data)
	} else {
		m.cfg, err = o.Flags.Load(nil)
	}
	if err != nil {
		return err
	}
	if err := m.run(ctx, std, data); err != nil {
		return err
	}
	m.report(std, data)
	return nil
}

// xcauthSettings reads xcauth's configuration: a named file, or those of the default ones that
// exist.
func xcauthSettings(conf string) (*xcauth.Options, error) {
	if conf == "" {
		return xcauth.Parse(xcauth.Defaults(), nil, os.ReadFile, xcauth.DefaultConfigs()...)
	}
	return xcauth.Parse(xcauth.Defaults(), []string{"--config-file=" + conf}, os.ReadFile)
}

// batch is how many changes are written at once.
const batch = 1000

// importer brings what xcauth knew into a store.
type importer struct {
	cfg   *config.Config
	files []configfile.File // of cfg, to be written; none: it is in use already
	wrote bytes.Buffer      // a line for each of them
	store store.Store       // nil: nothing is in it yet
	now   time.Time
	dry   bool // only count

	registered map[string]registered // domains of the table that the configuration lacks

	ops                       []store.Op
	domains, passwords        counts
	rosterUsers, rosterGroups counts
}

// registered is a domain that is registered, or about to be.
type registered struct {
	block   config.Domain
	backend config.Backend
}

// counts is the outcome of an import, in rows of a table.
type counts struct {
	found    int
	imported int
	known    int // imported before, or something newer is known
	old      int // past every lifetime
	foreign  int // of a domain without a block that uses them
}

// run brings the rows into the store of the configuration. It writes the configuration only once nothing
// can refuse the import any more.
func (m *importer) run(ctx context.Context, std pipe.Stdio, data *xcauth.Data) error {
	if !m.dry {
		return admin.OnStore(ctx, m.cfg, func(p store.Disk) error {
			m.store = p
			if err := write(&m.wrote, false, m.files); err != nil {
				return err
			}
			return m.all(data)
		})
	}
	if err := write(&m.wrote, true, m.files); err != nil {
		return err
	}
	if dir := datadir.Store(m.cfg.DataDir); !absent(dir) {
		p, err := store.OpenPebble(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			fmt.Fprintln(std.Err, "what is known already is counted as new:", err)
		} else {
			defer p.Close()
			m.store = p
		}
	}
	return m.all(data)
}

func (m *importer) all(data *xcauth.Data) error {
	err := m.importDomains(data)
	if err == nil {
		err = m.importAccounts(data.Accounts)
	}
	if err == nil {
		err = m.importRosters(data)
	}
	return err
}

// report prints the outcome for each table.
func (m *importer) report(std pipe.Stdio, data *xcauth.Data) {
	done := "imported"
	if m.dry {
		done = "to import"
	}
	_, _ = m.wrote.WriteTo(std.Out)
	if len(m.files) > 0 {
		fmt.Fprintf(std.Out, "domains: %d found, %d in the configuration\n", len(data.Domains), len(data.Domains))
	} else if n := m.domains; n.found > n.foreign {
		fmt.Fprintf(std.Out, "domains: %d found, %d %s, %d registered already, %d in the configuration\n", n.found, n.imported, done, n.known, n.foreign)
	}
	for _, table := range []struct {
		name    string
		n       counts
		without string
	}{
		{"passwords", m.passwords, "a cache on disk"}, {"roster users", m.rosterUsers, "a roster block"},
		{"roster groups", m.rosterGroups, "a roster block"},
	} {
		fmt.Fprintf(std.Out, "%s: %d found, %d %s, %d known already, %d too old, %d of domains without %s\n",
			table.name, table.n.found, table.n.imported, done, table.n.known, table.n.old, table.n.foreign, table.without)
	}
	for _, s := range data.Skipped {
		fmt.Fprintf(std.Out, "left out: %s %s: %s\n", s.Table, s.Key, s.Why)
	}
	if m.dry {
		fmt.Fprintln(std.Out, "nothing was changed")
	} else if len(m.files) > 0 {
		m.nextSteps(std.Out)
	}
}

// ejabberdFile is where packages install ejabberd's configuration.
const ejabberdFile = "/etc/ejabberd/ejabberd.yml"

// nextSteps prints what is left to do.
func (m *importer) nextSteps(out io.Writer) {
	if file := m.files[len(m.files)-1].Path; file == config.DefaultPath {
		fmt.Fprintln(out, "next: sudo systemctl enable --now postern.service")
	} else { // where the service does not look
		fmt.Fprintln(out, "next: postern serve"+configfile.Flags{File: file}.Shell())
	}
	if text, err := os.ReadFile(ejabberdFile); err == nil && strings.Contains(string(text), "xcauth") {
		fmt.Fprintf(out, "next: sudo sed -i 's|^\\( *extauth_program:\\).*|\\1 \"/usr/bin/postern pipe --protocol ejabberd\"|' %s && sudo ejabberdctl reload_config\n", ejabberdFile)
	}
	for _, d := range m.cfg.Domains {
		if d.Roster != nil && d.Roster.Ejabberdctl != "" {
			fmt.Fprintln(out, "note: the service may not run ejabberdctl: write api = \"http://127.0.0.1:5281/api\" in the roster blocks in its place")
			return
		}
	}
}

// importedKey marks an imported row, so that it is never imported again: its password may have
// been refused since. It is a hash and so names no account.
func importedKey(row *xcauth.Account) []byte {
	sum := sha256.Sum256([]byte(row.ID.String() + "\x00" + row.Hash))
	return append([]byte(store.Meta+"xcauth/"), sum[:]...)
}

// importDomains registers the domains of the table that have no block of their own. What is
// registered already stays as it is: it may have been changed since.
func (m *importer) importDomains(data *xcauth.Data) error {
	m.registered = map[string]registered{}
	var fresh []registry.Record
	for _, d := range data.Domains {
		m.domains.found++
		if found := m.cfg.DomainFor(d.Name); found != nil && found.Name == d.Name {
			m.domains.foreign++
			continue
		}
		r := registry.Record{Domain: d.Name, Kind: config.KindJSXC, URL: d.URL, Secret: d.Secret, AuthDomain: d.AuthDomain,
			Contact: d.Contact, First: d.First, Latest: d.Latest}
		if err := r.Check(); err != nil {
			data.Skipped = append(data.Skipped, xcauth.Skipped{Table: "domains", Key: d.Name, Why: err.Error()})
			continue
		}
		backend, block := m.cfg.Registered(r.Domain, r.Kind, r.URL, r.Secret, r.AuthDomain)
		m.registered[d.Name] = registered{block, backend}
		known, err := m.has([]byte(store.Domains + d.Name))
		if err != nil {
			return err
		}
		if known {
			m.domains.known++
			continue
		}
		m.domains.imported++
		fresh = append(fresh, r)
	}
	if len(fresh) > 0 && !m.cfg.NeedsStore() {
		return admin.ErrNotKept
	}
	if m.dry || m.store == nil || len(fresh) == 0 {
		return nil
	}
	_, err := registry.New(m.store).Put(m.now, fresh...)
	return err
}

// domain returns the block that answers for a domain, of the configuration or as registered; nil
// if there is none.
func (m *importer) domain(name string) *config.Domain {
	if r, ok := m.registered[name]; ok {
		return &r.block
	}
	return m.cfg.DomainFor(name)
}

// authority returns what vouches for the accounts of a domain.
func (m *importer) authority(name string) auth.AuthorityID {
	if r, ok := m.registered[name]; ok {
		return r.block.Authorities([]config.Backend{r.backend})[0].ID
	}
	whole, _ := m.cfg.Whole(m.domain(name))
	return whole.ID
}

// importAccounts imports the password cache.
func (m *importer) importAccounts(rows []xcauth.Account) error {
	pending := map[auth.Identity]*cache.User{}
	for i := range rows {
		if err := m.importAccount(&rows[i], pending); err != nil {
			return err
		}
		if len(m.ops)+len(pending) >= batch {
			if err := m.flush(pending); err != nil {
				return err
			}
		}
	}
	return m.flush(pending)
}

func (m *importer) importAccount(row *xcauth.Account, pending map[auth.Identity]*cache.User) error {
	m.passwords.found++
	domain := m.domain(row.ID.Domain)
	if domain == nil || domain.Cache.Storage != config.StorageDisk {
		m.passwords.foreign++
		return nil
	}
	if m.now.Sub(row.Last) >= max(domain.Cache.OutageTTL, domain.Cache.VerifyTTL) {
		m.passwords.old++
		return nil
	}
	mark := importedKey(row)
	if before, err := m.has(mark); err != nil {
		return err
	} else if before {
		m.passwords.known++
		return nil
	}
	id := row.ID.Fold()
	user := pending[id]
	if user == nil {
		var err error
		if user, err = m.user(id); err != nil {
			return err
		}
	}
	m.ops = append(m.ops, store.Op{Key: mark, Value: []byte{1}})
	v := cache.Verifier{
		Name: cache.Name{Account: row.ID.User, Exact: true}, By: m.authority(id.Domain),
		Hash: row.Hash, First: unixtime.At(row.First), Verified: unixtime.At(row.Last), Used: unixtime.At(row.Used),
	}
	if !user.Import(v, domain.Cache.Secrets, unixtime.At(m.now)) {
		m.passwords.known++
		return nil
	}
	m.passwords.imported++
	pending[id] = user
	return nil
}

// importRosters imports what was sent to ejabberd. The hashes of answers are left out: xcauth wrote
// them before the work was done. So the first answer after the move is compared again, and groups
// are compared with what ejabberd has.
func (m *importer) importRosters(data *xcauth.Data) error {
	for _, address := range slices.Sorted(maps.Keys(data.RosterUsers)) {
		p := data.RosterUsers[address]
		u := roster.User{Named: p.Named, Name: p.Name, Groups: p.Groups}
		err := m.importRoster(&m.rosterUsers, p.ID.Domain, func(s roster.State) ([]store.Op, error) { return s.ImportUser(p.ID, u) })
		if err != nil {
			return err
		}
	}
	for _, g := range data.Groups {
		err := m.importRoster(&m.rosterGroups, g.Domain, func(s roster.State) ([]store.Op, error) {
			return s.ImportGroup(g.Name, g.Members)
		})
		if err != nil {
			return err
		}
	}
	return m.flush(nil)
}

func (m *importer) importRoster(n *counts, domain string, changes func(roster.State) ([]store.Op, error)) error {
	n.found++
	if d := m.domain(domain); d == nil || d.Roster == nil {
		n.foreign++
		return nil
	}
	if m.store == nil {
		n.imported++
		return nil
	}
	ops, err := changes(roster.State{Store: m.store, Domain: domain})
	if err != nil {
		return err
	}
	if len(ops) == 0 {
		n.known++
		return nil
	}
	n.imported++
	if m.ops = append(m.ops, ops...); len(m.ops) >= batch {
		return m.flush(nil)
	}
	return nil
}

// user reads an account's record. One that cannot be decoded counts as none, as in the daemon.
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

// flush writes the changes gathered so far.
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
