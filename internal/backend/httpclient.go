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
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/http/httpguts"
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

	// For an administrator's tool; both may be nil. Dial takes the place of a plain dialer; only
	// connections with a socket in sight (syscall.Conn) are kept for another question.
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
	options HTTPOptions
	target  string // path and query of the URL, escaped
	head    []byte // the lines that are in the header of every request
	address string // host and port
	secure  *tls.Config
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	pool    httpPool
}

// field is a line of a request's header.
type field struct{ name, value string }

// call is what is sent to a server.
type call struct {
	method string
	target string // path and query, escaped
	header []field
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
	if !fits(o.UserAgent) {
		return nil, errors.New("user_agent must be one line of text")
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
	c := &httpClient{options: o, target: u.RequestURI(), pool: httpPool{most: o.Connections}}
	if c.address, c.head, err = prepare(u, o.UserAgent); err != nil {
		return nil, err
	}
	if c.dial = o.Dial; c.dial == nil {
		c.dial = (&net.Dialer{Timeout: o.ConnectTimeout}).DialContext
	}
	if u.Scheme == "https" {
		host, _, _ := net.SplitHostPort(c.address)
		c.secure = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, ServerName: host,
			ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	}
	return c, nil
}

// prepare returns where to connect to, and the lines that package net/http puts into the header of
// every request to a server.
func prepare(u *url.URL, agent string) (address string, head []byte, err error) {
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

// describe turns an error of an exchange into one for the log. What the server
// sent is never quoted.
func describe(ctx context.Context, err error) error {
	var (
		network *net.OpError
		verify  *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		timeout net.Error
	)
	switch {
	case errors.Is(err, errTooLong), errors.Is(err, errUnbuilt):
		return err
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("nobody waits for the answer any more: %w", context.Canceled)
	case errors.As(err, &network) && network.Op == "dial":
		return fmt.Errorf("cannot connect: %w", network)
	case errors.As(err, &verify):
		return fmt.Errorf("the server's certificate is not trusted (ca_file can name a private authority): %w", verify)
	case errors.As(err, &record):
		return errors.New("the server does not speak TLS at this port; check url")
	case network != nil && network.Op == "remote error": // an alert of TLS
		return fmt.Errorf("the server refused the TLS handshake: %w", network.Err)
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
	if err == nil && u.Hostname() != "" && (secret == "" || !strings.Contains(u.Host, secret)) {
		if quoted := strconv.Quote(u.Host); len(quoted) < 256 { // which may be four times as long
			host = quoted
		}
	}
	return fmt.Errorf("redirect (HTTP %d) to %s, which is not followed because the request holds a password; "+
		"put the final address into url", status, host)
}
