package wire

import (
	"strings"
	"testing"

	"postern/internal/auth"
)

// frames has a first frame of each protocol, as its peers send it.
var frames = map[Protocol]string{
	Ejabberd:  "\x00\x1bauth:joe:dom.example:secret",
	Generic:   "setpass:joe:dom.example:secret\n",
	Saslauthd: "\x00\x03joe\x00\x06secret\x00\x04imap\x00\x0bdom.example",
	TCPTable:  "get joe@dom.example\n",
	Socketmap: "23:mailbox joe@dom.example,",
	Dovecot:   "VERSION\t1\t2\nCPID\t77\n",

	DovecotUserdb: "USER\t1\tjoe\tservice=lmtp\n",
}

// strangers are the beginnings of protocols that postern does not have.
var strangers = map[string]string{
	"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n":                                                      "an HTTP request",
	"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 29\r\n\r\nsetpass:admin:dom.example:x\n": "an HTTP request",
	"OPTIONS * HTTP/1.1\r\n\r\n":                                                                     "an HTTP request",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                                                               "an HTTP request",
	"X-QUERY /a HTTP/1.1\r\nHost: localhost\r\n\r\n":                                                 "an HTTP request",
	"CONNECT localhost:25 HTTP/1.1\r\n\r\n":                                                          "an HTTP request",
	"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03":                                                   "a TLS handshake",
	"SSH-2.0-OpenSSH_9.2p1\r\n":                                                                      "an SSH client",
	"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n":                                                         "a proxy's header",
	"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c":                                                         "a proxy's header",
	"<?xml version='1.0'?><stream:stream xmlns='jabber:client'>":                                     "an XMPP stream",
	"EHLO client.example\r\n":                                                                        "an SMTP client",
}

// TestRecognise sends the first frame of every protocol to every other one.
func TestRecognise(t *testing.T) {
	owns := []Protocol{Ejabberd, Generic, Saslauthd, TCPTable, Socketmap, Dovecot, DovecotUserdb, Relay}
	for _, own := range owns {
		for from, frame := range frames {
			if own == DovecotUserdb { // it has the first line, too
				frame = strings.TrimPrefix(frame, "VERSION\t1\t2\n")
			}
			f, ok := Recognise(own, []byte(frame))
			sure := !(own == Saslauthd && from == Ejabberd) // its text may be the beginning of a user's name
			if ok != (from != own) || ok && (f.Wants != from || f.Sure != sure) {
				t.Errorf("%s on %s: %+v, %t", from, own, f, ok)
			}
		}
		for input, looks := range strangers {
			f, ok := Recognise(own, []byte(input))
			if !ok || f.Looks != looks || f.Wants != "" || !f.Sure {
				t.Errorf("%q on %s: %+v, %t; want %q", input, own, f, ok, looks)
			}
		}
		for _, nonsense := range []string{"", "\n", "x", "nonsense\n", "G", "GETX", "auth", "\x16", "\xff\xff\xff\xff", "post / http\n"} {
			if f, ok := Recognise(own, []byte(nonsense)); ok {
				t.Errorf("%q on %s is taken for %s", nonsense, own, f.Looks)
			}
		}
	}
}

// TestRecogniseOwn: no request of a protocol, whole or cut anywhere, is taken for one of another.
func TestRecogniseOwn(t *testing.T) {
	for p := range vectorFiles {
		for _, v := range loadVectors(t, p) {
			input := v.input(t)
			if v.Kind != "request" || len(input) > 70000 {
				continue
			}
			checkOwn(t, p, input)
		}
	}
	checkOwn(t, Dovecot, []byte(frames[Dovecot]))
	checkOwn(t, DovecotUserdb, []byte("VERSION\t1\t2\n"+frames[DovecotUserdb]))
	for _, text := range []string{"login:joe:dom.example:xmpp - secret", "account:joe:dom.example", "watch:0:dom.example"} {
		checkOwn(t, Ejabberd, frame(text))
	}
}

// checkOwn checks every beginning of an input of p, as long as its first frame may be one that is
// asked about.
func checkOwn(t *testing.T, p Protocol, input []byte) {
	t.Helper()
	if len(input) > 600 { // what follows is more of the same
		input = input[:600]
	}
	codec, err := New(p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(input) + 1 {
		if f, ok := Recognise(p, input[:n]); ok && f.Sure {
			if event := firstEvent(codec, input); event == Ask || event == Quit || event == Note {
				t.Errorf("%s: %q, a valid beginning, is taken for %s", p, input[:n], f.Looks)
			}
			return
		}
	}
}

// firstEvent decodes the first frame of an input.
func firstEvent(c Codec, input []byte) Event {
	req := new(auth.Request)
	for {
		n, event := c.Decode(input, req)
		input = input[n:]
		if event != More || n == 0 {
			return event
		}
	}
}

// FuzzRecognise: whatever the bytes, they are not taken for another protocol if they begin a request
// that would be asked about; and recognition does not change its mind as more bytes arrive.
func FuzzRecognise(f *testing.F) {
	for p := range vectorFiles {
		for _, v := range loadVectors(f, p) {
			if input := v.input(f); len(input) < 1000 {
				f.Add(input)
			}
		}
	}
	for input := range strangers {
		f.Add([]byte(input))
	}
	f.Add([]byte(frames[Dovecot]))
	f.Fuzz(func(t *testing.T, input []byte) {
		for _, p := range []Protocol{Ejabberd, Generic, Saslauthd, TCPTable, Socketmap, Dovecot, DovecotUserdb} {
			checkOwn(t, p, input)
			was, ok := Recognise(p, input)
			if more, still := Recognise(p, append(input[:len(input):len(input)], "more"...)); ok && was.Sure && (!still || !more.Sure) && p != Saslauthd {
				t.Errorf("%s: %q is %s no longer when more comes", p, input, was.Looks)
			}
		}
	})
}
