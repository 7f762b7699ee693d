// Package relay is the working part of `postern pipe`: it passes the requests of one peer, on
// standard input and output, on to the daemon, and the answers back.
//
// Where no daemon runs, one of the relays starts a broker for all of them (see Spawner). When the
// connection is lost, what was not answered is asked again, once, on the next connection; a change
// with an unknown outcome is not repeated. Every request is answered within the deadline of its
// protocol, also if there is nothing to connect to.
//
// ejabberd starts many relays, so the package is small in memory and quick to start: it imports
// neither store nor actors nor configuration. Command postern-relay is this package alone.
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
	Deadline      time.Duration // every request is answered within it, also without a daemon
	LateAfter     time.Duration // the age of a request at which Run ends instead of answering it; 0: none
	Pipeline      int           // requests under way at once
	RefuseChanges bool          // the peer may be any client of a socket: it may not change accounts
	Socket        string        // of the daemon or broker
	Elsewhere     string        // of a daemon that could not open the first one; empty: nowhere
	Spawner       *Spawner      // starts a broker where no daemon runs; nil: none is started
	Log           *slog.Logger
}

// Times of the search for the daemon.
const (
	dialPause     = 2 * time.Millisecond // grows by a sixteenth: a broker that starts is found soon after it is ready
	dialPauseMost = 100 * time.Millisecond
	settle        = 250 * time.Millisecond // time for a lost daemon to come back by itself
	relayPause    = 5 * time.Second        // after a daemon of another version
	closedPause   = time.Second            // after one that does not admit this user
	dialTimeout   = time.Second
	writeTimeout  = time.Second
	wayBack       = 100 * time.Millisecond // of a deadline, kept for the way back to the peer
)

// relay is one run. Its fields belong to the goroutine of Run.
type relay struct {
	Options
	codec wire.Codec
	queue queue
	out   io.Writer

	input      chan decoded
	answered   chan struct{} // has one when answers were written
	events     chan event
	dial       chan struct{}   // asks the dialer for a connection
	conn       net.Conn        // nil: no daemon
	number     int             // of the connection: events of earlier ones are stale
	ending     bool            // the daemon stops: it is asked nothing more
	readClosed bool            // the input has ended, or is not read any more
	inner      context.Context // of the goroutines
}

// decoded is one request of the peer; the channel is closed at the end of its input.
type decoded struct {
	req     auth.Request
	came    time.Time // the request arrived then or later
	refused bool      // malformed: it is answered without asking
	last    bool      // nothing is read after it
}

// event is a change of the connection with the daemon.
type event struct {
	number int
	conn   net.Conn    // a new connection
	answer auth.Answer // a reply
	err    error       // the end of the connection
	failed bool        // the broker that was started ended at once
}

// Run serves the peer until in ends and every answer has been written, or ctx ends and what
// is under way is answered. With LateAfter it fails instead of writing an answer that is too late.
func Run(ctx context.Context, in io.Reader, out io.Writer, o Options) error {
	codec, err := wire.New(o.Protocol, o.Wire)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &relay{
		Options: o, codec: codec, out: out,
		answered: make(chan struct{}, 1), input: make(chan decoded), events: make(chan event), dial: make(chan struct{}, 1),
	}
	inner, stop := context.WithCancel(context.Background())
	defer stop()
	r.inner = inner
	go r.read(inner, in)
	go r.dialer(inner)
	r.reconnect(time.Now())
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
		if r.readClosed || len(r.queue.items) >= max(r.Pipeline, 1) {
			input = nil // stop reading: the peer has to wait
		}
		select {
		case d, ok := <-input:
			r.enqueue(d, ok)
		case e := <-r.events:
			r.onEvent(e)
		case <-timer.C:
		case <-ctx.Done():
			r.Log.Info("stopping", "unanswered", len(r.queue.items))
			r.readClosed = true
			ctx = context.Background()
		}
		next := r.queue.expire(time.Now())
		r.send()
		if err := r.answer(); err != nil {
			return err
		}
		if r.readClosed && len(r.queue.items) == 0 {
			return nil
		}
		wait := time.Hour
		if !next.IsZero() {
			wait = time.Until(next)
		}
		timer.Reset(wait)
	}
}

// enqueue puts a request into the queue.
func (r *relay) enqueue(d decoded, ok bool) {
	if !ok {
		r.readClosed = true
		return
	}
	if d.req.Domain == "" {
		d.req.Domain = r.DefaultDomain // if that is empty, the daemon uses its listener's
	}
	if d.req.Service == "" && d.req.Op == auth.OpAuth {
		d.req.Service = r.Protocol.Service() // the daemon sees no other protocol than this end's
	}
	it := &item{req: d.req, deadline: time.Now().Add(r.Deadline)}
	if r.LateAfter > 0 {
		it.deadline, it.late = d.came.Add(r.Deadline), d.came.Add(r.LateAfter)
	}
	r.queue.add(it, d.refused)
	if (it.req.SASL != nil || it.req.Bearer) && !it.done { // the relay protocol has neither, and they are not offered through it
		it.settle(auth.Answer{Verdict: auth.Unsupported, Source: auth.SourceUnsupported})
		r.Log.Warn("SCRAM and bearer tokens do not go through a pipe: use a listener of the daemon", "user", it.req.User, "domain", it.req.Domain)
	}
	if r.RefuseChanges && it.req.Op.Changes() && !it.done {
		it.settle(auth.Answer{Verdict: auth.Unsupported, Source: auth.SourceForbidden})
		r.Log.Warn("a change is refused: standard input is a socket, and any client of it might ask for that; "+
			"use a listener of the daemon with changes = true", "op", it.req.Op.String(), "user", it.req.User, "domain", it.req.Domain)
	}
	r.readClosed = r.readClosed || d.last
}

// onEvent handles what happened to the connection.
func (r *relay) onEvent(e event) {
	switch {
	case e.conn != nil:
		r.conn, r.number, r.ending = e.conn, e.number, false
		r.queue.giveUpAt = time.Time{}
		go r.replies(r.inner, e.conn, e.number)
	case e.failed && r.conn == nil:
		r.queue.giveUpAt = time.Now()
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
	r.reconnect(time.Now())
}

// reconnect has the dialer look for a daemon or broker.
func (r *relay) reconnect(now time.Time) {
	if r.Spawner != nil {
		r.queue.giveUpAt = now.Add(max(absentTimeout, r.Deadline/2))
	}
	r.dial <- struct{}{}
}

// send sends the requests that the daemon has not got yet.
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
	_ = r.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := r.conn.Write(b); err != nil {
		r.disconnect(err)
	}
	clear(b)
}

// answer writes the answers that are next in order.
func (r *relay) answer() error {
	var b []byte
	ready := r.queue.pop()
	for _, it := range ready {
		b = r.codec.AppendAnswer(b, &it.req, wire.NameRelayAnswer(&it.req, it.answer))
	}
	if len(b) == 0 {
		return nil
	}
	if late := ready[0].late; !late.IsZero() && !time.Now().Before(late) { // the first is the oldest
		return errLate
	}
	if _, err := r.out.Write(b); err != nil {
		return errors.Join(errors.New("the peer does not read its answers"), err)
	}
	select {
	case r.answered <- struct{}{}:
	default:
	}
	return nil
}
