package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"postern/cmd/internal/admin"
	"postern/internal/config"
)

// Where `postern store copy` can copy to.
const (
	toValkey    = "valkey"
	toDirectory = "directory"
)

func newStore(a *app) *cobra.Command {
	var to string
	out := &output{app: a}
	cmd := a.command("postern store", "copy --to valkey|directory", "Copy what is known to a shared store, or back", "copy --to valkey\ncopy --to directory", cobra.NoArgs, func(ctx context.Context, cfg *config.Config, _ []string) error {
		if to != toValkey && to != toDirectory {
			return fmt.Errorf("--to is %q: write --to %s or --to %s", to, toValkey, toDirectory)
		}
		n, err := admin.CopyStore(ctx, cfg, to == toValkey)
		return out.print(n, err, func(w io.Writer) error { return writeCopied(w, n) })
	})
	cmd.Long = `Copies what the data directory knows to the store of the block store "valkey", or back:
cached users, when accounts were changed, used single-use tokens, and where there are none yet
registered domains, app passwords and the state of rosters. So a site gets several machines, or
one again, without asking about every password.

The machine's own daemon must not run. Others may use the shared store meanwhile; stop them
before a copy to a directory, which does not get what they learn later. The target keeps what it
has: of a user that both know, the newer passwords are kept, and a password does not come back
that one of them knows to be changed, refused or forgotten since. A copy can be repeated.`
	cmd.Flags().StringVar(&to, "to", "", "`TARGET`: "+toValkey+" or "+toDirectory)
	return group(
		&cobra.Command{
			Use:     "store",
			Short:   "Copy what is known to a shared store, or back",
			Long:    `Works on the data directory and on the store of the block store "valkey".`,
			Example: "  postern store copy --to valkey\n  postern store copy --to directory",
		},
		out.with(cmd, admin.Copied{}),
	)
}

func writeCopied(w io.Writer, n admin.Copied) (err error) {
	for _, line := range []struct {
		n    int
		text string
		any  bool
	}{
		{n.Users, "users written", true},
		{n.Dropped, "passwords left out: they were changed, refused or forgotten since", false},
		{n.Newer, "records of a newer version of postern", false},
		{n.Changes, "times of changes written", false},
		{n.Tokens, "used single-use tokens written", false},
		{n.Others, "records of registered domains, app passwords and rosters written", false},
		{n.Occupied, "of these left out: there are some already", false},
	} {
		if err == nil && (line.any || line.n > 0) {
			_, err = fmt.Fprintf(w, "%d %s\n", line.n, line.text)
		}
	}
	return err
}
