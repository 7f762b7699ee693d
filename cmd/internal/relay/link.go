package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"postern/wire"
)

// read decodes the peer's input until its end, and closes the channel.
func (r *relay) read(ctx context.Context, in io.Reader) {
	defer close(r.input)
	buf := make([]byte, 0, 4096)
	var came time.Time
	for {
		d := decoded{came: came}
		n, ev := r.codec.Decode(buf, &d.req)
		buf = buf[:copy(buf, buf[n:])]
		switch ev {
		case wire.Ask, wire.Refuse, wire.RefuseBroken:
			d.refused = ev != wire.Ask
			d.last = ev == wire.RefuseBroken || r.codec.OneShot()
			select {
			case r.input <- d:
			case <-ctx.Done():
				return
			}
			if d.last {
				return
			}
			continue
		case wire.Quit, wire.Broken:
			return
		}
		if n > 0 && len(buf) > 0 {
			continue
		}
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, 4*cap(buf)), buf...)
		}
		n, err := in.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		came = arrival(in)
		if n == 0 && err != nil {
			return
		}
	}
}

// arrival is a time after which all came that was just read.
func arrival(in io.Reader) time.Time {
	if watched, ok := in.(interface{ Since() time.Time }); ok {
		return watched.Since()
	}
	return time.Now()
}

// replies reads the daemon's answers until the connection ends.
func (r *relay) replies(ctx context.Context, conn net.Conn, number int) {
	buf := make([]byte, 0, 1024)
	for {
		n, a, err := wire.DecodeRelayAnswer(buf)
		if err == nil && n > 0 {
			buf = buf[:copy(buf, buf[n:])]
			if !r.emit(ctx, event{number: number, answer: a}) {
				return
			}
			continue
		}
		if err == nil {
			if len(buf) == cap(buf) {
				buf = append(make([]byte, 0, 4*cap(buf)), buf...)
			}
			n, err = conn.Read(buf[len(buf):cap(buf)])
			buf = buf[:len(buf)+n]
		}
		if err != nil && n == 0 {
			r.emit(ctx, event{number: number, err: err})
			return
		}
	}
}

// dialer finds the daemon whenever it is asked to.
func (r *relay) dialer(ctx context.Context) {
	if r.Owner != nil {
		// This process may stay, for others who connect, and must not keep the lock of an owner
		// that it started.
		defer r.Owner.letGo()
	}
	for number := 1; ; number++ {
		select {
		case <-r.dial:
		case <-ctx.Done():
			return
		}
		conn := r.connect(ctx, number)
		if conn == nil {
			return
		}
		if !r.emit(ctx, event{number: number, conn: conn}) {
			_ = conn.Close()
			return
		}
	}
}

// connect tries until it has the connection of that number. It returns nil at the end of ctx.
func (r *relay) connect(ctx context.Context, number int) net.Conn {
	ownFrom := time.Now()
	if number > 1 {
		ownFrom = ownFrom.Add(settle)
	}
	for pause := dialPause; ; pause = min(2*pause, dialPauseMost) {
		conn, err := r.someone()
		switch {
		case err == nil:
			if r.Owner != nil {
				r.Owner.serving()
			}
			return conn
		case errors.Is(err, wire.ErrRelay):
			r.Log.Error("cannot relay", "err", err)
			pause = relayPause
		case ctx.Err() != nil: // nobody is left to serve for
			return nil
		case r.Owner != nil && !time.Now().Before(ownFrom):
			failures := r.Owner.attempts
			r.Owner.ensure(r.Log)
			if r.Owner.attempts > failures && !r.emit(ctx, event{number: number, failed: true}) {
				return nil
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// someone connects to whoever serves.
func (r *relay) someone() (net.Conn, error) {
	conn, err := dial(r.Socket)
	if err != nil && r.Elsewhere != "" && !errors.Is(err, wire.ErrRelay) {
		if conn, err := dial(r.Elsewhere); err == nil {
			return conn, nil
		}
	}
	return conn, err
}

func dial(socket string) (net.Conn, error) {
	conn, err := net.DialTimeout("unix", socket, dialPatient)
	if err != nil {
		return nil, err
	}
	if err := greeted(conn); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// greeted waits for the daemon's greeting: a daemon that dies may leave connections behind that
// it never took.
func greeted(conn net.Conn) error {
	_ = conn.SetReadDeadline(time.Now().Add(dialPatient))
	greeting := make([]byte, wire.RelayGreeting)
	if _, err := io.ReadFull(conn, greeting); err != nil {
		return err
	}
	_ = conn.SetReadDeadline(time.Time{})
	return wire.CheckRelayGreeting(greeting)
}

// emit hands an event to the loop; it is false at the end.
func (r *relay) emit(ctx context.Context, e event) bool {
	select {
	case r.link <- e:
		return true
	case <-ctx.Done():
		return false
	}
}
