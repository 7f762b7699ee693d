// Command postern is one authentication broker behind XMPP and mail servers.
package main

import (
	"errors"
	"fmt"
	"os"
)

func main() {
	tuneMalloc()
	os.Exit(runAs(os.Args, stdio{os.Stdin, os.Stdout, os.Stderr}))
}

// runAs runs postern, or what it stands in for under the name that it was called by.
func runAs(argv []string, io stdio) int {
	if as := guise(argv); as != nil {
		return as(&app{stdio: io}, argv[1:])
	}
	return run(argv[min(1, len(argv)):], io)
}

// exitError carries an exit status other than 1 through cobra.
type exitError struct {
	code int
	err  error // nil: nothing more to say
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// run is main with its surroundings passed in; it returns the exit status.
func run(args []string, io stdio) int {
	root := newRoot(io)
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	if err == nil {
		return 0
	}
	var exit *exitError
	if errors.As(err, &exit) {
		if exit.err != nil {
			fmt.Fprintln(io.err, "postern: "+exit.err.Error())
		}
		return exit.code
	}
	fmt.Fprintln(io.err, "postern: "+err.Error())
	return failedExit(cmd)
}
