package main

import (
	"bytes"
	"errors"
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
	if err := errors.Join(writeManPages(root, man), writeManual(dir)); err != nil {
		return err
	}
	for _, shell := range shells {
		var script bytes.Buffer
		if err := shell.write(root, &script); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(completions, shell.file), script.Bytes(), 0o644); err != nil {
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

// manPage is the man page of one command.
func manPage(cmd *cobra.Command) string {
	page := &manual.Page{Title: cmd.Short, Blocks: []manual.Block{{Kind: manual.Heading, Level: 1, Text: cmd.Short}}}
	add := func(title string, blocks ...manual.Block) {
		if len(blocks) > 0 {
			page.Blocks = append(append(page.Blocks, manual.Block{Kind: manual.Heading, Level: 2, Text: title}), blocks...)
		}
	}
	code := func(text string) manual.Block {
		return manual.Block{Kind: manual.Code, Lines: strings.Split(strings.ReplaceAll("\n"+text, "\n  ", "\n")[1:], "\n")}
	}
	add("SYNOPSIS", code(cmd.UseLine()))
	var description []manual.Block
	for paragraph := range strings.SplitSeq(cmd.Long, "\n\n") {
		switch {
		case paragraph == "":
		case strings.HasPrefix(paragraph, " "):
			description = append(description, code(paragraph))
		default:
			description = append(description, manual.Block{Kind: manual.Text, Text: strings.ReplaceAll(paragraph, "\n", " ")})
		}
	}
	add("DESCRIPTION", description...)
	add("OPTIONS", manOptions(cmd.NonInheritedFlags())...)
	add("GLOBAL OPTIONS", manOptions(cmd.InheritedFlags())...)
	add("EXAMPLES", code(cmd.Example))
	if others := related(cmd); len(others) > 0 {
		add("SEE ALSO", manual.Block{Kind: manual.Text, Text: "**" + strings.Join(others, "**(8), **") + "**(8)"})
	}
	return page.Roff(manName(cmd), 8, version.Version)
}

// manOptions lists flags.
func manOptions(flags *pflag.FlagSet) (list []manual.Block) {
	flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			value, usage := pflag.UnquoteUsage(f)
			list = append(list, manual.Block{Kind: manual.Item, Marker: strings.TrimSpace("**--" + f.Name + "** " + value), Text: usage})
		}
	})
	return list
}

// related lists the pages of the command above and of those below.
func related(cmd *cobra.Command) (names []string) {
	if cmd.HasParent() {
		names = append(names, manName(cmd.Parent()))
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, manName(sub))
		}
	}
	return names
}
