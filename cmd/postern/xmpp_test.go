package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// xmppLogin logs a user in over XMPP (RFC 6120, SASL PLAIN) and reports "success" or the failure's
// condition.
func xmppLogin(port int, user, domain, password string) (string, error) {
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "<?xml version='1.0'?><stream:stream to='%s' xmlns='jabber:client' "+
		"xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>", domain)
	if _, err := until(c, "</stream:features>"); err != nil {
		return "", err
	}
	fmt.Fprintf(c, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%s</auth>",
		base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)))
	answer, err := until(c, "xmpp-sasl'/>", "</failure>")
	if err != nil {
		return "", err
	}
	for _, condition := range []string{"success", "not-authorized", "temporary-auth-failure"} {
		if strings.Contains(answer, "<"+condition) {
			return condition, nil
		}
	}
	return answer, nil
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
