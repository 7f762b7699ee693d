package backend

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"postern/internal/auth"
)

// HTTPOptions configure the client of a backend over HTTP. Zero durations and numbers mean the
// defaults of config.hcl.example.
type HTTPOptions struct {
	URL            string        // absolute, http or https, without user name and password
	CAFile         string        // PEM file that replaces the system's roots; may be empty
	UserAgent      string        // value of the header
	ConnectTimeout time.Duration // of a TCP connection and of a TLS handshake, each
	Timeout        time.Duration // of a whole request; the context may end it earlier
	MaxResponse    int64         // longest body of a response, in bytes
	Connections    int           // idle ones kept, usually as many as the backend has slots
	Proxy          auth.Secret   // URL of a proxy, perhaps with a password, or ProxyEnvironment; empty: none

	// The diagnostics of package doctor set these; both may be nil. Dial replaces the plain
	// dialer; only connections that expose their socket (syscall.Conn) are reused. Observe gets
	// every response before it is classified, and must not keep what it is given.
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
	Observe func(Observation)
}

// Observation is a response as it was received. Its body and header may repeat what was sent.
type Observation struct {
	Status int
	Header http.Header
	Body   []byte
	From   netip.Addr // of this machine, see ThrottleState
}

// httpClient sends requests to one server. It follows no redirect, and uses no proxy but that of its
// options, because a request holds a password. It repeats a request only if nothing of the first attempt was sent.
// It is safe for concurrent use.
//
// net/http's client is not used, for three reasons. It spends twice the CPU time: 49 to 61
// microseconds per request, and this one 26 to 29, at 16 requests at a time on two cores
// (BenchmarkExchange runs both side by side). It wakes two goroutines per connection and makes 62
// allocations where this one makes 14. It repeats a GET that the server may have received, while a
// failed login counts twice if it is sent twice. And it puts a connection back before it looks for
// surplus bytes, so that they can become the response to the next request, which asks about
// another password; see httpConn.idle and exchange.
type httpClient struct {
	options HTTPOptions
	target  string // path and query of the URL, escaped
	head    []byte // header lines of every request
	address string // host and port to connect to
	tunnel  []byte // request to a proxy for a connection to the server; nil: there is none
	origin  string // goes before the target in a request to a proxy; empty: there is none
	secure  *tls.Config
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	pool    httpPool
}

// newHTTPClient checks the options. Its errors say what to correct.
func newHTTPClient(o HTTPOptions) (*httpClient, error) {
	u, err := url.Parse(o.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.User != nil {
		return nil, errors.New("url must be an absolute http or https URL without user name and password")
	}
	if !printable(o.UserAgent) {
		return nil, errors.New("user_agent must be one line of text")
	}
	roots, err := LoadRoots(o.CAFile)
	if err != nil {
		return nil, err
	}
	o.ConnectTimeout = cmp.Or(o.ConnectTimeout, 5*time.Second)
	o.Timeout = cmp.Or(o.Timeout, 10*time.Second)
	o.MaxResponse = cmp.Or(o.MaxResponse, 1<<20)
	o.Connections = cmp.Or(o.Connections, 32)
	c := &httpClient{options: o, target: u.RequestURI(), pool: httpPool{limit: o.Connections}}
	if c.address, c.head, err = addressAndHead(u, o.UserAgent); err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(c.address)
	proxy, err := ParseProxy(o.Proxy.Reveal(), u)
	if err != nil {
		return nil, err
	}
	if proxy != nil {
		c.useProxy(proxy, u)
	}
	if c.dial = o.Dial; c.dial == nil {
		c.dial = (&net.Dialer{Timeout: o.ConnectTimeout}).DialContext
	}
	if u.Scheme == "https" {
		c.secure = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, ServerName: host,
			ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	}
	return c, nil
}

// addressAndHead returns the address to connect to, and the header lines that net/http writes
// for every request to a server.
func addressAndHead(u *url.URL, agent string) (address string, head []byte, err error) {
	host, err := httpguts.PunycodeHostPort(u.Host)
	if err != nil {
		return "", nil, fmt.Errorf("url: the server's name: %w", err)
	}
	ascii := url.URL{Host: host}
	port := ascii.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	var b bytes.Buffer
	req := http.Request{Method: http.MethodGet, URL: u, Header: http.Header{"User-Agent": {agent}}}
	if err := req.Write(&b); err != nil {
		return "", nil, fmt.Errorf("url: %w", err)
	}
	_, head, _ = bytes.Cut(b.Bytes(), []byte("\r\n"))
	return net.JoinHostPort(ascii.Hostname(), port), bytes.TrimSuffix(head, []byte("\r\n")), nil
}

// LoadRoots reads the certificate authorities of a PEM file. For the empty name it returns nil,
// which means the system's authorities.
func LoadRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("ca_file %s holds no certificate in PEM form", file)
	}
	return roots, nil
}

// close closes idle connections.
func (c *httpClient) close() { c.pool.close() }

// post sends a POST request; see do.
func (c *httpClient) post(ctx context.Context, target string, header []headerField, body []byte) (response, error) {
	return c.do(ctx, request{method: http.MethodPost, target: target, header: header, body: body})
}

// do sends a request and returns the response, whatever its status. An error means that no
// complete response came. It does not quote the response, which may repeat what was sent.
func (c *httpClient) do(ctx context.Context, q request) (response, error) {
	q.target = c.origin + q.target
	now := time.Now()
	deadline := now.Add(c.options.Timeout)
	if limit, ok := ctx.Deadline(); ok && limit.Before(deadline) {
		deadline = limit
	}
	r, err := c.roundTrip(ctx, q, now, deadline)
	if err == nil {
		return r, nil
	}
	described := describe(ctx, err)
	if errors.As(err, new(unreachedError)) {
		described = unreachedError{described}
	}
	return response{}, described
}

// roundTrip uses an idle connection, or else a new one. If the idle one failed before a byte was
// sent, the server cannot have seen the request, and a new connection is tried.
func (c *httpClient) roundTrip(ctx context.Context, q request, now, deadline time.Time) (response, error) {
	if err := ctx.Err(); err != nil {
		return response{}, err
	}
	if h := c.pool.get(now, q.fresh); h != nil {
		before := h.wire.sent
		r, err := c.attempt(ctx, h, q, now, deadline)
		if err == nil || h.wire.sent != before || errors.Is(err, os.ErrDeadlineExceeded) {
			return r, err
		}
	}
	h, err := c.connect(ctx, deadline)
	if err != nil {
		return response{}, unreachedError{err}
	}
	return c.attempt(ctx, h, q, now, deadline)
}

func (c *httpClient) connect(ctx context.Context, deadline time.Time) (*httpConn, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	conn, err := c.dial(ctx, "tcp", c.address)
	if err != nil {
		return nil, err
	}
	w := &countingConn{Conn: conn}
	if c.tunnel != nil {
		if err := c.openTunnel(ctx, w); err != nil {
			_ = w.Close()
			return nil, err
		}
	}
	if c.secure == nil {
		return newHTTPConn(w, w), nil
	}
	ctx, cancelHandshake := context.WithTimeout(ctx, c.options.ConnectTimeout)
	defer cancelHandshake()
	secured := tls.Client(w, c.secure)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = w.Close()
		return nil, err
	}
	return newHTTPConn(w, secured), nil
}

// attempt is one request and its response. Afterwards the connection is in the pool or closed.
func (c *httpClient) attempt(ctx context.Context, h *httpConn, q request, now, deadline time.Time) (response, error) {
	h.used = now
	err := h.conn.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, h.interrupt)
	var (
		r     response
		reuse bool
	)
	if err == nil {
		r, reuse, err = c.exchange(h, q)
	}
	if stop() && reuse {
		c.pool.put(h)
	} else {
		h.abort()
	}
	if errors.Is(err, errSurplus) {
		c.pool.distrust(now)
	}
	return r, err
}

// exchange sends a request and reads the response. reuse reports whether the connection may
// serve for another request.
func (c *httpClient) exchange(h *httpConn, q request) (r response, reuse bool, err error) {
	if err := h.send(q, c.head); err != nil {
		return r, false, err
	}
	resp, data, err := h.receive(c.options.MaxResponse)
	if resp == nil {
		return r, false, err
	}
	r = response{status: resp.StatusCode, location: resp.Header.Get("Location"), body: data,
		maintenance: resp.Header.Get("X-Nextcloud-Maintenance-Mode") == "1", media: resp.Header.Get("Content-Type"),
		challenge: strings.Join(resp.Header.Values("WWW-Authenticate"), ", ")}
	if c.tunnel == nil && c.origin == "" {
		r.from = addressOf(h.wire.LocalAddr())
	}
	if c.options.Observe != nil {
		c.options.Observe(Observation{resp.StatusCode, resp.Header, data, r.from})
	}
	r.kept = h.answered
	surplus := err == nil && (h.br.Buffered() > 0 || h.answered && h.raw != nil && h.raw.Control(h.peek) == nil && h.surplus())
	reuse = err == nil && !resp.Close && resp.ProtoMajor == 1 && resp.ProtoMinor >= 1 &&
		resp.StatusCode >= 200 && !surplus && !gaveUp(resp.StatusCode)
	if surplus && h.answered {
		return response{}, false, errSurplus
	}
	h.answered = true
	if err != nil && resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusInternalServerError {
		r.body, r.truncated, err = nil, true, nil // the status alone decides
	}
	return r, reuse, err
}

// addressOf returns the IP address of this end of a connection, if it has one.
func addressOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// Exempting says which address a server is to exempt from its limits, for one that saw a request from an address
// of this machine; not valid: through a proxy, or not known.
func Exempting(from netip.Addr) string {
	if !from.IsValid() {
		return "exempt the address that postern, or its proxy, has there"
	}
	return fmt.Sprintf("exempt the address that postern has there (%s, unless the network translates it)", from)
}

// ResetFailures is the command that makes a Nextcloud forget the failed logins from the same address.
func ResetFailures(from netip.Addr) string {
	if !from.IsValid() {
		return "occ security:bruteforce:reset ADDRESS"
	}
	return "occ security:bruteforce:reset " + from.String()
}

// gaveUp reports whether a gateway did not wait for the response of the server behind it. When that
// comes, it may pass it on, as if it were the response to the next request.
func gaveUp(status int) bool {
	return status == http.StatusRequestTimeout || status >= http.StatusBadGateway && status <= http.StatusGatewayTimeout
}
