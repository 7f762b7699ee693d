// Command bench (built as bin/posternbench) measures postern side by side with a bare echo of the
// same protocols and prints one table. It starts the program under test, the echo server, a web
// server that stands in for the backends, and the peers that are installed, as separate processes
// on loopback and Unix sockets, and stops them by process ID. With `soak` as its first argument
// it runs a mixed load and fails if memory, goroutines, descriptors or the store grow; with `storm`
// all users come at once, and it fails if one does not get in although there was capacity; with `profile` it says
// which actors and locks the hot path spends its time in; with `aims` it prints what files of figures say of the aims.
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

// settings are the values of the command-line flags.
type settings struct {
	binary      string // the program under test
	predecessor string
	seconds     float64
	rounds      int
	conns       []int
	jsonFile    string
	out         string
	only        string
	level       string
	users       int
	idle        int
	minutes     float64
	scale       float64
	cost        int
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
		case "aims":
			run = func(settings) error { return showAims(args) }
			args = args[1:]
		case "soak":
			args, run = args[1:], soak
		case "storm":
			args, run = args[1:], storm
		case "profile":
			args, run = args[1:], profile
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
	f.StringVar(&s.binary, "postern", "bin/postern", "program under test")
	f.StringVar(&s.predecessor, "predecessor", "", "directory of an xcauth checkout to measure as well; needs python3 and the modules of xcauth")
	f.Float64Var(&s.seconds, "seconds", 0.5, "length of one measurement")
	f.IntVar(&s.rounds, "rounds", 3, "measurements per table cell; the median is printed")
	f.StringVar(&conns, "conns", "1,16,128,1000", "numbers of connections, separated by commas")
	f.StringVar(&s.jsonFile, "json", "", "also write the table and the aims as JSON to this file")
	f.StringVar(&s.out, "out", "", "also append the figures as lines of Go benchmarks to this file, for benchstat")
	f.StringVar(&s.only, "only", "", "comma-separated substrings: measure only matching paths and their baselines")
	f.StringVar(&s.level, "log", "info", "log level of the program under test; info logs a line for each decision")
	f.IntVar(&s.users, "users", 1000000, "users in the large disk cache; 0 skips it")
	f.IntVar(&s.idle, "idle", 10000, "idle connections; 0 skips them")
	f.Float64Var(&s.minutes, "minutes", 30, "length of a soak run")
	f.Float64Var(&s.scale, "scale", 1, "of the users and durations of a storm")
	f.IntVar(&s.cost, "cost", 12, "bcrypt cost of the password hashes in a storm")
	_ = f.Parse(args) // exits on errors
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

// wants reports whether the -only flag selects a path.
func (s settings) wants(name string) bool {
	for _, part := range strings.Split(s.only, ",") {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// length is the duration of one measurement.
func (s settings) length() time.Duration { return time.Duration(s.seconds * float64(time.Second)) }

// untilTerminated blocks until the process receives SIGTERM or SIGINT.
func untilTerminated() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	<-signals
}
