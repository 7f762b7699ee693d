package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"postern/internal/manual"
	"postern/internal/version"
)

// newGenDocs is for the build of packages: scripts/package/docs.sh calls it.
func newGenDocs() *cobra.Command {
	return &cobra.Command{
		Use:     "gen-docs DIRECTORY",
		Short:   "Write the man pages and the completions of shells into a directory",
		Example: "  postern gen-docs /tmp/docs\n  postern gen-docs bin/docs",
		Hidden:  true,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return writeDocs(cmd.Root(), args[0])
		},
	}
}

// writeDocs writes man8/postern-COMMAND.8 for each command, the pages of the manual in man5 and man7,
// and completions/postern.bash, _postern (zsh) and postern.fish.
func writeDocs(root *cobra.Command, dir string) error {
	man, completions := filepath.Join(dir, "man8"), filepath.Join(dir, "completions")
	for _, dir := range []string{man, completions, filepath.Join(dir, "man5"), filepath.Join(dir, "man7")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for _, write := range []func() error{
		func() error { return writeManPages(root, man) },
		func() error { return writeManual(dir) },
		func() error { return writeBashCompletion(root, filepath.Join(completions, "postern.bash")) },
		func() error { return root.GenZshCompletionFile(filepath.Join(completions, "_postern")) },
		func() error { return root.GenFishCompletionFile(filepath.Join(completions, "postern.fish"), true) },
	} {
		if err := write(); err != nil {
			return err
		}
	}
	return nil
}

// writeManPages writes the page of a command and of all commands below it.
func writeManPages(cmd *cobra.Command, dir string) error {
	file := filepath.Join(dir, manName(cmd)+".8")
	if err := os.WriteFile(file, []byte(manPage(cmd)), 0o644); err != nil {
		return err
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			if err := writeManPages(sub, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeManual writes the pages of the manual.
func writeManual(dir string) error {
	for _, topic := range manual.Topics() {
		page, err := manual.Find(topic)
		if err != nil {
			return err
		}
		name, section := page.ManName()
		file := filepath.Join(dir, fmt.Sprintf("man%d/%s.%[1]d", section, name))
		if err := os.WriteFile(file, []byte(page.Roff(name, section, version.Version)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manPage is the page of one command in the language of man(7).
func manPage(cmd *cobra.Command) string {
	var b strings.Builder
	name := manName(cmd)
	fmt.Fprintf(&b, ".TH %s 8 \"\" \"postern %s\" \"postern manual\"\n", roff(strings.ToUpper(name)), roff(version.Version))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(name), roff(cmd.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.nf\n%s\n.fi\n", roff(cmd.UseLine()))
	if cmd.Long != "" {
		fmt.Fprintf(&b, ".SH DESCRIPTION\n%s\n", strings.ReplaceAll(roff(cmd.Long), "\n\n", "\n.PP\n"))
	}
	manOptions(&b, "OPTIONS", cmd.NonInheritedFlags())
	manOptions(&b, "GLOBAL OPTIONS", cmd.InheritedFlags())
	fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(cmd.Example))
	var others []string
	if cmd.HasParent() {
		others = append(others, manName(cmd.Parent()))
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			others = append(others, manName(sub))
		}
	}
	for i, other := range others {
		others[i] = `\fB` + roff(other) + `\fR(8)`
	}
	if len(others) > 0 {
		fmt.Fprintf(&b, ".SH SEE ALSO\n%s\n", strings.Join(others, ",\n"))
	}
	return b.String()
}

func manOptions(b *strings.Builder, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(b, ".SH %s\n", title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		if value != "" {
			value = ` \fI` + roff(value) + `\fR`
		}
		fmt.Fprintf(b, ".TP\n\\fB%s\\fR%s\n%s\n", roff("--"+f.Name), value, roff(usage))
	})
}

// roff quotes a text: a line must not begin with a control character, and a hyphen is a minus, so
// that what is copied from a page works.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
