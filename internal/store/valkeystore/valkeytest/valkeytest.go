// Package valkeytest runs servers for tests: the machine's redis-server, and valkey-server in the copy of Debian 13
// that scripts/setup.sh installs.
package valkeytest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// startWait bounds the start and the end of a server.
const startWait = time.Minute

// Server is a running server. It ends with the test.
type Server struct {
	Address string // for valkeystore.Options

	t       *testing.T
	program []string // the server's, without options
	command []string
	socket  string
	cmd     *exec.Cmd
	log     bytes.Buffer
}

// Each runs a test with each server that is installed. Without any, the test fails.
func Each(t *testing.T, test func(t *testing.T, start func(t *testing.T, options ...string) *Server)) {
	for _, name := range []string{"redis", "valkey"} {
		t.Run(name, func(t *testing.T) {
			command := find(name)
			if command == nil {
				t.Skip(name + "-server is not installed: run `make setup`")
			}
			test(t, func(t *testing.T, options ...string) *Server { return start(t, command, options) })
		})
	}
}

// Start starts the first server that is installed, with options as in its configuration file, each behind two dashes.
func Start(t *testing.T, options ...string) *Server {
	t.Helper()
	for _, name := range []string{"redis", "valkey"} {
		if command := find(name); command != nil {
			return start(t, command, options)
		}
	}
	t.Skip("neither redis-server nor valkey-server is installed: run `make setup`")
	return nil
}

// StartIn is Start behind a command that runs another one, such as on a machine of its own.
func StartIn(t *testing.T, enter []string, options ...string) *Server {
	t.Helper()
	for _, name := range []string{"valkey", "redis"} {
		if command := find(name); command != nil {
			return start(t, append(append([]string(nil), enter...), command...), options)
		}
	}
	t.Skip("neither redis-server nor valkey-server is installed: run `make setup`")
	return nil
}

// Lose removes what the server has on disk. It does not run.
func (s *Server) Lose() {
	for _, name := range []string{"appendonlydir", "dump.rdb"} {
		_ = os.RemoveAll(filepath.Join(filepath.Dir(s.socket), name))
	}
}

// find returns the command of a server; nil if it is not installed.
func find(name string) []string {
	if path, err := exec.LookPath(name + "-server"); err == nil {
		return []string{path}
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, _ := os.UserHomeDir()
		cache = filepath.Join(home, ".cache")
	}
	root := filepath.Join(cache, "postern", "trixie")
	path := filepath.Join(root, "usr/bin", name+"-server")
	loaders, _ := filepath.Glob(filepath.Join(root, "usr/lib*/ld-linux-*.so.*"))
	nested, _ := filepath.Glob(filepath.Join(root, "usr/lib/*/ld-linux-*.so.*"))
	libraries, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu*"))
	if loaders = append(loaders, nested...); len(loaders) == 0 || len(libraries) == 0 {
		return nil
	}
	if _, err := os.Stat(path); err != nil {
		return nil
	}
	return []string{loaders[0], "--library-path", libraries[0], path}
}

func start(t *testing.T, program, options []string) *Server {
	t.Helper()
	s := prepare(t, program)
	s.command = append(append(append([]string(nil), program...),
		"--port", "0", "--unixsocket", s.socket, "--dir", filepath.Dir(s.socket), "--save", "", "--daemonize", "no"), options...)
	s.Start()
	return s
}

// prepare makes a server that has no command yet.
func prepare(t *testing.T, program []string) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "valkey") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Server{t: t, program: program, socket: filepath.Join(dir, "s")}
	s.Address = "unix:" + s.socket
	t.Cleanup(s.Kill)
	return s
}

// Port returns a port of 127.0.0.1 that was free a moment ago.
func Port(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// Local are the options of a server that listens on a port of 127.0.0.1, too.
func Local(port string) []string { return []string{"--bind", "127.0.0.1", "--port", port} }

// Sentinels starts three Sentinels of the server's program, with the lines of their configuration that say what to watch.
func (s *Server) Sentinels(watched string) (sentinels []*Server) {
	s.t.Helper()
	for range 3 {
		w := prepare(s.t, s.program)
		own := Port(s.t)
		w.Address = "127.0.0.1:" + own
		config := filepath.Join(filepath.Dir(w.socket), "sentinel.conf")
		if err := os.WriteFile(config, fmt.Appendf(nil, `port %s
bind 127.0.0.1
unixsocket %s
dir %s
%s
`, own, w.socket, filepath.Dir(w.socket), watched), 0o600); err != nil {
			s.t.Fatal(err)
		}
		w.command = append(append([]string(nil), s.program...), config, "--sentinel")
		w.Start()
		sentinels = append(sentinels, w)
	}
	return sentinels
}

// Cluster starts a cluster of three of which each has a third of the slots.
func Cluster(t *testing.T, begin func(t *testing.T, options ...string) *Server) (nodes []*Server) {
	t.Helper()
	const slots = 16384
	for i := range 3 {
		port, bus := Port(t), Port(t)
		n := begin(t, append(Local(port), "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "2000", "--cluster-config-file", "nodes.conf")...)
		n.Address = "127.0.0.1:" + port
		n.Want("+OK", "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*slots/3), strconv.Itoa((i+1)*slots/3-1))
		if i > 0 {
			nodes[0].Want("+OK", "CLUSTER", "MEET", "127.0.0.1", port, bus)
		}
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		for end := time.Now().Add(startWait); ; time.Sleep(10 * time.Millisecond) {
			info := n.Do("CLUSTER", "INFO")
			if strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3") && strings.Contains(info, "cluster_slots_ok:16384") {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("the cluster does not come about: %s", info)
			}
		}
	}
	return nodes
}

// MoveSlot moves a slot from one node of a cluster to another; during is called while it is being moved, with some keys here
// and others there.
func MoveSlot(from, to *Server, slot int, during func()) {
	from.t.Helper()
	id := func(s *Server) string { return Strings(s.Do("CLUSTER", "MYID"))[0] }
	which := strconv.Itoa(slot)
	to.Want("+OK", "CLUSTER", "SETSLOT", which, "IMPORTING", id(from))
	from.Want("+OK", "CLUSTER", "SETSLOT", which, "MIGRATING", id(to))
	port := to.Address[strings.LastIndexByte(to.Address, ':')+1:]
	for first := true; ; first = false {
		keys := Strings(from.Do("CLUSTER", "GETKEYSINSLOT", which, "2"))
		if len(keys) == 0 {
			break
		}
		from.Want("+OK", append([]string{"MIGRATE", "127.0.0.1", port, "", "0", "5000", "KEYS"}, keys...)...)
		if first {
			during()
		}
	}
	for _, s := range []*Server{to, from} {
		s.Want("+OK", "CLUSTER", "SETSLOT", which, "NODE", id(to))
	}
}

// Strings returns the texts of a reply in the form of the protocol.
func Strings(reply string) (texts []string) {
	for {
		_, rest, ok := strings.Cut(reply, "$")
		size, rest, ok2 := strings.Cut(rest, "\r\n")
		n, err := strconv.Atoi(size)
		if !ok || !ok2 || err != nil || n < 0 || n > len(rest) {
			return texts
		}
		texts, reply = append(texts, rest[:n]), rest[n:]
	}
}

// Want carries out a command and fails the test unless the reply begins so.
func (s *Server) Want(begin string, args ...string) {
	s.t.Helper()
	if reply := s.Do(args...); !strings.HasPrefix(reply, begin) {
		s.t.Fatalf("%q: %q", args, reply)
	}
}

// Start starts the server again.
func (s *Server) Start() {
	s.t.Helper()
	s.log.Reset()
	s.cmd = exec.Command(s.command[0], s.command[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(startWait); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("unix", s.socket)
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(end) {
			s.Kill()
			s.t.Fatalf("the server does not start: %s", s.log.String())
		}
	}
}

// Kill ends the server at once, as a crash does. Without a server it does nothing.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
	_ = os.Remove(s.socket)
}

// Process is the server's process, to be stopped and continued.
func (s *Server) Process() *os.Process { return s.cmd.Process }

// Do carries out a command by another connection and returns its reply, as the protocol has it.
func (s *Server) Do(args ...string) string {
	s.t.Helper()
	reply, err := s.Try(args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return reply
}

// Try is Do for a server that may be away.
func (s *Server) Try(args ...string) (string, error) {
	c, err := net.Dial("unix", s.socket)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(startWait))
	var b bytes.Buffer
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := c.Write(b.Bytes()); err != nil {
		return "", err
	}
	reply := make([]byte, 1<<20)
	n, err := c.Read(reply)
	return string(reply[:n]), err
}
