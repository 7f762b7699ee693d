package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/manual"
)

// newHelp replaces cobra's help command by one that has the pages of the manual, too.
func newHelp(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND | TOPIC]",
		Short: "Explain a command, or print a page of the manual",
		Example: `  postern help prosody
  postern help cache forget`,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			words := []string{}
			if at, rest, err := cmd.Root().Find(args); err == nil && len(rest) == 0 {
				for _, sub := range at.Commands() {
					if sub.IsAvailableCommand() {
						words = append(words, sub.Name()+"\t"+sub.Short)
					}
				}
			}
			if len(args) == 0 {
				words = append(words, manual.Topics()...)
			}
			return words, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.help(cmd.Root(), args) },
	}
}

func (a *app) help(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		topics, err := manual.List()
		if err != nil {
			return err
		}
		if err := root.Help(); err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.Out, "\nPages of the manual (postern help TOPIC):\n\n%s", strings.TrimSuffix(topics, "\n"))
		return err
	}
	if len(args) == 1 && slices.Contains(manual.Topics(), args[0]) {
		page, err := manual.Find(args[0])
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(a.Out, page.Plain())
		return err
	}
	cmd, rest, err := root.Find(args)
	if err != nil || len(rest) > 0 || cmd == root {
		return fmt.Errorf("no command and no page of the manual is called %q: see `postern help`", strings.Join(args, " "))
	}
	cmd.InitDefaultHelpFlag()
	return cmd.Help()
}
