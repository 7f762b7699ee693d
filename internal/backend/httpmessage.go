package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
)

// headerField is a line of a request's header.
type headerField struct{ name, value string }

// request is an HTTP request.
type request struct {
	method string
	target string // path and query, escaped
	header []headerField
	body   []byte
	fresh  bool // over a new connection: its first response cannot be a late one
}

var errBadRequest = errors.New("the request cannot be built; check url")

// append appends the request to b; head are the header lines of every request.
func (q *request) append(b, head []byte) ([]byte, error) {
	if !printable(q.target) {
		return b, errBadRequest
	}
	b = append(append(b, q.method...), ' ')
	b = append(append(b, q.target...), " HTTP/1.1\r\n"...)
	b = append(b, head...)
	for _, f := range q.header {
		if !printable(f.value) {
			return b, errBadRequest
		}
		b = append(append(b, f.name...), ": "...)
		b = append(append(b, f.value...), "\r\n"...)
	}
	if len(q.body) > 0 || q.method != http.MethodGet {
		b = append(b, "Content-Length: "...)
		b = append(strconv.AppendInt(b, int64(len(q.body)), 10), "\r\n"...)
	}
	b = append(b, "\r\n"...)
	return append(b, q.body...), nil
}

// printable reports whether s has no control characters, which could add a line to a header.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// response is an HTTP response. Its body is complete, unless truncated is set.
type response struct {
	status      int
	location    string
	maintenance bool   // Nextcloud's header for its maintenance mode
	truncated   bool   // the body could not be read to its end, and is left out
	media       string // the header Content-Type
	challenge   string // the headers WWW-Authenticate
	kept        bool   // it came over a connection with earlier requests
	from        netip.Addr
	body        []byte
}

// unreachedError means that no request was sent: there was no connection.
type unreachedError struct{ error }

// Unwrap returns the cause.
func (e unreachedError) Unwrap() error { return e.error }

// errSurplus means that a kept connection brought more than one response to a request. The first may
// be the late response to an earlier request, about another password.
var errSurplus = errors.New("the server sent more than one answer on a kept connection, so it is not known which one is to this request")

// errTooLong means that a response was not read to its end.
var errTooLong = errors.New("the answer is too long; raise max_response if it is a shared roster")

// describe turns an error of a round trip into one for the log. It quotes nothing that the
// server sent.
func describe(ctx context.Context, err error) error {
	var (
		network *net.OpError
		verify  *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		timeout net.Error
	)
	switch {
	case errors.Is(err, errTooLong), errors.Is(err, errBadRequest), errors.Is(err, errSurplus):
		return err
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("the request was cancelled: %w", context.Canceled)
	case errors.As(err, new(proxyError)):
		return err
	case errors.As(err, &network) && network.Op == "dial":
		return fmt.Errorf("cannot connect: %w", network)
	case errors.As(err, &verify):
		return fmt.Errorf("the server's certificate is not trusted (ca_file can name a private authority): %w", verify)
	case errors.As(err, &record):
		return errors.New("the server does not speak TLS at this port; check url")
	case network != nil && network.Op == "remote error": // a TLS alert
		return fmt.Errorf("the server refused the TLS handshake: %w", network.Err)
	case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		return errors.New("the server closed the connection before its answer was complete")
	}
	return errors.New("the answer is not valid HTTP")
}

// redirect is the Result for a redirect. Its error names only the host of the new location: the
// rest may repeat what was sent.
func redirect(r response, secret string) Result {
	host := "another address"
	u, err := url.Parse(r.location)
	if err == nil && u.Hostname() != "" && (secret == "" || !strings.Contains(u.Host, secret)) {
		if quoted := strconv.Quote(u.Host); len(quoted) < 256 { // quoting may make it four times as long
			host = quoted
		}
	}
	return outage("redirect (HTTP %d) to %s, which is not followed because the request holds a password; "+
		"if it is no login or maintenance page, put the final address into url", r.status, host)
}
