package backend

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
)

// HTTPOptions shape the client of a backend that is reached by HTTP. Zero durations
// and numbers mean the defaults of config.hcl.example.
type HTTPOptions struct {
	URL            string        // absolute, http or https, without user name and password
	CAFile         string        // PEM file that replaces the system's roots; may be empty
	UserAgent      string        // value of the header
	ConnectTimeout time.Duration // of a TCP connection and of a TLS handshake, each
	Timeout        time.Duration // of a whole request; the context may end it earlier
	MaxResponse    int64         // bytes of an answer's body
	Connections    int           // idle ones kept, usually the backend's slots

	// For an administrator's tool; both may be nil. Dial takes the place of a plain dialer.
	// Observe is told of every answer before it is judged; what it is given is on loan.
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
	Observe func(Observation)
}

// Observation is an answer as it came. Its body and header may repeat what was sent.
type Observation struct {
	Status int
	Header http.Header
	Body   []byte
}

// maxHeader bounds an answer's header, in bytes.
const maxHeader = 64 << 10

// httpClient asks one server. It follows no redirect and knows no proxy, for the
// body holds a password; it asks twice only when the first question never left. It is
// safe for concurrent use.
type httpClient struct {
	options   HTTPOptions
	transport *http.Transport
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
}

// call is what is sent to a server.
type call struct {
	method string
	target string
	header http.Header
	body   []byte
}

// reply is an answer whose body is within bounds, and whole unless the status alone tells enough.
type reply struct {
	status      int
	location    string
	maintenance bool // Nextcloud says that it is in maintenance mode
	cut         bool // there was a body, but it could not be read
	body        []byte
}

// newHTTPClient checks the options. Errors say what to correct.
func newHTTPClient(o HTTPOptions) (*httpClient, error) {
	u, err := url.Parse(o.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.User != nil {
		return nil, errors.New("url must be an absolute http or https URL without user name and password")
	}
	roots, err := LoadRoots(o.CAFile)
	if err != nil {
		return nil, err
	}
	if o.ConnectTimeout <= 0 {
		o.ConnectTimeout = 5 * time.Second
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.MaxResponse <= 0 {
		o.MaxResponse = 1 << 20
	}
	if o.Connections <= 0 {
		o.Connections = 32
	}
	c := &httpClient{options: o, dial: (&net.Dialer{Timeout: o.ConnectTimeout}).DialContext}
	if o.Dial != nil {
		c.dial = o.Dial
	}
	c.transport = &http.Transport{
		Proxy: nil,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := c.dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &meteredConn{Conn: conn}, nil
		},
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    o.ConnectTimeout,
		MaxIdleConns:           o.Connections,
		MaxIdleConnsPerHost:    o.Connections,
		IdleConnTimeout:        90 * time.Second,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
	}
	return c, nil
}

// LoadRoots reads the certificate authorities of a PEM file; nil, for the file "", means the
// system's.
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

// close ends idle connections.
func (c *httpClient) close() { c.transport.CloseIdleConnections() }

// post sends body; see do.
func (c *httpClient) post(ctx context.Context, target string, header http.Header, body []byte) (reply, error) {
	return c.do(ctx, call{http.MethodPost, target, header, body})
}

// do sends a request and returns the answer, whatever its status. An error means that
// there was none that is whole; it names the cause without quoting the answer, which
// might repeat what was sent.
func (c *httpClient) do(ctx context.Context, q call) (reply, error) {
	if end, ok := ctx.Deadline(); !ok || time.Until(end) > c.options.Timeout {
		limited, cancel := context.WithTimeout(ctx, c.options.Timeout)
		defer cancel()
		ctx = limited
	}
	answer, unsent, err := c.attempt(ctx, q)
	if unsent && ctx.Err() == nil {
		answer, _, err = c.attempt(ctx, q)
	}
	if err != nil {
		return reply{}, describe(ctx, err)
	}
	return answer, nil
}

// errTooLong means that an answer was not read to its end.
var errTooLong = errors.New("the answer is too long; raise max_response if it is a shared roster")

// attempt is one request. unsent reports that it failed on a kept connection before a
// single byte of it was written, so that the server cannot have seen it.
func (c *httpClient) attempt(ctx context.Context, q call) (r reply, unsent bool, err error) {
	var used sentMark
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: used.got})
	req, err := http.NewRequestWithContext(ctx, q.method, q.target, bytes.NewReader(q.body))
	if err != nil {
		return reply{}, false, errors.New("the request cannot be built; check url")
	}
	// Package net/http must not ask again by rules of its own, as it would without a body: a
	// login that fails twice counts twice.
	req.GetBody = nil
	if len(q.body) == 0 {
		req.Body = io.NopCloser(strings.NewReader(""))
	}
	req.Header = q.header.Clone()
	req.Header.Set("User-Agent", c.options.UserAgent)
	// RoundTrip and not Client.Do: no redirects, no cookies.
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return reply{}, used.nothingSent(), err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, c.options.MaxResponse+1))
	if err == nil && int64(len(data)) > c.options.MaxResponse {
		err = errTooLong
	}
	r = reply{status: resp.StatusCode, location: resp.Header.Get("Location"), body: data,
		maintenance: resp.Header.Get("X-Nextcloud-Maintenance-Mode") == "1"}
	if c.options.Observe != nil {
		c.options.Observe(Observation{resp.StatusCode, resp.Header, data})
	}
	if err != nil && resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusInternalServerError {
		r.body, r.cut, err = nil, true, nil // the status alone decides
	}
	return r, false, err
}

// describe turns an error of package net/http into one for the log. What the server
// sent is never quoted.
func describe(ctx context.Context, err error) error {
	var (
		dial    *net.OpError
		verify  *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		alert   tls.AlertError
		timeout net.Error
	)
	switch {
	case errors.Is(err, errTooLong):
		return err
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("nobody waits for the answer any more: %w", context.Canceled)
	case errors.As(err, &dial) && dial.Op == "dial":
		return fmt.Errorf("cannot connect: %w", dial)
	case errors.As(err, &verify):
		return fmt.Errorf("the server's certificate is not trusted (ca_file can name a private authority): %w", verify)
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return errors.New("the server does not speak TLS at this port; check url")
	case errors.As(err, &alert):
		return fmt.Errorf("the server refused the TLS handshake: %w", alert)
	case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		return errors.New("the server closed the connection before its answer was complete")
	}
	return errors.New("the answer is not valid HTTP")
}

// redirectError explains a redirect. Of the new place only the host is told: the rest
// might repeat what was sent.
func redirectError(status int, location, secret string) error {
	host := "another address"
	u, err := url.Parse(location)
	if err == nil && u.Hostname() != "" && len(u.Host) < 256 && (secret == "" || !strings.Contains(u.Host, secret)) {
		host = fmt.Sprintf("%q", u.Host)
	}
	return fmt.Errorf("redirect (HTTP %d) to %s, which is not followed because the request holds a password; "+
		"put the final address into url", status, host)
}
