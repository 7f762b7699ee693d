// Command postern-relay is the small part of `postern pipe`: it answers one peer on standard input
// and output through the process that owns the data directory, and starts that process where none
// runs. `postern pipe` executes this program if it is installed beside it; it is not meant to be
// started by hand.
package main

import (
	"os"

	"postern/cmd/internal/pipe/relay"
)

func main() {
	settings, err := relay.Parse(os.Args[1:])
	if err != nil { // from a postern of another version: go on with what was understood
		relay.OpenLog(settings.Log).Error("postern and postern-relay are of different versions: install both", "err", err)
	}
	relay.Main(settings)
}
