package main

import (
	"fmt"
	"time"

	"postern/internal/auth"
	"postern/internal/token"
)

// path is one way through a server.
type path struct {
	name    string
	beside  string // the path that Ratio compares with
	along   string // of a ceiling: is measured wherever this one is
	speech  *speech
	server  *child
	address string
	ask     func(b []byte, conn, n int) []byte // appends the n-th request of a connection
	want    string                             // how right answers begin
	refusal string                             // how answers begin that are counted apart; empty: there are none
	most    int                                // connections; 0: any number
	longest time.Duration                      // of a measurement; 0: any
	pipes   bool                               // is also measured pipelined
	missing string                             // why it cannot be measured
	asker   func() asker                       // in place of the speech
	atOnce  int                                // connections in place of those of the cell; 0: as many
}

// fixed sends one user's login for each connection, in any case the same text.
func fixed(domain, password string) func([]byte, int, int) []byte {
	return func(b []byte, conn, _ int) []byte {
		return append(b, genericLogin(fmt.Sprint("user", conn%hotAccounts), domain, password)...)
	}
}

// distinct sends a login that nobody else sends at the moment, so that none is joined.
func distinct(domain string) func([]byte, int, int) []byte {
	return func(b []byte, conn, n int) []byte {
		return append(b, genericLogin(fmt.Sprint("user", conn), domain, fmt.Sprint("pw", n))...)
	}
}

// turns sends the login of another user each time, so that memory does not hold him.
func turns(domain string) func([]byte, int, int) []byte {
	return func(b []byte, conn, n int) []byte {
		return append(b, genericLogin(fmt.Sprint("user", (conn*131+n)%diskUsers), domain, "password")...)
	}
}

// isUser asks whether a user exists.
func isUser(b []byte, conn, _ int) []byte {
	return fmt.Appendf(b, "isuser:user%d:hot.bench\n", conn%hotAccounts)
}

// jsxcTokens returns logins by tokens that are valid for an hour.
func jsxcTokens() (func([]byte, int, int) []byte, error) {
	issuer, err := token.NewJSXC([]auth.Secret{auth.NewSecret(jsxcSecret)})
	if err != nil {
		return nil, err
	}
	var lines []string
	for i := range hotAccounts {
		user := fmt.Sprint("user", i)
		t, err := issuer.Issue(auth.Identity{User: user, Domain: "hot.bench"}, time.Now().Add(time.Hour))
		if err != nil {
			return nil, err
		}
		lines = append(lines, genericLogin(user, "hot.bench", t.Reveal()))
	}
	return func(b []byte, conn, _ int) []byte { return append(b, lines[conn%hotAccounts]...) }, nil
}

// totpTokens returns logins by single-use tokens, which are made as they are sent: the
// client's time for that is within the figure.
func totpTokens() (func([]byte, int, int) []byte, error) {
	issuer, err := token.NewTOTP(auth.NewSecret(totpSeed), []auth.Secret{auth.NewSecret(totpSecret)})
	if err != nil {
		return nil, err
	}
	return func(b []byte, conn, _ int) []byte {
		user := fmt.Sprint("user", conn)
		t, err := issuer.Issue(auth.Identity{User: user, Domain: "totp.bench"}, time.Now())
		if err != nil {
			return append(b, "\n"...) // its refusal ends the measurement
		}
		return append(b, genericLogin(user, "totp.bench", t.Reveal())...)
	}, nil
}

// mailUser is the name for the mail protocols; it holds the domain, as mail clients send it.
func mailUser(conn int) string { return fmt.Sprintf("user%d@hot.bench", conn%hotAccounts) }

func askSaslauthd(b []byte, conn, _ int) []byte {
	return saslauthdLogin(b, fmt.Sprint("user", conn%hotAccounts), "hot.bench", "password")
}

func askDovecot(b []byte, conn, n int) []byte { return dovecotLogin(b, n, mailUser(conn), "password") }

// posternPaths lists what is measured of the program under test.
func (b *bench) posternPaths() ([]*path, error) {
	jsxc, err := jsxcTokens()
	if err != nil {
		return nil, err
	}
	totp, err := totpTokens()
	if err != nil {
		return nil, err
	}
	all := []*path{
		{name: "token jsxc", ask: jsxc, pipes: true},
		{name: "token totp", ask: totp, longest: 300 * time.Millisecond}, // used tokens are remembered for 90 s
		{name: "hot cache", ask: fixed("hot.bench", "password"), pipes: true},
		{name: "disk cache, bcrypt 4", ask: turns("disk4.bench"), most: 128},
		{name: "disk cache, bcrypt 12", ask: turns("disk12.bench"), most: 16},
		{name: "negative cache", ask: fixed("hot.bench", "wrong"), want: "0\n"},
		{name: "isuser cached", ask: isUser},
		{name: "users backend, bcrypt 4", ask: func(b []byte, _, n int) []byte {
			return append(b, genericLogin("joe", "users.bench", "password")...)
		}, most: 128},
	}
	for _, wait := range []string{"0", "20"} {
		for _, kind := range []string{"jsxc", "json", "nextcloud"} {
			all = append(all, &path{name: kind + " " + wait + " ms", ask: distinct(kind + wait + ".bench"), beside: "http.Client " + wait + " ms"})
		}
	}
	for _, p := range all {
		p.speech, p.server, p.address = generic, b.postern, b.postern.addr
		if p.want == "" {
			p.want = "1\n"
		}
		if p.beside == "" {
			p.beside = "echo"
		}
	}
	return append(all,
		&path{name: "saslauthd", beside: "echo saslauthd", speech: saslauthd, server: b.postern, address: b.ownFile(saslauthdSocket), ask: askSaslauthd, want: "OK"},
		&path{name: "dovecot", beside: "echo dovecot", speech: dovecot, server: b.postern, address: b.ownFile(dovecotSocket), ask: askDovecot, want: "OK\t", pipes: true},
	), nil
}

// ceilings lists what the paths are compared with: echoes of the protocols, and a loop without a
// broker.
func (b *bench) ceilings() []*path {
	list := []*path{
		{name: "echo", speech: generic, address: b.echo.addr, ask: fixed("echo.bench", "password"), want: "1\n", pipes: true},
		{name: "echo saslauthd", speech: saslauthd, address: b.echoFile(saslauthdSocket), ask: askSaslauthd, want: "OK"},
		{name: "echo dovecot", speech: dovecot, address: b.echoFile(dovecotSocket), ask: askDovecot, want: "OK\t", pipes: true},
	}
	for _, p := range list {
		p.server = b.echo
	}
	for _, wait := range []string{"0", "20"} {
		a := newHTTPAsker(b.cloudURL(wait))
		list = append(list, &path{name: "http.Client " + wait + " ms", asker: func() asker { return a }})
	}
	slow := *list[len(list)-1]
	slow.name, slow.along, slow.atOnce = "64 http.Clients 20 ms", slow.name, slots
	list = append(list, &slow)
	for _, p := range list {
		p.beside = p.name
	}
	return append(list, &path{name: "bare relay 0 ms", beside: "http.Client 0 ms", along: "http.Client 0 ms", speech: generic,
		server: b.relay, address: b.relay.addr, ask: fixed("relay.bench", "password"), want: "1\n"})
}
