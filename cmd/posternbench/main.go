// Command posternbench measures postern beside a bare echo of the same protocol: one run, one
// table. It starts the program under test, the echo and a JSXC server as processes of their
// own, on loopback, and stops them by process id.
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
	postern  string
	seconds  float64
	rounds   int
	conns    []int
	jsonFile string
	only     string
}

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "echo":
			serveEcho()
			return
		case "jsxc":
			serveJSXC()
			return
		}
	}
	if err := measure(parseFlags()); err != nil {
		fmt.Fprintln(os.Stderr, "posternbench:", err)
		os.Exit(1)
	}
}

func parseFlags() settings {
	var s settings
	var conns string
	flag.StringVar(&s.postern, "postern", "bin/postern", "the program under test")
	flag.Float64Var(&s.seconds, "seconds", 1.5, "length of one measurement")
	flag.IntVar(&s.rounds, "rounds", 3, "measurements of each cell; the median counts")
	flag.StringVar(&conns, "conns", "1,16,128", "numbers of connections")
	flag.StringVar(&s.jsonFile, "json", "", "also write the table as JSON to this file")
	flag.StringVar(&s.only, "only", "", "measure only paths whose name contains this, and the echo")
	flag.Parse()
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

// untilTerminated waits for the signal that ends a child process.
func untilTerminated() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	<-signals
}

func (s settings) length() time.Duration { return time.Duration(s.seconds * float64(time.Second)) }
