package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"postern/actors"
	"postern/cmd/internal/control"
	"postern/cmd/internal/datadir"
	"postern/cmd/internal/handover"
	"postern/cmd/internal/listen"
	"postern/cmd/internal/systemd"
	"postern/internal/config"
	"postern/internal/snapshot"
	"postern/internal/store"
)

// A daemon that is restarted hands over three things to the next: the listening sockets that it has opened,
// so that clients can connect meanwhile, its memory, and the lock of the data directory, so that no pipe
// starts a broker in between. Under systemd they are in the store of file descriptors of the service: the
// sockets from the start on, so that a crash leaves no gap either, the others when all has been answered
// and written. Without a service manager, a process that is started with --takeover asks for them on the
// control socket, and gets them when the daemon has come to that point.
//
// The memory is taken once. It names the serial of the store, which every start renews before its first
// answer, and any change by another process renews, too: what forget and the like did meanwhile counts.

// bootEnv names the boot of the kernel where /proc is hidden, as in the shipped unit.
const bootEnv = "POSTERN_BOOT_ID"

// bootID identifies the boot of the kernel; "" if that cannot be found out.
func bootID() string {
	if id := os.Getenv(bootEnv); id != "" {
		return strings.ReplaceAll(id, "-", "")
	}
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.ReplaceAll(strings.TrimSpace(string(id)), "-", "")
}

// takeKept gives the endpoints the sockets of a former process, and closes those that do not fit any more.
func (d *Daemon) takeKept(list []listen.Endpoint) {
	var sockets []*os.File
	for _, f := range d.kept {
		if strings.HasPrefix(f.Name(), systemd.KeptListener) {
			sockets = append(sockets, f)
		}
	}
	left := listen.TakeKept(list, sockets)
	for _, f := range left {
		d.report(d.notify.Drop(f.Name()))
	}
	if len(left) > 0 { // their addresses are free when no process has them any more
		d.report(d.notify.Barrier())
	}
	handover.Close(left)
}

// takeMemory returns the memory that a former process has left, which no other process can take from now
// on; nil if there is none.
func (d *Daemon) takeMemory() (data []byte) {
	var errs []error
	for _, f := range d.kept {
		if f.Name() != systemd.KeptMemory {
			continue
		}
		if data == nil {
			var err error
			data, err = handover.Unseal(f)
			errs = append(errs, err)
		}
		errs = append(errs, f.Close())
	}
	if errs != nil {
		errs = append(errs, d.notify.Drop(systemd.KeptMemory), d.notify.Barrier())
	}
	if err := errors.Join(errs...); err != nil {
		d.notTaken(err)
		return nil
	}
	return data
}

func (d *Daemon) notTaken(why error) {
	d.log.Warn("the memory of the former process is not taken over", "err", why)
}

// recall reads the memory of a former process. It is nil if it is not valid, of which the log says why.
func (d *Daemon) recall(data []byte) *actors.Memory {
	if data == nil {
		return nil
	}
	defer clear(data)
	if d.serial == (store.Serial{}) {
		d.notTaken(errors.New("the store, which says whether it is up to date, cannot be written or is not in use"))
		return nil
	}
	m := new(actors.Memory)
	if err := snapshot.Decode(data, snapshot.Header{Boot: bootID(), Serial: snapshot.Serial(d.former)}, m); err != nil {
		d.notTaken(err)
		return nil
	}
	return m
}

// keepOwn has the service manager keep the listeners that this process has opened.
func (d *Daemon) keepOwn() {
	if !d.notify.Active() {
		for _, l := range d.own {
			listen.SetKept(l, false)
		}
		return
	}
	names := make(map[string]net.Listener)
	for _, l := range d.cfg.Listeners {
		if d.own[l.Name] == nil {
			continue
		}
		name, err := listen.KeptName(l)
		if err != nil {
			d.log.Warn("listener is not kept over a restart", "listener", l.Name, "err", err)
			continue
		}
		names[name] = d.own[l.Name]
	}
	for name := range d.keeps {
		if names[name] == nil { // first: no descriptor is kept twice
			d.report(d.notify.Drop(name))
		}
	}
	for name, l := range names {
		if d.keeps[name] == nil {
			err := d.notify.Keep(name, l.(syscall.Conn))
			listen.SetKept(l, err == nil)
			d.report(err)
		}
	}
	d.keeps = names
}

// noteOwn notes which sockets this process has opened itself, by the name of the listener.
func (d *Daemon) noteOwn(list []listen.Endpoint, opened map[string]net.Listener, removed []config.Listener) {
	for _, l := range removed {
		delete(d.own, l.Name)
	}
	for _, e := range list {
		if l := opened[e.Name]; l != nil && e.Passed == nil {
			d.own[e.Name] = l
		}
	}
	d.keepOwn()
}

// unkeep has the socket files of listeners removed when they are closed, as a reload is going to do, and
// returns what takes that back.
func (d *Daemon) unkeep(removed []config.Listener) (undo func()) {
	set := func(kept bool) {
		for _, l := range removed {
			if own := d.own[l.Name]; own != nil {
				listen.SetKept(own, kept)
			}
		}
	}
	set(false)
	return func() { set(d.notify.Active()) }
}

func (d *Daemon) report(err error) {
	if err != nil {
		d.log.Warn("the next process may not get all that this one has", "err", err)
	}
}

// hands reports whether a successor may get the memory of this process.
func (d *Daemon) hands() bool {
	p := d.Store()
	return (d.notify.Active() || d.successor != nil) && p != nil && p.Failed() == "" && d.serial != (store.Serial{})
}

// stopBroker ends the broker, and returns its memory for a successor, or nil.
func (d *Daemon) stopBroker() *os.File {
	if !d.hands() {
		d.broker.Stop()
		return nil
	}
	begun := time.Now()
	m, err := d.broker.StopForSuccessor()
	var data []byte
	if err == nil {
		data, err = snapshot.Encode(snapshot.Header{Boot: bootID(), Serial: snapshot.Serial(d.serial)}, m)
	}
	var f *os.File
	if err == nil {
		f, err = handover.Seal(systemd.KeptMemory, data)
		clear(data)
	}
	if err != nil {
		d.log.Warn("the next process starts without the memory of this one", "err", err)
		return nil
	}
	d.log.Info("memory is left for the next process", "bytes", len(data), "took", time.Since(begun).Round(time.Microsecond))
	return f
}

// leave has the service manager keep the memory, or nil, until the next process starts, or sends what
// there is to the process that takes over.
func (d *Daemon) leave(memory *os.File, sockets []*os.File) {
	if memory != nil {
		defer memory.Close()
	}
	if d.successor == nil {
		if memory != nil {
			d.report(d.notify.Keep(systemd.KeptMemory, memory))
		}
		d.report(errors.Join(d.notify.Keep(systemd.KeptLock, d.lockFile), d.notify.Barrier()))
		return
	}
	defer d.successor.Close()
	defer handover.Close(sockets)
	lock, err := handover.Duplicate(d.lockFile, systemd.KeptLock)
	if err == nil {
		defer lock.Close()
		files := append([]*os.File{lock}, sockets...)
		if memory != nil {
			files = append(files, memory)
		}
		_ = d.successor.SetWriteDeadline(time.Now().Add(sendTimeout))
		err = handover.Send(d.successor, files)
	}
	if err != nil {
		d.log.Error("the process that was to take over has not got what this one had", "err", err)
	}
}

// sendTimeout bounds how long a successor may take to receive.
const sendTimeout = 10 * time.Second

// HandOver ends the daemon in favour of the process at the other end of a connection.
func (d *Daemon) HandOver(c *net.UnixConn) error {
	switch {
	case d.yield != nil:
		return errors.New("it serves pipes only, and gives way to any daemon")
	case d.notify.Active():
		return errors.New("a service manager has started it: restart the service there, as with `systemctl restart postern`")
	}
	select {
	case d.successors <- c:
		return nil
	default:
		return errors.New("another process takes over already")
	}
}

// ownSockets returns duplicates of the sockets that this process has opened, for a successor. Their files
// stay.
func (d *Daemon) ownSockets() (sockets []*os.File) {
	for _, l := range d.cfg.Listeners {
		own := d.own[l.Name]
		if own == nil {
			continue
		}
		name, err := listen.KeptName(l)
		if err == nil {
			var f *os.File
			if f, err = handover.Duplicate(own.(syscall.Conn), name); err == nil {
				sockets = append(sockets, f)
				listen.SetKept(own, true)
			}
		}
		d.report(err)
	}
	return sockets
}

// takeOver has the owner of a directory end, and takes its lock, sockets and memory over.
func (d *Daemon) takeOver(ctx context.Context, dir string) (*os.File, error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	d.log.Info("taking over from the running daemon", "data_dir", dir)
	files, err := control.TakeOver(ctx, filepath.Join(dir, datadir.ControlSocket))
	if err != nil {
		return nil, fmt.Errorf("the running daemon does not hand over: %w", err)
	}
	d.kept = append(d.kept, files...)
	return datadir.Lock(ctx, dir, d.takeLock(dir), control.Yield)
}

// takeLock returns a descriptor of the lock of a directory that a former process has left; 0 if there is
// none. Without this process, the lock is free from here on.
func (d *Daemon) takeLock(dir string) (fd int) {
	for _, f := range d.kept {
		if f.Name() != systemd.KeptLock {
			continue
		}
		of, errOf := f.Stat()
		its, errIts := os.Stat(filepath.Join(dir, datadir.LockFile))
		if fd == 0 && errors.Join(errOf, errIts) == nil && os.SameFile(of, its) {
			var err error
			fd, err = handover.Detach(f)
			d.report(err)
		}
		_ = f.Close()
	}
	return max(fd, 0)
}
