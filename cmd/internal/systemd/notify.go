package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// notifyTimeout bounds the write of one message: it blocks while the queue of the service
// manager's socket is full.
const notifyTimeout = time.Second

// Notifier sends the state of the service to the service manager. It sends nothing if it is nil or
// if no service manager started the process. A message that cannot be sent is logged and dropped.
type Notifier struct {
	socket   string        // path, or abstract name with a leading @; empty: send nothing
	watchdog time.Duration // the manager's limit between two WATCHDOG=1; 0: there is no watchdog
	log      *slog.Logger
}

// NewNotifier reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID and unsets them, so that child
// processes cannot send notifications for the service.
func NewNotifier(log *slog.Logger) *Notifier {
	n := &Notifier{socket: takeEnv("NOTIFY_SOCKET"), log: log}
	usec, pid := takeEnv("WATCHDOG_USEC"), takeEnv("WATCHDOG_PID")
	if n.socket != "" && !strings.HasPrefix(n.socket, "/") && !strings.HasPrefix(n.socket, "@") {
		log.Warn("NOTIFY_SOCKET is neither a path nor an abstract name; the service manager is not notified", "socket", n.socket)
		n.socket = ""
	}
	if n.socket == "" || usec == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return n
	}
	v, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || v <= 0 || v > int64(24*time.Hour/time.Microsecond) {
		log.Warn("WATCHDOG_USEC is not a valid number of microseconds; the watchdog is off", "usec", usec)
		return n
	}
	n.watchdog = time.Duration(v) * time.Microsecond
	return n
}

// Ready reports that the service is up, after its start or a reload. status is one line for
// `systemctl status`.
func (n *Notifier) Ready(status string) { n.send("READY=1", "STATUS="+status) }

// Reloading reports that the configuration is being reloaded. Ready must follow.
func (n *Notifier) Reloading() {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // fails for unknown clocks only
	n.send("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/int64(time.Microsecond)), "STATUS=reloading")
}

// Stopping reports that the service is shutting down. status is one line for `systemctl status`.
func (n *Notifier) Stopping(status string) { n.send("STOPPING=1", "STATUS="+status) }

// Watch calls alive twice per watchdog interval and sends WATCHDOG=1 if it returns nil, until ctx
// ends. The context of alive ends before the next call is due. Without a watchdog, Watch returns at
// once.
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
		// Less than a tick, so that a slow check ends before the next one is due.
		bounded, cancel := context.WithTimeout(ctx, n.watchdog*2/5)
		err := alive(bounded)
		cancel()
		switch {
		case ctx.Err() != nil:
		case err != nil:
			n.log.Error("the service does not respond; the watchdog is not notified", "patience", n.watchdog, "err", err)
		default:
			n.send("WATCHDOG=1")
		}
	}
}

// send sends one message of several assignments. It may be called from any goroutine.
func (n *Notifier) send(lines ...string) {
	if err := n.sendWith(nil, lines...); err != nil {
		n.log.Warn("cannot notify the service manager", "what", lines[0], "err", err)
	}
}
