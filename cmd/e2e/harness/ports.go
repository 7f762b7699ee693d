package harness

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// FreeAddress is an address on which no program listened a moment ago.
func FreeAddress(t *testing.T) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(FreePort(t)))
}

// Ports for servers that cannot be given port 0 are below those that Linux gives to outgoing
// connections and to listeners on port 0. They are taken in blocks: the process that listens on the
// first port of a block has the others, so that tests of different packages, which run at the same
// time, never get the same one before a server has started there.
const (
	firstPort  = 15000
	portBlock  = 100
	portBlocks = 170
)

var ports struct {
	sync.Mutex
	owner net.Listener // on the first port of this process's block
	first int
	next  int // offset in the block
}

// FreePort finds a port for a server that cannot be given port 0. It gives no port twice before
// all others of the process have been given.
func FreePort(t *testing.T) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	start := rand.IntN(portBlocks)
	for i := 0; i < portBlocks && ports.owner == nil; i++ {
		first := firstPort + (start+i)%portBlocks*portBlock
		if l, err := listenOn(first); err == nil {
			ports.owner, ports.first = l, first
		}
	}
	if ports.owner == nil {
		t.Fatal("no block of ports is free")
	}
	for range portBlock - 1 {
		ports.next = ports.next%(portBlock-1) + 1
		port := ports.first + ports.next
		if l, err := listenOn(port); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

func listenOn(port int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}
