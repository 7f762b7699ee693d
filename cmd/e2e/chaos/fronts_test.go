package chaos

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"postern/cmd/e2e/harness"
)

// chaosFront is how a protocol's peer asks and understands answers.
type chaosFront struct {
	name           string
	logins, exists bool // what it can ask
	burst          int  // questions at once, at most
	once           bool // one question for each connection
	keeps          bool // the connection outlives a session
	blurred        bool // "cannot tell" looks like "no"
	connect        func() (net.Conn, error)
	greet          func(c io.Writer, in *bufio.Reader) error
	frame          func(q chaosQuestion, id int) string
	read           func(in *bufio.Reader) (id int, answer said, err error) // id 0: by order
}

// at has a front connect to an address that is asked for each time.
func (f *chaosFront) at(address func() string) *chaosFront {
	f.connect = func() (net.Conn, error) {
		to := address()
		network := "tcp"
		if strings.HasPrefix(to, "/") {
			network = "unix"
		}
		return net.DialTimeout(network, to, chaosLate)
	}
	return f
}

// over has a front speak with a pipe.
func (f *chaosFront) over(p *harness.Process) *chaosFront {
	f.name += " by pipe"
	f.keeps, f.once = true, false
	f.connect = func() (net.Conn, error) { return pipeConn{p}, nil }
	return f
}

// pipeConn makes the test's ends of a process's streams look like a connection.
type pipeConn struct{ p *harness.Process }

var _ net.Conn = pipeConn{}

func (c pipeConn) Read(b []byte) (int, error) { return c.p.Out.Read(b) }

func (c pipeConn) Write(b []byte) (int, error) { return c.p.In.Write(b) }

func (c pipeConn) Close() error { return nil }

func (c pipeConn) LocalAddr() net.Addr { return nil }

func (c pipeConn) RemoteAddr() net.Addr { return nil }

func (c pipeConn) SetReadDeadline(t time.Time) error { return c.p.Out.SetReadDeadline(t) }

func (c pipeConn) SetWriteDeadline(t time.Time) error { return c.p.In.SetWriteDeadline(t) }

func (c pipeConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// chaosFronts are all fronts of a daemon.
func chaosFronts(address func(listener string) string) (list []*chaosFront) {
	for _, f := range []*chaosFront{
		ejabberdFront(), genericFront(), tableFront(), mapFront(), saslFront(), dovecotFront(),
	} {
		name := f.name
		list = append(list, f.at(func() string { return address(name) }))
	}
	return list
}

func extauthText(q chaosQuestion) string {
	if q.exists {
		return "isuser:" + q.user + ":" + q.domain
	}
	return "auth:" + q.user + ":" + q.domain + ":" + q.password
}

func ejabberdFront() *chaosFront {
	return &chaosFront{
		name: "ejabberd", logins: true, exists: true, burst: 8,
		frame: func(q chaosQuestion, _ int) string { return harness.Frame(extauthText(q)) },
		read: func(in *bufio.Reader) (int, said, error) {
			reply := make([]byte, 4)
			if _, err := io.ReadFull(in, reply); err != nil {
				return 0, 0, err
			}
			return sayings(string(reply), "\x00\x02\x00\x00", "\x00\x02\x00\x01", "\x00\x02\x00\x02")
		},
	}
}

// sayings finds out which of three an answer is.
func sayings(reply, no, yes, cannot string) (int, said, error) {
	switch reply {
	case no:
		return 0, saidNo, nil
	case yes:
		return 0, saidYes, nil
	case cannot:
		return 0, saidCannot, nil
	}
	return 0, 0, fmt.Errorf("an answer that is none: %q", reply)
}

func genericFront() *chaosFront {
	return &chaosFront{
		name: "generic", logins: true, exists: true, burst: 8, blurred: true,
		frame: func(q chaosQuestion, _ int) string { return extauthText(q) + "\n" },
		read: func(in *bufio.Reader) (int, said, error) {
			line, err := in.ReadString('\n')
			if err != nil {
				return 0, 0, err
			}
			return sayings(line, "0\n", "1\n", "none")
		},
	}
}

func tableFront() *chaosFront {
	return &chaosFront{
		name: "tcp_table", exists: true, burst: 8,
		frame: func(q chaosQuestion, _ int) string { return "get " + q.address() + "\n" },
		read: func(in *bufio.Reader) (int, said, error) {
			line, err := in.ReadString('\n')
			if err != nil {
				return 0, 0, err
			}
			return sayings(line, "500 no such user\n", "200 OK\n", "400 temporarily unavailable\n")
		},
	}
}

func mapFront() *chaosFront {
	return &chaosFront{
		name: "socketmap", exists: true, burst: 8,
		frame: func(q chaosQuestion, _ int) string { return harness.Netstring("mailbox " + q.address()) },
		read: func(in *bufio.Reader) (int, said, error) {
			length, err := in.ReadString(':')
			if err != nil {
				return 0, 0, err
			}
			n, err := strconv.Atoi(strings.TrimSuffix(length, ":"))
			if err != nil {
				return 0, 0, err
			}
			reply := make([]byte, n+1)
			if _, err := io.ReadFull(in, reply); err != nil {
				return 0, 0, err
			}
			return sayings(string(reply), "NOTFOUND ,", "OK OK,", "TEMP try again later,")
		},
	}
}

func saslFront() *chaosFront {
	return &chaosFront{
		name: "saslauthd", logins: true, burst: 1, once: true,
		frame: func(q chaosQuestion, _ int) string { return harness.Fields(q.user, q.password, "imap", q.domain) },
		read: func(in *bufio.Reader) (int, said, error) {
			head := make([]byte, 2)
			if _, err := io.ReadFull(in, head); err != nil {
				return 0, 0, err
			}
			reply := make([]byte, int(head[0])<<8|int(head[1]))
			if _, err := io.ReadFull(in, reply); err != nil {
				return 0, 0, err
			}
			return sayings(string(reply), "NO authentication failed", "OK success", "")
		},
	}
}

func dovecotFront() *chaosFront {
	return &chaosFront{
		name: "dovecot", logins: true, burst: 8,
		greet: func(c io.Writer, in *bufio.Reader) error {
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return err
				}
				if line == "DONE\n" {
					break
				}
			}
			_, err := fmt.Fprintf(c, "VERSION\t1\t1\nCPID\t%d\n", os.Getpid())
			return err
		},
		frame: func(q chaosQuestion, id int) string {
			resp := base64.StdEncoding.EncodeToString([]byte("\x00" + q.address() + "\x00" + q.password))
			return fmt.Sprintf("AUTH\t%d\tPLAIN\tservice=smtp\tresp=%s\n", id, resp)
		},
		read: func(in *bufio.Reader) (int, said, error) {
			line, err := in.ReadString('\n')
			if err != nil {
				return 0, 0, err
			}
			words := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
			if len(words) < 2 {
				return 0, 0, fmt.Errorf("an answer that is none: %q", line)
			}
			id, err := strconv.Atoi(words[1])
			switch {
			case err != nil:
			case words[0] == "OK":
				return id, saidYes, nil
			case words[0] == "FAIL" && strings.Contains(line, "\ttemp"):
				return id, saidCannot, nil
			case words[0] == "FAIL":
				return id, saidNo, nil
			}
			return 0, 0, fmt.Errorf("an answer that is none: %q", line)
		},
	}
}
