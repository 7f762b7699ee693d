package main

import (
	"errors"

	"github.com/spf13/cobra"

	"postern/cmd/internal/migrate"
)

func newImport(a *app) *cobra.Command {
	var o migrate.ImportOptions
	cmd := &cobra.Command{
		Use:   "xcauth",
		Short: "Import from xcauth: configuration, domains, cached passwords, roster state",
		Long: `With --out it writes a configuration equivalent to xcauth's, with each secret in a file of its
own beside it. Otherwise it uses the configuration of --config, and registers the domains that
this does not have (see ` + "`postern domain`" + `). Into the data directory of that configuration it
imports the cached passwords, so that users can log in even while Nextcloud is down, and the
state of shared rosters in ejabberd. Stop postern first; xcauth's files are only read.

Databases of xcauth before version 2 are Berkeley DB files: give the output of db_dump (package
db-util) for each with --dump, all in one run, because their domains go into the configuration
that is written. The records show which database each file is.

A second run changes nothing: rows are imported once, and what postern has learnt since takes
precedence. Rows that cannot be used are listed and left out.`,
		Example: `  postern import xcauth --out /etc/postern/config.hcl --dry-run
  postern import xcauth --conf /etc/xcauth.conf --out /etc/postern/config.hcl
  postern import xcauth --dump domains --dump cache --dump rosters --out /etc/postern/config.hcl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Out != "" && cmd.Flags().Changed("config") {
				return errors.New("--out writes a configuration and --config uses one: give one of them")
			}
			o.Flags = a.Flags
			return migrate.Import(cmd.Context(), a.Stdio, o)
		},
	}
	cmd.Flags().StringVar(&o.Conf, "conf", "", "xcauth's configuration `FILE` (default /etc/xcauth.conf)")
	cmd.Flags().StringVar(&o.DB, "db", "", "xcauth's SQLite database `FILE` (default: the one in its configuration)")
	cmd.Flags().StringArrayVar(&o.Dumps, "dump", nil, "output of db_dump in `FILE`, or - for standard input; may be repeated")
	cmd.Flags().StringVar(&o.Out, "out", "", "write an equivalent configuration to `FILE`")
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "change nothing, and print what would be done")
	return group(&cobra.Command{
		Use:     "import",
		Short:   "Import from another program",
		Example: "  postern import xcauth --out /etc/postern/config.hcl --dry-run\n  postern import xcauth --out /etc/postern/config.hcl",
	}, cmd)
}
