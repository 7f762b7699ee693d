package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// serveEcho is the ceiling: a server that answers every line with a line of its own and does
// nothing else.
func serveEcho() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "posternbench:", err)
		os.Exit(1)
	}
	fmt.Println(l.Addr())
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go echo(c)
		}
	}()
	untilTerminated()
}

func echo(c net.Conn) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 4096)
	for {
		if _, err := r.ReadSlice('\n'); err != nil {
			return
		}
		if _, err := c.Write([]byte("1\n")); err != nil {
			return
		}
	}
}

// serveJSXC is a JSXC server that says yes to everybody, at /0 at once and at /20 after 20 ms.
func serveJSXC() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "posternbench:", err)
		os.Exit(1)
	}
	fmt.Println(l.Addr())
	reply := []byte(`{"result":"success","data":{"uid":"x"}}`)
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if strings.HasPrefix(r.URL.Path, "/20") {
				time.Sleep(20 * time.Millisecond)
			}
			_, _ = w.Write(reply)
		}))
	}()
	untilTerminated()
}

// child is a server process.
type child struct {
	cmd  *exec.Cmd
	addr string
}

// startSelf starts this program in another role and returns the address that it prints.
func startSelf(role string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(self, role)}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	c.addr = strings.TrimSpace(line)
	return c, err
}

// startPostern starts the program under test and finds its address in its log.
func startPostern(binary, config string) (*child, error) {
	c := &child{cmd: exec.Command(binary, "serve", "--config", config)}
	log, err := c.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		line := lines.Bytes()
		if _, rest, ok := bytes.Cut(line, []byte(" address=")); ok {
			c.addr = string(rest)
		}
		if bytes.Contains(line, []byte("msg=ready")) {
			go func() { _, _ = io.Copy(io.Discard, log) }()
			return c, nil
		}
	}
	c.stop()
	return nil, fmt.Errorf("%s did not become ready", binary)
}

func (c *child) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	_ = c.cmd.Wait()
}

// cpu is the processor time of the process so far.
func (c *child) cpu() time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	var user, system int64
	_, _ = fmt.Sscan(fields[11], &user)
	_, _ = fmt.Sscan(fields[12], &system)
	return time.Duration(user+system) * (time.Second / 100) // USER_HZ is 100 on Linux
}
