package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"postern/cmd/internal/handover"
)

// takeoverTimeout bounds how long the owner of a data directory may take to answer what is in flight.
const takeoverTimeout = 10 * time.Minute

// takeover hands the daemon over to the process that asks. From here on the connection is not HTTP's.
func (s *Server) takeover(w http.ResponseWriter, _ *http.Request) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		http.Error(w, "not on this connection", http.StatusUnprocessableEntity)
		return
	}
	conn, _, err := hijacker.Hijack()
	if err != nil {
		return
	}
	c, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close()
		return
	}
	_ = c.SetDeadline(time.Time{}) // the server has set one
	if err = handover.CheckPeer(c); err == nil {
		err = s.daemon.HandOver(c)
	}
	if err != nil {
		_ = handover.Refuse(c, err)
		_ = c.Close()
	}
}

// TakeOver asks the owner of a data directory to end and to hand over what it has: the files that
// handover.Send describes. Both sides check that the other is a process of the same user or of root. The
// error wraps ErrNoDaemon if no process listens there.
func TakeOver(ctx context.Context, socket string) ([]*os.File, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: socket})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoDaemon, err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	if err := handover.CheckPeer(c); err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(takeoverTimeout))
	if _, err := io.WriteString(c, "POST /v1/takeover HTTP/1.1\r\nHost: postern\r\nContent-Length: 0\r\n\r\n"); err != nil {
		return nil, err
	}
	files, err := handover.Receive(c)
	if errors.Is(err, handover.ErrAnswer) {
		return nil, ErrUnknownCall
	}
	return files, err
}
