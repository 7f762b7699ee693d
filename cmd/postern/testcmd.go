package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"postern/cmd/internal/admin"
	"postern/cmd/internal/control"
	"postern/cmd/internal/datadir"
	"postern/internal/auth"
	"postern/internal/config"
)

func newTest(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test",
		Short: "Ask one question and show each step to its answer",
		Long: `Asks the running daemon or, when none runs, a broker of its own with the same configuration;
--direct always uses the latter. If the two answer differently, the cause is in the daemon; but a
broker beside a running daemon knows nothing of its cache. The password is prompted for, or read
from standard input; it is never on the command line. The exit status is 0 for yes, 1 for no
and 75 for a temporary failure (the answer is not known right now), also if the question could
not be asked.`,
		Example: `  postern test auth alice@example.org
  postern test isuser alice@example.org && echo "there is an alice"`,
	}
	var direct, fresh bool
	var service string
	cmd.PersistentFlags().BoolVar(&direct, "direct", false, "do not ask the running daemon, but a broker of this command's own")
	cmd.PersistentFlags().BoolVar(&fresh, "no-cache", false, "ask the backend, whatever the cache knows")
	answer := &output{app: a}
	cmd.PersistentFlags().BoolVar(&answer.json, "json", false, "print JSON")
	var questions []*cobra.Command
	for _, t := range []struct {
		op    auth.Operation
		short string
	}{
		{auth.OpAuth, "Is this password right?"},
		{auth.OpIsUser, "Does this user exist?"},
		{auth.OpRoster, "Who is in this user's shared roster?"},
	} {
		question := &cobra.Command{
			Use: t.op.String() + " USER@DOMAIN", Short: t.short, Args: cobra.ExactArgs(1),
			Example: "  postern test " + t.op.String() + " alice@example.org\n  postern test " + t.op.String() + " --direct alice@example.org",
			RunE: func(cmd *cobra.Command, args []string) error {
				return answer.test(cmd.Context(), auth.Request{Op: t.op, Fresh: fresh, Service: service}, args[0], direct)
			},
		}
		if t.op == auth.OpAuth {
			question.Flags().StringVar(&service, "service", "", "`SERVICE` that the login is for, such as imap (some app passwords are for some only)")
		}
		describeJSON(question, control.AskReply{})
		questions = append(questions, question)
	}
	return group(cmd, questions...)
}

// isQuestion reports whether a command's exit status is an answer.
func isQuestion(cmd *cobra.Command) bool {
	return strings.HasPrefix(cmd.CommandPath()+" ", "postern test ")
}

func (o *output) test(ctx context.Context, req auth.Request, address string, direct bool) error {
	a := o.app
	id, err := parseAddress(address)
	if err != nil {
		return err
	}
	cfg, err := a.Load(nil)
	if err != nil {
		return err
	}
	req.User, req.Domain = id.User, id.Domain
	if req.Op == auth.OpAuth {
		if req.Secret, err = a.readSecret("password of "+id.String(), false); err != nil {
			return err
		}
	}
	reply, err := a.put(ctx, cfg, req, direct)
	if err != nil {
		return err
	}
	err = o.print(reply, nil, func(w io.Writer) error {
		reply.Print(w)
		return nil
	})
	if err == nil && reply.Exit != 0 {
		err = exitStatus(reply.Exit)
	}
	return err
}

// put asks the daemon, or a broker of its own.
func (a *app) put(ctx context.Context, cfg *config.Config, req auth.Request, direct bool) (control.AskReply, error) {
	if !direct {
		reply, err := control.AskDaemon(ctx, datadir.Control(cfg.DataDir), req)
		if !errors.Is(err, control.ErrNoDaemon) {
			return reply, err
		}
		fmt.Fprintln(a.Err, "no daemon is running: asking directly")
	}
	return admin.AskDirectly(ctx, cfg, req)
}
