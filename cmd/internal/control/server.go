package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"postern/actors"
	"postern/internal/audit"
	"postern/internal/auth"
	"postern/internal/doctor"
	"postern/internal/roster"
	"postern/internal/store"
)

// Daemon is what the server needs of the daemon. Its methods are called by several goroutines.
type Daemon interface {
	Broker() *actors.Broker
	Store() store.Disk   // nil: nothing is kept on disk
	StoreFailed() string // why the store does not work; "" if it does, or there is none
	Forget(context.Context, auth.Identity) (Forgotten, error)
	ForgetCached(context.Context, auth.Identity) (Forgotten, error)
	Info() (doctor.Info, error)
	Reload(context.Context) (ReloadReply, error)
	Audit() *audit.Log
	Yield() bool // ends the broker of pipes; a daemon stays, and returns false
	// HandOver ends the daemon, which then sends what it has to the other end. It closes the connection,
	// unless there is an error.
	HandOver(*net.UnixConn) error
}

// ReloadReply is the answer to /v1/reload.
type ReloadReply struct {
	Note     string   `json:"note"`
	Changes  []string `json:"changes"`
	Warnings []string `json:"warnings"`
}

// ScramReply is the answer to /v1/scram: app passwords without SCRAM keys, by domain.
type ScramReply struct {
	Keyless map[string]int `json:"keyless"`
}

func keyless(n map[string]int, err error) (any, error) { return ScramReply{n}, err }

// Forgotten is the answer to /v1/forget, and to those under /v1/cache: what was removed, by kind.
type Forgotten struct {
	Users     int  `json:"users"`     // records in the cache
	Passwords int  `json:"passwords"` // that were accepted
	Refusals  int  `json:"refusals"`  // passwords that were refused
	Exists    bool `json:"exists"`    // whether the user exists
	Tokens    int  `json:"tokens"`    // used single-use tokens, which are kept
	Counted   int  `json:"counted"`   // refusals that the limits have counted

	Roster roster.Erased `json:"roster"`
}

// Nothing reports whether there was nothing to remove.
func (f Forgotten) Nothing() bool {
	f.Tokens = 0 // they are kept
	return f == Forgotten{}
}

// Server serves the control socket.
type Server struct {
	daemon Daemon
	server *http.Server
	done   chan struct{}
}

// call carries out a request.
type call = func(context.Context, Request) (any, error)

// Serve starts to serve a daemon on a socket, which it closes.
func Serve(d Daemon, log *slog.Logger, socket net.Listener) *Server {
	s := &Server{daemon: d, done: make(chan struct{})}
	mux := http.NewServeMux()
	for path, do := range map[string]call{
		"/v1/ask":    s.ask,
		"/v1/info":   func(context.Context, Request) (any, error) { return d.Info() },
		"/v1/reload": s.reload,
		"/v1/yield":  s.yield,
		"/v1/scram":  func(context.Context, Request) (any, error) { return keyless(d.Broker().KeylessApps()) },
		"/v1/forget": inScope(func(ctx context.Context, id auth.Identity) (any, error) { return d.Forget(ctx, id) }),

		"/v1/cache/show":   s.cacheShow,
		"/v1/cache/stats":  s.cacheStats,
		"/v1/cache/forget": s.cacheForget,
		"/v1/cache/flush":  func(ctx context.Context, _ Request) (any, error) { return d.ForgetCached(ctx, auth.Identity{}) },

		"/v1/limit/show":   s.limitShow,
		"/v1/limit/forget": s.limitForget,

		"/v1/roster/plan":         limited(s.rosterPlan),
		"/v1/roster/show":         s.rosterShow,
		"/v1/roster/refresh":      limited(s.rosterRefresh),
		"/v1/roster/forget-group": limited(s.rosterForgetGroup),
	} {
		mux.HandleFunc("POST "+path, handle(maxBody, s.noted(path, do)))
	}
	for path := range Passwords {
		mux.HandleFunc("POST "+path, handle(maxBody, s.noted(path, s.password(path))))
	}
	mux.HandleFunc("POST /v1/takeover", s.takeover)
	s.handleDomains(mux)
	s.server = &http.Server{
		Handler: mux, ReadTimeout: Timeout, WriteTimeout: Timeout,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), ConnContext: keepUser,
	}
	go func() {
		defer close(s.done)
		if err := s.server.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
			log.Error("control socket failed", "err", err)
		}
	}()
	return s
}

// Close ends the server and its connections.
func (s *Server) Close() {
	_ = s.server.Close()
	<-s.done
}

// handle returns the handler of a call with a request of at most body bytes.
func handle(body int64, do call) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req Request
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

// inScope makes a call about an account, or about a domain if the account has no user.
func inScope(do func(context.Context, auth.Identity) (any, error)) call {
	return func(ctx context.Context, r Request) (any, error) {
		id, err := r.scope()
		if err != nil {
			return nil, err
		}
		return do(ctx, id)
	}
}

// AskReply is the answer to /v1/ask.
type AskReply struct {
	Verdict string        `json:"verdict"`
	Exit    int           `json:"exit"` // exit status of a command that asks
	Source  string        `json:"source"`
	Reason  string        `json:"reason,omitempty"` // why it is no yes, as in the log
	Took    time.Duration `json:"took_ns"`
	Body    string        `json:"body,omitempty"`
	Steps   []AskStep     `json:"steps"`
}

// AskStep is one step of a question's way.
type AskStep struct {
	At    time.Duration `json:"at_ns"` // since the question
	Stage string        `json:"stage"`
	Note  string        `json:"note"`
}

// Ask asks a question of a broker and describes each step to its answer.
func Ask(ctx context.Context, b *actors.Broker, req auth.Request) AskReply {
	p := b.Ask(ctx, req, AskTimeout)
	reply := AskReply{
		Verdict: p.Answer.Verdict.String(), Exit: p.Answer.Verdict.ExitCode(), Source: p.Answer.Source.String(),
		Reason: p.Reason, Took: p.Took, Body: string(p.Answer.Body),
	}
	for _, s := range p.Steps {
		reply.Steps = append(reply.Steps, AskStep(s))
	}
	return reply
}

// Print writes an answer for people: its steps, its verdict and its body.
func (r AskReply) Print(w io.Writer) {
	for _, s := range r.Steps {
		fmt.Fprintf(w, "%10s  %-20s %s\n", s.At.Round(time.Microsecond), s.Stage, s.Note)
	}
	word := map[int]string{0: "yes", 1: "no"}[r.Exit]
	if word == "" {
		word = "temporary failure"
	}
	fmt.Fprintf(w, "%s: %s, from %s, in %s\n", word, r.Verdict, r.Source, r.Took.Round(time.Microsecond))
	if r.Reason != "" {
		fmt.Fprintf(w, "reason: %s\n", r.Reason)
	}
	if r.Body != "" {
		fmt.Fprintln(w, r.Body)
	}
}

func (s *Server) ask(ctx context.Context, r Request) (any, error) {
	op := auth.ParseOperation([]byte(r.Op))
	if op != auth.OpAuth && op != auth.OpIsUser && op != auth.OpRoster {
		return nil, fmt.Errorf("operation %q cannot be asked here", r.Op)
	}
	return Ask(ctx, s.daemon.Broker(), auth.Request{
		Op: op, User: r.User, Domain: r.Domain, Secret: auth.NewSecret(r.Password), Fresh: r.Fresh, Service: r.Service,
	}), nil
}

func (s *Server) reload(ctx context.Context, _ Request) (any, error) {
	return s.daemon.Reload(context.WithoutCancel(ctx)) // it goes on if the client does not wait
}

func (s *Server) yield(context.Context, Request) (any, error) {
	return yieldReply{Yields: s.daemon.Yield(), PID: os.Getpid()}, nil
}
