package harness

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// FreeAddress is an address on which no program listened a moment ago.
func FreeAddress(t *testing.T) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(FreePort(t)))
}

// FreePort finds a port for a server that cannot be given port 0. It is below those that Linux gives
// to outgoing connections and to other tests' listeners, so that it is still free when the server
// has started.
func FreePort(t *testing.T) int {
	t.Helper()
	var err error
	for range 100 {
		port := 15000 + rand.IntN(17000)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatalf("no port is free: %v", err)
	return 0
}
