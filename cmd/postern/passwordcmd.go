package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"postern/cmd/internal/admin"
	"postern/cmd/internal/control"
	"postern/internal/config"
	"postern/internal/qrcode"
)

// passwordFlags are those of the commands about app passwords.
type passwordFlags struct {
	name          string
	expires, ends string // of add, and of expire
	services      []string
	all           bool
	qr, server    string // of add
}

func newPassword(a *app) *cobra.Command {
	var f passwordFlags
	command := func(use, short, examples string, args cobra.PositionalArgs, do func(*output, context.Context, *config.Config, []string) error) *cobra.Command {
		o := &output{app: a}
		return o.with(a.command("postern password", use, short, examples, args, func(ctx context.Context, cfg *config.Config, args []string) error {
			return do(o, ctx, cfg, args)
		}), control.PasswordReply{})
	}
	add := command("add USER@DOMAIN", "Make an app password, and print it once",
		"add alice@example.org --name phone\nadd alice@example.org --name laptop --services imap,smtp --expires 90d\n"+
			"add alice@example.org --name phone --qr=thunderbird --server mail.example.org\nadd alice@example.org --name chat --services xmpp --qr=conversations",
		cobra.ExactArgs(1), f.add)
	add.Flags().StringVar(&f.name, "name", "", "`NAME` of the device or program that is to have it")
	add.Flags().StringSliceVar(&f.services, "services", nil, "`SERVICES` that it is for, such as imap,smtp (default: all)")
	add.Flags().StringVar(&f.expires, "expires", "never", "`WHEN` it ends: after a time such as 90d, or after a day such as 2027-12-31")
	add.Flags().StringVar(&f.qr, "qr", "", "print a QR code, too: `FORM` text, thunderbird (also for K-9 Mail) or conversations")
	add.Flags().Lookup("qr").NoOptDefVal = qrcode.Text
	add.Flags().StringVar(&f.server, "server", "", "`HOST` of the mail server, for the QR code")
	expire := command("expire USER@DOMAIN NAME|ID", "Set when an app password ends",
		"expire alice@example.org phone\nexpire alice@example.org phone --expires never", cobra.ExactArgs(2), f.expire)
	expire.Flags().StringVar(&f.ends, "expires", "0s", "`WHEN` it ends: after a time, after a day, or never (default: now)")
	revoke := command("revoke USER@DOMAIN [NAME|ID]", "Take an app password back at once",
		"revoke alice@example.org phone\nrevoke alice@example.org --all", cobra.RangeArgs(1, 2), f.revoke)
	revoke.Flags().BoolVar(&f.all, "all", false, "all that the account has")
	return group(
		&cobra.Command{
			Use:   "password",
			Short: "Manage the app passwords of an account",
			Long: `Works through the running daemon's control socket, and directly on the data directory when no
daemon runs. The domain needs a backend app_passwords; see ` + "`postern help app-passwords`" + `. What is
revoked or has expired is refused at once, and no other backend is asked about it.`,
			Example: `  postern password add alice@example.org --name phone
  postern password list alice@example.org`,
		},
		add,
		command("list USER@DOMAIN", "List the app passwords of an account", "list alice@example.org\nlist alice@example.org --json", cobra.ExactArgs(1), f.list),
		expire, revoke,
	)
}

// call makes a call about the app passwords of an account.
func (f *passwordFlags) call(ctx context.Context, cfg *config.Config, path string, args []string, r control.Request) (control.PasswordReply, error) {
	id, err := parseAddress(args[0])
	if err != nil {
		return control.PasswordReply{}, err
	}
	return admin.Passwords(ctx, cfg, path, id, r)
}

// parseEnd reads --expires; nil stands for never.
func parseEnd(text string, now time.Time) (*time.Time, error) {
	if text == "never" {
		return nil, nil
	}
	if day, err := time.ParseInLocation(time.DateOnly, text, time.Local); err == nil {
		end := day.AddDate(0, 0, 1)
		return &end, nil
	}
	after, err := config.ParseDuration(text)
	if err != nil {
		return nil, fmt.Errorf("--expires %q: write a time such as 90d, a day such as 2027-12-31, or never", text)
	}
	at := now.Add(after)
	return &at, nil
}

func (f *passwordFlags) add(o *output, ctx context.Context, cfg *config.Config, args []string) error {
	if f.name == "" {
		return errors.New("an app password needs a name: write --name phone, or what the device is")
	}
	end, err := parseEnd(f.expires, time.Now())
	if err != nil {
		return err
	}
	device, err := f.device(o, args[0])
	if err != nil {
		return err
	}
	reply, err := f.call(ctx, cfg, "/v1/password/add", args, control.Request{Name: f.name, Services: f.services, Expires: end})
	return o.print(reply, err, func(out io.Writer) error {
		p := reply.Passwords[0]
		fmt.Fprintln(out, reply.Secret)
		if f.qr != "" {
			device.Password = reply.Secret
			code, err := qrcode.Draw(device.In(f.qr), term.IsTerminal(int(o.app.Out.Fd())))
			if err != nil {
				return fmt.Errorf("the app password was made, but %w", err)
			}
			fmt.Fprint(out, code)
		}
		_, err := fmt.Fprintf(o.app.Err, "app password %q (%s) of %s, for %s, expires: %s; it is not shown again; capitals and hyphens do not count\n",
			p.Name, p.ID, args[0], listOr(p.Services, "all services"), momentOf(p.Expires))
		return err
	})
}

// device returns what the QR code is to have, without the password.
func (f *passwordFlags) device(o *output, address string) (a qrcode.Account, err error) {
	switch {
	case f.qr == "" && f.server == "":
		return a, nil
	case f.qr == "":
		return a, errors.New("--server is for the QR code: write --qr=thunderbird, or --qr, too")
	case o.json:
		return a, errors.New("--json and --qr are mutually exclusive")
	}
	id, err := parseAddress(address)
	if err != nil {
		return a, err
	}
	a = qrcode.Account{User: id.User, Domain: id.Domain, Server: f.server}
	switch err = a.Check(f.qr); {
	case errors.Is(err, qrcode.ErrForm):
		return a, fmt.Errorf("--qr %q: write --qr, or --qr=thunderbird, --qr=conversations", f.qr)
	case errors.Is(err, qrcode.ErrServer):
		return a, fmt.Errorf("%w: write --server mail.%s, or what its name is", err, id.Domain)
	case err != nil:
		return a, fmt.Errorf("--qr=%s, --server %q: %w", f.qr, f.server, err)
	}
	return a, nil
}

// momentOf is a time for people that may be absent.
func momentOf(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return moment(*t)
}

func (f *passwordFlags) list(o *output, ctx context.Context, cfg *config.Config, args []string) error {
	reply, err := f.call(ctx, cfg, "/v1/password/list", args, control.Request{})
	return o.print(reply, err, func(out io.Writer) error {
		if len(reply.Passwords) == 0 {
			_, err := fmt.Fprintf(out, "%s has no app passwords\n", args[0])
			return err
		}
		return writePasswords(out, reply.Passwords)
	})
}

func writePasswords(out io.Writer, list []control.ShownPassword) error {
	return table(out, func(w io.Writer) {
		fmt.Fprintln(w, "ID\tNAME\tSERVICES\tSTATE\tCREATED\tEXPIRES\tLAST USED")
		for _, p := range list {
			used := momentOf(p.LastUsed)
			if p.LastUsed != nil {
				for _, part := range []string{p.LastService, p.LastFront, p.LastClient} {
					if part != "" {
						used += " " + part
					}
				}
			}
			fmt.Fprintln(w, strings.Join([]string{p.ID, p.Name, listOr(p.Services, "all"), p.State, moment(p.Created), momentOf(p.Expires), used}, "\t"))
		}
	})
}

func (f *passwordFlags) revoke(o *output, ctx context.Context, cfg *config.Config, args []string) error {
	r := control.Request{}
	switch {
	case f.all == (len(args) == 2):
		return errors.New("name one app password, or write --all: `postern password list` lists them")
	case !f.all && args[1] == "":
		return errors.New("the name is empty: write the name or the ID of an app password")
	case !f.all:
		r.Ref = args[1]
	}
	reply, err := f.call(ctx, cfg, "/v1/password/revoke", args, r)
	return o.print(reply, err, func(out io.Writer) error {
		if len(reply.Passwords) == 0 {
			_, err := fmt.Fprintln(out, "nothing to revoke")
			return err
		}
		return f.done(out, "revoked", reply)
	})
}

func (f *passwordFlags) expire(o *output, ctx context.Context, cfg *config.Config, args []string) error {
	end, err := parseEnd(f.ends, time.Now())
	if err != nil {
		return err
	}
	reply, err := f.call(ctx, cfg, "/v1/password/expire", args, control.Request{Ref: args[1], Expires: end})
	return o.print(reply, err, func(out io.Writer) error {
		return f.done(out, "expires "+momentOf(reply.Passwords[0].Expires), reply)
	})
}

// done prints what was changed.
func (f *passwordFlags) done(out io.Writer, what string, reply control.PasswordReply) error {
	for _, p := range reply.Passwords {
		if _, err := fmt.Fprintf(out, "%s: %s (%s)\n", what, p.Name, p.ID); err != nil {
			return err
		}
	}
	return nil
}
