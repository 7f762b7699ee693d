package backend

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net/http"
	"os"
	"strconv"
	"time"
)

// close ends idle connections.
func (c *httpClient) close() { c.pool.close() }

// post sends body; see do.
func (c *httpClient) post(ctx context.Context, target string, header []field, body []byte) (reply, error) {
	return c.do(ctx, call{http.MethodPost, target, header, body})
}

// do sends a request and returns the answer, whatever its status. An error means that
// there was none that is whole; it names the cause without quoting the answer, which
// might repeat what was sent.
func (c *httpClient) do(ctx context.Context, q call) (reply, error) {
	now := time.Now()
	end := now.Add(c.options.Timeout)
	if limit, ok := ctx.Deadline(); ok && limit.Before(end) {
		end = limit
	}
	answer, err := c.ask(ctx, q, now, end)
	if err != nil {
		return reply{}, describe(ctx, err)
	}
	return answer, nil
}

// ask asks over a connection that is kept, or else a new one. It asks again only if no byte left
// over the kept one, so that the server cannot have seen the question: a login that fails twice
// counts twice.
func (c *httpClient) ask(ctx context.Context, q call, now, end time.Time) (reply, error) {
	if err := ctx.Err(); err != nil {
		return reply{}, err
	}
	if l := c.pool.take(now); l != nil {
		before := l.wire.sent
		answer, err := c.attempt(ctx, l, q, now, end)
		if err == nil || l.wire.sent != before || errors.Is(err, os.ErrDeadlineExceeded) {
			return answer, err
		}
	}
	l, err := c.connect(ctx, end)
	if err != nil {
		return reply{}, err
	}
	return c.attempt(ctx, l, q, now, end)
}

// connect makes a connection.
func (c *httpClient) connect(ctx context.Context, end time.Time) (*httpConn, error) {
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	conn, err := c.dial(ctx, "tcp", c.address)
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: conn}
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

// attempt is one exchange, at the end of which the connection is kept or closed.
func (c *httpClient) attempt(ctx context.Context, l *httpConn, q call, now, end time.Time) (reply, error) {
	l.asked = now
	err := l.conn.SetDeadline(end)
	done := context.AfterFunc(ctx, l.interrupt)
	var (
		r     reply
		clean bool
	)
	if err == nil {
		r, clean, err = c.exchange(l, q)
	}
	if done() && clean {
		c.pool.put(l)
	} else {
		l.drop()
	}
	return r, err
}

// exchange sends a request and reads the answer. clean reports that the connection may serve for
// another.
func (c *httpClient) exchange(l *httpConn, q call) (r reply, clean bool, err error) {
	if err := l.send(q, c.head); err != nil {
		return r, false, err
	}
	resp, data, err := l.receive(c.options.MaxResponse)
	if resp == nil {
		return r, false, err
	}
	r = reply{status: resp.StatusCode, location: resp.Header.Get("Location"), body: data,
		maintenance: resp.Header.Get("X-Nextcloud-Maintenance-Mode") == "1"}
	if c.options.Observe != nil {
		c.options.Observe(Observation{resp.StatusCode, resp.Header, data})
	}
	clean = err == nil && !resp.Close && resp.ProtoMajor == 1 && resp.ProtoMinor >= 1 &&
		resp.StatusCode >= 200 && l.br.Buffered() == 0
	if err != nil && resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusInternalServerError {
		r.body, r.cut, err = nil, true, nil // the status alone decides
	}
	return r, clean, err
}

// maxSpare is how much room for requests a connection keeps, in bytes.
const maxSpare = 16 << 10

// send writes a request at once, and wipes the room that it took.
func (l *httpConn) send(q call, head []byte) error {
	b, err := q.append(l.out[:0], head)
	if err == nil {
		_, err = l.conn.Write(b)
	}
	clear(b)
	if l.out = b; cap(b) > maxSpare {
		l.out = nil
	}
	return err
}

var errUnbuilt = errors.New("the request cannot be built; check url")

// append adds the request to b; head are lines of its header.
func (q *call) append(b, head []byte) ([]byte, error) {
	if !fits(q.target) {
		return b, errUnbuilt
	}
	b = append(append(b, q.method...), ' ')
	b = append(append(b, q.target...), " HTTP/1.1\r\n"...)
	b = append(b, head...)
	for _, f := range q.header {
		if !fits(f.value) {
			return b, errUnbuilt
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

// fits reports whether a text is no more than a part of a line.
func fits(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// errTooLong means that an answer was not read to its end.
var errTooLong = errors.New("the answer is too long; raise max_response if it is a shared roster")

// receive reads an answer. A response with an error is one whose body was not read to its end.
func (l *httpConn) receive(most int64) (resp *http.Response, data []byte, err error) {
	if resp, data, err = l.read(most); err != nil && l.in.err != nil {
		err = l.in.err // which the parser may have taken for the end of a line
	}
	return resp, data, err
}

// read skips answers that only inform. It does not close a body, since that would read on to its
// end.
func (l *httpConn) read(most int64) (resp *http.Response, data []byte, err error) {
	for l.in.left = maxHeader; ; {
		if resp, err = http.ReadResponse(l.br, nil); err != nil {
			return nil, nil, err
		}
		if resp.StatusCode/100 != 1 || resp.StatusCode == http.StatusSwitchingProtocols {
			break
		}
	}
	l.in.left = math.MaxInt64
	room := min(max(resp.ContentLength, 0), most, 64<<10) + bytes.MinRead
	body := bytes.NewBuffer(make([]byte, 0, room))
	_, err = body.ReadFrom(io.LimitReader(resp.Body, most+1))
	if err == nil && int64(body.Len()) > most {
		err = errTooLong
	}
	return resp, body.Bytes(), err
}
