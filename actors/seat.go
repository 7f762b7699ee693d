package actors

import (
	"net"
	"strconv"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
)

// parkedSeats is how many seats a listener keeps for connections to come.
const parkedSeats = 128

// seat is what serves a connection: a goroutine that reads, and an actor that writes. Where
// every question comes on a connection of its own, starting and stopping the two would cost as
// much as the answer; so a seat serves one connection after another. All that belongs to a
// connection stands in its conn, and a call knows its conn: what comes late for one that has
// ended is no more than a wake-up for the one after it, which is always harmless.
type seat struct {
	broker *Broker
	pid    *actor.PID
	conn   atomic.Pointer[conn] // nil between connections
	waking atomic.Bool
	lives  atomic.Int32 // of the actor: one, and one for each restart
	input  []byte       // the small buffer of its readers, one after the other
}

// newSeat starts the actor of a seat. The caller's goroutine reads.
func (b *Broker) newSeat(front string) (*seat, error) {
	s := &seat{broker: b, input: make([]byte, smallBuffer)}
	name := "conn:" + front + ":" + strconv.FormatUint(b.seatSeq.Add(1), 10)
	var err error
	s.pid, err = b.sys.spawnRoot(name, connQueue, false, func() actor.Actor {
		s.lives.Add(1)
		return seatActor{s}
	})
	return s, err
}

// close stops the actor.
func (s *seat) close() { s.broker.sys.Root.Stop(s.pid) }

// worn reports whether the actor has panicked: the next restart would then be delayed, for
// what is no fault of the next connection.
func (s *seat) worn() bool { return s.lives.Load() > 1 }

func (s *seat) wake() {
	if s.waking.CompareAndSwap(false, true) {
		s.broker.sys.Root.Send(s.pid, wakeMessage)
	}
}

// seatActor writes the answers of the connection that is being served.
type seatActor struct{ *seat }

// Receive implements actor.Actor.
func (a seatActor) Receive(ctx actor.Context) {
	switch ctx.Message().(type) {
	case *actor.Started, *wake:
		a.waking.Store(false)
		if c := a.conn.Load(); c != nil {
			c.flush()
		}
	}
}

// attend serves a connection, and then others, on a seat of its own.
func (l *listener) attend(socket net.Conn) {
	b := l.broker
	defer b.idle.Done()
	s, err := b.newSeat(l.front.Load().name)
	if err != nil {
		b.log.Error("connection refused", "front", l.front.Load().name, "err", err)
		_ = socket.Close()
		b.arriving.Add(-1)
		l.slots.leave()
		return
	}
	defer s.close()
	at := make(chan net.Conn, 1)
	for ok := true; ok; socket, ok = l.seats.wait(at) {
		b.serve(s, l, l.front.Load(), socket, socket, socket)
		l.slots.leave()
		if s.worn() {
			return
		}
	}
}
