package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
)

// The sockets of the echo and of the program under test, in the bench's directory.
const (
	saslauthdSocket = "mux"
	dovecotSocket   = "dovecot"
)

// serveEcho is the ceiling: a server that answers every request with an answer of its own and
// does nothing else, in each of the protocols. The Unix sockets stand in dir; the address of
// the generic protocol is printed.
func serveEcho(dir string) {
	tcp := must(net.Listen("tcp", "127.0.0.1:0"))
	serve(tcp, echoLines)
	serve(must(net.Listen("unix", filepath.Join(dir, saslauthdSocket))), echoSaslauthd)
	serve(must(net.Listen("unix", filepath.Join(dir, dovecotSocket))), echoDovecot)
	fmt.Println(tcp.Addr())
	untilTerminated()
}

func must(l net.Listener, err error) net.Listener {
	if err != nil {
		fmt.Fprintln(os.Stderr, "posternbench:", err)
		os.Exit(1)
	}
	return l
}

func serve(l net.Listener, handle func(net.Conn)) {
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c)
			}()
		}
	}()
}

// echoLines answers a burst of lines with one write.
func echoLines(c net.Conn) {
	in := bufio.NewReaderSize(c, 4096)
	var out []byte
	for {
		if _, err := in.ReadSlice('\n'); err != nil {
			return
		}
		if out = append(out, "1\n"...); in.Buffered() > 0 {
			continue
		}
		if _, err := c.Write(out); err != nil {
			return
		}
		out = out[:0]
	}
}

// serveRelay is the ceiling of whatever asks a web server for its clients: it puts the same question
// for every line, by http.Client on the goroutine of its connection, and does nothing else.
func serveRelay(url string) {
	web := newHTTPAsker(url)
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	serve(l, func(c net.Conn) {
		in := bufio.NewReaderSize(c, 4096)
		for {
			if _, err := in.ReadSlice('\n'); err != nil {
				return
			}
			answer := "1\n"
			if web.login() != nil {
				answer = "0\n"
			}
			if _, err := io.WriteString(c, answer); err != nil {
				return
			}
		}
	})
	fmt.Println(l.Addr())
	untilTerminated()
}

// echoSaslauthd reads what comes first, which is the request, and answers.
func echoSaslauthd(c net.Conn) {
	buf := make([]byte, 1024)
	if _, err := c.Read(buf); err == nil {
		_, _ = c.Write([]byte("\x00\x0aOK success"))
	}
}

func echoDovecot(c net.Conn) {
	if _, err := io.WriteString(c, "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nDONE\n"); err != nil {
		return
	}
	in := bufio.NewReaderSize(c, 4096)
	var out []byte
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		if rest, ok := bytes.CutPrefix(line, []byte("AUTH\t")); ok {
			id, _, _ := bytes.Cut(rest, []byte("\t"))
			out = append(append(append(out, "OK\t"...), id...), "\tuser=joe\n"...)
		}
		if in.Buffered() > 0 || len(out) == 0 {
			continue
		}
		if _, err := c.Write(out); err != nil {
			return
		}
		out = out[:0]
	}
}
