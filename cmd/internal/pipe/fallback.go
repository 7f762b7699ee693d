package pipe

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"postern/cmd/internal/pipe/relay"
	"postern/internal/auth"
	"postern/wire"
)

// RetryEvery is how often a pipe that cannot work checks whether the fault is corrected.
const RetryEvery = time.Second

// fallback answers standard input while a pipe cannot work. It reads in one loop, without a
// goroutine, so that between two requests nothing of the input is in this process: when usable
// reports no error any more, the process executes itself, and the peer notices nothing.
type fallback struct {
	in             *os.File
	arrivals       *relay.Arrivals
	strictDeadline bool // the peer would pair a late answer with its next request
	out            io.Writer
	protocol       string
	codec          wire.Codec // nil until the first byte: see open
	log            *slog.Logger
	logged         string // the last reason that was logged
	usable         func() error
	restart        func() error
	busy           sync.Mutex // held from the first byte of a request to its answer
	buf            []byte
}

// Fallback answers every question "temporary failure" because of cause. It returns when standard
// input ends; when usable reports no error, the process starts over.
func Fallback(std Stdio, protocol string, cause error, usable func() error) error {
	f := &fallback{
		in: std.In, arrivals: relay.NewArrivals(std.In), strictDeadline: relay.OnTerminal(std.In, std.Out),
		out: std.Out, protocol: protocol, log: fallbackLog(std), usable: usable, restart: restart,
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, relay.Endings(relay.OnTerminal(std.In, std.Out))...)
	signal.Ignore(syscall.SIGTTOU)
	go func() {
		<-signals
		f.busy.Lock() // a request that has begun is answered first
		os.Exit(0)
	}()
	f.report(cause)
	if f.strictDeadline && f.arrivals.OpenTerminal(std.Out) {
		return nil
	}
	if relay.Listens(std.In) {
		return f.listen()
	}
	return f.loop()
}

// fallbackLog is standard error, or the system's log if standard error is connected to the peer.
func fallbackLog(std Stdio) *slog.Logger {
	if !SameFile(std.Out, std.Err) {
		return relay.OpenLog(relay.Stderr)
	}
	w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_ERR, "postern")
	if err != nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(w, nil))
}

// report logs why nothing works, once per reason.
func (f *fallback) report(cause error) {
	if cause.Error() != f.logged {
		f.logged = cause.Error()
		f.log.Error("not usable: every question is answered with a temporary failure until this is mended", "err", cause)
	}
}

// retry starts over if the fault is corrected.
func (f *fallback) retry() {
	err := f.usable()
	if err == nil {
		f.arrivals.PassOn() // the age of a question must not count from the first start
		err = f.restart()
	}
	if err != nil {
		f.report(err)
	}
}

// listen answers the connections to a standard input that listens. They are closed when the
// process starts over.
func (f *fallback) listen() error {
	l, err := net.FileListener(f.in)
	if err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	connections := relay.Acceptor{Listener: l, Log: f.log}
	go func() {
		for {
			c, err := connections.Next(context.Background())
			if err != nil {
				return
			}
			one := &fallback{out: c, protocol: f.protocol}
			go func() {
				defer c.Close()
				for !one.serve(c) {
				}
			}()
		}
	}()
	for {
		time.Sleep(RetryEvery)
		f.retry()
	}
}

func (f *fallback) loop() error {
	checked := time.Now()
	for {
		if len(f.buf) == 0 && time.Since(checked) >= RetryEvery {
			checked = time.Now()
			f.retry()
		}
		ready, err := f.arrivals.Wait(RetryEvery)
		if err != nil {
			return fmt.Errorf("wait for standard input: %w", err)
		}
		if ready && f.strictDeadline && time.Since(f.arrivals.Since()) >= relay.LateAfter {
			f.log.Error("a question is too old to be answered", "age", time.Since(f.arrivals.Since()))
			return nil
		}
		if ready && f.serve(f.in) {
			return nil
		}
	}
}

// serve reads what has arrived and answers the requests that are complete. It reports the end of
// the input.
func (f *fallback) serve(in io.Reader) (end bool) {
	f.busy.Lock()
	defer f.busy.Unlock()
	chunk := make([]byte, 4096)
	n, err := in.Read(chunk)
	f.buf = append(f.buf, chunk[:n]...)
	if n > 0 {
		return f.answer()
	}
	return err != nil
}

// answer answers the complete requests in buf.
func (f *fallback) answer() (end bool) {
	if f.codec == nil && !f.open() {
		return true
	}
	var out []byte
	for !end {
		var req auth.Request
		n, event := f.codec.Decode(f.buf, &req)
		f.buf = f.buf[n:]
		switch event {
		case wire.Ask:
			out = f.codec.AppendAnswer(out, &req, auth.Answer{Source: auth.SourceConfig})
			end = f.codec.OneShot()
		case wire.Refuse, wire.RefuseBroken:
			out = f.codec.AppendAnswer(out, &req, auth.Answer{Verdict: auth.Deny, Source: auth.SourceMalformed})
			end = event == wire.RefuseBroken || f.codec.OneShot()
		case wire.Quit, wire.Broken:
			end = true
		}
		if event == wire.More && (n == 0 || len(f.buf) == 0) {
			break
		}
	}
	if len(f.buf) == 0 {
		f.buf = nil
	}
	if len(out) > 0 {
		_, _ = f.out.Write(out) // a peer that does not read may still write
	}
	return end
}

// open makes the codec. If the protocol is misspelt, the first byte decides: ejabberd's frames
// begin with the high byte of a length, which is no printable character in any real request.
func (f *fallback) open() bool {
	protocol := wire.Protocol(f.protocol)
	if CheckProtocol(f.protocol) != nil {
		protocol = wire.Ejabberd
		if f.buf[0] >= ' ' {
			protocol = wire.Generic
		}
	}
	var err error
	f.codec, err = wire.New(protocol, wire.Options{})
	return err == nil
}

// restart executes this program again, as the same process.
func restart() error {
	self := "/proc/self/exe" // the same program, also if the file has been replaced
	if runtime.GOOS != "linux" {
		self, _ = os.Executable()
	}
	err := syscall.Exec(self, os.Args, os.Environ())
	return fmt.Errorf("start over: %w", err)
}
