package peers

import (
	"fmt"
	"io"
	"net"
	"net/textproto"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// smtp is a mail client's session.
type smtp struct {
	*textproto.Conn
	t *testing.T
}

// dialSMTP connects to a mail server and greets it.
func dialSMTP(t *testing.T, port int) *smtp {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	return newSMTP(t, c)
}

func newSMTP(t *testing.T, c io.ReadWriteCloser) *smtp {
	t.Helper()
	t.Cleanup(func() { _ = c.Close() })
	if c, ok := c.(net.Conn); ok {
		_ = c.SetDeadline(time.Now().Add(harness.Timeout))
	}
	s := &smtp{textproto.NewConn(c), t}
	if code, text := s.reply(); code != 220 {
		t.Fatalf("greeted with %d %s", code, text)
	}
	if code, text := s.say("EHLO client.example"); code != 250 {
		t.Fatalf("EHLO: %d %s", code, text)
	}
	return s
}

// reply reads the server's reply.
func (s *smtp) reply() (code int, text string) {
	s.t.Helper()
	code, text, err := s.ReadResponse(0)
	if err != nil {
		s.t.Fatalf("after %q: %v", text, err)
	}
	return code, text
}

// say sends a command, or what the server asked for.
func (s *smtp) say(line string) (code int, text string) {
	s.t.Helper()
	if err := s.PrintfLine("%s", line); err != nil {
		s.t.Fatal(err)
	}
	return s.reply()
}

// smtpLogins are the ways to log in over SMTP, each with the code that ends it.
var smtpLogins = map[string]func(s *smtp, user, password string) int{
	"PLAIN": func(s *smtp, user, password string) int {
		code, _ := s.say("AUTH PLAIN " + harness.Base64("\x00"+user+"\x00"+password))
		return code
	},
	"plain in two steps": func(s *smtp, user, password string) int {
		if code, _ := s.say("AUTH plain"); code != 334 {
			return code
		}
		code, _ := s.say(harness.Base64("\x00" + user + "\x00" + password))
		return code
	},
	"LOGIN": func(s *smtp, user, password string) int {
		if code, _ := s.say("AUTH LOGIN"); code != 334 {
			return code
		}
		if code, _ := s.say(harness.Base64(user)); code != 334 {
			return code
		}
		code, _ := s.say(harness.Base64(password))
		return code
	},
}

// recipient asks the server whether it takes mail for an address.
func (s *smtp) recipient(address string) int {
	s.t.Helper()
	if code, text := s.say("MAIL FROM:<sender@client.example> SMTPUTF8"); code != 250 {
		s.t.Fatalf("MAIL FROM: %d %s", code, text)
	}
	code, _ := s.say("RCPT TO:<" + address + ">")
	if reset, text := s.say("RSET"); reset != 250 {
		s.t.Fatalf("RSET: %d %s", reset, text)
	}
	return code
}
