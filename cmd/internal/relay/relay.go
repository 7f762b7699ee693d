// Package relay passes what a peer asks on standard input on to the process that serves: the
// daemon, or where none runs an owner that one of the relays starts. It is small in memory and
// quick to start, since ejabberd starts many: no store, no actors, no configuration.
package relay

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"postern/internal/auth"
	"postern/wire"
)

// Options shape a relay.
type Options struct {
	Protocol      wire.Protocol
	Wire          wire.Options
	DefaultDomain string        // for logins that carry no domain
	Deadline      time.Duration // every request is answered within it, also when nobody serves
	LateAfter     time.Duration // the age of a request from which on Run ends rather than answer it; 0: none
	Pipeline      int           // requests under way at once
	Socket        string        // of the daemon or owner
	Elsewhere     string        // of a daemon that could not have the first one; empty: nowhere
	Owner         *Owner        // nil: nobody is started where no daemon runs
	Log           *slog.Logger
}

// Times of the search for the daemon, and what is kept of a deadline for the way back.
const (
	dialPause     = 10 * time.Millisecond
	dialPauseMost = 100 * time.Millisecond
	settle        = 250 * time.Millisecond // a lost daemon may be back without an owner's help
	relayPause    = 5 * time.Second        // for a daemon that speaks another version
	dialPatient   = time.Second
	writeTime     = time.Second
	wayBack       = 100 * time.Millisecond
)

// relay is one run. Its fields belong to the goroutine of Run.
type relay struct {
	Options
	codec wire.Codec
	queue queue
	out   io.Writer

	input  chan decoded
	link   chan event
	dial   chan struct{} // asks the dialer for a connection
	conn   net.Conn      // nil: no daemon
	number int           // of the connection: events of earlier ones are stale
	ending bool          // the daemon stops: it is asked nothing more
	eof    bool
	inner  context.Context // of the goroutines
}

// decoded is one frame of the peer; the channel is closed at the end of its input.
type decoded struct {
	req     auth.Request
	came    time.Time // at the earliest
	refused bool
	last    bool
}

// event is what happened to the connection with the daemon.
type event struct {
	number int
	conn   net.Conn    // a new connection
	answer auth.Answer // a reply
	err    error       // the end of the connection
	failed bool        // the owner that was started ended at once
}

// Run serves the peer until in ends and every answer has been written, or ctx ends and what
// is under way is answered. It fails when an answer is late where none must be, before it is
// written.
func Run(ctx context.Context, in io.Reader, out io.Writer, o Options) error {
	codec, err := wire.New(o.Protocol, o.Wire)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &relay{
		Options: o, codec: codec, out: out,
		input: make(chan decoded), link: make(chan event), dial: make(chan struct{}, 1),
	}
	inner, stop := context.WithCancel(context.Background())
	defer stop()
	r.inner = inner
	go r.read(inner, in)
	go r.dialer(inner)
	r.search(time.Now())
	err = r.loop(ctx)
	if r.conn != nil {
		_ = r.conn.Close()
	}
	return err
}

func (r *relay) loop(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		input := r.input
		if r.eof || len(r.queue.items) >= max(r.Pipeline, 1) {
			input = nil // the peer waits, as its answers do
		}
		select {
		case d, ok := <-input:
			r.take(d, ok)
		case e := <-r.link:
			r.linked(e)
		case <-timer.C:
		case <-ctx.Done():
			r.Log.Info("stopping", "unanswered", len(r.queue.items))
			r.eof = true
			ctx = context.Background()
		}
		next := r.queue.expire(time.Now())
		r.send()
		if err := r.answer(); err != nil {
			return err
		}
		if r.eof && len(r.queue.items) == 0 {
			return nil
		}
		wait := time.Hour
		if !next.IsZero() {
			wait = time.Until(next)
		}
		timer.Reset(wait)
	}
}

// take puts a request into the queue.
func (r *relay) take(d decoded, ok bool) {
	if !ok {
		r.eof = true
		return
	}
	if d.req.Domain == "" {
		d.req.Domain = r.DefaultDomain // if there is none, that of the daemon's listener counts
	}
	it := &item{req: d.req, deadline: time.Now().Add(r.Deadline)}
	if r.LateAfter > 0 {
		it.deadline, it.late = d.came.Add(r.Deadline), d.came.Add(r.LateAfter)
	}
	r.queue.add(it, d.refused)
	r.eof = r.eof || d.last
}

// linked takes what happened to the connection.
func (r *relay) linked(e event) {
	switch {
	case e.conn != nil:
		r.conn, r.number, r.ending = e.conn, e.number, false
		r.queue.hopeless = time.Time{}
		go r.replies(r.inner, e.conn, e.number)
	case e.failed && r.conn == nil:
		r.queue.hopeless = time.Now()
	case e.number != r.number || r.conn == nil:
	case e.err != nil:
		r.disconnect(e.err)
	case !r.queue.reply(e.answer):
		r.disconnect(wire.ErrRelay)
	default:
		r.ending = r.ending || e.answer.Source == auth.SourceDraining
		if r.ending && len(r.queue.flight) == 0 {
			r.disconnect(errStopping)
		}
	}
}

var errStopping = errors.New("it is stopping")

func (r *relay) disconnect(err error) {
	r.Log.Warn("the daemon is gone; waiting for it", "err", err)
	_ = r.conn.Close()
	r.conn = nil
	r.queue.lost()
	r.search(time.Now())
}

// search has the dialer look for somebody who serves.
func (r *relay) search(now time.Time) {
	if r.Owner != nil {
		r.queue.hopeless = now.Add(absentPatience)
	}
	r.dial <- struct{}{}
}

// send asks the daemon what it has not been asked.
func (r *relay) send() {
	if r.conn == nil || r.ending {
		return
	}
	var b []byte
	now := time.Now()
	for _, it := range r.queue.unsent() {
		b = wire.AppendRelayRequest(b, &it.req, max(it.deadline.Sub(now)-wayBack, time.Millisecond))
	}
	if len(b) == 0 {
		return
	}
	_ = r.conn.SetWriteDeadline(time.Now().Add(writeTime))
	if _, err := r.conn.Write(b); err != nil {
		r.disconnect(err)
	}
	clear(b)
}

// answer writes what is answered and next in order.
func (r *relay) answer() error {
	var b []byte
	ready := r.queue.pop()
	for _, it := range ready {
		b = r.codec.AppendAnswer(b, &it.req, it.answer)
	}
	if len(b) == 0 {
		return nil
	}
	if late := ready[0].late; !late.IsZero() && !time.Now().Before(late) { // the first is the oldest
		return errLate
	}
	if _, err := r.out.Write(b); err != nil {
		return errors.Join(errors.New("the peer does not take its answers"), err)
	}
	return nil
}
