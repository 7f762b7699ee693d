package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"postern/wire"
)

// oneMore is how long a connection with one request waits for another one, as in package front.
const oneMore = time.Second

// goesOn reports whether a request may follow the one that the protocol has per connection, now that
// it is answered. A pipe goes on until its end. A socket on standard input, of which a read cannot be
// ended, does not.
func (r *relay) goesOn(ctx context.Context, in io.Reader) bool {
	select {
	case <-r.answered:
	case <-ctx.Done():
		return false
	}
	if conn, ok := in.(net.Conn); ok {
		return conn.SetReadDeadline(time.Now().Add(oneMore)) == nil
	}
	return true
}

// onlyOne reports whether nothing but one request is read from in.
func onlyOne(in io.Reader) bool {
	f, ok := in.(*os.File)
	return ok && isSocket(f)
}

// read decodes the peer's input until its end, and closes the channel.
func (r *relay) read(ctx context.Context, in io.Reader) {
	defer close(r.input)
	codec := r.codec
	buf := make([]byte, 0, 4096)
	var came time.Time
	known := !r.RefuseChanges // else any program may have connected, with any protocol
	for {
		if !known && r.foreign(buf) {
			return
		}
		d := decoded{came: came}
		n, ev := codec.Decode(buf, &d.req)
		buf = buf[:copy(buf, buf[n:])]
		known = known || ev != wire.More
		switch ev {
		case wire.Ask, wire.Refuse, wire.RefuseBroken:
			d.refused = ev != wire.Ask
			d.last = ev == wire.RefuseBroken || codec.OneShot() && onlyOne(in)
			select {
			case r.input <- d:
			case <-ctx.Done():
				return
			}
			if d.last || codec.OneShot() && !r.goesOn(ctx, in) {
				return
			}
			if codec.OneShot() {
				buf = buf[:0] // what came before the answer is no request
				codec, _ = wire.New(r.Protocol, r.Wire)
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

// foreign reports whether the first bytes of the input are another protocol's.
func (r *relay) foreign(first []byte) bool {
	f, ok := wire.Recognise(r.Protocol, first)
	if !ok || !f.Sure {
		return false
	}
	r.Log.Warn("another protocol on standard input; the connection is closed", "protocol", string(r.Protocol), "looks_like", f.Looks)
	return true
}

// arrival returns a time before anything arrived of what was just read.
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
			if !r.notify(ctx, event{number: number, answer: a}) {
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
			r.notify(ctx, event{number: number, err: err})
			return
		}
	}
}

// dialer makes a connection whenever it is asked to.
func (r *relay) dialer(ctx context.Context) {
	if r.Spawner != nil {
		// Under inetd this process goes on with other connections, and must not keep the lock of a
		// broker that it started.
		defer r.Spawner.release()
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
		if !r.notify(ctx, event{number: number, conn: conn}) {
			_ = conn.Close()
			return
		}
	}
}

// connect tries until it has a connection, which gets the number. It returns nil at the end of
// ctx.
func (r *relay) connect(ctx context.Context, number int) net.Conn {
	begun := time.Now()
	spawnFrom := begun
	if number > 1 {
		spawnFrom = spawnFrom.Add(settle)
	}
	waits := false // and has said so
	for pause := dialPause; ; pause = min(pause+pause/16, dialPauseMost) {
		conn, err := r.dialAny()
		switch {
		case err == nil:
			if r.Spawner != nil {
				r.Spawner.served()
			}
			return conn
		case errors.Is(err, wire.ErrRelay):
			r.Log.Error("cannot relay", "err", err)
			pause = relayPause
		case ctx.Err() != nil: // Run has returned: start no broker
			return nil
		case waits && errors.Is(err, errClosed):
			pause = closedPause
		case r.Spawner == nil && !waits && time.Since(begun) >= settle:
			waits = true
			r.Log.Warn("the daemon does not answer; waiting for it", "socket", r.Socket, "err", err)
		case r.Spawner != nil && !time.Now().Before(spawnFrom):
			failures := r.Spawner.attempts
			r.Spawner.ensure(r.Log)
			if r.Spawner.attempts > failures && !r.notify(ctx, event{number: number, failed: true}) {
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

// dialAny connects to the daemon or broker, on whichever socket it listens.
func (r *relay) dialAny() (net.Conn, error) {
	conn, err := dial(r.Socket)
	if err != nil && r.Elsewhere != "" && !errors.Is(err, wire.ErrRelay) {
		if conn, err := dial(r.Elsewhere); err == nil {
			return conn, nil
		}
	}
	return conn, err
}

func dial(socket string) (net.Conn, error) {
	conn, err := net.DialTimeout("unix", socket, dialTimeout)
	if err != nil {
		return nil, err
	}
	if err := awaitGreeting(conn); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// awaitGreeting waits for the daemon's greeting. A daemon that was killed may leave connections
// behind that it never accepted.
func awaitGreeting(conn net.Conn) error {
	_ = conn.SetReadDeadline(time.Now().Add(dialTimeout))
	greeting := make([]byte, wire.RelayGreeting)
	if _, err := io.ReadFull(conn, greeting); errors.Is(err, io.EOF) {
		return errClosed
	} else if err != nil {
		return err
	}
	_ = conn.SetReadDeadline(time.Time{})
	return wire.CheckRelayGreeting(greeting)
}

// errClosed means that the daemon has closed a connection at once.
var errClosed = errors.New("it closes the connection: its listen block may have to name this user in users, and its log says so")

// notify passes an event to the loop; it returns false after the end of Run.
func (r *relay) notify(ctx context.Context, e event) bool {
	select {
	case r.events <- e:
		return true
	case <-ctx.Done():
		return false
	}
}
