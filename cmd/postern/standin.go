package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"postern/cmd/internal/relay"
	"postern/internal/auth"
	"postern/wire"
)

// mendEvery is how often a pipe that cannot work looks whether it can by now.
const mendEvery = time.Second

// standIn answers standard input while a pipe cannot work. It is one loop without a reader
// goroutine, so that between two requests nothing of the input is in this process: when usable
// reports no error any more, the process starts over as a working pipe and nobody notices.
type standIn struct {
	in       *os.File
	arrivals *relay.Arrivals
	punctual bool // the peer takes a late answer for another one
	out      io.Writer
	protocol string
	codec    wire.Codec // nil until the protocol is known
	log      *slog.Logger
	said     string
	usable   func() error
	restart  func() error
	busy     sync.Mutex // held from the first byte of a request to its answer
	buf      []byte
}

// standIn answers every question "cannot tell" until standard input ends or usable reports no
// error.
func (a *app) standIn(protocol string, cause error, usable func() error) error {
	s := &standIn{
		in: a.in, arrivals: relay.NewArrivals(a.in), punctual: relay.OnTerminal(a.in, a.out),
		out: a.out, protocol: protocol, log: a.standInLog(), usable: usable, restart: restartSelf,
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	signal.Ignore(syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGTTOU)
	go func() {
		<-signals
		s.busy.Lock() // an answer that is owed leaves first
		os.Exit(0)
	}()
	s.say(cause)
	if s.punctual {
		relay.WholeAnswers(a.out)
	}
	if relay.Listens(a.in) {
		return s.listen()
	}
	return s.loop()
}

// standInLog is standard error, or the system's log where that is the peer's line.
func (a *app) standInLog() *slog.Logger {
	if !sameFile(a.out, a.err) {
		return relay.OpenLog(relay.Stderr)
	}
	w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_ERR, "postern")
	if err != nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(w, nil))
}

// say logs why nothing works, once per reason.
func (s *standIn) say(cause error) {
	if cause.Error() != s.said {
		s.said = cause.Error()
		s.log.Error("not usable: every question is answered \"cannot tell\" until this is mended", "err", cause)
	}
}

// mend starts over if nothing speaks against it any more.
func (s *standIn) mend() {
	err := s.usable()
	if err == nil {
		s.arrivals.HandOn() // the first start is too long ago to count from
		err = s.restart()
	}
	if err != nil {
		s.say(err)
	}
}

// listen answers those who connect to a listening standard input. They see their connections
// end when the process starts over.
func (s *standIn) listen() error {
	l, err := net.FileListener(s.in)
	if err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	connections := relay.Acceptor{Listener: l, Log: s.log}
	go func() {
		for {
			c, err := connections.Next(context.Background())
			if err != nil {
				return
			}
			one := &standIn{out: c, protocol: s.protocol}
			go func() {
				defer c.Close()
				for !one.take(c) {
				}
			}()
		}
	}()
	for {
		time.Sleep(mendEvery)
		s.mend()
	}
}

func (s *standIn) loop() error {
	checked := time.Now()
	for {
		if len(s.buf) == 0 && time.Since(checked) >= mendEvery {
			checked = time.Now()
			s.mend()
		}
		ready, err := s.arrivals.Wait(mendEvery)
		if err != nil {
			return fmt.Errorf("wait for standard input: %w", err)
		}
		if ready && s.punctual && time.Since(s.arrivals.Since()) >= relay.LateAfter {
			s.log.Error("a question is too old to be answered", "age", time.Since(s.arrivals.Since()))
			return nil
		}
		if ready && s.take(s.in) {
			return nil
		}
	}
}

// take reads what has come and answers what is whole. It reports the end of the input.
func (s *standIn) take(in io.Reader) (end bool) {
	s.busy.Lock()
	defer s.busy.Unlock()
	chunk := make([]byte, 4096)
	n, err := in.Read(chunk)
	s.buf = append(s.buf, chunk[:n]...)
	if n > 0 {
		return s.answer()
	}
	return err != nil
}

// answer answers what is whole in buf.
func (s *standIn) answer() (end bool) {
	if s.codec == nil && !s.open() {
		return true
	}
	var out []byte
	for !end {
		var req auth.Request
		n, event := s.codec.Decode(s.buf, &req)
		s.buf = s.buf[n:]
		switch event {
		case wire.Ask:
			out = s.codec.AppendAnswer(out, &req, auth.Answer{Source: auth.SourceConfig})
			end = s.codec.OneShot()
		case wire.Refuse, wire.RefuseBroken:
			out = s.codec.AppendAnswer(out, &req, auth.Answer{Verdict: auth.Deny, Source: auth.SourceMalformed})
			end = event == wire.RefuseBroken || s.codec.OneShot()
		case wire.Quit, wire.Broken:
			end = true
		}
		if event == wire.More && (n == 0 || len(s.buf) == 0) {
			break
		}
	}
	if len(s.buf) == 0 {
		s.buf = nil
	}
	if len(out) > 0 {
		_, _ = s.out.Write(out) // a peer that does not read may still hold its end open
	}
	return end
}

// open makes the codec. Where the protocol is misspelt it goes by the first byte: ejabberd's
// frames begin with a length, of which the high byte is no letter in any request worth the name.
func (s *standIn) open() bool {
	protocol := wire.Protocol(s.protocol)
	if _, err := pipeDefaults(s.protocol); err != nil {
		protocol = wire.Ejabberd
		if s.buf[0] >= ' ' {
			protocol = wire.Generic
		}
	}
	var err error
	s.codec, err = wire.New(protocol, wire.Options{})
	return err == nil
}

// restartSelf starts this process over, as the same process.
func restartSelf() error {
	err := syscall.Exec("/proc/self/exe", os.Args, os.Environ())
	return fmt.Errorf("start over: %w", err)
}
