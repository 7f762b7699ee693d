package main

import (
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"

	"postern/internal/auth"
	"postern/internal/token"
)

// path is one kind of request to one server.
type path struct {
	name       string
	baseline   string // the path that the ratio is taken to
	with       string // of a baseline: it is measured whenever this one is
	protocol   *protocol
	server     *child
	address    string
	ask        func(b []byte, conn, n int) []byte // appends the n-th request of a connection
	want       string                             // prefix of the expected answers
	refusal    string                             // prefix of refusals, which are counted separately; empty: none are expected
	maxConns   int                                // 0: no limit
	maxLength  time.Duration                      // of a measurement; 0: no limit
	pipelines  bool                               // is also measured pipelined
	missing    string                             // why the path cannot be measured
	asker      func() asker                       // used instead of protocol and ask
	fixedConns int                                // replaces the number of connections of the cell; 0: does not
}

// hotPath is the path of a password that memory knows. It is the baseline of others.
const hotPath = "hot cache"

// fixed returns an ask function that repeats the login of one user per connection.
func fixed(domain, password string) func([]byte, int, int) []byte {
	return func(b []byte, conn, _ int) []byte {
		return append(b, genericLogin(fmt.Sprint("user", conn%hotAccounts), domain, password)...)
	}
}

// distinct returns an ask function with logins that are all different, so that the broker joins
// none.
func distinct(domain string) func([]byte, int, int) []byte {
	return func(b []byte, conn, n int) []byte {
		return append(b, genericLogin(fmt.Sprint("user", conn), domain, fmt.Sprint("pw", n))...)
	}
}

// turns returns an ask function that goes through all users in turn, more than the hot tier holds.
func turns(domain string) func([]byte, int, int) []byte {
	return func(b []byte, conn, n int) []byte {
		return append(b, genericLogin(fmt.Sprint("user", (conn*131+n)%diskUsers), domain, "password")...)
	}
}

// appLogins returns an ask function of logins by app passwords, one for each user.
func (b *bench) appLogins() func([]byte, int, int) []byte {
	return func(out []byte, conn, _ int) []byte {
		i := conn % len(b.apps)
		return append(out, genericLogin(fmt.Sprint("user", i), appDomain, b.apps[i])...)
	}
}

// isUser is an ask function for the existence of a user.
func isUser(b []byte, conn, _ int) []byte {
	return fmt.Appendf(b, "isuser:user%d:hot.bench\n", conn%hotAccounts)
}

// jsxcTokens returns an ask function of logins by tokens that are valid for an hour.
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

// totpTokens returns an ask function of logins by single-use tokens. Each is issued as it is sent:
// the figures include the client's time for that.
func totpTokens() (func([]byte, int, int) []byte, error) {
	issuer, err := token.NewTOTP(auth.NewSecret(totpSeed), []auth.Secret{auth.NewSecret(totpSecret)}, token.DefaultNonceDigits)
	if err != nil {
		return nil, err
	}
	return func(b []byte, conn, _ int) []byte {
		user := fmt.Sprint("user", conn)
		t, err := issuer.Issue(auth.Identity{User: user, Domain: "totp.bench"}, time.Now())
		if err != nil {
			return append(b, "\n"...) // the answer to an empty line ends the measurement
		}
		return append(b, genericLogin(user, "totp.bench", t.Reveal())...)
	}, nil
}

// mailUser returns a login name with its domain, as mail clients send it.
func mailUser(conn int) string { return fmt.Sprintf("user%d@hot.bench", conn%hotAccounts) }

func askSaslauthd(b []byte, conn, _ int) []byte {
	return saslauthdLogin(b, fmt.Sprint("user", conn%hotAccounts), "hot.bench", "password")
}

func askDovecot(b []byte, conn, n int) []byte { return dovecotLogin(b, n, mailUser(conn), "password") }

func askWeb(b []byte, conn, _ int) []byte {
	return webLogin(b, fmt.Sprint("user", conn%hotAccounts), "hot.bench", "password")
}

// posternPaths returns the paths through the program under test.
func (b *bench) posternPaths() ([]*path, error) {
	jsxc, err := jsxcTokens()
	if err != nil {
		return nil, err
	}
	totp, err := totpTokens()
	if err != nil {
		return nil, err
	}
	remembered, err := b.bearerTokens("bearer.bench", jose.RS256)
	if err != nil {
		return nil, err
	}
	first := map[jose.SignatureAlgorithm]func([]byte, int, int) []byte{}
	for _, alg := range []jose.SignatureAlgorithm{jose.RS256, jose.ES256} {
		if first[alg], err = b.bearerTokens("first.bench", alg); err != nil {
			return nil, err
		}
	}
	all := []*path{
		{name: "token jsxc", ask: jsxc, pipelines: true},
		{name: "token totp", ask: totp, maxLength: 300 * time.Millisecond}, // the server remembers used tokens for 90 s
		{name: hotPath, ask: fixed("hot.bench", "password"), pipelines: true},
		{name: "app password", ask: b.appLogins(), baseline: hotPath, pipelines: true},
		{name: "bearer remembered", ask: remembered, pipelines: true},
		{name: firstPath(jose.RS256), ask: first[jose.RS256]},
		{name: firstPath(jose.ES256), ask: first[jose.ES256], maxConns: 128},
		{name: "disk cache, bcrypt 4", ask: turns("disk4.bench"), maxConns: 128},
		{name: "disk cache, bcrypt 12", ask: turns("disk12.bench"), maxConns: 16},
		{name: "negative cache", ask: fixed("hot.bench", "wrong"), want: "0\n"},
		{name: "isuser cached", ask: isUser},
		{name: "users backend, bcrypt 4", ask: func(b []byte, _, _ int) []byte {
			return append(b, genericLogin("joe", "users.bench", "password")...)
		}, maxConns: 128},
	}
	for _, wait := range []string{"0", "20"} {
		for _, kind := range []string{"jsxc", "json", "nextcloud"} {
			all = append(all, &path{name: kind + " " + wait + " ms", ask: distinct(kind + wait + ".bench"), baseline: "http.Client " + wait + " ms"})
		}
	}
	for _, p := range all {
		p.protocol, p.server, p.address = generic, b.postern, b.postern.addr
		if p.want == "" {
			p.want = "1\n"
		}
		if p.baseline == "" {
			p.baseline = "echo"
		}
	}
	return append(all,
		&path{name: "saslauthd", baseline: "echo saslauthd", protocol: saslauthd, server: b.postern, address: b.ownFile(saslauthdSocket), ask: askSaslauthd, want: "OK"},
		&path{name: "dovecot", baseline: "echo dovecot", protocol: dovecot, server: b.postern, address: b.ownFile(dovecotSocket), ask: askDovecot, want: "OK\t", pipelines: true},
		&path{name: "http", baseline: "bare net/http", protocol: web, server: b.postern, address: b.ownFile(webSocket), ask: askWeb, want: "true"},
	), nil
}

// ceilings returns the baselines: echoes of the protocols, clients that ask the web server without
// a broker, and the bare relay.
func (b *bench) ceilings() []*path {
	list := []*path{
		{name: "echo", protocol: generic, address: b.echo.addr, ask: fixed("echo.bench", "password"), want: "1\n", pipelines: true},
		{name: "echo saslauthd", protocol: saslauthd, address: b.echoFile(saslauthdSocket), ask: askSaslauthd, want: "OK"},
		{name: "echo dovecot", protocol: dovecot, address: b.echoFile(dovecotSocket), ask: askDovecot, want: "OK\t", pipelines: true},
		{name: "bare net/http", protocol: web, address: b.echoFile(webSocket), ask: askWeb, want: "ok"},
	}
	for _, p := range list {
		p.server = b.echo
	}
	for _, wait := range []string{"0", "20"} {
		a := newHTTPAsker(b.cloudURL(wait))
		list = append(list, &path{name: "http.Client " + wait + " ms", asker: func() asker { return a }})
	}
	slow := *list[len(list)-1]
	slow.name, slow.with, slow.fixedConns = "64 http.Clients 20 ms", slow.name, slots
	list = append(list, &slow)
	for _, p := range list {
		p.baseline = p.name
	}
	return append(list, &path{name: "bare relay 0 ms", baseline: "http.Client 0 ms", with: "http.Client 0 ms", protocol: generic,
		server: b.relay, address: b.relay.addr, ask: fixed("relay.bench", "password"), want: "1\n"})
}
