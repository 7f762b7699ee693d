package front

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"postern/internal/auth"
	"postern/internal/config"
)

// post is what a browser or curl sends that was made to post a line of the protocol to a port.
const post = "POST /x HTTP/1.1\r\nHost: localhost:23663\r\nContent-Length: 40\r\n\r\n\nsetpass:admin:dom.example:x\nget joe@dom.example\n"

// TestForeign: a connection that begins with another protocol is closed without an answer, and one line
// of the log says what came, from where, and which listener is for it.
func TestForeign(t *testing.T) {
	r := newRig(t)
	addresses := make(map[string]string)
	for _, protocol := range []string{"ejabberd", "generic", "tcp_table", "socketmap", "dovecot", "saslauthd"} {
		cfg := listenerBlock(protocol)
		cfg.Changes = protocol == "ejabberd" || protocol == "generic"
		addresses[protocol] = r.listen(cfg)
	}
	for name, c := range map[string]struct{ listener, input, looks, belongs string }{
		"HTTP to generic":          {"generic", post, "an HTTP request", "no listener of postern"},
		"HTTP to ejabberd":         {"ejabberd", post, "an HTTP request", "no listener"},
		"HTTP to tcp_table":        {"tcp_table", post, "an HTTP request", "no listener"},
		"HTTP to socketmap":        {"socketmap", post, "an HTTP request", "no listener"},
		"HTTP to saslauthd":        {"saslauthd", post, "an HTTP request", "no listener"},
		"TLS to generic":           {"generic", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "a TLS handshake", "no listener"},
		"TLS to ejabberd":          {"ejabberd", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "a TLS handshake", "no listener"},
		"ejabberd to generic":      {"generic", "\x00\x1bsetpass:joe:dom.example:new", "a request of ejabberd", "ejabberd at " + addresses["ejabberd"]},
		"ejabberd to saslauthd":    {"saslauthd", "\x00\x1bsetpass:joe:dom.example:new", "a request of ejabberd", "ejabberd at "},
		"generic to ejabberd":      {"ejabberd", "setpass:joe:dom.example:new\n", "a line of Prosody's", "generic at "},
		"saslauthd to tcp_table":   {"tcp_table", fields("joe", "good", "imap", "dom.example"), "a login of saslauthd's", "saslauthd at "},
		"socketmap to generic":     {"generic", "23:mailbox joe@dom.example,", "a lookup of a socketmap", "socketmap at "},
		"tcp_table to socketmap":   {"socketmap", "get joe@dom.example\n", "a lookup of a tcp_table", "tcp_table at "},
		"any method of HTTP":       {"generic", strings.Replace(post, "POST", "M-QUERY", 1), "an HTTP request", "no listener"},
		"dovecot's client to them": {"tcp_table", "VERSION\t1\t2\nCPID\t1\n", "a client of Dovecot's", "dovecot at "},
	} {
		t.Run(name, func(t *testing.T) {
			before, asked := len(r.log.String()), r.router.asked.Load()
			peer := r.dial(addresses[c.listener])
			if _, err := io.WriteString(peer, c.input); err != nil {
				t.Fatal(err)
			}
			ended(t, peer, "") // while this side stays open
			eventually(t, "the line", func() bool { return strings.Contains(r.log.String()[before:], "another protocol") })
			line := r.log.String()[before:]
			for _, part := range []string{"listener=" + c.listener, "peer=" + peer.LocalAddr().String(), c.looks, c.belongs} {
				if !strings.Contains(line, part) {
					t.Errorf("the log lacks %q: %s", part, line)
				}
			}
			if n := r.router.asked.Load() - asked; n != 0 || strings.Count(line, "\n") != 1 {
				t.Errorf("%d requests were asked, and the log has %s", n, line)
			}
		})
	}
}

// TestForeignUnixListener: a Unix socket has the name of the configuration, and not that under which it was
// made.
func TestForeignUnixListener(t *testing.T) {
	r := newRig(t)
	other := listenerBlock("saslauthd")
	other.Network, other.Address = "unix", "/run/saslauthd/mux"
	r.listenOn("unix", other)
	peer := r.dial(r.listen(listenerBlock("generic")))
	if _, err := io.WriteString(peer, fields("joe", "good", "imap", "dom.example")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the line", func() bool { return strings.Contains(r.log.String(), "saslauthd at /run/saslauthd/mux\"") })
}

// TestForeignDovecot: both of Dovecot's protocols begin with the same line, so what comes after it counts.
func TestForeignDovecot(t *testing.T) {
	for listener, c := range map[string][2]string{
		"dovecot":        {"USER\t1\tjoe\tservice=lmtp\n", `looks_like="a lookup in Dovecot's userdb" belongs_to="a listener with`},
		"dovecot_userdb": {"CPID\t1\n", `looks_like="a client of Dovecot's auth service"`},
	} {
		for _, together := range []bool{true, false} {
			r := newRig(t)
			peer := r.dial(r.listen(listenerBlock(listener)))
			parts := []string{"VERSION\t1\t2\n", c[0]}
			if together {
				parts = []string{parts[0] + parts[1]}
			}
			for _, part := range parts {
				if _, err := io.WriteString(peer, part); err != nil {
					t.Fatal(err)
				}
			}
			if out, err := io.ReadAll(peer); err != nil || strings.Contains(string(out), "NOTFOUND") {
				t.Errorf("%s: answered %q, %v", listener, out, err)
			}
			eventually(t, "the line", func() bool { return strings.Contains(r.log.String(), c[1]) })
		}
	}
}

// TestSlowFirstFrame: a request whose beginning could be another protocol's is answered when the rest
// comes.
func TestSlowFirstFrame(t *testing.T) {
	r := newRig(t)
	c := r.dial(r.listen(listenerBlock("saslauthd")))
	request := fields("auth:joe:dom.example:x", "good", "imap", "dom.example")
	const name = 2 + len("auth:joe:dom.example:x")
	for _, part := range []string{request[:name], request[name:]} {
		if _, err := io.WriteString(c, part); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the first part read", func() bool { return r.open() == 1 })
	}
	ended(t, c, "\x00\x0aOK success")
	if strings.Contains(r.log.String(), "another protocol") {
		t.Errorf("the log has %s", r.log.String())
	}
}

// TestGarbledLines: a third line in a row that is no request ends the connection, after its refusal;
// requests about names that are not valid do not.
func TestGarbledLines(t *testing.T) {
	r := newRig(t)
	lines, table := r.listen(listenerBlock("generic")), r.listen(listenerBlock("tcp_table"))
	const refusal = "500 malformed request\n"
	for input, c := range map[string]struct{ address, want string }{
		"one\ntwo\nthree\nauth:joe:dom.example:good\n":                    {lines, "0\n0\n0\n"},
		"one\ntwo\nauth:joe:dom.example:good\nthree\nfour\n":              {lines, "0\n0\n1\n0\n0\n"},
		"one\ntwo\nthree\nget joe@dom.example\n":                          {table, refusal + refusal + refusal},
		"get x@y@dom.example\nget x\nget y\nget z\nget joe@dom.example\n": {table, strings.Repeat(refusal, 4) + "200 OK\n"},
	} {
		peer := r.dial(c.address)
		if _, err := io.WriteString(peer, input); err != nil {
			t.Fatal(err)
		}
		_ = peer.CloseWrite()
		ended(t, peer, c.want)
	}
	if n := strings.Count(r.log.String(), "lines that are no requests"); n != 2 {
		t.Errorf("the log says it %d times: %s", n, r.log.String())
	}
}

// TestRefusalsSayWhy: the line of a refusal has the peer, the name as it was given, and the reason.
func TestRefusalsSayWhy(t *testing.T) {
	r := newRig(t)
	r.router.backend = nil
	for _, network := range networks {
		address := r.listenOn(network, named(listenerBlock("generic"), "mux-"+network))
		c := r.dial(address)
		roundTrip(t, c, "auth:Jo e:DOM.example:bad\nauth:joe:dom.example:good\nsetpass:joe:dom.example:new\n", "0\n1\n0\n")
		peer := "peer=" + c.LocalAddr().String()
		if network == "unix" {
			peer = fmt.Sprintf("peer=%q", fmt.Sprintf("pid %d of uid %d", os.Getpid(), os.Getuid()))
		}
		eventually(t, "three lines", func() bool { return strings.Count(r.log.String(), "front=mux-"+network) == 3 })
		for line := range strings.Lines(r.log.String()) {
			switch {
			case !strings.Contains(line, "front=mux-"+network):
			case strings.Contains(line, "verdict=allow"):
				if strings.Contains(line, "peer=") || strings.Contains(line, "reason=") {
					t.Errorf("an acceptance: %s", line)
				}
			case !strings.Contains(line, peer) || !strings.Contains(line, "reason=") || strings.Contains(line, "reason=\"\""):
				t.Errorf("a refusal without peer or reason: %s", line)
			case strings.Contains(line, "op=auth") && !strings.Contains(line, `given="Jo e@DOM.example"`),
				strings.Contains(line, "op=setpass") && !strings.Contains(line, `changes = true to listen \"mux-`):
				t.Errorf("a refusal: %s", line)
			}
		}
	}
}

func named(cfg config.Listener, name string) config.Listener {
	cfg.Name = name
	return cfg
}

// TestCrowd: at nine tenths of max_connections the connection that was idle for longest makes room for
// the next one; those with a request under way stay.
func TestCrowd(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			r := newRig(t)
			b := newBarrier()
			r.router.backend = b.ask
			cfg := listenerBlock("generic")
			cfg.MaxConnections = 20
			address := r.listenOn(network, cfg)
			busy := r.dial(address)
			if _, err := io.WriteString(busy, "auth:joe:dom.example:good\n"); err != nil {
				t.Fatal(err)
			}
			b.reached(t, 1)
			idle := r.dial(address)
			eventually(t, "the idle connection", func() bool { return r.open() == 2 })
			r.inMemory(func(auth.Request) auth.Answer { return accepted })
			for range 16 { // makes 18 of 20
				roundTrip(t, r.dial(address), "auth:joe:dom.example:good\n", "1\n")
			}
			ended(t, idle, "")
			eventually(t, "one connection to be gone", func() bool { return r.open() == 17 })
			b.open()
			roundTrip(t, busy, "", "1\n")
			eventually(t, "the line", func() bool { return strings.Contains(r.log.String(), "connections are running out") })
		})
	}
}

// TestCrowdOfOneUser: of two users at one Unix socket, the one with the most connections makes room,
// and one with more than half of them gets no more while none of them is idle.
func TestCrowdOfOneUser(t *testing.T) {
	l := newConnLimit(20)
	for range 12 {
		l.enter()
		if _, crowded := l.came(1); crowded {
			t.Fatal("crowded too early")
		}
	}
	for range 5 {
		l.enter()
		l.came(2)
	}
	l.enter()
	if c, crowded := l.came(2); !crowded || c.user != 1 || c.greedy {
		t.Errorf("a newcomer of the smaller user: %+v, %t", c, crowded)
	}
	l.enter()
	if c, crowded := l.came(1); !crowded || c.user != 1 || !c.greedy {
		t.Errorf("a newcomer of the greater user: %+v, %t", c, crowded)
	}
	for range 3 {
		l.went(1)
	}
	l.enter()
	if _, crowded := l.came(1); crowded {
		t.Error("crowded, though three have left")
	}
}
