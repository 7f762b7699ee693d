package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/auth"
	"postern/internal/config"
)

func newTest(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test",
		Short: "Ask one question and show each step of its way",
		Long: `Asks the running daemon, or, when none runs, a broker of its own with the same
configuration, as --direct always does: what differs between the two is in the daemon. A
broker beside a running daemon knows nothing of its cache. The password is asked for, or read from standard input; it never stands on
the command line. The exit status is 0 for yes, 1 for no and 75 for "cannot tell", which is
also that of a question that could not be put.`,
		Example: `  postern test auth alice@example.org
  postern test isuser alice@example.org && echo "there is an alice"`,
	}
	var direct bool
	cmd.PersistentFlags().BoolVar(&direct, "direct", false, "do not ask the running daemon, but a broker of this command's own")
	var questions []*cobra.Command
	for _, t := range []struct {
		op    auth.Operation
		short string
	}{
		{auth.OpAuth, "Is this password right?"},
		{auth.OpIsUser, "Does this user exist?"},
		{auth.OpRoster, "Who is in this user's shared roster?"},
	} {
		questions = append(questions, &cobra.Command{
			Use: t.op.String() + " USER@DOMAIN", Short: t.short, Args: cobra.ExactArgs(1),
			Example: "  postern test " + t.op.String() + " alice@example.org",
			RunE: func(cmd *cobra.Command, args []string) error {
				return a.test(cmd.Context(), t.op, args[0], direct)
			},
		})
	}
	return group(cmd, questions...)
}

// isQuestion reports whether a command's exit status is an answer.
func isQuestion(cmd *cobra.Command) bool {
	return strings.HasPrefix(cmd.CommandPath()+" ", "postern test ")
}

func (a *app) test(ctx context.Context, op auth.Operation, address string, direct bool) error {
	id, err := parseAddress(address)
	if err != nil {
		return err
	}
	cfg, err := a.load(nil)
	if err != nil {
		return err
	}
	req := auth.Request{Op: op, User: id.User, Domain: id.Domain}
	if op == auth.OpAuth {
		if req.Secret, err = a.readSecret("password of "+id.String(), false); err != nil {
			return err
		}
	}
	reply, err := a.put(ctx, cfg, req, direct)
	if err != nil {
		return err
	}
	a.printReply(reply)
	if reply.Exit != 0 {
		return &exitError{code: reply.Exit}
	}
	return nil
}

// put asks the daemon, or a broker of our own if there is none or the daemon is to be left out.
func (a *app) put(ctx context.Context, cfg *config.Config, req auth.Request, direct bool) (reply askReply, err error) {
	if direct {
		return askDirectly(ctx, cfg, req)
	}
	err = callControl(ctx, controlPath(cfg), "/v1/ask", controlRequest{
		Op: req.Op.String(), User: req.User, Domain: req.Domain, Password: req.Secret.Reveal(),
	}, &reply)
	if errors.Is(err, errNoDaemon) {
		fmt.Fprintln(a.err, "no daemon is running: asking directly")
		return askDirectly(ctx, cfg, req)
	}
	return reply, err
}

// askDirectly starts a broker for one question.
func askDirectly(ctx context.Context, cfg *config.Config, req auth.Request) (askReply, error) {
	d, err := startDirect(cfg)
	if err != nil {
		return askReply{}, err
	}
	reply := askBroker(ctx, d.broker, req)
	d.stop(ctx)
	return reply, nil
}

func (a *app) printReply(r askReply) {
	for _, s := range r.Steps {
		fmt.Fprintf(a.out, "%10s  %-20s %s\n", s.At.Round(time.Microsecond), s.Stage, s.Note)
	}
	word := map[int]string{0: "yes", 1: "no"}[r.Exit]
	if word == "" {
		word = "cannot tell"
	}
	fmt.Fprintf(a.out, "%s: %s, from %s, in %s\n", word, r.Verdict, r.Source, r.Took.Round(time.Microsecond))
	if r.Body != "" {
		fmt.Fprintln(a.out, r.Body)
	}
}
