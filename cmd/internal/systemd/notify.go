package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// notifyPatience bounds one message: the manager's queue may be full.
const notifyPatience = time.Second

// Notifier tells the service manager how the service fares. A nil one, and one of a process
// that was not started by a service manager, says nothing. What cannot be told is logged and
// does no other harm.
type Notifier struct {
	socket   string        // empty: nobody listens
	watchdog time.Duration // the manager's patience; 0: there is no watchdog
	log      *slog.Logger
}

// NewNotifier reads the variables that say where to notify, and removes them: children must
// not speak for the service.
func NewNotifier(log *slog.Logger) *Notifier {
	n := &Notifier{socket: take("NOTIFY_SOCKET"), log: log}
	usec, pid := take("WATCHDOG_USEC"), take("WATCHDOG_PID")
	if n.socket != "" && !strings.HasPrefix(n.socket, "/") && !strings.HasPrefix(n.socket, "@") {
		log.Warn("NOTIFY_SOCKET is neither a path nor an abstract name; the service manager will be told nothing", "socket", n.socket)
		n.socket = ""
	}
	if n.socket == "" || usec == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return n
	}
	v, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || v <= 0 || v > int64(24*time.Hour/time.Microsecond) {
		log.Warn("WATCHDOG_USEC is no number of microseconds; there is no watchdog", "usec", usec)
		return n
	}
	n.watchdog = time.Duration(v) * time.Microsecond
	return n
}

// Ready says that the service serves, after its start or a reload. status is one line for
// `systemctl status`.
func (n *Notifier) Ready(status string) { n.send("READY=1", "STATUS="+status) }

// Reloading says that the configuration is read again. Ready must follow.
func (n *Notifier) Reloading() {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // fails for no clock that Linux has
	n.send("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/int64(time.Microsecond)), "STATUS=reloading")
}

// Stopping says that the service ends.
func (n *Notifier) Stopping(status string) { n.send("STOPPING=1", "STATUS="+status) }

// Watch says twice per watchdog interval that the service lives, as long as alive
// returns nil before the next time, until ctx ends. Without a watchdog it returns at once.
func (n *Notifier) Watch(ctx context.Context, alive func(context.Context) error) {
	if n == nil || n.watchdog == 0 {
		return
	}
	tick := time.NewTicker(n.watchdog / 2)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		// A little less, so that an answer in the last moment meets its own tick.
		bounded, cancel := context.WithTimeout(ctx, n.watchdog*2/5)
		err := alive(bounded)
		cancel()
		switch {
		case ctx.Err() != nil:
		case err != nil:
			n.log.Error("the watchdog is not told that all is well", "patience", n.watchdog, "err", err)
		default:
			n.send("WATCHDOG=1")
		}
	}
}

func (n *Notifier) send(lines ...string) {
	if n == nil || n.socket == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: n.socket})
	if err == nil {
		defer conn.Close()
		_ = conn.SetWriteDeadline(time.Now().Add(notifyPatience))
		_, err = conn.Write([]byte(strings.Join(lines, "\n")))
	}
	if err != nil {
		n.log.Warn("the service manager could not be told", "what", lines[0], "err", err)
	}
}
