package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"

	"postern/cmd/internal/systemd"
)

// Bounds of a standard input that listens.
const (
	inetdIdle     = time.Minute           // without a connection until the socket goes back to inetd
	maxConns      = 4096                  // connections at once
	acceptPause   = 50 * time.Millisecond // after a failure to accept
	acceptSilence = time.Minute           // between two log lines about it
	lingerTime    = 2 * time.Second       // for what a peer sends after its last answer
	lingerBytes   = 64 << 10              // of that
	peerTimeout   = 10 * time.Second      // for a peer that does not read
)

// Listens reports whether a file is a socket that accepts connections: inetd's "wait" style. (In
// the "nowait" style it is a connection, and read like a pipe.)
func Listens(f *os.File) bool {
	return withFD(f, systemd.Listening) == nil
}

// isSocket reports whether a file is a socket of either style. What is not known counts as one.
func isSocket(f *os.File) bool {
	info, err := f.Stat()
	return err != nil || info.Mode()&os.ModeSocket != 0
}

// Serve relays all connections to a listening file, until there has been none for idle, or ctx
// ends and what is under way is answered. options is called for each connection.
func Serve(ctx context.Context, f *os.File, options func() Options, idle time.Duration) error {
	l, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	connections := Acceptor{Listener: l, Log: options().Log}
	slots := make(chan struct{}, maxConns)
	begun := time.Now()
	var last atomic.Int64 // when the number of connections changed: nanoseconds since begun, whatever the clock is set to
	changed := func() { last.Store(int64(time.Since(begun))) }
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			slots <- struct{}{}
			conn, err := connections.Next(ctx)
			if err != nil {
				<-slots
				return
			}
			changed()
			go func() {
				serveConn(ctx, conn, options())
				changed()
				<-slots
			}()
		}
	}()
	tick := time.NewTicker(max(idle/8, time.Millisecond))
	defer tick.Stop()
	for waiting := true; waiting; {
		select {
		case <-ctx.Done():
			waiting = false
		case <-accepting:
			waiting = false
		case <-tick.C:
			// One slot is held by the pending accept.
			waiting = len(slots) > 1 || time.Since(begun)-time.Duration(last.Load()) < idle
		}
	}
	_ = l.Close()
	<-accepting
	for range cap(slots) { // wait for the connections that are open
		slots <- struct{}{}
	}
	return nil
}

// Acceptor accepts connections and tries again after failures, such as a lack of descriptors:
// while this process runs, inetd does not listen. It is for one goroutine.
type Acceptor struct {
	Listener net.Listener
	Log      *slog.Logger

	logged time.Time // when a failure was last logged
}

// Next waits for a connection. It fails when the listener is closed, or ctx ends during a failure.
func (a *Acceptor) Next(ctx context.Context) (net.Conn, error) {
	for {
		conn, err := a.Listener.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) {
			return conn, err
		}
		if time.Since(a.logged) >= acceptSilence {
			a.logged = time.Now()
			a.Log.Error("cannot accept connections; trying again", "err", err)
		}
		select {
		case <-time.After(acceptPause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// serveConn relays for one connection, and closes it so that the last answer arrives.
func serveConn(ctx context.Context, conn net.Conn, o Options) {
	defer conn.Close()
	if err := Run(ctx, conn, timedWriter{conn}, o); err != nil {
		o.Log.Debug("connection ended", "err", err)
		return
	}
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, conn, lingerBytes)
}

// timedWriter is a connection with a time limit for each write.
type timedWriter struct{ net.Conn }

// Write implements io.Writer.
func (w timedWriter) Write(b []byte) (int, error) {
	_ = w.SetWriteDeadline(time.Now().Add(peerTimeout))
	return w.Conn.Write(b)
}
