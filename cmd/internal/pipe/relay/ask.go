package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"postern/internal/auth"
	"postern/wire"
)

// Ask puts one question to the daemon of the settings. An error is a temporary failure: there is no
// daemon, or it does not answer in time.
func Ask(s Settings, req auth.Request) (auth.Answer, error) {
	r := relay{Options: Options{Socket: s.Socket, Elsewhere: s.Elsewhere}}
	conn, err := r.dialAny()
	if err != nil {
		return auth.Answer{}, fmt.Errorf("reach the daemon at %s: %w", s.Socket, err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(s.Deadline))
	question := wire.AppendRelayRequest(nil, &req, s.Deadline-wayBack)
	_, err = conn.Write(question)
	clear(question)
	if err != nil {
		return auth.Answer{}, fmt.Errorf("ask the daemon: %w", err)
	}
	a, err := readAnswer(conn)
	if err != nil {
		return auth.Answer{}, fmt.Errorf("read the daemon's answer: %w", err)
	}
	return wire.NameRelayAnswer(&req, a), nil
}

// readAnswer reads the one answer.
func readAnswer(conn net.Conn) (auth.Answer, error) {
	buf := make([]byte, 0, 1024)
	for {
		n, a, err := wire.DecodeRelayAnswer(buf)
		if err != nil || n > 0 {
			return a, err
		}
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, 4*cap(buf)), buf...)
		}
		if n, err = conn.Read(buf[len(buf):cap(buf)]); n == 0 && err != nil {
			return a, errors.Join(err, io.ErrUnexpectedEOF)
		}
		buf = buf[:len(buf)+n]
	}
}
