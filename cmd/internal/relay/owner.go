package relay

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"postern/internal/filelock"
)

// LockFD is the descriptor on which a new owner finds its lock.
const LockFD = 3

// Pauses between attempts to start an owner that ends at once, as with a broken configuration.
const (
	ownerPause     = time.Second
	ownerPauseMost = 5 * time.Second
)

// Owner starts the process that serves relays where none does. Of all relays that miss one, the
// holder of the lock starts it, and hands it the lock: the kernel takes it back when the owner
// ends, however it ends. It is for one goroutine.
type Owner struct {
	Lock    string   // path of the lock file
	Command []string // with an absolute path
	Log     string   // where the owner's standard error goes, see OpenLog

	held     *os.File   // our hold on the lock until the owner serves
	ended    chan error // of the owner that we started
	attempts int
	notUntil time.Time
}

// ensure starts an owner unless somebody is one already. It does not wait for it to serve.
func (o *Owner) ensure(log *slog.Logger) {
	if o.ended != nil {
		select {
		case err := <-o.ended:
			if err == nil { // it has yielded to a daemon before we came to it
				o.serving()
				o.notUntil = time.Now().Add(settle)
				return
			}
			o.ended = nil
			o.attempts++
			pause := min(ownerPause<<min(o.attempts-1, 8), ownerPauseMost)
			o.notUntil = time.Now().Add(pause)
			// The lock stays with us meanwhile, so that the others do not try the same at once.
			log.Error("the broker that was to serve ended at once; its own log says why", "err", err, "again_in", pause)
		default:
			return // it is starting
		}
	}
	if time.Now().Before(o.notUntil) {
		return
	}
	if o.held != nil {
		// Before the next attempt a daemon gets its chance: its configuration may be another one.
		o.letGo()
		return
	}
	if err := o.lock(); err != nil {
		if !errors.Is(err, filelock.ErrLocked) {
			o.notUntil = time.Now().Add(ownerPause)
			log.Error("no broker can be started", "err", err)
		}
		return
	}
	if err := o.start(log); err != nil {
		o.notUntil = time.Now().Add(ownerPause)
		log.Error("no broker can be started", "err", err)
	}
}

func (o *Owner) lock() error {
	f, err := os.OpenFile(o.Lock, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := filelock.TryLock(f); err != nil {
		_ = f.Close()
		return err
	}
	o.held = f
	return nil
}

func (o *Owner) start(log *slog.Logger) error {
	out, err := openLogFile(o.Log)
	if err != nil { // who logs in must not suffer
		log.Error("the broker starts without a log", "err", err)
		if out, err = openLogFile(Nowhere); err != nil {
			return fmt.Errorf("log of the broker: %w", err)
		}
	}
	if out != os.Stderr {
		defer out.Close()
	}
	cmd := exec.Command(o.Command[0], o.Command[1:]...)
	cmd.Dir, cmd.Env = "/", ownerEnvironment()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = []*os.File{o.held} // becomes LockFD
	// Signals for our process group are not for everybody's broker.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	o.ended = ended
	return nil
}

// serving takes note that an owner serves, or has: the lock is not ours any more.
func (o *Owner) serving() {
	o.attempts, o.ended = 0, nil
	o.letGo()
}

func (o *Owner) letGo() {
	if o.held != nil {
		_ = o.held.Close()
		o.held = nil
	}
}

// ownerEnvironment is ours without what a service manager meant for this process.
func ownerEnvironment() (env []string) {
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES":
			continue
		}
		env = append(env, v)
	}
	return env
}

// CloseOnExec keeps what our parent left open from the programs that we start: Prosody's
// children inherit its sockets, and a broker that outlives it would keep port 5222 busy
// (PROTOCOLS 3.2).
func CloseOnExec() {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, entry := range list {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}
