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
	"postern/internal/logfile"
)

func main() {
	tuneMalloc()
	stop := profile()
	status := runAs(os.Args, pipe.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(status)
}

// runAs runs postern, or the program that it replaces under the name by which it was called.
func runAs(argv []string, std pipe.Stdio) int {
	if as := migrate.Compat(argv); as != nil {
		return as(std, argv[1:])
	}
	return run(argv[min(1, len(argv)):], std)
}

// exitStatus ends a command that has printed everything with an exit status of its own.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// run carries out a command line and returns the exit status.
func run(args []string, std pipe.Stdio) int {
	root := newRoot(std)
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	if err == nil {
		return 0
	}
	if exit, ok := errors.AsType[exitStatus](err); ok {
		return int(exit)
	}
	logfile.PrintError(std.Err, "postern: "+err.Error())
	return failedExit(cmd)
}
