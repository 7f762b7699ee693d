package actors

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// TestDovecotDrain: a login that is under way when postern stops has its answer, what comes then
// is not refused as wrong, and every connection ends.
func TestDovecotDrain(t *testing.T) {
	g := newGate()
	r := newRig(t, func(s *setup) { s.fake.ask = g.ask })
	address := r.listen(listenerBlock("dovecot"))
	busy, late, postfix, idle := r.dovecot(t, address, 0), r.dovecot(t, address, 1), r.dovecot(t, address, 0), r.dovecot(t, address, 0)
	busy.say(plainLogin(1, "joe", "good"))
	g.reached(t, 1)
	done := r.drain(context.Background())
	late.say(plainLogin(1, "joe", "good"))
	late.expect("FAIL\t1\tuser=joe\ttemp\tcode=temp_fail")
	postfix.say(plainLogin(1, "joe", "good"))
	postfix.ended()
	g.open()
	busy.expect("OK\t1\tuser=joe")
	if !<-done {
		t.Error("not all was answered")
	}
	for _, d := range []*dovecotClient{busy, late, idle} {
		d.ended()
	}
}

// panickyConn panics at one of its writes.
type panickyConn struct {
	*net.TCPConn
	write int // the number of the write that panics
}

func (c *panickyConn) Write(b []byte) (int, error) {
	if c.write--; c.write == 0 {
		panic(injected("write"))
	}
	return c.TCPConn.Write(b)
}

// panickyListener accepts such connections.
type panickyListener struct{ net.Listener }

func (l panickyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &panickyConn{c.(*net.TCPConn), 2}, nil // the greeting is the first
}

// TestDovecotHangsUpAfterPanic: a panic of the write before it does not undo hanging up.
func TestDovecotHangsUpAfterPanic(t *testing.T) {
	r := newRig(t, func(s *setup) { s.fake.ask = gated(newGate()) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Listen(listenerBlock("dovecot"), panickyListener{l}); err != nil {
		t.Fatal(err)
	}
	d := r.dovecot(t, l.Addr().String(), 0)
	d.say("AUTH\t1\tLOGIN\tservice=smtp\n" + plainLogin(2, "down", "good"))
	d.expect("CONT\t1\tVXNlcm5hbWU6")
	d.ended()
	if !strings.Contains(r.log.String(), "injected: write") {
		t.Error("the write did not panic")
	}
}

// TestDovecotIdle: a client may be silent between its lines, but not within one.
func TestDovecotIdle(t *testing.T) {
	const frameTimeout = 50 * time.Millisecond
	r := newRig(t, nil)
	cfg := listenerBlock("dovecot")
	cfg.FrameTimeout = frameTimeout
	address := r.listen(cfg)
	idle, slow := r.dovecot(t, address, 0), r.dovecot(t, address, 0)
	idle.say("AUTH\t1\tPLAIN\tservice=smtp\n")
	idle.expect("CONT\t1\t")
	idle.say("CANCEL\t1\n")
	slow.say("AUTH\t1\tPL")
	slow.ended()
	_ = idle.SetReadDeadline(time.Now().Add(4 * frameTimeout))
	if _, err := idle.in.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the idle connection ended: %v", err)
	}
	_ = idle.SetReadDeadline(time.Now().Add(20 * time.Second))
	idle.say(plainLogin(2, "joe", "good"))
	idle.expect("OK\t2\tuser=joe")
}
