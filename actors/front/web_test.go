package front

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/actors/call"
	"postern/internal/auth"
	"postern/internal/config"
)

const webSecret = "0123456789abcdef"

// webBlock is a listener of HTTP with a secret.
func webBlock() config.Listener {
	cfg := listenerBlock("http")
	cfg.Secret, cfg.MaxFrame = auth.NewSecret(webSecret), 8192
	return cfg
}

// webClient asks a listener of HTTP by one kind of connection.
type webClient struct {
	t    testing.TB
	http http.Client
	base string
}

// newWebClient returns a client of HTTP/1.1, or of HTTP/2 without TLS.
func newWebClient(t testing.TB, address string, two bool) *webClient {
	t.Helper()
	network := "tcp"
	if filepath.IsAbs(address) {
		network = "unix"
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
		Protocols: new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(!two)
	transport.Protocols.SetUnencryptedHTTP2(two)
	t.Cleanup(transport.CloseIdleConnections)
	return &webClient{t, http.Client{Transport: transport, Timeout: time.Minute}, "http://postern.test"}
}

// webAnswer is what comes back.
type webAnswer struct {
	status int
	body   string
	header http.Header
}

// do sends a request with the secret, and headers in pairs; an empty value takes one away.
func (c *webClient) do(method, target, body string, header ...string) (webAnswer, error) {
	r, err := http.NewRequest(method, c.base+target, strings.NewReader(body))
	if err != nil {
		return webAnswer{}, err
	}
	r.Header.Set("X-Postern-Secret", webSecret)
	for i := 0; i < len(header); i += 2 {
		if r.Header.Set(header[i], header[i+1]); header[i+1] == "" {
			r.Header.Del(header[i])
		}
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return webAnswer{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return webAnswer{answer.StatusCode, string(text), answer.Header}, err
}

// want sends a request, of which the answer is known.
func (c *webClient) want(status int, text, method, target, body string, header ...string) webAnswer {
	c.t.Helper()
	got, err := c.do(method, target, body, header...)
	if err != nil || got.status != status || got.body != text {
		c.t.Errorf("%s %s: %d %q, %v; want %d %q", method, target, got.status, got.body, err, status, text)
	}
	return got
}

const check = "/auth_http/check_password?user=joe&server=dom.example&pass="

// TestWeb: every verdict, on Unix sockets and TCP, by HTTP/1.1 and HTTP/2; connections are kept.
func TestWeb(t *testing.T) {
	for _, network := range networks {
		for _, two := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, http2 %t", network, two), func(t *testing.T) {
				r := newRig(t)
				c := newWebClient(t, r.listenOn(network, webBlock()), two)
				yes := c.want(200, "true", "GET", check+"good", "")
				if yes.header.Get("Content-Length") != "4" || yes.header.Get("Cache-Control") != "no-store" {
					t.Errorf("the headers of a yes: %v", yes.header)
				}
				c.want(200, "false", "GET", check+"bad", "")
				c.want(200, "true", "POST", "/auth_http/user_exists", "user=joe&server=dom.example&pass=")
				c.want(404, "no such path\n", "GET", "/", "")
				r.router.backend = hang
				r.inMemory(func(auth.Request) auth.Answer { return outage })
				down := c.want(503, "temporary failure\n", "GET", check+"good", "")
				if down.header.Get("Retry-After") == "" {
					t.Error("a temporary failure does not say when to ask again")
				}
				if _, ever := r.Connections(); ever != 1 {
					t.Errorf("%d connections for all of them", ever)
				}
				eventually(t, "the lines", func() bool { return strings.Count(r.log.String(), "msg=decision") == 4 })
				for _, want := range []string{"front=http op=auth verdict=allow", "op=auth verdict=deny", "op=isuser verdict=allow", "verdict=unavailable"} {
					if !strings.Contains(r.log.String(), want) {
						t.Errorf("the log lacks %q: %s", want, r.log.String())
					}
				}
				if strings.Contains(r.log.String(), webSecret) {
					t.Error("the log has the secret")
				}
			})
		}
	}
}

// TestWebIsClosed: without the secret, by a browser, or for a change that the listener does not take, no
// request reaches a backend.
func TestWebIsClosed(t *testing.T) {
	r := newRig(t)
	open := webBlock()
	open.Secret = auth.Secret{}
	if err := r.Listen(open, socketOf(t)); err == nil || !strings.Contains(err.Error(), "secret") {
		t.Errorf("a TCP port without a secret: %v", err)
	}
	c := newWebClient(t, r.listen(webBlock()), false)
	const lacks = "the secret of the listener is missing or wrong\n"
	c.want(503, lacks, "GET", check+"good", "", "X-Postern-Secret", "")
	c.want(503, lacks, "GET", check+"good", "", "X-Postern-Secret", webSecret+"x")
	c.want(403, "", "GET", check+"good", "", "Origin", "https://evil.example")
	c.want(403, "", "GET", check+"good", "", "Sec-Fetch-Site", "cross-site")
	c.want(403, "", "POST", "/auth_http/set_password", "user=joe&server=dom.example&pass=new")
	c.want(413, "", "POST", "/auth_http/check_password", strings.Repeat("x", 8193))
	if n := r.router.asked.Load(); n != 0 {
		t.Errorf("%d requests were asked", n)
	}
	if !strings.Contains(r.log.String(), "without the secret") || strings.Count(r.log.String(), "msg=decision") != 1 {
		t.Errorf("the log has %s", r.log.String())
	}
	cfg := webBlock()
	cfg.Name, cfg.Changes = "changes", true
	newWebClient(t, r.listen(cfg), false).want(403, "", "POST", "/auth_http/set_password", "user=joe&server=dom.example&pass=new")
	if n := r.router.asked.Load(); n != 1 {
		t.Errorf("%d changes were asked where they are taken", n)
	}
}

// TestWebOverUnixNeedsNoSecret, and its peers name their clients.
func TestWebOverUnixNeedsNoSecret(t *testing.T) {
	r := newRig(t)
	var client string
	r.inMemory(func(q auth.Request) auth.Answer { client = q.Client; return accepted })
	cfg := webBlock()
	cfg.Secret = auth.Secret{}
	c := newWebClient(t, r.listenOn("unix", cfg), false)
	c.want(200, "", "GET", "/basic", "", "Authorization", "Basic am9lOmdvb2Q=", "X-Forwarded-For", "192.0.2.1", "X-Postern-Secret", "")
	if client != "192.0.2.1" || !strings.Contains(r.log.String(), "client=192.0.2.1") {
		t.Errorf("the client is %q; the log has %s", client, r.log.String())
	}
}

// TestWebLists: the users of a domain, or a temporary failure, of which the log says why.
func TestWebLists(t *testing.T) {
	r := newRig(t)
	c := newWebClient(t, r.listen(webBlock()), false)
	c.want(200, "ann@dom.example\njoe@dom.example\n", "POST", "/dovecot/users", "domain=dom.example")
	c.want(503, "temporary failure\n", "POST", "/dovecot/users", "domain=other.example")
	if !strings.Contains(r.log.String(), "no list") {
		t.Errorf("the log has %s", r.log.String())
	}
	r.gate.Drain()
	c.want(503, "temporary failure\n", "POST", "/dovecot/users", "domain=dom.example")
}

// TestWebDeadline: the sweep answers a request for which no answer comes.
func TestWebDeadline(t *testing.T) {
	b := newBarrier() // never opened
	r := newRig(t)
	r.router.backend = func(_ context.Context, q auth.Request) auth.Answer { return b.ask(context.Background(), q) }
	defer b.open()
	cfg := webBlock()
	cfg.Deadline = 100 * time.Millisecond
	newWebClient(t, r.listen(cfg), false).want(503, "temporary failure\n", "GET", check+"good", "")
	if !strings.Contains(r.log.String(), "source=deadline") {
		t.Errorf("the log has %s", r.log.String())
	}
}

// TestWebDrain: what is in flight is answered, what comes then is a temporary failure, and the connections
// end, those of HTTP/2 without losing an answer.
func TestWebDrain(t *testing.T) {
	b := newBarrier()
	r := newRig(t)
	r.router.backend = b.ask
	one, two := newWebClient(t, r.listen(webBlock()), false), newWebClient(t, r.listenOn("unix", named(webBlock(), "unix")), true)
	idle := r.dial(r.listen(named(webBlock(), "idle")))
	var asking sync.WaitGroup
	for range 8 {
		for _, c := range []*webClient{one, two} {
			asking.Go(func() { c.want(200, "true", "GET", check+"good", "") })
		}
	}
	b.reached(t, 16)
	done := r.startDrain()
	two.want(503, "temporary failure\n", "GET", check+"good", "")
	b.open()
	asking.Wait()
	ended(t, idle, "")
	<-done
	eventually(t, "the end of the connections", func() bool { return r.open() == 0 })
}

// TestWebStop: what is in flight when the process stops is a temporary failure.
func TestWebStop(t *testing.T) {
	b := newBarrier() // never opened
	r := newRig(t)
	r.router.backend = func(_ context.Context, q auth.Request) auth.Answer { return b.ask(context.Background(), q) }
	defer b.open()
	c := newWebClient(t, r.listen(webBlock()), false)
	var asking sync.WaitGroup
	asking.Go(func() { c.want(503, "temporary failure\n", "GET", check+"good", "") })
	b.reached(t, 1)
	r.gate.Drain()
	within(t, 10*time.Second, "Stop", func() { r.Stop(10 * time.Second) })
	asking.Wait()
}

// TestWebPanics: a panic on the way of one request ends its connection, and nothing else.
func TestWebPanics(t *testing.T) {
	r := newRig(t)
	c := newWebClient(t, r.listen(webBlock()), false)
	c.want(200, "true", "GET", check+"good", "")
	var panicked atomic.Bool
	r.router.prepare = func() {
		if !panicked.Swap(true) {
			panic("injected")
		}
	}
	if got, err := c.do("POST", "/auth_http/check_password", "user=joe&server=dom.example&pass=good"); err == nil {
		t.Errorf("after a panic: %+v", got)
	}
	c.want(200, "true", "GET", check+"good", "")
	eventually(t, "one connection", func() bool { return r.open() == 1 })
	eventually(t, "no calls to be in flight", func() bool { return r.gate.InFlight() == 0 }) // the last one's leaves after its answer
}

// TestWebConnectionsAreCounted: as those of every listener.
func TestWebConnectionsAreCounted(t *testing.T) {
	r := newRig(t)
	cfg := webBlock()
	cfg.MaxConnections = 20
	address := r.listen(cfg)
	idle := r.dial(address)
	eventually(t, "the idle connection", func() bool { return r.open() == 1 })
	for range 17 {
		newWebClient(t, address, false).want(200, "true", "GET", check+"good", "")
	}
	ended(t, idle, "")
	eventually(t, "one connection to be gone", func() bool { return r.open() == 17 })
}

// TestWebReload: a new secret holds at once, on kept connections too, and a listener may get another
// protocol.
func TestWebReload(t *testing.T) {
	r := newRig(t)
	cfg, next := webBlock(), webBlock()
	next.Secret = auth.NewSecret("another secret, as long")
	address := r.listen(cfg)
	c := newWebClient(t, address, false)
	c.want(200, "true", "GET", check+"good", "")
	r.Change(config.Delta[config.Listener]{Changed: []config.Change[config.Listener]{{Old: cfg, New: next}}}, nil)
	c.want(503, "the secret of the listener is missing or wrong\n", "GET", check+"good", "")
	c.want(200, "true", "GET", check+"good", "", "X-Postern-Secret", next.Secret.Reveal())
	newWebClient(t, address, true).want(200, "true", "GET", check+"good", "", "X-Postern-Secret", next.Secret.Reveal())
	lines := next
	lines.Protocol = "generic"
	r.Change(config.Delta[config.Listener]{Changed: []config.Change[config.Listener]{{Old: next, New: lines}}}, nil)
	roundTrip(t, r.dial(address), "auth:joe:dom.example:good\n", "1\n")
	r.Change(config.Delta[config.Listener]{Removed: []config.Listener{lines}}, nil)
	eventually(t, "the end of the connections", func() bool { return r.open() == 0 })
}

// TestWebTLS: with an authority of the clients, what has no certificate of it gets nothing.
func TestWebTLS(t *testing.T) {
	r := newRig(t)
	chain, key := selfSigned(t)
	cfg := webBlock()
	cfg.Secret = auth.Secret{}
	cfg.TLS = config.TLS{Certificate: chain, Key: auth.NewSecret(key), ClientCA: chain}
	address := r.listen(cfg)
	pair, err := tls.X509KeyPair([]byte(chain), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(chain))
	for _, two := range []bool{false, true} {
		c := newWebClient(t, address, two)
		transport := c.http.Transport.(*http.Transport)
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}
		transport.Protocols.SetUnencryptedHTTP2(false)
		transport.Protocols.SetHTTP2(two)
		c.base = "https://postern.test"
		c.want(200, "true", "GET", check+"good", "", "X-Postern-Secret", "")
	}
	stranger := newWebClient(t, address, false)
	stranger.http.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: pool}
	stranger.base = "https://postern.test"
	if got, err := stranger.do("GET", check+"good", ""); err == nil {
		t.Errorf("a client without a certificate is answered %+v", got)
	}
}

// selfSigned makes a certificate that is its own authority, for both sides.
func selfSigned(t testing.TB) (chain, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"postern.test"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

// BenchmarkWeb is a request that the memory answers, beside a handler that says "ok" (BenchmarkWebBare).
func BenchmarkWeb(b *testing.B) {
	r := newRig(b)
	r.router.memory = func(*call.Call) (auth.Answer, bool) {
		return auth.Answer{Verdict: auth.Allow, Source: auth.SourceHot}, true
	}
	c := newWebClient(b, r.listen(webBlock()), false)
	benchmarkWeb(b, c)
}

// BenchmarkWebBare is what net/http itself costs.
func BenchmarkWebBare(b *testing.B) {
	socket := socketOf(b)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })}
	go func() { _ = server.Serve(socket) }()
	b.Cleanup(func() { _ = server.Close() })
	benchmarkWeb(b, newWebClient(b, socket.Addr().String(), false))
}

func benchmarkWeb(b *testing.B, c *webClient) {
	b.ReportAllocs()
	for b.Loop() {
		if got, err := c.do("GET", check+"good", ""); err != nil || got.status != 200 {
			b.Fatalf("%+v, %v", got, err)
		}
	}
}

// Dovecot's auth-policy client is told which addresses are limited, and has its refusals counted; without the secret
// it is told nothing.
func TestWebPolicy(t *testing.T) {
	r := newRig(t)
	r.router.limited = func(id auth.Identity, client string) bool { return id.Domain == "dom.example" && client == "192.0.2.1" }
	c := newWebClient(t, r.listen(withProxies(webBlock())), false)
	ask := func(command, body, want string, header ...string) {
		t.Helper()
		a, err := c.do("POST", "/dovecot/policy?command="+command, body, header...)
		if err != nil || a.body != want {
			t.Errorf("%s of %s: %+v, %v; want %s", command, body, a, err, want)
		}
		if strings.HasPrefix(want, "{") && a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %v", command, a.header)
		}
	}
	const goOn, refuse = `{"status":0,"msg":""}`, `{"status":-1,"msg":"too many wrong passwords came from this address"}`
	ask("allow", `{"login":"joe@dom.example","remote":"192.0.2.1"}`, refuse)
	ask("allow", `{"login":"joe","remote":"192.0.2.1"}`, refuse) // of the default domain
	ask("allow", `{"login":"joe@dom.example","remote":"192.0.2.2"}`, goOn)
	ask("allow", `{"login":"joe@other.example","remote":"192.0.2.1"}`, goOn)
	ask("allow", `no JSON`, goOn)
	ask("report", `{"login":"joe@dom.example","remote":"192.0.2.1","pwhash":"05","success":false}`, goOn)
	ask("report", `{"login":"joe@dom.example","remote":"192.0.2.1","pwhash":"06","success":true}`, goOn)
	ask("report", `{"login":"joe@dom.example","remote":"192.0.2.1","pwhash":"07","policy_reject":true}`, goOn)
	ask("allow", `{"login":"joe@dom.example","remote":"192.0.2.1"}`, "the secret of the listener is missing or wrong\n", "X-Postern-Secret", "")
	if got := fmt.Sprint(r.router.elsewhere); got != "[http joe@dom.example 192.0.2.1 05]" {
		t.Errorf("counted: %s", got)
	}
}

func withProxies(cfg config.Listener) config.Listener {
	cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	return cfg
}
