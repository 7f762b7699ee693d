package control

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/actors"
	"postern/internal/audit"
	"postern/internal/auth"
	"postern/internal/doctor"
	"postern/internal/store"
)

// fake is a daemon without a broker. Forget fails, and records what it was called with.
type fake struct {
	yields bool
	forgot []auth.Identity
}

var errFake = errors.New("cannot forget: try again")

func (f *fake) Broker() *actors.Broker     { return nil }
func (f *fake) Audit() *audit.Log          { return nil }
func (f *fake) Store() store.Disk          { return nil }
func (f *fake) StoreFailed() string        { return "" }
func (f *fake) Info() (doctor.Info, error) { return doctor.Info{Version: "1.2"}, nil }
func (f *fake) Reload(context.Context) (ReloadReply, error) {
	return ReloadReply{Note: "reloaded"}, nil
}
func (f *fake) Yield() bool                  { return f.yields }
func (f *fake) HandOver(*net.UnixConn) error { return errors.New("not here") }
func (f *fake) Forget(_ context.Context, id auth.Identity) (n Forgotten, err error) {
	f.forgot = append(f.forgot, id)
	return n, errFake
}
func (f *fake) ForgetCached(ctx context.Context, id auth.Identity) (Forgotten, error) {
	return f.Forget(ctx, id)
}

// serveFake serves a fake daemon and returns its control socket.
func serveFake(t *testing.T, f *fake) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pt") // short, for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "control.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(Serve(f, slog.New(slog.DiscardHandler), l).Close)
	return socket
}

// Answers and errors reach the caller as they are.
func TestCall(t *testing.T) {
	f := new(fake)
	socket, ctx := serveFake(t, f), context.Background()
	var info doctor.Info
	if err := Call(ctx, socket, "/v1/info", Request{}, &info); err != nil || info.Version != "1.2" {
		t.Errorf("info: %+v, %v", info, err)
	}
	var reply ReloadReply
	if err := Call(ctx, socket, "/v1/reload", Request{}, &reply); err != nil || reply.Note != "reloaded" {
		t.Errorf("reload: %+v, %v", reply, err)
	}
	for _, yields := range []bool{false, true} {
		f.yields = yields
		if got, pid, err := Yield(ctx, socket); got != yields || pid != os.Getpid() || err != nil {
			t.Errorf("yield: %t, %d, %v; want %t", got, pid, err, yields)
		}
	}
	joe := auth.Identity{User: "joe", Domain: "dom.example"}
	for _, id := range []auth.Identity{joe, {Domain: "dom.example"}} {
		if err := Call(ctx, socket, "/v1/forget", For(id), new(Forgotten)); err == nil || err.Error() != errFake.Error() {
			t.Errorf("forget %v: %v", id, err)
		}
		if last := f.forgot[len(f.forgot)-1]; last != id {
			t.Errorf("forgot %v, want %v", last, id)
		}
	}
	if err := Call(ctx, socket, "/v1/forget", Request{Domain: "not a domain"}, new(Forgotten)); err == nil || len(f.forgot) != 2 {
		t.Errorf("forget without a domain: %v", err)
	}
}

// The kinds of failure are different errors.
func TestCallFails(t *testing.T) {
	socket, ctx := serveFake(t, new(fake)), context.Background()
	for name, c := range map[string]struct {
		socket, path string
		want         error
	}{
		"unknown call": {socket, "/v1/none", ErrUnknownCall},
		"no socket":    {socket + ".none", "/v1/info", ErrNoDaemon},
		"long path":    {filepath.Join(filepath.Dir(socket), strings.Repeat("x", 200)), "/v1/info", ErrNoDaemon},
	} {
		if err := Call(ctx, c.socket, c.path, Request{}, new(struct{})); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if err := Call(ctx, socket, "/v1/info", Request{Password: strings.Repeat("x", maxBody)}, new(doctor.Info)); err == nil || err.Error() != "malformed request" {
		t.Errorf("a request that is too large: %v", err)
	}
}
