// Command postern-relay is the small part of `postern pipe`: it answers one peer on standard input
// and output through the process that owns the data directory, and starts that process where none
// runs. `postern pipe` executes this program if it is installed beside it; it is not meant to be
// started by hand.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"postern/cmd/internal/pipe/relay"
	"postern/internal/version"
)

const usage = `postern-relay %s is the small part of ` + "`postern pipe`" + `: it passes the requests of one
server, such as ejabberd, on to the postern daemon, and the answers back.

` + "`postern pipe`" + ` becomes this program if it is in the same directory. Do not start it by hand: write
"/usr/bin/postern pipe --protocol ejabberd" into the configuration of the server, and see
` + "`postern pipe --help`" + `.
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run returns the exit status.
func run(args []string, out, failed io.Writer) int {
	settings, err := relay.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(out, usage, version.Version)
		return 0
	case len(args) == 1 && args[0] == "--version":
		fmt.Fprintf(out, "postern-relay version %s\n", version.Version)
		return 0
	case len(args) == 0: // by hand
		fmt.Fprintf(failed, usage, version.Version)
		return 2
	case err != nil: // from a postern of another version: go on with what was understood
		relay.OpenLog(settings.Log).Error("postern and postern-relay are of different versions: install both", "err", err)
	}
	relay.Main(settings)
	return 0
}
