package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
)

// The Unix sockets of the echo server and of the program under test, in the directory of each.
const (
	saslauthdSocket = "mux"
	dovecotSocket   = "dovecot"
	webSocket       = "http"
)

// serveEcho runs the ceiling: a server for each protocol that answers every request with a fixed
// answer and does nothing else. Its Unix sockets are in dir; it prints the address of the generic
// protocol.
func serveEcho(dir string) {
	tcp := must(net.Listen("tcp", "127.0.0.1:0"))
	serve(tcp, echoGeneric)
	serve(must(net.Listen("unix", filepath.Join(dir, saslauthdSocket))), echoSaslauthd)
	serve(must(net.Listen("unix", filepath.Join(dir, dovecotSocket))), echoDovecot)
	go func() {
		_ = http.Serve(must(net.Listen("unix", filepath.Join(dir, webSocket))), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "ok")
		}))
	}()
	fmt.Println(tcp.Addr())
	untilTerminated()
}

// must returns l, or ends the process if it could not be opened.
func must(l net.Listener, err error) net.Listener {
	if err != nil {
		fmt.Fprintln(os.Stderr, "posternbench:", err)
		os.Exit(1)
	}
	return l
}

// serve runs handle on a goroutine for each connection to l.
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

// answerLines answers all lines that have arrived with one write. answer appends the answer to a
// line, or nothing.
func answerLines(c net.Conn, answer func(out, line []byte) []byte) {
	in := bufio.NewReaderSize(c, 4096)
	var out []byte
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		if out = answer(out, line); in.Buffered() > 0 || len(out) == 0 {
			continue
		}
		if _, err := c.Write(out); err != nil {
			return
		}
		out = out[:0]
	}
}

// echoGeneric accepts every line.
func echoGeneric(c net.Conn) {
	answerLines(c, func(out, _ []byte) []byte { return append(out, "1\n"...) })
}

// serveRelay runs the ceiling of a broker in front of a web server: for every line it sends the
// same request by http.Client, on the goroutine of the connection, and does nothing else.
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

// echoSaslauthd answers the first read, which holds the whole request.
func echoSaslauthd(c net.Conn) {
	buf := make([]byte, 1024)
	if _, err := c.Read(buf); err == nil {
		_, _ = c.Write([]byte("\x00\x0aOK success"))
	}
}

// echoDovecot greets as Dovecot does and accepts every login.
func echoDovecot(c net.Conn) {
	if _, err := io.WriteString(c, "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nDONE\n"); err != nil {
		return
	}
	answerLines(c, func(out, line []byte) []byte {
		rest, ok := bytes.CutPrefix(line, []byte("AUTH\t"))
		if !ok {
			return out
		}
		id, _, _ := bytes.Cut(rest, []byte("\t"))
		return append(append(append(out, "OK\t"...), id...), "\tuser=joe\n"...)
	})
}
