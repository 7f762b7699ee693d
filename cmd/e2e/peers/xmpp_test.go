package peers

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// xmpp is a client's connection to an XMPP server (RFC 6120, without TLS).
type xmpp struct {
	c      net.Conn
	host   string
	offers string // the stream's features
	ids    int
}

// xmppOpen connects to a virtual host and waits for what it offers.
func xmppOpen(port int, host string) (*xmpp, error) {
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, err
	}
	x := &xmpp{c: c, host: host}
	_ = c.SetDeadline(time.Now().Add(harness.Timeout))
	if err := x.stream(); err != nil {
		_ = c.Close()
		return nil, err
	}
	return x, nil
}

func (x *xmpp) stream() error {
	fmt.Fprintf(x.c, "<?xml version='1.0'?><stream:stream to='%s' xmlns='jabber:client' "+
		"xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>", x.host)
	var err error
	x.offers, err = until(x.c, "</stream:features>")
	return err
}

// plain sends a SASL PLAIN message and reports "success" or the failure's condition.
func (x *xmpp) plain(message string) (string, error) { return x.sasl("PLAIN", message) }

func (x *xmpp) sasl(mechanism, message string) (string, error) {
	fmt.Fprintf(x.c, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='%s'>%s</auth>",
		mechanism, base64.StdEncoding.EncodeToString([]byte(message)))
	answer, err := until(x.c, "xmpp-sasl'/>", "</failure>")
	if err != nil {
		return "", err
	}
	for _, condition := range []string{"success", "not-authorized", "temporary-auth-failure", "malformed-request"} {
		if strings.Contains(answer, "<"+condition) {
			return condition, nil
		}
	}
	return answer, nil
}

// ask sends an IQ stanza and returns what came back: "result", or the error's condition.
func (x *xmpp) ask(kind, body string) (string, error) {
	_ = x.c.SetDeadline(time.Now().Add(harness.Timeout))
	x.ids++
	id := fmt.Sprintf("id='q%d'", x.ids)
	fmt.Fprintf(x.c, "<iq type='%s' %s to='%s'>%s</iq>", kind, id, x.host, body)
	text := ""
	for {
		_, answer, found := strings.Cut(text, id)
		start, _, whole := strings.Cut(answer, ">")
		if found && whole && (strings.HasSuffix(start, "/") || strings.Contains(answer, "</iq>")) {
			if !strings.Contains(answer, "<error") {
				return "result", nil
			}
			_, answer, _ = strings.Cut(answer, "<error")
			_, answer, _ = strings.Cut(answer, "><")
			condition, _, _ := strings.Cut(answer, " ")
			return condition, nil
		}
		more, err := until(x.c, ">")
		if err != nil {
			return text, err
		}
		text += more
	}
}

func (x *xmpp) ping() error {
	answer, err := x.ask("get", "<ping xmlns='urn:xmpp:ping'/>")
	if err == nil && answer != "result" {
		err = fmt.Errorf("a ping was answered %s", answer)
	}
	return err
}

// register is in-band registration (XEP-0077): an account is made before the login, its password
// is changed and it is removed after.
func (x *xmpp) register(user, password string) (string, error) {
	return x.ask("set", "<query xmlns='jabber:iq:register'><username>"+user+"</username><password>"+password+
		"</password></query>")
}

// xmppClient is a logged-in user, until the end of the test.
func xmppClient(t *testing.T, port int, user, host, password string) *xmpp {
	t.Helper()
	x, err := xmppOpen(port, host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.c.Close() })
	if got, err := x.plain("\x00" + user + "\x00" + password); err != nil || got != "success" {
		t.Fatalf("login of %s: %s, %v", user, got, err)
	}
	if err := x.stream(); err != nil {
		t.Fatal(err)
	}
	if got, err := x.ask("set", "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>"); err != nil || got != "result" {
		t.Fatalf("bind: %s, %v", got, err)
	}
	return x
}

// xmppLogin logs a user in on a connection of its own and reports what came of it.
func xmppLogin(port int, user, host, password string) (string, error) {
	x, err := xmppOpen(port, host)
	if err != nil {
		return "", err
	}
	defer x.c.Close()
	return x.plain("\x00" + user + "\x00" + password)
}

// xmppRoster logs a user in and returns the roster as the server writes it.
func xmppRoster(port int, user, host, password string) (string, error) {
	x, err := xmppOpen(port, host)
	if err != nil {
		return "", err
	}
	defer x.c.Close()
	if got, err := x.plain("\x00" + user + "\x00" + password); err != nil || got != "success" {
		return got, err
	}
	if err := x.stream(); err != nil {
		return "", err
	}
	if got, err := x.ask("set", "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>"); err != nil || got != "result" {
		return got, err
	}
	fmt.Fprint(x.c, "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
	return until(x.c, "</iq>")
}

// until reads from c until one of the ends has come.
func until(c io.Reader, ends ...string) (text string, err error) {
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		text += string(buf[:n])
		for _, end := range ends {
			if strings.Contains(text, end) {
				return text, nil
			}
		}
		if err != nil {
			return text, err
		}
	}
}
