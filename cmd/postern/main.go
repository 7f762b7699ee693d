// Command postern is one authentication broker behind XMPP and mail servers.
//
// This package is its command line: each file has one command, which parses its arguments, calls
// a function of a package below cmd/internal, and prints the result.
package main

import (
	"errors"
	"fmt"
	"os"

	"postern/cmd/internal/migrate"
	"postern/cmd/internal/pipe"
)

func main() {
	tuneMalloc()
	os.Exit(runAs(os.Args, pipe.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}

// runAs runs postern, or the program that it replaces under the name by which it was called.
func runAs(argv []string, std pipe.Stdio) int {
	if as := migrate.Compat(argv); as != nil {
		return as(std, argv[1:])
	}
	return run(argv[min(1, len(argv)):], std)
}

// exitError carries an exit status other than 1 through cobra.
type exitError struct {
	code int
	err  error // nil: everything has been printed
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// run carries out a command line and returns the exit status.
func run(args []string, std pipe.Stdio) int {
	root := newRoot(std)
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	if err == nil {
		return 0
	}
	var exit *exitError
	if errors.As(err, &exit) {
		if exit.err != nil {
			fmt.Fprintln(std.Err, "postern: "+exit.err.Error())
		}
		return exit.code
	}
	fmt.Fprintln(std.Err, "postern: "+err.Error())
	return failedExit(cmd)
}
