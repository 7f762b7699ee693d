package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"postern/cmd/internal/admin"
	"postern/cmd/internal/control"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/registry"
)

// domainFlags are the flags of the registry's commands.
type domainFlags struct {
	backend, url, authDomain, contact string
	secretFile, secretEnv             string
	askSecret                         bool

	showSecrets    bool
	format, source string
}

func newDomain(a *app) *cobra.Command {
	var f domainFlags
	command := func(use, short, example string, args int, do func(context.Context, *config.Config, []string, domainFlags) error) *cobra.Command {
		return a.command("postern domain", use, short, example, cobra.ExactArgs(args),
			func(ctx context.Context, cfg *config.Config, args []string) error { return do(ctx, cfg, args, f) })
	}
	add := command("add DOMAIN", "Register a domain", "add example.org --url https://cloud.example.org/jsxc --secret-file cloud.secret\nadd example.net --backend users", 1, a.domainAdd)
	set := command("set DOMAIN", "Change what the flags name of a registered domain", "set example.org --contact admin@example.org\nset example.org --ask-secret", 1, nil)
	set.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withConfig(func(ctx context.Context, cfg *config.Config, args []string) error {
			return a.domainSet(ctx, cfg, args, f, cmd.Flags().Changed)
		})(cmd, args)
	}
	listed, shown, imported := &output{app: a}, &output{app: a, programs: true}, &output{app: a}
	list := listed.with(command("list", "List all domains, and where each comes from", "list\nlist --source registry --json", 0, listed.domains), []listedDomain{})
	show := shown.with(command("show DOMAIN", "Show a registered domain", "show example.org\nshow example.org --show-secrets --json", 1, shown.domain), control.ShownDomain{})
	export := command("export", "Write the registered domains as a list", "export\nexport --format json --show-secrets", 0, a.domainExport)
	for _, cmd := range []*cobra.Command{add, set} {
		flags := cmd.Flags()
		flags.StringVar(&f.backend, "backend", registry.KindJSXC, "`KIND` of the backend: jsxc, json, nextcloud or users")
		flags.StringVar(&f.url, "url", "", "`URL` of the backend")
		flags.StringVar(&f.authDomain, "auth-domain", "", "the domain's `NAME` at the backend, if it is another there")
		flags.StringVar(&f.contact, "contact", "", "the person responsible, a line of `TEXT`")
		flags.StringVar(&f.secretFile, "secret-file", "", "`FILE` with the secret of a jsxc backend")
		flags.StringVar(&f.secretEnv, "secret-env", "", "environment variable `NAME` with the secret")
	}
	set.Flags().Lookup("backend").DefValue = "" // it changes only what is given
	set.Flags().BoolVar(&f.askSecret, "ask-secret", false, "prompt for the secret, or read it from standard input")
	list.Flags().StringVar(&f.source, "source", "", "only those of `SOURCE`: configuration or registry")
	for _, cmd := range []*cobra.Command{show, export} {
		cmd.Flags().BoolVar(&f.showSecrets, "show-secrets", false, "with the secrets")
	}
	export.Flags().StringVar(&f.format, "format", "tsv", "`FORMAT` of the list: tsv or json")
	return group(&cobra.Command{
		Use:   "domain",
		Short: "Register domains that are not in the configuration",
		Long: `A registered domain has a backend of its own and is served at once, without a reload. A domain
block in the configuration takes precedence over it, and it over domain "*". Works through the
running daemon's control socket, and directly on the data directory when no daemon runs. Secrets
come from a file, a variable or a prompt; they are never on the command line.`,
		Example: `  postern domain add example.org --url https://cloud.example.org/jsxc --secret-file cloud.secret
  postern domain list`,
	}, add, set, command("remove DOMAIN", "Remove a registered domain", "remove example.org\nremove example.net", 1, a.domainRemove), list, show,
		imported.with(command("import FILE", "Register the domains of a list, TSV or JSON, all or none; - is standard input", "import domains.tsv\nimport - < domains.json", 1, imported.domainImport), importedDomains{}), export)
}

func parseDomain(text string) (string, error) {
	domain, err := auth.FoldDomain(text)
	if err != nil || strings.Contains(domain, "*") {
		return "", fmt.Errorf("%q is not a domain: write one as in example.org", text)
	}
	return domain, nil
}

// domainSecret reads the secret that the flags name or, if they name none and ask is set, prompts
// for it. given is false if there is none.
func (a *app) domainSecret(f domainFlags, domain string, ask bool) (secret auth.Secret, given bool, err error) {
	switch {
	case f.secretFile != "" && f.secretEnv != "":
		return secret, false, errors.New("--secret-file and --secret-env are mutually exclusive: give one")
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
	case ask:
		secret, err = a.readSecret("API secret of "+domain, false)
		return secret, err == nil, err
	}
	return secret, false, nil
}

func (a *app) domainAdd(ctx context.Context, cfg *config.Config, args []string, f domainFlags) error {
	domain, err := parseDomain(args[0])
	if err != nil {
		return err
	}
	secret, _, err := a.domainSecret(f, domain, f.backend == registry.KindJSXC)
	if err != nil {
		return err
	}
	record := registry.Record{Domain: domain, Kind: f.backend, URL: f.url, Secret: secret, AuthDomain: f.authDomain, Contact: f.contact}
	if err := record.Check(); err != nil {
		return err
	}
	return a.changeDomain(ctx, cfg, "registered", domain, "/v1/domain/put", control.Request{
		Records: []registry.Entry{registry.Show(record, true)}, New: true,
	})
}

// changeDomain makes a call that changes a domain, and prints that it is done.
func (a *app) changeDomain(ctx context.Context, cfg *config.Config, done, domain, path string, req control.Request) error {
	reply, err := a.callDomain(ctx, cfg, domain, path, req)
	if err != nil {
		return err
	}
	a.noteShadowed(reply, domain)
	_, err = fmt.Fprintf(a.Out, "%s: %s\n", done, domain)
	return err
}

func (a *app) callDomain(ctx context.Context, cfg *config.Config, domain, path string, req control.Request) (control.DomainReply, error) {
	req.Domain = domain
	reply, err := admin.Domains(ctx, cfg, path, req)
	if err != nil && admin.IsError(err, registry.ErrUnknown) {
		err = fmt.Errorf("%w: `postern domain list` lists the registered ones", err)
	}
	return reply, err
}

// noteShadowed warns that a registered domain has no effect.
func (a *app) noteShadowed(reply control.DomainReply, domain string) {
	if reply.Shadowed(domain) {
		fmt.Fprintf(a.Err, "note: the configuration has a block for %s, which takes precedence\n", domain)
	}
}

func (a *app) domainSet(ctx context.Context, cfg *config.Config, args []string, f domainFlags, given func(flag string) bool) error {
	domain, err := parseDomain(args[0])
	if err != nil {
		return err
	}
	var change control.DomainChange
	for name, to := range map[string]struct {
		field **string
		value *string
	}{
		"backend": {&change.Kind, &f.backend}, "url": {&change.URL, &f.url},
		"auth-domain": {&change.AuthDomain, &f.authDomain}, "contact": {&change.Contact, &f.contact},
	} {
		if given(name) {
			*to.field = to.value
		}
	}
	secret, found, err := a.domainSecret(f, domain, f.askSecret)
	if err != nil {
		return err
	}
	if found {
		text := secret.Reveal()
		change.Secret = &text
	}
	if change == (control.DomainChange{}) {
		return errors.New("nothing to change: name it with a flag, such as --url")
	}
	return a.changeDomain(ctx, cfg, "changed", domain, "/v1/domain/set", control.Request{Change: &change})
}

func (a *app) domainRemove(ctx context.Context, cfg *config.Config, args []string, _ domainFlags) error {
	domain, err := parseDomain(args[0])
	if err != nil {
		return err
	}
	return a.changeDomain(ctx, cfg, "removed", domain, "/v1/domain/remove", control.Request{})
}

func (o *output) domain(ctx context.Context, cfg *config.Config, args []string, f domainFlags) error {
	domain, err := parseDomain(args[0])
	if err != nil {
		return err
	}
	reply, err := o.app.callDomain(ctx, cfg, domain, "/v1/domain/show", control.Request{Secrets: f.showSecrets})
	if err != nil {
		return err
	}
	o.app.noteShadowed(reply, domain)
	return o.print(reply.Records[0], nil, func(w io.Writer) error { return writeDomain(w, reply.Records[0]) })
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

func (o *output) domains(ctx context.Context, cfg *config.Config, _ []string, f domainFlags) error {
	if f.source != "" && f.source != "configuration" && f.source != "registry" {
		return fmt.Errorf("unknown source %q: write configuration or registry", f.source)
	}
	all, err := admin.ListDomains(ctx, cfg, false)
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
				Domain: r.Domain, Source: "registry", Shadowed: all.Shadowed(r.Domain), Backend: r.Kind, URL: r.URL,
				AuthDomain: r.AuthDomain, Contact: r.Contact, First: r.First, Latest: r.Latest,
			})
		}
	}
	return o.print(list, nil, func(out io.Writer) error { return writeDomains(out, list) })
}

func writeDomains(out io.Writer, list []listedDomain) error {
	return table(out, func(w io.Writer) {
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
	})
}

// importedDomains counts the domains of a list.
type importedDomains struct {
	Imported int `json:"imported"`
	New      int `json:"new"` // of them
}

func (o *output) domainImport(ctx context.Context, cfg *config.Config, args []string, _ domainFlags) error {
	in := o.app.In
	if args[0] != "-" {
		file, err := os.Open(args[0])
		if err != nil {
			return fmt.Errorf("import: %w", err)
		}
		defer file.Close()
		in = file
	}
	records, err := registry.Read(in)
	if err != nil {
		return fmt.Errorf("nothing was imported: %w", err)
	}
	var r control.Request
	for _, record := range records {
		r.Records = append(r.Records, registry.Show(record, true))
	}
	reply, err := admin.Domains(ctx, cfg, "/v1/domain/put", r)
	if err != nil {
		return fmt.Errorf("nothing was imported: %w", err)
	}
	for _, record := range records {
		o.app.noteShadowed(reply, record.Domain)
	}
	n := importedDomains{reply.New + reply.Changed, reply.New}
	return o.print(n, nil, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "imported: %d domains, %d of them new\n", n.Imported, n.New)
		return err
	})
}

func (a *app) domainExport(ctx context.Context, cfg *config.Config, _ []string, f domainFlags) error {
	write := registry.WriteTSV
	switch f.format {
	case "tsv":
	case "json":
		write = registry.WriteJSON
	default:
		return fmt.Errorf("unknown format %q: write tsv or json", f.format)
	}
	all, err := admin.ListDomains(ctx, cfg, f.showSecrets)
	if err != nil {
		return err
	}
	var records []registry.Record
	for _, r := range all.Records {
		record, err := r.Record()
		if err != nil || r.Kind == "" {
			fmt.Fprintf(a.Err, "note: the record of %s is unreadable and left out\n", r.Domain)
			continue
		}
		records = append(records, record)
	}
	if !f.showSecrets {
		fmt.Fprintln(a.Err, "note: secrets are left out; --show-secrets exports them too")
	}
	return write(a.Out, records, f.showSecrets)
}
