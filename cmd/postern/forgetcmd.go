package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"postern/cmd/internal/admin"
	"postern/cmd/internal/control"
	"postern/internal/auth"
	"postern/internal/config"
)

func newForget(a *app) *cobra.Command {
	var whole bool
	out := &output{app: a}
	cmd := &cobra.Command{
		Use:   "forget USER@DOMAIN|DOMAIN",
		Short: "Remove all that is remembered of a user, or of a domain",
		Long: `Removes what postern itself remembers of a user: accepted and refused passwords, whether
the user exists, roster state and limits, and prints what was removed. It works through the
running daemon's control socket, and directly on the data directory when no daemon runs.

Accounts and app passwords are not removed: see ` + "`postern user remove`" + ` and
` + "`postern password revoke`" + `. Used single-use tokens are kept until they expire, within 90
seconds, because otherwise they could be used again; they do not name their user. The limits of
a whole domain's users, which are in memory only, are left to expire. Log files are not changed.`,
		Example: `  postern forget alice@example.org
  postern forget example.org`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseForget(args[0], whole)
			if err != nil {
				return err
			}
			return a.withConfig(func(ctx context.Context, cfg *config.Config, _ []string) error {
				return out.forget(ctx, cfg, id)
			})(cmd, nil)
		},
	}
	cmd.Flags().BoolVar(&whole, "domain", false, "")
	_ = cmd.Flags().MarkHidden("domain") // of scripts: a domain is recognised without it
	return out.with(cmd, forgottenReport{})
}

func parseForget(text string, whole bool) (auth.Identity, error) {
	id, err := parseScope(text)
	if err == nil && whole && id.User != "" {
		err = fmt.Errorf("%q is not a domain: leave out --domain, or the user", text)
	}
	return id, err
}

// tokensKept is the line about used single-use tokens.
const tokensKept = "  single-use tokens: %d kept for their last seconds; they contain no names\n"

func (o *output) forget(ctx context.Context, cfg *config.Config, id auth.Identity) error {
	n, err := admin.Forget(ctx, cfg, id)
	what := id.Domain
	if id.User != "" {
		what = id.String()
	}
	return o.print(forgottenReport{what, n}, err, func(w io.Writer) error { return writeForgotten(w, what, n) })
}

func writeForgotten(w io.Writer, what string, n control.Forgotten) (err error) {
	if n.Nothing() {
		if _, err = fmt.Fprintf(w, "nothing to forget: postern knows nothing of %s\n", what); err == nil && n.Tokens > 0 {
			_, err = fmt.Fprintf(w, tokensKept, n.Tokens)
		}
		return err
	}
	exists := "nothing"
	if n.Exists {
		exists = "removed"
	}
	_, err = fmt.Fprintf(w, `forgotten: %s
  cache: %d records with %d accepted and %d refused passwords
  existence: %s
  limits: %d refusals
  shared rosters: %d users, and %d groups that name them
`+tokensKept, what, n.Users, n.Passwords, n.Refusals, exists, n.Counted, n.Roster.Users, n.Roster.Groups, n.Tokens)
	return err
}
