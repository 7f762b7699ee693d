package control

import (
	"context"
	"net"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"postern/internal/audit"
	"postern/internal/peercred"
)

// audited are the calls that change something, with the commands that make them, as the audit log has them.
var audited = map[string]string{
	"/v1/forget":       "forget",
	"/v1/cache/forget": "cache forget", "/v1/cache/flush": "cache flush",
	"/v1/limit/forget":   "limit forget",
	"/v1/roster/refresh": "roster refresh", "/v1/roster/forget-group": "roster forget-group",
	"/v1/password/add": "password add", "/v1/password/revoke": "password revoke", "/v1/password/expire": "password expire",
	"/v1/domain/put": "domain add", "/v1/domain/set": "domain set", "/v1/domain/remove": "domain remove",
}

// Event describes a call for the audit log; ok is false if it changes nothing. It has neither the text of an error,
// which may repeat what was typed, nor what stands for an app password in the request, which may be its secret.
func Event(path string, r Request, reply any, err error) (e audit.Event, ok bool) {
	action, ok := audited[path]
	if !ok {
		return e, false
	}
	e = audit.Event{Kind: audit.Admin, Action: action, Outcome: audit.Done, Client: r.Address, Domain: r.Domain, User: r.User}
	if err != nil {
		e.Outcome = audit.Failed
	}
	if path == "/v1/cache/forget" && r.Op != "" { // `postern user` has done more
		return e, false
	}
	if action == "password revoke" || action == "password expire" {
		e.Kind = audit.Revoke
	}
	switch p := reply.(type) {
	case PasswordReply:
		for _, shown := range p.Passwords {
			e.IDs = append(e.IDs, shown.ID)
		}
	case *PasswordReply:
		return Event(path, r, *p, err)
	}
	if len(r.Records) == 1 {
		e.Domain = r.Records[0].Domain
	}
	e.Count = uint64(len(r.Records))
	return e, true
}

// noted writes a call to the audit log once it is carried out.
func (s *Server) noted(path string, do call) call {
	return func(ctx context.Context, r Request) (any, error) {
		reply, err := do(ctx, r)
		if e, ok := Event(path, r, reply, err); ok {
			e.By = By(ctx)
			s.daemon.Audit().Note(e)
		}
		return reply, err
	}
}

type userKey struct{}

// keepUser notes which user of the machine has made a connection.
func keepUser(ctx context.Context, c net.Conn) context.Context {
	socket, ok := c.(syscall.Conn)
	if !ok {
		return ctx
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return ctx
	}
	var peer peercred.Peer
	if raw.Control(func(fd uintptr) { peer, err = peercred.Of(fd) }) != nil || err != nil {
		return ctx
	}
	return context.WithValue(ctx, userKey{}, peer.UID)
}

// By returns the user of the machine that makes this call; "" if it is no call.
func By(ctx context.Context) string {
	uid, ok := ctx.Value(userKey{}).(int)
	if !ok {
		return ""
	}
	return userName(uid)
}

// userName is a user's name, or its number if it has none.
func userName(uid int) string {
	number := strconv.Itoa(uid)
	if u, err := user.LookupId(number); err == nil {
		return strings.ToValidUTF8(u.Username, "?")
	}
	return number
}
