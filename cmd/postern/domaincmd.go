package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/registry"
)

// domainFlags are what the commands of the registry take.
type domainFlags struct {
	backend, url, authDomain, contact string
	secretFile, secretEnv             string
	askSecret                         bool

	showSecrets, json bool
	format, source    string
}

func newDomain(a *app) *cobra.Command {
	var f domainFlags
	with := func(cmd *cobra.Command, do func(*cobra.Command, *config.Config, []string) error) *cobra.Command {
		cmd.Example = "  postern domain " + exampleOf(cmd)
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			cfg, err := a.load(nil)
			if err != nil {
				return err
			}
			return do(cmd, cfg, args)
		}
		return cmd
	}
	command := func(use, short string, args int, do func(context.Context, *config.Config, []string, domainFlags) error) *cobra.Command {
		return with(&cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(args)},
			func(cmd *cobra.Command, cfg *config.Config, args []string) error {
				return do(cmd.Context(), cfg, args, f)
			})
	}
	add := command("add DOMAIN", "Register a domain", 1, a.domainAdd)
	set := with(&cobra.Command{Use: "set DOMAIN", Short: "Change what the flags name of a registered domain", Args: cobra.ExactArgs(1)},
		func(cmd *cobra.Command, cfg *config.Config, args []string) error {
			return a.domainSet(cmd, cfg, args, f)
		})
	list := command("list", "List all domains, and where each comes from", 0, a.domainList)
	show := command("show DOMAIN", "Show a registered domain", 1, a.domainShow)
	export := command("export", "Write the registered domains as a list", 0, a.domainExport)
	for _, cmd := range []*cobra.Command{add, set} {
		flags := cmd.Flags()
		flags.StringVar(&f.backend, "backend", registry.KindJSXC, "`KIND` of the backend: jsxc, json, nextcloud or users")
		flags.StringVar(&f.url, "url", "", "`URL` of the backend")
		flags.StringVar(&f.authDomain, "auth-domain", "", "the domain's `NAME` at the backend, if it is another there")
		flags.StringVar(&f.contact, "contact", "", "whom to tell, a line of `TEXT`")
		flags.StringVar(&f.secretFile, "secret-file", "", "`FILE` with the secret of a jsxc backend")
		flags.StringVar(&f.secretEnv, "secret-env", "", "environment variable `NAME` with the secret")
	}
	set.Flags().BoolVar(&f.askSecret, "ask-secret", false, "ask for the secret, or read it from standard input")
	list.Flags().BoolVar(&f.json, "json", false, "write JSON")
	list.Flags().StringVar(&f.source, "source", "", "only those of `SOURCE`: configuration or registry")
	for _, cmd := range []*cobra.Command{show, export} {
		cmd.Flags().BoolVar(&f.showSecrets, "show-secrets", false, "with the secrets")
	}
	export.Flags().StringVar(&f.format, "format", "tsv", "`FORMAT` of the list: tsv or json")
	return group(&cobra.Command{
		Use:   "domain",
		Short: "Register domains that are not in the configuration",
		Long: `A registered domain has a backend of its own and counts at once, without a reload. A domain
block in the configuration wins over it, and it over domain "*". Works through the running
daemon's control socket, and directly on the data directory when no daemon runs. Secrets come
from a file, a variable or a prompt; they never stand on the command line.`,
		Example: `  postern domain add example.org --url https://cloud.example.org/jsxc --secret-file cloud.secret
  postern domain list`,
	}, add, set, command("remove DOMAIN", "Remove a registered domain", 1, a.domainRemove), list, show,
		command("import FILE", "Register the domains of a list, TSV or JSON, all or none; - is standard input", 1, a.domainImport), export)
}

func exampleOf(cmd *cobra.Command) string {
	switch cmd.Name() {
	case "add":
		return "add example.org --url https://cloud.example.org/jsxc --secret-file cloud.secret"
	case "set":
		return "set example.org --contact admin@example.org"
	case "import":
		return "import domains.tsv"
	case "export":
		return "export --format json"
	}
	return strings.Replace(cmd.Use, "DOMAIN", "example.org", 1)
}

func parseDomain(text string) (string, error) {
	domain, err := auth.FoldDomain(text)
	if err != nil || strings.Contains(domain, "*") {
		return "", fmt.Errorf("%q is not a domain: write one as in example.org", text)
	}
	return domain, nil
}

// secret reads the secret that the flags name. ok is false if they name none.
func (a *app) secret(f domainFlags) (secret auth.Secret, ok bool, err error) {
	switch {
	case f.secretFile != "" && f.secretEnv != "":
		return secret, false, errors.New("--secret-file and --secret-env go not together: give one")
	case f.secretFile != "":
		file, err := os.Open(f.secretFile)
		if err != nil {
			return secret, false, fmt.Errorf("secret: %w", err)
		}
		defer file.Close()
		secret, err = readLine(file)
		return secret, err == nil, err
	case f.secretEnv != "":
		text, found := os.LookupEnv(f.secretEnv)
		if !found {
			return secret, false, fmt.Errorf("secret: the variable %s is not set", f.secretEnv)
		}
		secret, err = checkSecret(text)
		return secret, err == nil, err
	}
	return secret, false, nil
}

func (a *app) domainAdd(ctx context.Context, cfg *config.Config, args []string, f domainFlags) error {
	domain, err := parseDomain(args[0])
	if err != nil {
		return err
	}
	secret, given, err := a.secret(f)
	if err == nil && !given && f.backend == registry.KindJSXC {
		secret, err = a.readSecret("API secret of "+domain, false)
	}
	if err != nil {
		return err
	}
	record := registry.Record{Domain: domain, Kind: f.backend, URL: f.url, Secret: secret, AuthDomain: f.authDomain, Contact: f.contact}
	if err := record.Check(); err != nil {
		return err
	}
	reply, err := registryCall(ctx, cfg, "/v1/domain/put", controlRequest{domainRequest: domainRequest{
		Records: []registry.Entry{registry.Show(record, true)}, New: true,
	}})
	return a.domainDone(reply, "registered", domain, err)
}

// domainDone tells of a change, and whether it has an effect.
func (a *app) domainDone(reply domainReply, done, domain string, err error) error {
	if errors.Is(err, registry.ErrUnknown) || err != nil && strings.Contains(err.Error(), registry.ErrUnknown.Error()) {
		err = fmt.Errorf("%w: `postern domain list` shows those there are", err)
	}
	if err != nil {
		return err
	}
	if reply.shadowed(domain) {
		fmt.Fprintf(a.err, "note: the configuration has a block for %s, which wins\n", domain)
	}
	_, err = fmt.Fprintf(a.out, "%s: %s\n", done, domain)
	return err
}

func (a *app) domainSet(cmd *cobra.Command, cfg *config.Config, args []string, f domainFlags) error {
	domain, err := parseDomain(args[0])
	if err != nil {
		return err
	}
	var change domainChange
	for name, to := range map[string]struct {
		field **string
		value *string
	}{
		"backend": {&change.Kind, &f.backend}, "url": {&change.URL, &f.url},
		"auth-domain": {&change.AuthDomain, &f.authDomain}, "contact": {&change.Contact, &f.contact},
	} {
		if cmd.Flags().Changed(name) {
			*to.field = to.value
		}
	}
	secret, given, err := a.secret(f)
	if err == nil && !given && f.askSecret {
		secret, err = a.readSecret("API secret of "+domain, false)
		given = true
	}
	if err != nil {
		return err
	}
	if given {
		text := secret.Reveal()
		change.Secret = &text
	}
	if change == (domainChange{}) {
		return errors.New("nothing to change: name it with a flag, such as --url")
	}
	reply, err := registryCall(cmd.Context(), cfg, "/v1/domain/set", controlRequest{Domain: domain, domainRequest: domainRequest{Change: &change}})
	return a.domainDone(reply, "changed", domain, err)
}

func (a *app) domainRemove(ctx context.Context, cfg *config.Config, args []string, _ domainFlags) error {
	domain, err := parseDomain(args[0])
	if err != nil {
		return err
	}
	reply, err := registryCall(ctx, cfg, "/v1/domain/remove", controlRequest{Domain: domain})
	return a.domainDone(reply, "removed", domain, err)
}

// listedDomain is a line of the list of all domains.
type listedDomain struct {
	Domain     string `json:"domain"`
	Source     string `json:"source"` // configuration or registry
	Shadowed   bool   `json:"shadowed,omitempty"`
	Backend    string `json:"backend"`
	URL        string `json:"url,omitempty"`
	AuthDomain string `json:"auth_domain,omitempty"`
	Contact    string `json:"contact,omitempty"`
	First      string `json:"first,omitempty"`
	Latest     string `json:"latest,omitempty"`
}

func (a *app) domainList(ctx context.Context, cfg *config.Config, _ []string, f domainFlags) error {
	if f.source != "" && f.source != "configuration" && f.source != "registry" {
		return fmt.Errorf("unknown source %q: write configuration or registry", f.source)
	}
	all, err := listRegistered(ctx, cfg, false)
	if err != nil {
		return err
	}
	list := []listedDomain{}
	for _, c := range all.Configured {
		if f.source != "registry" {
			list = append(list, listedDomain{Domain: c.Domain, Source: "configuration", Backend: strings.Join(c.Backends, ",")})
		}
	}
	for _, r := range all.Records {
		if f.source != "configuration" {
			list = append(list, listedDomain{
				Domain: r.Domain, Source: "registry", Shadowed: all.shadowed(r.Domain), Backend: r.Kind, URL: r.URL,
				AuthDomain: r.AuthDomain, Contact: r.Contact, First: r.First, Latest: r.Latest,
			})
		}
	}
	if f.json {
		return a.print(list)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DOMAIN\tSOURCE\tBACKEND\tURL\tCONTACT")
	for _, d := range list {
		if d.Shadowed {
			d.Source += " (the configuration wins)"
		}
		if d.Backend == "" {
			d.Backend = "(unreadable: register it again)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", d.Domain, d.Source, d.Backend, d.URL, d.Contact)
	}
	return w.Flush()
}
