// Command postern-relay is the small end of `postern pipe`: it answers one peer on standard
// input and output through the process that owns the data directory, and starts that process
// where there is none. `postern pipe` becomes this program when it stands beside it; nobody else
// needs to call it.
package main

import (
	"os"

	"postern/cmd/internal/relay"
)

func main() {
	settings, err := relay.Parse(os.Args[1:])
	if err != nil { // of another version's postern: what was understood must do
		relay.OpenLog(settings.Log).Error("postern and postern-relay are of different versions: install both", "err", err)
	}
	relay.Main(settings)
}
