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
	"testing"
	"time"
)

// startWait bounds the start and the end of a server.
const startWait = time.Minute

// Server is a running server. It ends with the test.
type Server struct {
	Address string // for valkeystore.Options

	t       *testing.T
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

func start(t *testing.T, command, options []string) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "valkey") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Server{t: t, socket: filepath.Join(dir, "s")}
	s.Address = "unix:" + s.socket
	s.command = append(append(append([]string(nil), command...),
		"--port", "0", "--unixsocket", s.socket, "--dir", dir, "--save", "", "--daemonize", "no"), options...)
	t.Cleanup(s.Kill)
	s.Start()
	return s
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
	c, err := net.Dial("unix", s.socket)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(startWait))
	var b bytes.Buffer
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := c.Write(b.Bytes()); err != nil {
		s.t.Fatal(err)
	}
	reply := make([]byte, 1<<20)
	n, err := c.Read(reply)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(reply[:n])
}
