package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/config"
	"postern/internal/store"
	"postern/internal/xcauth"
)

// importOptions are the flags of `postern import xcauth`.
type importOptions struct {
	conf   string
	db     string
	dumps  []string
	out    string
	dryRun bool
}

func newImport(a *app) *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use:   "xcauth",
		Short: "Move in from xcauth: configuration, domains, cached passwords, roster state",
		Long: `With --out it writes a configuration that does what xcauth's does, with each secret in a file
of its own beside it; otherwise it uses the one of --config, and domains that this does not have
are registered (see ` + "`postern domain`" + `). Into the data directory of that configuration it
brings the cached passwords, so that users log in even while Nextcloud is down, and what ejabberd
was told of shared rosters. Stop postern first; xcauth's files are only read.

Databases of xcauth before version 2 are Berkeley DB files: give the output of db_dump (package
db-util) for each with --dump, all in one run, since their domains are in the configuration
that it writes. Which of them it is shows in the records.

A second run changes nothing: rows are imported once, and what postern has learnt since counts
for more. Rows that cannot be used are listed and left out.`,
		Example: `  postern import xcauth --out /etc/postern/config.hcl --dry-run
  postern import xcauth --conf /etc/xcauth.conf --out /etc/postern/config.hcl
  postern import xcauth --dump domains.dump --dump cache.dump --dump rosters.dump --out /etc/postern/config.hcl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.out != "" && cmd.Flags().Changed("config") {
				return errors.New("--out writes a configuration and --config uses one: give one of them")
			}
			return a.importXcauth(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.conf, "conf", "", "xcauth's configuration `FILE` (default /etc/xcauth.conf)")
	cmd.Flags().StringVar(&o.db, "db", "", "xcauth's SQLite database `FILE` (default: the one in its configuration)")
	cmd.Flags().StringArrayVar(&o.dumps, "dump", nil, "output of db_dump in `FILE`, or - for standard input; may be repeated")
	cmd.Flags().StringVar(&o.out, "out", "", "write an equivalent configuration to `FILE`")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "change nothing, tell what would be done")
	return group(&cobra.Command{
		Use:     "import",
		Short:   "Move in from another program",
		Example: "  postern import xcauth --out /etc/postern/config.hcl",
	}, cmd)
}

// importXcauth moves in.
func (a *app) importXcauth(ctx context.Context, o importOptions) error {
	settings, err := xcauthSettings(o.conf)
	if err != nil {
		return err
	}
	for _, w := range settings.Warnings {
		fmt.Fprintln(a.err, "warning: "+w)
	}
	data := new(xcauth.Data)
	if err := a.readSources(ctx, o, settings, data); err != nil {
		return err
	}
	var cfg *config.Config
	if o.out != "" {
		cfg, err = a.writeConfig(o, settings, data)
	} else {
		cfg, err = a.load(nil)
	}
	if err != nil {
		return err
	}
	counts, err := a.importData(ctx, cfg, data, o.dryRun)
	if err != nil {
		return err
	}
	a.importReport(counts, data, o.dryRun)
	return nil
}

// xcauthSettings reads xcauth's configuration: the file that was named, or those of its own that
// are there.
func xcauthSettings(conf string) (*xcauth.Options, error) {
	if conf != "" {
		return xcauth.Parse(xcauth.Defaults(), []string{"--config-file=" + conf}, os.ReadFile)
	}
	return xcauth.Parse(xcauth.Defaults(), nil, os.ReadFile, xcauth.DefaultConfigs()...)
}

// readSources reads the database and the dumps.
func (a *app) readSources(ctx context.Context, o importOptions, settings *xcauth.Options, data *xcauth.Data) error {
	db := o.db
	if db == "" {
		if db = settings.DB; absent(db) {
			db = ""
		}
	}
	if db != "" {
		if err := readSQLite(ctx, db, data); err != nil {
			return err
		}
	}
	for _, path := range o.dumps {
		if err := a.readDump(path, data); err != nil {
			return err
		}
	}
	if db != "" || len(o.dumps) > 0 {
		return nil
	}
	for _, old := range []string{settings.DomainDB, settings.CacheDB, settings.RosterDB} {
		if old != "" && !absent(old) {
			return fmt.Errorf("%s is a Berkeley DB file of xcauth before version 2: run `db_dump -p %[1]s > FILE` (package db-util) for each of domain-db, cache-db and shared-roster-db, and give all of them to one import, each with --dump FILE", old)
		}
	}
	if o.out == "" {
		return fmt.Errorf("there is no database %s: name it with --db, or give --dump", settings.DB)
	}
	fmt.Fprintf(a.err, "there is no database %s: only the configuration is written\n", settings.DB)
	return nil
}

// importData brings the rows into the store of a configuration.
func (a *app) importData(ctx context.Context, cfg *config.Config, data *xcauth.Data, dry bool) (importCounts, error) {
	m := importer{cfg: cfg, now: time.Now(), dry: dry}
	if dry {
		if !absent(storeDir(cfg)) {
			p, err := store.OpenPebble(storeDir(cfg), slog.New(slog.DiscardHandler))
			if err != nil {
				fmt.Fprintln(a.err, "the data directory is in use: what is known already is counted as new")
			} else {
				defer p.Close()
				m.store = p
			}
		}
		return m.all(data)
	}
	err := ownStore(ctx, cfg, func(p *store.Pebble) (err error) {
		m.store = p
		_, err = m.all(data)
		return err
	})
	return m.counts, err
}

// all imports everything.
func (m *importer) all(data *xcauth.Data) (importCounts, error) {
	err := m.domains(data)
	if err == nil {
		err = m.accounts(data.Accounts)
	}
	if err == nil {
		err = m.rosters(data)
	}
	return m.counts, err
}

// importReport tells what became of the rows.
func (a *app) importReport(c importCounts, data *xcauth.Data, dry bool) {
	done := "imported"
	if dry {
		done = "to import"
	}
	if n := c.Domains; n.Found > n.Foreign { // --out has told of those that it wrote
		fmt.Fprintf(a.out, "domains: %d found, %d %s, %d registered already, %d in the configuration\n", n.Found, n.Imported, done, n.Known, n.Foreign)
	}
	for _, table := range []struct {
		name    string
		n       counted
		without string
	}{
		{"passwords", c.Passwords, "a cache on disk"}, {"roster users", c.RosterUsers, "a roster block"},
		{"roster groups", c.Groups, "a roster block"},
	} {
		fmt.Fprintf(a.out, "%s: %d found, %d %s, %d known already, %d too old, %d of domains without %s\n",
			table.name, table.n.Found, table.n.Imported, done, table.n.Known, table.n.Old, table.n.Foreign, table.without)
	}
	for _, s := range data.Skipped {
		fmt.Fprintf(a.out, "left out: %s %s: %s\n", s.Table, s.Key, s.Why)
	}
	if dry {
		fmt.Fprintln(a.out, "nothing was changed")
	}
}
