package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"postern/cmd/internal/admin"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/token"
)

func newToken(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "token", Short: "Issue and inspect time-limited tokens",
		Example: "  postern token issue alice@example.org\n  postern token issue alice@example.org | postern token inspect",
	}
	var kind, ttl string
	issue := &cobra.Command{
		Use: "issue USER@DOMAIN", Short: "Make a token with which a user can log in without the password",
		Long: `Uses the secret of the domain's token block, or the API secret of a registered domain. A jsxc
token may be used until it expires; a totp token once, within the next minute.`,
		Example: `  postern token issue alice@example.org
  postern token issue --kind jsxc --ttl 10m alice@example.org`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.issue(cmd.Context(), args[0], kind, ttl) },
	}
	issue.Flags().StringVar(&kind, "kind", "", "`KIND` of token: jsxc or totp (default: the one the domain has)")
	issue.Flags().StringVar(&ttl, "ttl", "", "`LIFETIME` of a jsxc token, such as 10m or 1h (default: that of the configuration)")
	inspected := &output{app: a}
	return group(cmd, issue, inspected.with(&cobra.Command{
		Use: "inspect", Short: "Show the contents of a token, without verifying it",
		Long:    `Reads the token from standard input, or prompts for it: it must be kept as secret as a password.`,
		Example: "  postern token issue alice@example.org | postern token inspect\n  postern token inspect < token",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return inspected.inspect() },
	}, inspectedToken{}))
}

func (a *app) issue(ctx context.Context, address, kind, ttl string) error {
	id, err := parseAddress(address)
	if err != nil {
		return err
	}
	cfg, err := a.Load(nil)
	if err != nil {
		return err
	}
	d, registered, err := admin.DomainFor(ctx, cfg, id.Domain)
	if err != nil {
		return err
	}
	if d == nil {
		return fmt.Errorf("domain %q is neither configured nor registered, and there is no fallback domain \"*\"", id.Domain)
	}
	if kind == "" && d.JSXC == nil && d.TOTP != nil {
		kind = "totp"
	}
	var text auth.Secret
	switch {
	case kind != "" && kind != "jsxc" && kind != "totp":
		return fmt.Errorf("--kind %q is not a kind of token: use jsxc or totp", kind)
	case kind == "totp" && ttl != "":
		return errors.New("--ttl is for jsxc tokens: a totp token always lives about a minute")
	case (kind == "" || kind == "jsxc") && d.JSXC != nil:
		text, err = issueJSXC(d.JSXC, id, ttl)
	case kind == "totp" && d.TOTP != nil:
		text, err = issueTOTP(d.TOTP, id)
	case registered:
		return fmt.Errorf("the registered domain %q has no secret for this token: those with a jsxc backend have tokens of kind jsxc", d.Name)
	default:
		return fmt.Errorf("domain %q has no secret for this token: add a block `token %q` to it in the configuration", d.Name, max(kind, "jsxc"))
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.Out, text.Reveal())
	return err
}

func issueJSXC(cfg *config.JSXCToken, id auth.Identity, ttl string) (auth.Secret, error) {
	life := cfg.TTL
	if ttl != "" {
		var err error
		if life, err = config.ParseDuration(ttl); err != nil {
			return auth.Secret{}, fmt.Errorf("--ttl: %w", err)
		}
		if life < time.Second {
			return auth.Secret{}, fmt.Errorf("--ttl %s: the token would have expired already; write 1s or more", ttl)
		}
	}
	j, err := token.NewJSXC(cfg.Secrets)
	if err != nil {
		return auth.Secret{}, err
	}
	return j.Issue(id, time.Now().Add(life))
}

func issueTOTP(cfg *config.TOTPToken, id auth.Identity) (auth.Secret, error) {
	t, err := token.NewTOTP(cfg.Seed, cfg.Secrets, cfg.NonceDigits)
	if err != nil {
		return auth.Secret{}, err
	}
	return t.Issue(id, time.Now())
}

// inspectedToken is what a token says of itself, by its kind.
type inspectedToken struct {
	Kind        string     `json:"kind"`                   // jsxc or totp
	NonceDigits int        `json:"nonce_digits,omitempty"` // totp
	Version     int        `json:"version,omitempty"`      // this and the rest: jsxc
	KeyID       string     `json:"key_id,omitempty"`
	Expires     *time.Time `json:"expires,omitempty"`
	Expired     *bool      `json:"expired,omitempty"`
}

func (o *output) inspect() error {
	secret, err := o.app.readSecret("token", false)
	if err != nil {
		return err
	}
	text := secret.Reveal()
	if token.LooksTOTP(text) {
		info, err := token.InspectTOTP(text)
		return o.print(inspectedToken{Kind: "totp", NonceDigits: info.NonceDigits}, err, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "kind: totp\nnonce digits: %d\n", info.NonceDigits)
			return err
		})
	}
	info, err := token.InspectJSXC(text)
	if err != nil {
		return err
	}
	at, expired := info.Expires.UTC(), time.Now().After(info.Expires)
	shown := inspectedToken{Kind: "jsxc", Version: int(info.Version), KeyID: fmt.Sprintf("%x", info.KeyID), Expires: &at, Expired: &expired}
	return o.print(shown, nil, func(w io.Writer) error {
		state := "expires in " + time.Until(at).Round(time.Second).String()
		if expired {
			state = "expired"
		}
		_, err := fmt.Fprintf(w, "kind: jsxc\nversion: %d\nkey id: %s\nexpires: %s (%s)\n", shown.Version, shown.KeyID, at.Format(time.RFC3339), state)
		return err
	})
}
