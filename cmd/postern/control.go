package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"postern/actors"
	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/store"
)

// The control socket speaks HTTP with JSON bodies on a Unix socket of mode 0600 in the data
// directory: whoever can open it may do everything that it offers.
const (
	controlTimeout = 30 * time.Second
	controlBody    = 64 << 10 // bytes of a request
	askPatience    = 15 * time.Second
)

// controlRequest is the body of every call; each uses what it needs.
type controlRequest struct {
	Op       string `json:"op,omitempty"`
	User     string `json:"user,omitempty"`
	Domain   string `json:"domain,omitempty"`
	Group    string `json:"group,omitempty"`
	Password string `json:"password,omitempty"`
	Address  string `json:"address,omitempty"`

	domainRequest
}

// askReply is the answer to /v1/ask.
type askReply struct {
	Verdict string        `json:"verdict"`
	Exit    int           `json:"exit"`
	Source  string        `json:"source"`
	Took    time.Duration `json:"took_ns"`
	Body    string        `json:"body,omitempty"`
	Steps   []askStep     `json:"steps"`
}

type askStep struct {
	At    time.Duration `json:"at_ns"`
	Stage string        `json:"stage"`
	Note  string        `json:"note"`
}

// controlServer serves the control socket.
type controlServer struct {
	daemon *daemon
	log    *slog.Logger
	server *http.Server
	done   chan struct{}
}

// serveControl starts the control server on a socket that is open already.
func serveControl(d *daemon, socket net.Listener) *controlServer {
	c := &controlServer{daemon: d, log: d.log, done: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/ask", handle(c.ask))
	mux.HandleFunc("POST /v1/info", handle(c.info))
	mux.HandleFunc("POST /v1/reload", handle(c.reload))
	mux.HandleFunc("POST /v1/cache/show", handle(c.show))
	mux.HandleFunc("POST /v1/cache/stats", handle(c.stats))
	mux.HandleFunc("POST /v1/cache/forget", handle(c.forget))
	mux.HandleFunc("POST /v1/cache/flush", handle(c.flush))
	mux.HandleFunc("POST /v1/limit/show", handle(c.limitShow))
	mux.HandleFunc("POST /v1/limit/forget", handle(c.limitForget))
	mux.HandleFunc("POST /v1/yield", handle(c.yield))
	c.rosterHandlers(mux)
	c.forgetHandler(mux)
	c.handleDomains(mux)
	c.server = &http.Server{
		Handler: mux, ReadTimeout: controlTimeout, WriteTimeout: controlTimeout,
		ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelWarn),
	}
	go func() {
		defer close(c.done)
		if err := c.server.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
			c.log.Error("control socket failed", "err", err)
		}
	}()
	return c
}

func (c *controlServer) close() {
	_ = c.server.Close()
	<-c.done
}

// handle wraps a function from request to reply.
func handle(do func(context.Context, controlRequest) (any, error)) http.HandlerFunc {
	return handleUpTo(controlBody, do)
}

// handleUpTo is handle for requests of up to so many bytes.
func handleUpTo(body int64, do func(context.Context, controlRequest) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req controlRequest
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, body)).Decode(&req)
		if err != nil && !errors.Is(err, io.EOF) {
			http.Error(w, "malformed request", http.StatusBadRequest)
			return
		}
		reply, err := do(r.Context(), req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(reply)
	}
}

func (c *controlServer) ask(ctx context.Context, r controlRequest) (any, error) {
	op := auth.ParseOperation([]byte(r.Op))
	if op != auth.OpAuth && op != auth.OpIsUser && op != auth.OpRoster {
		return nil, fmt.Errorf("operation %q cannot be asked here", r.Op)
	}
	return askBroker(ctx, c.daemon.broker, auth.Request{
		Op: op, User: r.User, Domain: r.Domain, Secret: auth.NewSecret(r.Password),
	}), nil
}

// askBroker puts a question and describes its way.
func askBroker(ctx context.Context, b *actors.Broker, req auth.Request) askReply {
	p := b.Ask(ctx, req, askPatience)
	reply := askReply{
		Verdict: p.Answer.Verdict.String(), Exit: p.Answer.Verdict.ExitCode(), Source: p.Answer.Source.String(),
		Took: p.Took, Body: string(p.Answer.Body),
	}
	for _, s := range p.Steps {
		reply.Steps = append(reply.Steps, askStep(s))
	}
	return reply
}

func (c *controlServer) reload(ctx context.Context, _ controlRequest) (any, error) {
	return c.daemon.reload(context.WithoutCancel(ctx)) // who asked may not wait for it
}

func (c *controlServer) show(ctx context.Context, r controlRequest) (any, error) {
	id, err := auth.NewIdentity(r.User, r.Domain)
	if err != nil {
		return nil, err
	}
	user, err := c.daemon.broker.CachedUser(ctx, id)
	if err != nil {
		return nil, err
	}
	return describeUser(id, &user), nil
}

func (c *controlServer) stats(ctx context.Context, _ controlRequest) (any, error) {
	shards, err := c.daemon.broker.CacheStats(ctx)
	if err != nil {
		return nil, err
	}
	reply := cacheStats{Running: true, Memory: shards, StoreFailed: c.daemon.storeFailed(), Disk: map[string]int{}}
	if disk := c.daemon.store.Load(); disk != nil && reply.StoreFailed == "" {
		reply.DiskBytes = disk.Size()
		reply.Disk, err = countRecords(disk)
	}
	if errors.Is(err, store.ErrFailed) { // by counting
		reply.StoreFailed, err = c.daemon.storeFailed(), nil
	}
	return reply, err
}

func (c *controlServer) forget(ctx context.Context, r controlRequest) (any, error) {
	if r.User == "" {
		domain, err := auth.FoldDomain(r.Domain)
		if err != nil {
			return nil, err
		}
		return struct{}{}, c.daemon.broker.ForgetDomain(ctx, domain)
	}
	id, err := auth.NewIdentity(r.User, r.Domain)
	if err != nil {
		return nil, err
	}
	return struct{}{}, c.daemon.broker.ForgetUser(ctx, id)
}

func (c *controlServer) flush(ctx context.Context, _ controlRequest) (any, error) {
	return struct{}{}, c.daemon.broker.Flush(ctx)
}

// yield ends an owner that relays have started, for a daemon that takes its place.
func (c *controlServer) yield(context.Context, controlRequest) (any, error) {
	if c.daemon.yield == nil {
		return yieldReply{PID: os.Getpid()}, nil
	}
	c.daemon.yield()
	return yieldReply{Yields: true, PID: os.Getpid()}, nil
}

// errUnknownCall means that the daemon is too old for a question.
var errUnknownCall = errors.New("the running daemon is of an older version: restart it")

// callControl asks the daemon that owns a data directory. The error wraps errNoDaemon if
// there is none.
func callControl(ctx context.Context, socket, path string, req controlRequest, reply any) error {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	hr, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://postern"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	client := http.Client{Transport: transport, Timeout: controlTimeout}
	resp, err := client.Do(hr)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) ||
			errors.Is(err, syscall.EINVAL) { // a path that is too long for a socket
			return errNoDaemon
		}
		return fmt.Errorf("ask the running daemon: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return errUnknownCall
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, controlBody))
		return errors.New(string(bytes.TrimSpace(text)))
	}
	if err := json.NewDecoder(resp.Body).Decode(reply); err != nil {
		return fmt.Errorf("read the running daemon's answer: %w", err)
	}
	return nil
}

// cachedUser is a user's cache entry as it is shown; it holds no hash and no key.
type cachedUser struct {
	User      string           `json:"user"`
	Verifiers []cachedVerifier `json:"verifiers"`
	Refused   int              `json:"refused_passwords_remembered"`
	Exists    string           `json:"exists"` // yes, no, unknown
	ExistsAt  *time.Time       `json:"exists_asked,omitempty"`
}

type cachedVerifier struct {
	First    time.Time `json:"first_verified"`
	Verified time.Time `json:"last_verified"`
	Used     time.Time `json:"last_used"`
	Stale    bool      `json:"stale"`
	Suspect  bool      `json:"suspect"`
	OnDisk   bool      `json:"on_disk"`
	InMemory bool      `json:"in_memory"`
}

func describeUser(id auth.Identity, u *cache.User) cachedUser {
	d := cachedUser{User: id.String(), Refused: len(u.Refusals), Exists: "unknown", Verifiers: []cachedVerifier{}}
	for _, v := range u.Verifiers {
		d.Verifiers = append(d.Verifiers, cachedVerifier{
			First: v.First.Go().UTC(), Verified: v.Verified.Go().UTC(), Used: v.Used.Go().UTC(), Stale: v.Stale, Suspect: v.Suspect,
			OnDisk: v.Hash != "", InMemory: v.Key != (cache.Key{}),
		})
	}
	if u.Exists.Known {
		at := u.Exists.At.Go().UTC()
		d.ExistsAt, d.Exists = &at, "no"
		if u.Exists.Yes {
			d.Exists = "yes"
		}
	}
	return d
}
