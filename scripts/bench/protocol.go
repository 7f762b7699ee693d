package main

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// protocol is the client's side of a protocol.
type protocol struct {
	network string
	oneShot bool // every request has its own connection
	greet   func(r *bufio.Reader, w io.Writer) error
	answer  func(r *bufio.Reader) ([]byte, error)
}

var (
	generic   = &protocol{network: "tcp", answer: readLine}
	saslauthd = &protocol{network: "unix", oneShot: true, answer: readCounted}
	dovecot   = &protocol{network: "unix", greet: greetDovecot, answer: readLine}
	web       = &protocol{network: "unix", answer: readWeb}
)

// readWeb reads an answer of HTTP, and returns its body.
func readWeb(r *bufio.Reader) ([]byte, error) {
	length := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		if len(line) <= len("\r\n") {
			break
		}
		if name, value, _ := strings.Cut(string(line), ":"); strings.EqualFold(name, "Content-Length") {
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return nil, err
			}
		}
	}
	body, err := r.Peek(length)
	if err != nil {
		return nil, err
	}
	_, err = r.Discard(length)
	return body, err
}

// webLogin appends a login in the dialect of MongooseIM.
func webLogin(b []byte, user, domain, password string) []byte {
	return append(b, "GET /auth_http/check_password?user="+user+"&server="+domain+"&pass="+password+" HTTP/1.1\r\nHost: bench\r\n\r\n"...)
}

func readLine(r *bufio.Reader) ([]byte, error) { return r.ReadSlice('\n') }

// readCounted reads an answer of saslauthd: a two-byte length and the text.
func readCounted(r *bufio.Reader) ([]byte, error) {
	head, err := r.Peek(2)
	if err != nil {
		return nil, err
	}
	text, err := r.Peek(2 + int(binary.BigEndian.Uint16(head)))
	if err != nil {
		return nil, err
	}
	_, err = r.Discard(len(text))
	return text[2:], err
}

// greetDovecot sends the greeting of a client and reads that of the server.
func greetDovecot(r *bufio.Reader, w io.Writer) error {
	if _, err := io.WriteString(w, "VERSION\t1\t2\nCPID\t4711\n"); err != nil {
		return err
	}
	for {
		line, err := readLine(r)
		if err != nil {
			return err
		}
		if string(line) == "DONE\n" {
			return nil
		}
	}
}

// genericLogin returns a login in the generic protocol.
func genericLogin(user, domain, password string) string {
	return "auth:" + user + ":" + domain + ":" + password + "\n"
}

// saslauthdLogin appends a login in the saslauthd protocol.
func saslauthdLogin(b []byte, user, realm, password string) []byte {
	for _, field := range []string{user, password, "smtp", realm} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(field)))
		b = append(b, field...)
	}
	return b
}

// dovecotLogin appends the n-th login of a connection in Dovecot's auth protocol.
func dovecotLogin(b []byte, n int, user, password string) []byte {
	b = append(b, "AUTH\t"...)
	b = strconv.AppendInt(b, int64(n+1), 10)
	b = append(b, "\tPLAIN\tservice=smtp\tresp="...)
	b = base64.StdEncoding.AppendEncode(b, []byte("\x00"+user+"\x00"+password))
	return append(b, '\n')
}

// record holds the response times of a connection: of expected answers, and of refusals where the
// path has some.
type record struct{ taken, refused []time.Duration }

// asker is one connection of a path.
type asker interface {
	// ask sends depth requests at once, as the n-th burst of the connection, waits for the answers
	// and adds their times since begun to the record.
	ask(n, depth int, begun time.Time, to *record) error
	close()
}

// socketAsker is an asker over a TCP or Unix socket.
type socketAsker struct {
	path   *path
	conn   int
	socket net.Conn
	in     *bufio.Reader
	out    []byte
}

// connect opens the conn-th connection of the path. One-shot protocols connect for each request.
func (p *path) connect(conn int) (asker, error) {
	if p.asker != nil {
		return p.asker(), nil
	}
	a := &socketAsker{path: p, conn: conn, in: bufio.NewReaderSize(nil, 4096)}
	if p.protocol.oneShot {
		return a, nil
	}
	return a, a.dial()
}

func (a *socketAsker) dial() (err error) {
	if a.socket, err = net.Dial(a.path.protocol.network, a.path.address); err != nil {
		return err
	}
	a.in.Reset(a.socket)
	if a.path.protocol.greet != nil {
		return a.path.protocol.greet(a.in, a.socket)
	}
	return nil
}

func (a *socketAsker) close() {
	if a.socket != nil {
		_ = a.socket.Close()
	}
}

func (a *socketAsker) ask(n, depth int, begun time.Time, to *record) error {
	p := a.path
	a.out = a.out[:0]
	for i := range depth {
		a.out = p.ask(a.out, a.conn, n*depth+i)
	}
	if p.protocol.oneShot {
		if err := a.dial(); err != nil {
			return err
		}
		defer a.close()
	}
	if _, err := a.socket.Write(a.out); err != nil {
		return err
	}
	for range depth {
		got, err := p.protocol.answer(a.in)
		if err != nil {
			return err
		}
		took := time.Since(begun)
		switch {
		case strings.HasPrefix(string(got), p.want):
			to.taken = append(to.taken, took)
		case p.refusal != "" && strings.HasPrefix(string(got), p.refusal):
			to.refused = append(to.refused, took)
		default:
			return fmt.Errorf("answered %q, want %q: the figures would not be those of this path", got, p.want)
		}
	}
	return nil
}
