package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// pageWidth is the longest line of a help page, in characters.
const pageWidth = 100

// helpPage returns a command's page: what it does in a line, how it is called, its flags, examples, and
// then the details. The flags of all commands are on the page of the program itself only.
func helpPage(cmd *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nUsage:\n  %s\n", cmd.Short, usageLine(cmd))
	if list := commandList(cmd); list != "" {
		fmt.Fprintf(&b, "\nCommands:\n%s", list)
	}
	if flags := ownFlags(cmd); flags.HasAvailableFlags() {
		fmt.Fprintf(&b, "\nFlags:\n%s", flags.FlagUsagesWrapped(pageWidth))
	}
	if cmd.Example != "" {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", cmd.Example)
	}
	if cmd.Long != "" {
		fmt.Fprintf(&b, "\n%s\n", strings.TrimSpace(cmd.Long))
	}
	if cmd.HasParent() {
		fmt.Fprintf(&b, "\nFlags of every command, such as --config FILE: see `%s --help`.\n", cmd.Root().Name())
	}
	return b.String()
}

// usageLine is how a command is called. A group is called with one of its commands.
func usageLine(cmd *cobra.Command) string {
	if cmd.HasAvailableSubCommands() {
		return cmd.CommandPath() + " COMMAND"
	}
	return cmd.UseLine()
}

// commandList is a line for each command of a group.
func commandList(cmd *cobra.Command) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			fmt.Fprintf(w, "  %s\t%s\n", sub.Name(), sub.Short)
		}
	}
	_ = w.Flush() // to memory
	return b.String()
}

// ownFlags are a command's flags and those of its group, but not those of every command.
func ownFlags(cmd *cobra.Command) *pflag.FlagSet {
	own := pflag.NewFlagSet(cmd.Name(), pflag.ContinueOnError)
	add := func(f *pflag.Flag) {
		if !cmd.HasParent() || cmd.Root().PersistentFlags().Lookup(f.Name) == nil {
			own.AddFlag(f)
		}
	}
	cmd.LocalFlags().VisitAll(add)
	cmd.InheritedFlags().VisitAll(add)
	return own
}
