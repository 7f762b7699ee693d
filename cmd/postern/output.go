package main

import (
	"io"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// output prints what a command has found, as text or as JSON.
type output struct {
	app  *app
	cmd  *cobra.Command
	json bool
	// programs: without --json the output is text on a terminal only, and JSON for programs, which
	// have read it until now.
	programs bool
}

// with adds --json to a command.
func (o *output) with(cmd *cobra.Command) *cobra.Command {
	o.cmd = cmd
	usage := "print JSON"
	if o.programs {
		usage = "print JSON, as is done in this version wherever the output is not a terminal; --json=false: text"
	}
	cmd.Flags().BoolVar(&o.json, "json", false, usage)
	return cmd
}

// asJSON reports whether JSON is to be printed.
func (o *output) asJSON() bool {
	return o.json || o.programs && !o.cmd.Flags().Changed("json") && !term.IsTerminal(int(o.app.Out.Fd()))
}

// print prints a value as JSON, or its text, unless err says that there is none.
func (o *output) print(v any, err error, text func(io.Writer) error) error {
	if err != nil || o.asJSON() {
		return o.app.printJSON(v, err)
	}
	return text(o.app.Out)
}
