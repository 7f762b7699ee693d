package main

import (
	"bytes"
	"context"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"postern/cmd/internal/control"
	"postern/cmd/internal/datadir"
	"postern/cmd/internal/pipe"
	"postern/internal/protocol"
	"postern/internal/registry"
)

// addCompletions has shells complete the arguments of a command and of those below it, by the words
// of their usage lines, and the flags with a fixed set of values.
func (a *app) addCompletions(cmd *cobra.Command) {
	for name, values := range map[string]func() []string{
		"protocol": pipeProtocols,
		"backend": func() []string {
			return []string{registry.KindJSXC, registry.KindJSON, registry.KindNextcloud, registry.KindUsers}
		},
		"source": func() []string { return []string{"configuration", "registry"} },
		"format": func() []string { return []string{"tsv", "json"} },
	} {
		if cmd.LocalNonPersistentFlags().Lookup(name) != nil {
			// An error means that the command has registered a function of its own.
			_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values(), cobra.ShellCompDirectiveNoFileComp))
		}
	}
	if flag := cmd.LocalFlags().Lookup("domain"); flag != nil {
		_ = cmd.RegisterFlagCompletionFunc("domain", a.completeDomain)
	}
	switch takes := strings.TrimPrefix(cmd.Use, cmd.Name()); {
	case cmd.ValidArgsFunction != nil || cmd.ValidArgs != nil || strings.Contains(takes, "FILE") || strings.Contains(takes, "PROGRAM") || strings.Contains(takes, "DIRECTORY"):
	case strings.Contains(takes, "@DOMAIN"):
		cmd.ValidArgsFunction = a.completeAddress
	case strings.Contains(takes, "DOMAIN"):
		cmd.ValidArgsFunction = a.completeDomain
	case !cmd.HasSubCommands():
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	for _, sub := range cmd.Commands() {
		a.addCompletions(sub)
	}
}

// pipeProtocols are the protocols of `postern pipe`.
func pipeProtocols() (names []string) {
	for _, spec := range protocol.Table {
		if pipe.CheckProtocol(string(spec.Name)) == nil {
			names = append(names, string(spec.Name))
		}
	}
	return names
}

// completeDomain completes the one argument of a command to a domain.
func (a *app) completeDomain(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return startingWith(a.domains(cmd.Context()), word), cobra.ShellCompDirectiveNoFileComp
}

// completeAddress completes the one argument of a command to an address, or to a domain where the
// command takes that, too.
func (a *app) completeAddress(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	user, _, _ := strings.Cut(word, "@")
	var found []string
	for _, domain := range a.domains(cmd.Context()) {
		if user != "" {
			found = append(found, user+"@"+domain)
		}
		if slices.Contains(strings.FieldsFunc(cmd.Use, func(r rune) bool { return strings.ContainsRune(" |[]", r) }), "DOMAIN") {
			found = append(found, domain)
		}
	}
	return startingWith(found, word), cobra.ShellCompDirectiveNoFileComp
}

// domains lists the domains of the configuration, and the registered ones if a daemon runs and lets
// this user ask. What cannot be read is left out: a shell has no place for errors.
func (a *app) domains(ctx context.Context) (names []string) {
	cfg, err := a.Load(nil)
	if err != nil {
		return nil
	}
	for _, d := range cfg.Domains {
		if d.Name != "*" {
			names = append(names, d.Name)
		}
	}
	var reply control.DomainReply
	if control.Call(ctx, datadir.Control(cfg.DataDir), "/v1/domain/list", control.Request{}, &reply) == nil {
		for _, r := range reply.Records {
			names = append(names, r.Domain)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func startingWith(all []string, word string) (found []string) {
	for _, text := range all {
		if strings.HasPrefix(text, word) {
			found = append(found, text)
		}
	}
	return found
}

// shells are those that postern writes a script for, by name.
var shells = map[string]struct {
	file  string // in the folder of gen-docs
	write func(root *cobra.Command, out io.Writer) error
}{
	"bash": {"postern.bash", writeBashCompletion},
	"fish": {"postern.fish", func(root *cobra.Command, out io.Writer) error { return root.GenFishCompletion(out, true) }},
	"zsh":  {"_postern", (*cobra.Command).GenZshCompletion},
}

// newCompletion replaces cobra's completion command, which has help pages of another form.
func newCompletion(a *app) *cobra.Command {
	names := slices.Sorted(maps.Keys(shells))
	return &cobra.Command{
		Use:   "completion " + strings.Join(names, "|"),
		Short: "Print the script with which a shell completes commands, domains and protocols",
		Long: `The package has the scripts where bash, zsh and fish look for them. Without it, write the script of
your shell to such a place, or read it at each start.`,
		Example: `  postern completion bash | sudo tee /etc/bash_completion.d/postern >/dev/null
  postern completion zsh > "${fpath[1]}/_postern"
  postern completion fish > ~/.config/fish/completions/postern.fish`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: names, DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return shells[args[0]].write(cmd.Root(), a.Out)
		},
	}
}

// writeBashCompletion writes cobra's script, with addresses completed as one word: for bash, "@"
// begins a new one.
func writeBashCompletion(root *cobra.Command, out io.Writer) error {
	var b bytes.Buffer
	if err := root.GenBashCompletionV2(&b, true); err != nil {
		return err
	}
	script := strings.ReplaceAll(b.String(), "init_completion -n =: ", "init_completion -n =:@ ")
	const equals = "__postern_handle_special_char \"$cur\" ="
	script = strings.ReplaceAll(script, equals, equals+"\n    "+strings.TrimSuffix(equals, "=")+"@")
	_, err := io.WriteString(out, script)
	return err
}
