package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startTimeout bounds the start of a server, until it answers.
const startTimeout = 20 * time.Second

// child is a server process. A nil child uses no processor time.
type child struct {
	cmd  *exec.Cmd // nil if the process has put itself into the background
	pid  int
	addr string
	log  string // the file that its standard error goes to
}

// start starts the command and notes its process ID.
func (c *child) start() error {
	if err := c.cmd.Start(); err != nil {
		return err
	}
	c.pid = c.cmd.Process.Pid
	return nil
}

// startSelf starts this program as one of its servers and reads the address that it prints.
func startSelf(role ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(self, role...)}
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	c.addr = strings.TrimSpace(line)
	return c, err
}

// startPostern starts the program under test and waits for the READY=1 that it sends to a service
// manager. address is that of its listener for the generic protocol.
func startPostern(binary, config, address string) (*child, error) {
	k, err := newKeeper(config + ".notify")
	if err != nil {
		return nil, err
	}
	defer k.close()
	return startKept(k, binary, config, address)
}

// startKept is startPostern with what a start before has left in the service manager.
func startKept(k *keeper, binary, config, address string) (*child, error) {
	c := &child{cmd: exec.Command(binary, "serve", "--config", config), addr: address, log: config + ".log"}
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c.cmd.Stderr = log
	return c, k.start(c)
}

// freeAddress returns an unused address on loopback.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// waitUntil polls a condition and reports whether it became true within startTimeout.
func waitUntil(condition func() bool) bool {
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if condition() {
			return true
		}
	}
	return false
}

// waitSocket waits until a Unix socket exists.
func waitSocket(path string) error {
	if !waitUntil(func() bool { _, err := os.Stat(path); return err == nil }) {
		return fmt.Errorf("%s did not appear", path)
	}
	return nil
}

// stop sends SIGTERM and waits for the end of the process.
func (c *child) stop() {
	_ = syscall.Kill(c.pid, syscall.SIGTERM)
	if c.cmd != nil {
		_ = c.cmd.Wait()
		return
	}
	waitUntil(func() bool { return syscall.Kill(c.pid, 0) != nil })
}

// truncate empties the log, which would otherwise fill the disk.
func (c *child) truncate() { _ = os.Truncate(c.log, 0) }

// cpu returns the processor time that the process and its children have used.
func (c *child) cpu() (sum time.Duration) {
	if c == nil {
		return 0
	}
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // the process has ended
		}
		pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
		fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		if parent, _ := strconv.Atoi(fields[1]); pid == c.pid || parent == c.pid {
			user, _ := strconv.ParseInt(fields[11], 10, 64)
			system, _ := strconv.ParseInt(fields[12], 10, 64)
			sum += time.Duration(user+system) * (time.Second / 100) // USER_HZ is 100 on Linux
		}
	}
	return sum
}

// resident returns the resident memory of the process, in bytes.
func (c *child) resident() int64 {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid))
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	var kib int64
	_, _ = fmt.Sscan(rest, &kib)
	return kib << 10
}
