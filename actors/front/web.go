package front

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"postern/actors/call"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/wire"
)

// errOpen is why an HTTP listener is not started.
var errOpen = errors.New(`every process and web page can reach a TCP port: add secret = file("...") to its block, or tls with client_ca`)

// open reports whether anything that can connect may ask.
func open(socket net.Listener, cfg config.Listener) bool {
	return socket.Addr().Network() != "unix" && cfg.Secret.Empty() && cfg.TLS.ClientCA == ""
}

// noIdleTimeout stands for none: for 0, net/http would take another one.
const noIdleTimeout = 365 * 24 * time.Hour

// web carries HTTP for the connections of a listener that begin under one configuration. The accept loop
// counts and admits them, as those of every protocol, and gives them to web, which is the listener of a
// net/http server. They outlive it.
type web struct {
	server   *Server
	codec    *wire.HTTP
	tls      *tls.Config // nil: without
	http     http.Server
	start    sync.Once
	arrivals chan net.Conn
	retired  chan struct{}
	stop     sync.Once
}

var _ net.Listener = (*web)(nil)

func (s *Server) newWeb(cfg config.Listener) (*web, error) {
	codec, err := newHTTP(cfg)
	if err != nil {
		return nil, err
	}
	w := &web{server: s, codec: codec, arrivals: make(chan net.Conn), retired: make(chan struct{})}
	if w.tls, err = cfg.TLS.Server("h2", "http/1.1"); err != nil {
		return nil, err
	}
	idle := cfg.IdleTimeout
	if idle == 0 {
		idle = noIdleTimeout
	}
	w.http = http.Server{
		Handler: w, MaxHeaderBytes: cfg.MaxFrame, IdleTimeout: idle,
		ReadHeaderTimeout: cfg.FrameTimeout, ReadTimeout: cfg.FrameTimeout,
		WriteTimeout: cfg.Deadline + cfg.WriteTimeout, // from the end of the request's header
		Protocols:    new(http.Protocols), HTTP2: &http.HTTP2Config{MaxConcurrentStreams: cfg.Pipeline},
		ErrorLog:    slog.NewLogLogger(s.env.Log.With("listener", cfg.Name).Handler(), slog.LevelDebug),
		ConnContext: keepConn,
	}
	w.http.Protocols.SetHTTP1(true)
	w.http.Protocols.SetHTTP2(w.tls != nil)
	w.http.Protocols.SetUnencryptedHTTP2(w.tls == nil)
	return w, nil
}

// Check reports why a listener could not be started.
func Check(cfg config.Listener) error {
	if wire.Protocol(cfg.Protocol) != wire.HTTPProtocol {
		_, err := wire.New(wire.Protocol(cfg.Protocol), wire.Options{})
		return err
	}
	if _, err := newHTTP(cfg); err != nil {
		return err
	}
	_, err := cfg.TLS.Server("h2", "http/1.1")
	return err
}

// newHTTP returns the codec of a listener.
func newHTTP(cfg config.Listener) (*wire.HTTP, error) {
	o := wire.HTTPOptions{
		Secret: cfg.Secret, DefaultDomain: cfg.DefaultDomain, Realm: cfg.Realm, TrustedProxies: cfg.TrustedProxies,
		Userdb: wire.Userdb{UID: cfg.Userdb.UID, GID: cfg.Userdb.GID, Home: cfg.Userdb.Home},
		Mail:   make(map[string]netip.AddrPort),
	}
	for protocol, address := range cfg.NginxMail {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return nil, err
		}
		o.Mail[protocol] = at
	}
	return wire.NewHTTP(o), nil
}

// carry has net/http serve a connection that was accepted.
func (l *listener) carry(a arrival) {
	defer l.server.arriving.Add(-1)
	for {
		p := l.params.Load()
		if p.web == nil { // a reload has given the listener another protocol
			_ = a.socket.Close()
			l.limit.went(a.from.uid)
			return
		}
		c := newWebConn(l, p, a)
		if p.web.take(c) {
			return
		}
		c.end() // the params were exchanged meanwhile
	}
}

// take hands a connection to net/http. It is false once w is retired.
func (w *web) take(c *webConn) bool {
	w.start.Do(func() {
		w.server.goroutines.Add(1) // the accept loop, which calls, is counted as well
		go func() {
			defer w.server.goroutines.Done()
			_ = w.http.Serve(w)
		}()
	})
	socket := net.Conn(c)
	if w.tls != nil {
		socket = tls.Server(c, w.tls)
	}
	select {
	case w.arrivals <- socket:
		return true
	case <-w.retired:
		return false
	}
}

// retire ends what start has begun; the connections go on.
func (w *web) retire() { w.stop.Do(func() { close(w.retired) }) }

// Accept implements net.Listener.
func (w *web) Accept() (net.Conn, error) {
	select {
	case c := <-w.arrivals:
		return c, nil
	case <-w.retired:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (w *web) Close() error {
	w.retire()
	return nil
}

// Addr implements net.Listener.
func (w *web) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// webConn is a connection that net/http reads and writes. In its conn, the ring has the requests under
// way, in any order; there is no worker, and no codec of bytes.
type webConn struct {
	*conn
	net.Conn
	peer    netip.Addr              // of TCP, that did the connecting
	ended   atomic.Bool             // endReading was called
	users   atomic.Int32            // the connection while it is open, and its requests
	sending atomic.Pointer[webCall] // its answer is what net/http writes next
	once    sync.Once
}

func newWebConn(l *listener, p *params, a arrival) *webConn {
	w := &webConn{Conn: a.socket, conn: &conn{
		server: l.server, listener: l, params: p, proxied: a.proxied, from: a.from, since: time.Now(),
		ring: make([]atomic.Pointer[call.Call], p.Pipeline), anySlot: true,
	}}
	w.peer = w.remote()
	w.conn.socket, w.conn.web = w, w
	w.conn.active.Store(w.since.UnixNano())
	w.users.Store(1)
	l.server.goroutines.Add(1) // the accept loop, which calls, is counted as well
	l.server.opened.Add(1)
	l.server.join(w.conn)
	if !l.params.Load().admission.admits(a.from.uid, w.since) { // Change came after accept
		w.expelled.Store(true)
	}
	if w.ending() { // CloseConnections or remove came before join
		w.endReading()
	}
	return w
}

// address is that of the peer, or where the connection came from before a proxy took it. It is not valid on a Unix
// socket.
func (w *webConn) address() netip.Addr {
	if w.proxied != nil { // it is known now
		return w.remote()
	}
	return w.peer
}

func (w *webConn) remote() netip.Addr {
	if w.LocalAddr().Network() == "unix" {
		return netip.Addr{}
	}
	at, err := netip.ParseAddrPort(w.RemoteAddr().String())
	if err != nil {
		return netip.IPv4Unspecified() // no proxy's
	}
	return at.Addr()
}

// Write implements net.Conn.
func (w *webConn) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	w.sent()
	return n, err
}

// sent ends the request of the answer that has left.
func (w *webConn) sent() {
	if x := w.sending.Swap(nil); x != nil {
		w.done(x)
	}
}

// Close implements net.Conn.
func (w *webConn) Close() error {
	err := w.Conn.Close()
	w.sent()
	w.once.Do(func() {
		w.listener.limit.went(w.from.uid)
		w.end()
	})
	return err
}

// end takes back what newWebConn has counted.
func (w *webConn) end() {
	w.server.leave(w.conn)
	w.drop()
}

// hold has Stop wait for a request. It is false if the connection has ended.
func (w *webConn) hold() bool {
	for {
		n := w.users.Load()
		if n == 0 || w.users.CompareAndSwap(n, n+1) {
			return n != 0
		}
	}
}

func (w *webConn) drop() {
	if w.users.Add(-1) == 0 {
		w.server.goroutines.Done()
	}
}

// SetReadDeadline implements net.Conn. That of endReading stays.
func (w *webConn) SetReadDeadline(at time.Time) error {
	if w.ended.Load() && !w.busy() {
		at = inThePast
	}
	return w.Conn.SetReadDeadline(at)
}

// SetDeadline implements net.Conn.
func (w *webConn) SetDeadline(at time.Time) error {
	_ = w.Conn.SetWriteDeadline(at)
	return w.SetReadDeadline(at)
}

// CloseWrite has net/http end a connection so that the last answer arrives.
func (w *webConn) CloseWrite() error {
	if half, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

type connKey struct{}

// keepConn is the ConnContext of an http.Server.
func keepConn(ctx context.Context, c net.Conn) context.Context {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	return context.WithValue(ctx, connKey{}, c)
}

// webCall is a request of HTTP under way: its goroutine waits for the answer.
type webCall struct {
	call     call.Call
	runner   supervise.Runner
	slot     *atomic.Pointer[call.Call] // of the ring; nil: none
	unsent   bool                       // net/http sends the answer after the handler's return
	answered sync.WaitGroup             // for the answer
}

// Answered implements call.Asker.
func (x *webCall) Answered(*call.Call) {
	if !x.runner.Notify() {
		x.answered.Done()
	}
}

// ServeHTTP implements http.Handler: it answers one request.
func (w *web) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(connKey{}).(*webConn)
	if !c.hold() {
		return
	}
	defer c.drop()
	question, status := w.read(c, out, r)
	switch {
	case status != 0:
		c.reply(out, wire.HTTPReply{Status: status})
		return
	case w.codec.Browser(question):
		c.reply(out, wire.HTTPReply{Status: http.StatusForbidden})
		return
	case !w.admits(c, question):
		c.reply(out, wire.HTTPReply{Status: http.StatusServiceUnavailable, Body: "the secret of the listener is missing or wrong\n"})
		return
	}
	if domain, ok := w.codec.Lists(question); ok {
		c.list(out, domain)
		return
	}
	if p, ok := w.codec.Policy(question); ok {
		c.reply(out, c.policy(p))
		return
	}
	x := new(webCall)
	respond, event := w.codec.Decode(question, &x.call.Req)
	if event == wire.Reply {
		c.reply(out, respond(auth.Answer{}))
		return
	}
	c.ask(out, r, x, respond, event)
}

// read takes a request from net/http. A status that is not 0 is the whole answer.
func (w *web) read(c *webConn, out http.ResponseWriter, r *http.Request) (*wire.HTTPRequest, int) {
	q := &wire.HTTPRequest{Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Header: r.Header, Peer: c.address()}
	if r.Body == http.NoBody {
		return q, 0
	}
	var err error
	if n := r.ContentLength; 0 <= n && n <= int64(c.params.MaxFrame) {
		q.Body = make([]byte, n)
		if _, err = io.ReadFull(r.Body, q.Body); err != nil {
			return nil, http.StatusBadRequest
		}
		return q, 0
	}
	if q.Body, err = io.ReadAll(http.MaxBytesReader(out, r.Body, int64(c.params.MaxFrame))); err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return nil, http.StatusRequestEntityTooLarge
		}
		return nil, http.StatusBadRequest
	}
	return q, 0
}

// admits reports whether a request has the secret of the listener, as it is now, and logs it if not.
func (w *web) admits(c *webConn, q *wire.HTTPRequest) bool {
	now := c.listener.params.Load().web
	if now == nil { // the listener has another protocol by now
		now = w
	}
	if !now.codec.Admits(q) {
		if held, ok := c.listener.strangers.Due(time.Now()); ok {
			w.server.env.Log.Warn("a request without the secret of its listener; it gets no answer",
				"listener", c.params.Name, "peer", c.conn.Peer(), "alike", held)
		}
		return false
	}
	return true
}

// ask sends a decoded request on its way, and answers it.
func (c *webConn) ask(out http.ResponseWriter, r *http.Request, x *webCall, respond wire.Respond, event wire.Event) {
	defer c.release(x)
	x.answered.Add(1)
	x.runner.Attend()
	ready := c.prepare(&x.call, x, event)
	if x.slot = c.claim(&x.call); x.slot != nil {
		c.send(&x.runner, &x.call, ready, event)
	} else {
		x.call.Unavailable(auth.SourceOverload)
	}
	if !x.runner.Settle() {
		x.answered.Wait()
	}
	c.params.ledger.Note(&x.call, c.conn)
	a := respond(x.call.Reply())
	if x.unsent = c.leave(out, r, a); !x.unsent {
		c.reply(out, a)
	}
}

// list answers with the users of a domain, one listing at a time: it is dear, and no login waits for it.
func (c *webConn) list(out http.ResponseWriter, domain string) {
	s := c.server
	if s.gate.Draining() || !s.listing.TryLock() {
		c.reply(out, wire.UsersReply(nil, "", false))
		return
	}
	defer s.listing.Unlock()
	ctx, cancel := context.WithTimeout(s.env.Context, c.params.Deadline)
	defer cancel()
	names, err := s.router.Users(ctx, domain)
	if err != nil {
		s.env.Log.Warn("the users of a domain cannot be listed", "listener", c.params.Name, "domain", domain, "err", err)
	}
	c.reply(out, wire.UsersReply(names, domain, err == nil))
}

// policy answers Dovecot's auth-policy client: it lends the limits of client addresses to logins that postern does not
// decide. A refusal that Dovecot reports counts as one of ours.
func (c *webConn) policy(p wire.Policy) wire.HTTPReply {
	if p.Domain == "" || p.Client == "" {
		return wire.PolicyReply(false)
	}
	id := auth.Identity{User: p.User, Domain: p.Domain}
	if p.Report {
		if p.Refused {
			c.server.router.Refused(c.params.Name, id, p.Client, p.Hash)
		}
		return wire.PolicyReply(false)
	}
	return wire.PolicyReply(c.server.router.Limited(id, p.Client))
}

// claim puts a call into the ring; nil if that is full, as with requests that a client of HTTP/2 has
// given up.
func (c *webConn) claim(call *call.Call) *atomic.Pointer[call.Call] {
	for i := range c.ring {
		if slot := &c.ring[i]; slot.Load() == nil && slot.CompareAndSwap(nil, call) {
			c.admitted.Add(1)
			return slot
		}
	}
	return nil
}

// release ends a request after its answer has left. A panic before it is an answer as well.
func (c *webConn) release(x *webCall) {
	reason := recover()
	if reason == nil && x.unsent {
		c.sending.Store(x)
		return
	}
	if reason != nil {
		c.server.env.Log.Error("handler panicked; closing its connection", "front", c.params.Name, "panic", supervise.PanicText(reason))
		x.call.Unavailable(auth.SourcePanic)
	}
	c.done(x)
	if reason != nil {
		panic(http.ErrAbortHandler)
	}
}

// done frees the slot of a request.
func (c *webConn) done(x *webCall) {
	if x.slot != nil {
		x.slot.Store(nil)
		c.written.Add(1)
	}
	if x.call.Counted {
		c.server.gate.Leave(1)
	}
	if c.ended.Load() && !c.busy() { // after what net/http has yet to write
		_ = c.Conn.SetReadDeadline(time.Now().Add(time.Second))
	}
}

// maxLeft is the longest body that net/http sends in one piece, with its length, if it is left to it; it gathers 2 KiB.
const maxLeft = 1024

// noStore is for answers that a cache might keep.
var noStore = []string{"no-store"}

// leave leaves an answer to net/http, which makes the rest of its header and writes it after the handler's return. It
// is false, and has done nothing, for an answer that this is not for.
func (c *webConn) leave(out http.ResponseWriter, r *http.Request, a wire.HTTPReply) bool {
	if r.ProtoMajor != 1 || len(a.Header) > 0 || a.Body == "" || len(a.Body) > maxLeft || c.ending() || c.ended.Load() {
		return false
	}
	if r.Method != http.MethodPost {
		out.Header()["Cache-Control"] = noStore
	}
	out.WriteHeader(a.Status)
	_, _ = io.WriteString(out, a.Body)
	return true
}

// reply writes an answer, in one piece and with its length: the auth_http family knows no other.
func (c *webConn) reply(out http.ResponseWriter, a wire.HTTPReply) {
	header := out.Header()
	for _, field := range a.Header {
		header[field[0]] = []string{field[1]}
	}
	if a.Body == "" {
		header["Content-Type"] = nil
	} else if header["Content-Type"] == nil {
		header["Content-Type"] = []string{"text/plain; charset=utf-8"}
	}
	header["Content-Length"] = []string{strconv.Itoa(len(a.Body))}
	header["Cache-Control"] = noStore
	if c.ending() || c.ended.Load() {
		header["Connection"] = []string{"close"}
	}
	out.WriteHeader(a.Status)
	_, _ = io.WriteString(out, a.Body)
	if f, ok := out.(http.Flusher); ok {
		f.Flush()
	}
}
