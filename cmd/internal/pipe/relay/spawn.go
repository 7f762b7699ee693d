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

// LockFD is the descriptor on which a new broker finds its lock.
const LockFD = 3

// Pauses between attempts to start a broker that ends at once, as with a broken configuration.
const (
	spawnPause     = time.Second
	spawnPauseMost = 5 * time.Second
)

// Spawner starts the broker of pipes where no daemon runs. Of all relays that want one, the holder
// of the lock starts it, and passes the lock on to it as a descriptor: the kernel releases the
// lock when the broker ends, however it ends. It is for one goroutine.
type Spawner struct {
	Lock    string   // path of the lock file
	Command []string // with an absolute path
	Log     string   // where the broker's standard error goes, see OpenLog

	held     *os.File   // the lock, until the broker serves
	ended    chan error // gets the end of the broker that was started; nil: none was
	attempts int        // that failed since the last success
	notUntil time.Time
}

// ensure starts a broker unless the lock is held. It does not wait until the broker serves.
func (o *Spawner) ensure(log *slog.Logger) {
	if o.ended != nil {
		select {
		case err := <-o.ended:
			if err == nil { // it has yielded to a daemon already
				o.served()
				o.notUntil = time.Now().Add(settle)
				return
			}
			o.ended = nil
			o.attempts++
			pause := min(spawnPause<<min(o.attempts-1, 8), spawnPauseMost)
			o.notUntil = time.Now().Add(pause)
			// The lock is kept meanwhile, so that other relays do not try the same at once.
			log.Error("the broker that was to serve ended at once; its own log says why", "err", err, "again_in", pause)
		default:
			return // it is starting
		}
	}
	if time.Now().Before(o.notUntil) {
		return
	}
	if o.held != nil {
		// Give a daemon a chance to take the lock: it may have another configuration.
		o.release()
		return
	}
	if err := o.lock(); err != nil {
		if !errors.Is(err, filelock.ErrLocked) {
			o.notUntil = time.Now().Add(spawnPause)
			log.Error("no broker can be started", "err", err)
		}
		return
	}
	if err := o.start(log); err != nil {
		o.notUntil = time.Now().Add(spawnPause)
		log.Error("no broker can be started", "err", err)
	}
}

func (o *Spawner) lock() error {
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

func (o *Spawner) start(log *slog.Logger) error {
	out, err := openLogFile(o.Log)
	if err != nil { // logins matter more than the log
		log.Error("the broker starts without a log", "err", err)
		if out, err = openLogFile(Nowhere); err != nil {
			return fmt.Errorf("log of the broker: %w", err)
		}
	}
	if out != os.Stderr {
		defer out.Close()
	}
	cmd := exec.Command(o.Command[0], o.Command[1:]...)
	cmd.Dir, cmd.Env = "/", spawnEnvironment()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = []*os.File{o.held} // becomes LockFD
	// Signals to this process group are not meant for the broker of all pipes.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	o.ended = ended
	return nil
}

// served notes that a broker has taken over the lock.
func (o *Spawner) served() {
	o.attempts, o.ended = 0, nil
	o.release()
}

func (o *Spawner) release() {
	if o.held != nil {
		_ = o.held.Close()
		o.held = nil
	}
}

// spawnEnvironment is the environment without what a service manager set for this process alone.
func spawnEnvironment() (env []string) {
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

// CloseOnExec keeps descriptors that this process inherited from the programs it starts.
// Prosody's children inherit its sockets: a broker that outlives Prosody would keep port 5222
// busy.
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
