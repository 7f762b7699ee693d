// Command posternbench measures postern beside a bare echo of the same protocols: one run, one
// table. It starts the program under test, the echo, a web server that stands for the backends,
// and the peers that are installed, as processes of their own on loopback and Unix sockets, and
// stops them by process id. With `soak` as its first argument it watches for growth instead.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// settings are the flags.
type settings struct {
	postern     string
	predecessor string
	seconds     float64
	rounds      int
	conns       []int
	jsonFile    string
	only        string
	level       string
	users       int
	idle        int
	minutes     float64
}

func main() {
	args, run := os.Args[1:], measure
	if len(args) > 0 {
		switch args[0] {
		case "echo":
			serveEcho(args[1])
			return
		case "cloud":
			serveCloud()
			return
		case "relay":
			serveRelay(args[1])
			return
		case "soak":
			args, run = args[1:], soak
		}
	}
	if err := run(parseFlags(args)); err != nil {
		fmt.Fprintln(os.Stderr, "posternbench:", err)
		os.Exit(1)
	}
}

func parseFlags(args []string) settings {
	var s settings
	var conns string
	f := flag.NewFlagSet("posternbench", flag.ExitOnError)
	f.StringVar(&s.postern, "postern", "bin/postern", "the program under test")
	f.StringVar(&s.predecessor, "predecessor", "", "folder of xcauth, to be measured beside; needs python3 and its modules")
	f.Float64Var(&s.seconds, "seconds", 0.5, "length of one measurement")
	f.IntVar(&s.rounds, "rounds", 3, "measurements of each cell; the median counts")
	f.StringVar(&conns, "conns", "1,16,128,1000", "numbers of connections")
	f.StringVar(&s.jsonFile, "json", "", "also write the table and the aims as JSON to this file")
	f.StringVar(&s.only, "only", "", "measure only paths whose name has one of these, separated by commas, and what they are compared with")
	f.StringVar(&s.level, "log", "info", "log level of the program under test; info has a line for each decision")
	f.IntVar(&s.users, "users", 1000000, "users of the large disk cache; 0 leaves it out")
	f.IntVar(&s.idle, "idle", 10000, "idle connections; 0 leaves them out")
	f.Float64Var(&s.minutes, "minutes", 30, "length of a soak")
	_ = f.Parse(args) // ends the process on errors
	for _, c := range strings.Split(conns, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(c))
		if err != nil || n < 1 {
			fmt.Fprintf(os.Stderr, "posternbench: -conns: %q is not a number of connections\n", c)
			os.Exit(2)
		}
		s.conns = append(s.conns, n)
	}
	return s
}

// wants reports whether a path is to be measured.
func (s settings) wants(name string) bool {
	for _, part := range strings.Split(s.only, ",") {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

func (s settings) length() time.Duration { return time.Duration(s.seconds * float64(time.Second)) }

// untilTerminated waits for the signal that ends a child process.
func untilTerminated() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	<-signals
}
