package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// A broker beside a shared store is measured by the paths that are measured of one with a directory, which are the
// baselines.
const (
	sharedHot  = "hot, Valkey"
	sharedCold = "cold, Valkey, bcrypt 4"
)

// sharedPaths starts a store and a broker beside it, if they are to be measured.
func (b *bench) sharedPaths() []*path {
	hot := &path{name: sharedHot, baseline: hotPath, ask: fixed("hot.bench", "password"), pipelines: true}
	cold := &path{name: sharedCold, baseline: "disk cache, bcrypt 4", ask: turns("disk4.bench"), maxConns: 128}
	list := []*path{hot, cold}
	if !b.wants(hot.name) && !b.wants(cold.name) {
		return list
	}
	own, err := b.startShared()
	for _, p := range list {
		p.protocol, p.want, p.server = generic, "1\n", own
		if err != nil {
			p.missing = err.Error()
			continue
		}
		p.address = own.addr
	}
	return list
}

// startShared starts a Valkey or Redis server that keeps an append-only file, and a broker with the users of a
// directory copied there.
func (b *bench) startShared() (*child, error) {
	server := ""
	for _, name := range []string{"valkey-server", "redis-server"} {
		if found, err := exec.LookPath(name); err == nil && server == "" {
			server = found
		}
	}
	if server == "" {
		return nil, errors.New("not installed: apt-get install valkey-server, or redis-server")
	}
	dir := b.file("shared")
	socket := filepath.Join(dir, "socket")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	store := &child{cmd: exec.Command(server, "--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "", "--appendonly", "yes")}
	if err := store.start(); err != nil {
		return nil, err
	}
	b.defers = append(b.defers, store.stop)
	if err := waitSocket(socket); err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	config, data := filepath.Join(dir, "config.hcl"), filepath.Join(dir, "data")
	text := fmt.Sprintf(`data_dir = %q
log { level = %q }
listen "generic" {
  address  = %q
  deadline = "30s"
}
backend "jsxc" "jsxc0" {
  url    = "http://%s/0"
  slots  = %d
  queue  = 1024
  secret = %q
}
backend "json" "away" { url = "http://127.0.0.1:1/" }
domain "hot.bench" {
  backends = [backend.jsxc.jsxc0]
  cache { bcrypt_cost = 4 }
}
domain "disk4.bench" {
  backends = [backend.json.away]
  cache { hot_entries = 16 }
}
`, data, b.level, address, b.cloud.addr, slots, jsxcSecret)
	if err := errors.Join(fill(data, "disk4.bench", "user", diskUsers, 4), os.WriteFile(config, []byte(text), 0o600)); err != nil {
		return nil, err
	}
	// A daemon that starts on the directory alone vouches for the users there.
	c, err := startPostern(b.binary, config, address)
	if err != nil {
		return nil, err
	}
	c.stop()
	text += fmt.Sprintf("store \"valkey\" { addresses = \"unix:%s\" }\n", socket)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	if out, err := exec.Command(b.binary, "store", "copy", "--to", "valkey", "--config", config).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("store copy: %w: %s", err, out)
	}
	return b.started(startPostern(b.binary, config, address))
}
