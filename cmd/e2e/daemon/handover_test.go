package daemon

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/cmd/e2e/harness"
)

// manager is a service manager with a store of descriptors, as systemd has it: it keeps what the service
// sends, and passes that to the next process.
type manager struct {
	*holder
	conn *net.UnixConn

	mu    sync.Mutex
	kept  []*os.File // with their names
	deaf  bool       // it takes FDSTOREREMOVE for nothing
	ready int
}

func newManager(t *testing.T, config string) *manager {
	t.Helper()
	name := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: name})
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{holder: &holder{t: t, config: config, env: []string{"NOTIFY_SOCKET=" + name}}, conn: conn}
	ended := make(chan struct{})
	go func() { defer close(ended); m.serve() }()
	t.Cleanup(func() {
		_ = conn.Close()
		<-ended
		m.drop(func(string) bool { return true })
	})
	return m
}

func (m *manager) serve() {
	buf, oob := make([]byte, 4096), make([]byte, 4096)
	for {
		n, oobn, _, _, err := m.conn.ReadMsgUnix(buf, oob)
		if err != nil {
			return
		}
		var files []*os.File
		list, _ := unix.ParseSocketControlMessage(oob[:oobn])
		for i := range list {
			fds, _ := unix.ParseUnixRights(&list[i])
			for _, fd := range fds {
				unix.CloseOnExec(fd)
				files = append(files, os.NewFile(uintptr(fd), ""))
			}
		}
		m.take(strings.Split(string(buf[:n]), "\n"), files)
	}
}

// take carries out one message. The descriptor of a barrier is closed.
func (m *manager) take(lines []string, files []*os.File) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := ""
	for _, line := range lines {
		if after, ok := strings.CutPrefix(line, "FDNAME="); ok {
			name = after
		}
		if line == "READY=1" {
			m.ready++
		}
	}
	switch {
	case slices.Contains(lines, "FDSTORE=1") && len(files) == 1:
		if !slices.ContainsFunc(m.kept, func(f *os.File) bool { return same(f, files[0]) }) {
			m.kept = append(m.kept, named(files[0], name))
		}
	case slices.Contains(lines, "FDSTOREREMOVE=1") && !m.deaf:
		m.remove(func(other string) bool { return other == name })
	}
	for _, f := range files {
		_ = f.Close()
	}
}

func same(a, b *os.File) bool {
	x, errX := a.Stat()
	y, errY := b.Stat()
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// named returns a duplicate with a name.
func named(f *os.File, name string) *os.File {
	raw, err := f.SyscallConn()
	if err != nil {
		return f
	}
	fd := -1
	_ = raw.Control(func(old uintptr) { fd, _ = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	return os.NewFile(uintptr(fd), name)
}

func (m *manager) drop(match func(string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remove(match)
}

func (m *manager) remove(match func(string) bool) {
	m.kept = slices.DeleteFunc(m.kept, func(f *os.File) bool {
		if match(f.Name()) {
			_ = f.Close()
			return true
		}
		return false
	})
}

func isMemory(name string) bool { return name == "postern-memory" }

// unlock has the data directory belong to no process, so that a command can change the store while the
// service is stopped.
func (m *manager) unlock() { m.drop(func(name string) bool { return name == "postern-lock" }) }

// has counts the listeners and the memories in the store.
func (m *manager) has() (listeners, memories int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.kept {
		switch f.Name() {
		case "postern-memory":
			memories++
		case "postern-lock":
		default:
			listeners++
		}
	}
	return listeners, memories
}

// next starts a process of the service, with what is in the store, and waits until it is ready.
func (m *manager) next(env ...string) *harness.Process {
	m.t.Helper()
	m.mu.Lock()
	before := m.ready
	h := *m.holder
	h.env = append(slices.Clone(h.env), env...)
	for _, f := range m.kept {
		h.names, h.files = append(h.names, f.Name()), append(h.files, f)
	}
	p := h.start()
	m.mu.Unlock()
	harness.WaitFor(m.t, "the service is ready", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.ready > before
	})
	return p
}

// memory changes the memory in the store.
func (m *manager) memory(change func([]byte) []byte, sealed bool) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.kept, func(f *os.File) bool { return isMemory(f.Name()) })
	if i < 0 {
		m.t.Fatal("there is no memory in the store")
	}
	data, err := io.ReadAll(io.NewSectionReader(m.kept[i], 0, 1<<30))
	if err != nil {
		m.t.Fatal(err)
	}
	if n, err := m.kept[i].WriteAt([]byte("x"), 0); err == nil {
		m.t.Errorf("the memory could be changed: %d bytes", n)
	}
	_ = m.kept[i].Close()
	fd, err := unix.MemfdCreate("changed", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		m.t.Fatal(err)
	}
	m.kept[i] = os.NewFile(uintptr(fd), "postern-memory")
	if _, err := m.kept[i].WriteAt(change(data), 0); err != nil {
		m.t.Fatal(err)
	}
	if sealed {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE); err != nil {
			m.t.Fatal(err)
		}
	}
}

// handoverConfig has listeners that postern opens: on TCP, and at a socket file.
func handoverConfig(t *testing.T, app *harness.WebApp) (config, tcp, file string) {
	t.Helper()
	tcp, file = harness.FreeAddress(t), filepath.Join(t.TempDir(), "mux")
	config = harness.ConfigFile(t, t.TempDir(), fmt.Sprintf(`
listen "ejabberd" {
  address = %q
  changes = false
}
listen "saslauthd" { address = "unix:%s" }
backend "json" "app" { url = %q }
domain "dom.example" {
  backends = [backend.json.app]
  cache { bcrypt_cost = 4 }
}
`, tcp, file, app.URL))
	return config, tcp, file
}

// remembered has joe's right password accepted, and the wrong one refused: only memory knows of that.
func remembered(t *testing.T, tcp string) {
	t.Helper()
	d := harness.Dialects()["ejabberd"]
	if got := harness.Exchange(t, tcp, d.Yes+d.No); got != d.IsYes+d.IsNo {
		t.Fatalf("answered %q", got)
	}
}

// A restart of the service: clients can connect all the time, each is answered, and what was known is
// known while the backend is away. The memory is nowhere afterwards.
func TestRestartHandsOver(t *testing.T) {
	app := harness.NewWebApp(t, harness.AppUp)
	config, tcp, file := handoverConfig(t, app)
	m := newManager(t, config)
	p := m.next()
	remembered(t, tcp)
	before, err := os.Lstat(file)
	if err != nil {
		t.Fatal(err)
	}
	app.Becomes(harness.AppDown)
	asked := app.Asked.Load()
	d := harness.Dialects()
	for range 3 {
		m.stop(p)
		if l, n := m.has(); l != 2 || n != 1 {
			t.Fatalf("%d listeners and %d memories in the store", l, n)
		}
		right, wrong, sasl := harness.Connect(t, tcp), harness.Connect(t, tcp), harness.Connect(t, file)
		fmt.Fprint(right, d["ejabberd"].Yes)
		fmt.Fprint(wrong, d["ejabberd"].No)
		fmt.Fprint(sasl, d["saslauthd"].Yes)
		p = m.next()
		if l, n := m.has(); l != 2 || n != 0 {
			t.Errorf("%d listeners and %d memories in the store of a running service", l, n)
		}
		harness.Say(t, right, "", d["ejabberd"].IsYes)
		harness.Say(t, wrong, "", d["ejabberd"].IsNo)
		harness.Say(t, sasl, "", d["saslauthd"].IsYes)
		p.Logged("is taken over")
		if strings.Contains(p.Log.String(), "level=WARN") {
			t.Errorf("%s", p.Log.String())
		}
	}
	if now, err := os.Lstat(file); err != nil || !os.SameFile(before, now) {
		t.Errorf("the socket file is another one: %v", err)
	}
	if n := app.Asked.Load(); n != asked {
		t.Errorf("the backend was asked %d times", n-asked)
	}
	// A crash loses the memory, and no connection.
	if err := p.Cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.Exit()
	wrong := harness.Connect(t, tcp)
	fmt.Fprint(wrong, d["ejabberd"].No)
	m.next()
	harness.Say(t, wrong, "", d["ejabberd"].IsCannot)
}

// A memory that is not valid any more, or is damaged, is ignored, and one line in the log says so.
func TestMemoryIgnored(t *testing.T) {
	const format = len("postern-memory") + 1 // where its second byte is
	resealed := func(b []byte) []byte {
		sum := sha256.Sum256(b[:len(b)-sha256.Size])
		return append(b[:len(b)-sha256.Size], sum[:]...)
	}
	for name, c := range map[string]struct {
		meanwhile func(m *manager, config string)
		env       string
		reason    string
	}{
		"truncated": {func(m *manager, _ string) { m.memory(func(b []byte) []byte { return b[:len(b)/2] }, true) }, "", "damaged"},
		"changed":   {func(m *manager, _ string) { m.memory(func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, true) }, "", "damaged"},
		"other format": {func(m *manager, _ string) {
			m.memory(func(b []byte) []byte { b[format]++; return resealed(b) }, true)
		}, "", "another version"},
		"not sealed":   {func(m *manager, _ string) { m.memory(func(b []byte) []byte { return b }, false) }, "", "not sealed"},
		"foreign boot": {func(*manager, string) {}, "POSTERN_BOOT_ID=0123456789abcdef0123456789abcdef", "before the machine was started"},
		"forget while stopped": {func(m *manager, config string) {
			harness.OK(m.t, "", "cache", "forget", "ann@dom.example", "--config", config)
		}, "", "another process has used the store"},
		"a question while stopped": {func(m *manager, config string) {
			harness.Command(m.t, "other\n", "test", "auth", "ann@dom.example", "--config", config)
		}, "", "another process has used the store"},
	} {
		t.Run(name, func(t *testing.T) {
			app := harness.NewWebApp(t, harness.AppUp)
			config, tcp, _ := handoverConfig(t, app)
			m := newManager(t, config)
			p := m.next()
			remembered(t, tcp)
			m.stop(p)
			m.unlock()
			c.meanwhile(m, config)
			app.Becomes(harness.AppDown)
			p = m.next(c.env)
			d := harness.Dialects()["ejabberd"]
			if got := harness.Exchange(t, tcp, d.No); got != d.IsCannot {
				t.Errorf("answered %q", got)
			}
			log := p.Log.String()
			if strings.Count(log, "not taken over") != 1 || !strings.Contains(log, c.reason) || strings.Contains(log, "is taken over") {
				t.Errorf("%s", log)
			}
			if _, n := m.has(); n != 0 {
				t.Error("it is still in the store")
			}
		})
	}
}

// The memory is taken once: a process that is killed after that does not leave it to the next one, whose
// answers may have become other ones, also where the service manager has not closed it.
func TestMemoryTakenOnce(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		t.Run(fmt.Sprintf("deaf=%t", deaf), func(t *testing.T) {
			app := harness.NewWebApp(t, harness.AppUp)
			config, tcp, _ := handoverConfig(t, app)
			m := newManager(t, config)
			m.deaf = deaf
			p := m.next()
			remembered(t, tcp)
			m.stop(p)
			p = m.next()
			p.Logged("is taken over")
			harness.OK(t, "", "cache", "forget", "joe@dom.example", "--config", config)
			app.Becomes(harness.Always(200, harness.JSONNo)) // the password was changed
			d := harness.Dialects()["ejabberd"]
			if got := harness.Exchange(t, tcp, d.Yes); got != d.IsNo {
				t.Fatalf("answered %q", got)
			}
			app.Becomes(harness.AppDown)
			if err := p.Cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			p.Exit()
			p = m.next()
			if got := harness.Exchange(t, tcp, d.Yes); got != d.IsCannot {
				t.Errorf("answered %q", got)
			}
			if strings.Contains(p.Log.String(), "is taken over") || strings.Contains(p.Log.String(), "not taken over") != deaf {
				t.Errorf("%s", p.Log.String())
			}
		})
	}
}

// What `user passwd` changed while the service was stopped counts.
func TestPasswdWhileStopped(t *testing.T) {
	tcp := harness.FreeAddress(t)
	config := activatedUsers(t, fmt.Sprintf("listen \"ejabberd\" { address = %q }\n", tcp))
	m := newManager(t, config)
	p := m.next()
	remembered(t, tcp)
	m.stop(p)
	m.unlock()
	harness.OK(t, "wrong\n", "user", "passwd", "joe@dom.example", "--config", config)
	m.next()
	d := harness.Dialects()["ejabberd"]
	if got := harness.Exchange(t, tcp, d.Yes+d.No); got != d.IsNo+d.IsYes {
		t.Errorf("answered %q", got)
	}
}

// Other addresses, modes and a reload: only the listeners of the configuration in force are kept.
func TestListenersKept(t *testing.T) {
	dir, data, tcp := t.TempDir(), t.TempDir(), harness.FreeAddress(t)
	text := func(mode, more string) string {
		return fmt.Sprintf("data_dir = %q\nlisten \"saslauthd\" {\n  address = \"unix:%s/mux\"\n  mode = %q\n}\n", data, dir, mode) +
			more + harness.UsersBase
	}
	config := harness.ConfigFile(t, data, "")
	harness.WriteFile(t, config, text("0660", fmt.Sprintf("listen \"ejabberd\" { address = %q }\n", tcp)))
	m := newManager(t, config)
	p := m.next()
	if l, _ := m.has(); l != 2 {
		t.Errorf("%d listeners are kept", l)
	}
	reload := func() {
		t.Helper()
		m.mu.Lock()
		before := m.ready
		m.mu.Unlock()
		p.Signal(syscall.SIGHUP)
		harness.WaitFor(t, "the reload", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.ready > before })
	}
	harness.WriteFile(t, config, text("0600", ""))
	reload()
	harness.WaitFor(t, "one listener is kept", func() bool { l, _ := m.has(); return l == 1 })
	if c, err := net.Dial("tcp", tcp); err == nil {
		_ = c.Close()
		t.Error("the removed listener can be reached")
	}
	m.stop(p)
	file, err := os.Lstat(dir + "/mux")
	if err != nil {
		t.Fatal(err)
	}
	p = m.next() // takes it over
	if now, err := os.Lstat(dir + "/mux"); err != nil || !os.SameFile(file, now) {
		t.Errorf("another socket file: %v", err)
	}
	m.stop(p)
	harness.WriteFile(t, config, text("0666", fmt.Sprintf("listen \"ejabberd\" { address = \"0.0.0.0%s\" }\n", tcp[strings.LastIndex(tcp, ":"):])))
	m.next()
	if l, _ := m.has(); l != 2 {
		t.Errorf("%d listeners are kept", l)
	}
	if now, err := os.Lstat(dir + "/mux"); err != nil || now.Mode().Perm() != 0o666 {
		t.Errorf("the socket file has the mode %v, %v", now.Mode(), err)
	}
}

// Without a service manager, the next process takes over from the running one under a stream of logins:
// no connection is refused, no answer is wrong or lost. What was refused stays refused.
func TestTakeover(t *testing.T) {
	app := harness.NewWebApp(t, harness.AppUp)
	config, tcp, file := handoverConfig(t, app)
	s := harness.Serve(t, "--config", config)
	remembered(t, tcp)
	app.Becomes(harness.AppDown)
	if r := harness.Command(t, "", "serve", "--config", config); r.Code != 1 || !strings.Contains(r.Err, "owns the data directory") {
		t.Errorf("a second daemon: exit status %d, %s", r.Code, r.Err)
	}
	ejabberd := harness.Dialects()["ejabberd"]
	asked, stop := attempts(t, 4, tcp, file)
	for range 3 {
		before := asked.Load()
		harness.WaitFor(t, "clients are answered", func() bool { return asked.Load() > before+50 || t.Failed() })
		next := harness.Serve(t, "--config", config, "--takeover")
		select {
		case <-s.Ended:
		case <-time.After(harness.Timeout):
			t.Fatal("the former daemon did not end")
		}
		if code := s.Cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("the former daemon: exit status %d", code)
		}
		if got := harness.Exchange(t, tcp, ejabberd.No); got != ejabberd.IsNo {
			t.Errorf("answered %q", got)
		}
		s = next
	}
	stop(func() {})
	if code := s.Stop(syscall.SIGTERM); code != 0 || !harness.Missing(file) {
		t.Errorf("exit status %d; the socket file is still there: %t", code, !harness.Missing(file))
	}
	harness.Serve(t, "--config", config, "--takeover") // from none
}

// A daemon that a service manager has started is not taken over.
func TestTakeoverOfService(t *testing.T) {
	app := harness.NewWebApp(t, harness.AppUp)
	config, tcp, _ := handoverConfig(t, app)
	m := newManager(t, config)
	m.next()
	if r := harness.Command(t, "", "serve", "--config", config, "--takeover"); r.Code != 1 || !strings.Contains(r.Err, "restart the service") {
		t.Errorf("exit status %d, %s", r.Code, r.Err)
	}
	remembered(t, tcp)
}

// When its daemon is restarted, a pipe starts no broker of its own meanwhile, which would make the memory
// invalid: its question waits for the daemon.
func TestRestartWithPipe(t *testing.T) {
	app := harness.NewWebApp(t, harness.AppUp)
	config, tcp, _ := handoverConfig(t, app)
	text := strings.Replace(harness.ReadText(config), "changes = false", "changes = false\n  deadline = \"5m\"", 1) // of a busy machine
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	m := newManager(t, config)
	p := m.next()
	remembered(t, tcp)
	pipe := harness.Start(t, "pipe", "--protocol", "ejabberd", "--config", config)
	d := harness.Dialects()["ejabberd"]
	pipe.Send(d.No)
	pipe.Expect(d.IsNo)
	app.Becomes(harness.AppDown)
	for range 2 {
		m.stop(p)
		pipe.Send(d.No + d.Yes)
		p = m.next()
		pipe.Expect(d.IsNo + d.IsYes)
		p.Logged("is taken over")
	}
	if strings.Contains(p.Log.String(), "not taken over") {
		t.Errorf("%s", p.Log.String())
	}
}
