package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The account of the peers, in a domain that no real account can be in.
const (
	peerUser  = "posternbench"
	peerRealm = "peers.bench"
)

// sasldb is the file of accounts that saslauthd reads; its path is built in.
const sasldb = "/etc/sasldb2"

// startPeers starts the peers and returns their paths. One that is not installed is listed below
// the table.
func (b *bench) startPeers() []*path {
	cyrus := &path{name: "Cyrus saslauthd", baseline: "echo saslauthd", protocol: saslauthd, want: "OK", maxConns: 16, // its listen backlog is short
		ask: func(buf []byte, _, _ int) []byte { return saslauthdLogin(buf, peerUser, peerRealm, "password") }}
	dove := &path{name: "Dovecot auth", baseline: "echo dovecot", protocol: dovecot, want: "OK\t", pipelines: true,
		ask: func(buf []byte, _, n int) []byte { return dovecotLogin(buf, n, peerUser+"@"+peerRealm, "password") }}
	old := &path{name: "xcauth hot", baseline: "echo", protocol: generic, want: "1\n", ask: fixed("hot.bench", "password"), maxConns: 128}
	starts := []struct {
		path  *path
		start func() (*child, string, error)
	}{{cyrus, b.startCyrus}, {dove, b.startDovecot}, {old, b.startPredecessor}}
	var paths []*path
	for _, s := range starts {
		if !b.wants(s.path.name) {
			continue
		}
		var err error
		if s.path.server, s.path.address, err = s.start(); err != nil {
			s.path.missing = err.Error()
		} else {
			b.defers = append(b.defers, s.path.server.stop)
		}
		paths = append(paths, s.path)
	}
	return paths
}

// startCyrus starts saslauthd with an account in the machine's sasldb, which close removes.
func (b *bench) startCyrus() (*child, string, error) {
	if _, err := exec.LookPath("saslauthd"); err != nil {
		return nil, "", errors.New("not installed: apt-get install sasl2-bin")
	}
	_, err := os.Stat(sasldb)
	fresh := errors.Is(err, fs.ErrNotExist)
	account := func(more ...string) error {
		cmd := exec.Command("saslpasswd2", append(more, "-u", peerRealm, peerUser)...)
		cmd.Stdin = strings.NewReader("password\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("cannot add an account to %s (only root can): %w: %s", sasldb, err, out)
		}
		return nil
	}
	if err := account("-p", "-c"); err != nil {
		return nil, "", err
	}
	b.defers = append(b.defers, func() {
		_ = account("-d")
		if fresh {
			_ = os.Remove(sasldb)
		}
	})
	dir := b.file("cyrus")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, "", err
	}
	// Without -d it goes to the background; in the foreground it writes a line for each request.
	if out, err := exec.Command("saslauthd", "-a", "sasldb", "-c", "-n", "5", "-m", dir).CombinedOutput(); err != nil {
		return nil, "", fmt.Errorf("saslauthd: %w: %s", err, out)
	}
	c, socket := new(child), filepath.Join(dir, "mux")
	if err := waitSocket(socket); err != nil {
		return nil, "", err
	}
	pid, err := os.ReadFile(filepath.Join(dir, "saslauthd.pid"))
	if err == nil {
		c.pid, err = strconv.Atoi(strings.TrimSpace(string(pid)))
	}
	return c, socket, err
}

// startDovecot starts Dovecot with its auth service only and accounts from a passwd-file.
func (b *bench) startDovecot() (*child, string, error) {
	if _, err := exec.LookPath("dovecot"); err != nil {
		return nil, "", errors.New("not installed: apt-get install dovecot-core")
	}
	dir := b.file("dovecot.d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, "", err
	}
	users := fmt.Sprintf("%s@%s:{PLAIN}password\n", peerUser, peerRealm)
	text := fmt.Sprintf(`base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = %[1]s/log
protocols =
ssl = no
auth_mechanisms = plain
disable_plaintext_auth = no
passdb {
  driver = passwd-file
  args = username_format=%%u %[1]s/users
}
service auth {
  user = root
  client_limit = 4096
  unix_listener bench {
    mode = 0666
  }
}
`, dir)
	for name, content := range map[string]string{"users": users, "conf": text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return nil, "", err
		}
	}
	c := &child{cmd: exec.Command("dovecot", "-F", "-c", filepath.Join(dir, "conf"))}
	if err := c.start(); err != nil {
		return nil, "", err
	}
	socket := filepath.Join(dir, "run", "bench")
	if err := waitSocket(socket); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		return nil, "", fmt.Errorf("%w: %s", err, log)
	}
	return c, socket, nil
}

// startPredecessor starts xcauth with a listening socket as its standard input and the same backend.
func (b *bench) startPredecessor() (*child, string, error) {
	if b.predecessor == "" {
		return nil, "", errors.New("not given: use -predecessor")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		return nil, "", err
	}
	defer socket.Close()
	dir := b.file("predecessor")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, "", err
	}
	c := &child{cmd: exec.Command("python3", filepath.Join(b.predecessor, "xcauth.py"), "-t", "generic", "-u", "http://"+b.cloud.addr+"/0", "-s", jsxcSecret,
		"--db", filepath.Join(dir, "db"), "--cache-bcrypt-rounds", "4,4", "-l", dir)}
	c.cmd.Stdin = socket
	if err := c.start(); err != nil {
		return nil, "", err
	}
	probe := &path{protocol: generic, address: l.Addr().String(), want: "1\n", ask: fixed("hot.bench", "password")}
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(50 * time.Millisecond) {
		a, err := probe.connect(0)
		if err == nil {
			_ = a.(*socketAsker).socket.SetDeadline(deadline)
			err = a.ask(0, 1, time.Now(), new(record))
			a.close()
		}
		if err == nil {
			return c, l.Addr().String(), nil
		}
		if time.Now().After(deadline) {
			c.stop()
			return nil, "", fmt.Errorf("%s does not answer: %w", b.predecessor, err)
		}
	}
}
