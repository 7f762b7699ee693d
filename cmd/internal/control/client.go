// Package control is the control socket of a daemon: how commands such as `postern cache show`
// reach the process that owns a data directory.
//
// It speaks HTTP with JSON bodies on a Unix socket of mode 0600 in the data directory. Access to
// the socket is the only authorisation: a process that can open it may use every call. Server has
// the table of calls. The descriptions that the calls return (CachedUser, RosterUser, ...) are
// made by functions which commands also use directly on the data directory when no daemon runs.
package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"

	"postern/internal/auth"
	"postern/internal/registry"
)

// Bounds of a call.
const (
	Timeout    = 30 * time.Second // of a call
	AskTimeout = 15 * time.Second // of the question in a call of /v1/ask
	DomainPage = 1000             // domains in one answer of /v1/domain/list; fewer on the last page

	maxBody       = 64 << 10  // bytes of a request, and of an error
	maxDomainBody = 256 << 20 // bytes of a request that changes the registry
)

// ErrNoDaemon means that no process listens on a control socket.
var ErrNoDaemon = errors.New("no daemon is running")

// ErrUnknownCall means that the daemon is too old for a call.
var ErrUnknownCall = errors.New("the running daemon is of an older version: restart it")

// Request is the body of every call; each uses the fields it needs.
type Request struct {
	Op       string `json:"op,omitempty"`
	User     string `json:"user,omitempty"`
	Domain   string `json:"domain,omitempty"`
	Group    string `json:"group,omitempty"`
	Password string `json:"password,omitempty"`
	Fresh    bool   `json:"fresh,omitempty"` // ask the backend, whatever the cache knows
	Service  string `json:"service,omitempty"`
	Address  string `json:"address,omitempty"`

	// Of the calls about app passwords.
	Name     string     `json:"name,omitempty"`     // add
	Services []string   `json:"services,omitempty"` // add
	Expires  *time.Time `json:"expires,omitempty"`  // add, expire; absent: never
	Ref      string     `json:"ref,omitempty"`      // revoke, expire: an ID or a name; revoke: empty for all

	// Of the registry's calls.
	Records []registry.Entry `json:"records,omitempty"` // put
	New     bool             `json:"new,omitempty"`     // put: none of them may be registered
	Change  *DomainChange    `json:"change,omitempty"`  // set
	After   string           `json:"after,omitempty"`   // list
	Secrets bool             `json:"secrets,omitempty"` // list, show
}

// Removed is the Op of /v1/cache/forget for an account that was removed from its backend.
const Removed = "removed"

// Added is that for a new account: nothing of one that had the name before may be left.
const Added = "added"

// For makes a request about an account, or about a domain if id has no user.
func For(id auth.Identity) Request { return Request{User: id.User, Domain: id.Domain} }

// account is the account that a request is about.
func (r Request) account() (auth.Identity, error) { return auth.NewIdentity(r.User, r.Domain) }

// scope is the account or the whole domain that a request is about.
func (r Request) scope() (id auth.Identity, err error) {
	if r.User != "" {
		return r.account()
	}
	id.Domain, err = auth.FoldDomain(r.Domain)
	return id, err
}

// Call makes a call on a control socket and decodes the answer into reply. The error wraps
// ErrNoDaemon if no process listens there, and ErrUnknownCall if it does not know the path.
func Call(ctx context.Context, socket, path string, req Request, reply any) error {
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
	client := http.Client{Transport: transport, Timeout: Timeout}
	resp, err := client.Do(hr)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) ||
			errors.Is(err, syscall.EINVAL) { // the path is too long for a socket
			return ErrNoDaemon
		}
		if outer, ok := errors.AsType[*url.Error](err); ok { // which names an address that is none
			err = outer.Err
		}
		return fmt.Errorf("ask the running daemon: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return ErrUnknownCall
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody))
		return errors.New(string(bytes.TrimSpace(text)))
	}
	if err := json.NewDecoder(resp.Body).Decode(reply); err != nil {
		return fmt.Errorf("read the running daemon's answer: %w", err)
	}
	return nil
}

// yieldReply is the answer to /v1/yield.
type yieldReply struct {
	Yields bool `json:"yields"`
	PID    int  `json:"pid"`
}

// Yield asks the owner of a data directory to end, so that this process can take its place. It
// implements datadir.Yield.
func Yield(ctx context.Context, socket string) (yields bool, pid int, err error) {
	var reply yieldReply
	err = Call(ctx, socket, "/v1/yield", Request{}, &reply)
	return reply.Yields, reply.PID, err
}

// AskDaemon asks a question of the daemon behind a control socket.
func AskDaemon(ctx context.Context, socket string, req auth.Request) (reply AskReply, err error) {
	err = Call(ctx, socket, "/v1/ask", Request{
		Op: req.Op.String(), User: req.User, Domain: req.Domain, Password: req.Secret.Reveal(), Fresh: req.Fresh, Service: req.Service,
	}, &reply)
	return reply, err
}
