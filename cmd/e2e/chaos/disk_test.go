package chaos

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
	"postern/internal/doctor"
)

// fill writes a file until there is no room.
func fill(t *testing.T, dir string) (file string) {
	t.Helper()
	file = filepath.Join(dir, "fill")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 16, 1 << 12, 1} {
		for piece := bytes.Repeat([]byte{'x'}, size); err == nil || size > 1; {
			if _, err = f.Write(piece); err != nil {
				break
			}
		}
	}
	if n, _ := os.Stat(file); n.Size() == 0 {
		t.Fatal("the disk was full before")
	}
	return file
}

// diskFault is a daemon with a disk that the test damages. Users log in with the right password or
// are refused, before and after, since the backend works.
type diskFault struct {
	t      *testing.T
	app    *chaosApp
	config string
	s      *harness.Server
	users  int
	long   string // what every user's name ends with
}

// name is that of the n-th user.
func (f *diskFault) name(n int) string { return fmt.Sprintf("d%d%s", n, f.long) }

func newDiskFault(t *testing.T, dir string) *diskFault {
	t.Helper()
	app := newChaosApp(t, newCredentials(), "127.0.0.81", nil)
	text := strings.Replace(chaosConfig("http://"+app.address, "", "1h", "1h"), "unix:mux", "unix:"+filepath.Join(t.TempDir(), "mux"), 1)
	f := &diskFault{t: t, app: app, config: harness.ConfigFile(t, dir, withLongDeadlines(text))}
	f.s = serveChaos(t, f.config)
	return f
}

// right logs in n new users, with right and wrong passwords, and asks whether they exist.
func (f *diskFault) right(n int) {
	f.t.Helper()
	c := harness.Connect(f.t, f.s.Address("ejabberd"))
	for n > 0 {
		text, want := "", ""
		for range min(n, 10) {
			n--
			f.users++
			id := f.name(f.users)
			login := "auth:" + id + ":app.example:"
			text += harness.Frame(login+chaosPassword(id+"@app.example", 0)) + harness.Frame(login+"wrong") +
				harness.Frame("isuser:"+id+":app.example") + harness.Frame("isuser:nobody:app.example")
			want += "\x00\x02\x00\x01\x00\x02\x00\x00\x00\x02\x00\x01\x00\x02\x00\x00"
		}
		_ = c.SetDeadline(time.Now().Add(harness.Timeout))
		harness.Say(f.t, c, text, want)
	}
}

// logins logs earlier users in again.
func (f *diskFault) logins() {
	f.t.Helper()
	c := harness.Connect(f.t, f.s.Address("ejabberd"))
	for i := range min(f.users, 40) {
		id := f.name(i + 1)
		_ = c.SetDeadline(time.Now().Add(harness.Timeout))
		harness.Say(f.t, c, harness.Frame("auth:"+id+":app.example:"+chaosPassword(id+"@app.example", 0))+harness.Frame("auth:"+id+":app.example:wrong"),
			"\x00\x02\x00\x01\x00\x02\x00\x00")
	}
}

// saysLoudly waits until the daemon has logged what is wrong, and what to do.
func (f *diskFault) saysLoudly(texts ...string) {
	f.t.Helper()
	f.s.Eventually("an error that says "+strings.Join(texts, ", "), func() bool {
		for line := range strings.Lines(f.s.Log.String()) {
			found := strings.Contains(line, "level=ERROR")
			for _, text := range texts {
				found = found && strings.Contains(line, text)
			}
			if found {
				return true
			}
		}
		return false
	})
}

// diagnosed has doctor find a failure, and say what to do.
func (f *diskFault) diagnosed(hop, check string, parts ...string) {
	f.t.Helper()
	harness.WantFinding(f.t, harness.Diagnose(f.t, 2, "--config", f.config), hop, check, doctor.Failure, parts...)
}

// store is what cache stats says of the store. The metric must say the same.
func (f *diskFault) store() string {
	f.t.Helper()
	stats := func() string {
		return harness.Decode[harness.StatsShown](f.t, harness.OK(f.t, "", "cache", "stats", "--config", f.config)).StoreFailed
	}
	why := stats()
	up := f.s.Metrics().Value("store_up")
	if why == "" && up == "0" { // it failed in between
		why = stats()
	}
	if want := map[bool]string{true: "1", false: "0"}[why == ""]; up != want {
		f.t.Errorf("store_up is %q, but cache stats says %q", up, why)
	}
	return why
}

func (f *diskFault) restart() {
	f.t.Helper()
	if code := f.s.Stop(syscall.SIGTERM); code != 0 {
		f.t.Errorf("the daemon ended with status %d", code)
	}
	f.s = serveChaos(f.t, f.config)
}

// The disk is full: first while the daemon runs, then at its start, then no more.
func TestChaosDiskFull(t *testing.T) {
	t.Parallel()
	dir := harness.SmallDisk(t, 24)
	f := newDiskFault(t, dir)
	f.long = strings.Repeat("x", 800) // the log has some MiB ahead that it need not ask for
	f.right(20)
	file := fill(t, dir)
	harness.WaitFor(t, "the store fails", func() bool {
		f.right(200)
		return f.store() != ""
	})
	f.right(20)
	f.saysLoudly("store has failed", "no space left", "disk space", "restart")
	f.diagnosed("store", "open", "works from memory", "no space left", "restart postern")
	f.diagnosed("files", "free-space", "cannot be written", "free disk space")
	if n := strings.Count(f.s.Log.String(), "\n"); n > 20 {
		t.Errorf("%d lines in the log", n)
	}
	f.restart()
	f.right(20)
	f.logins()
	f.saysLoudly("cache works from memory", "disk")
	if f.store() == "" {
		t.Error("cache stats does not show that there is no store")
	}
	f.diagnosed("store", "open", "works from memory", "correct that, then restart postern")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	f.restart()
	f.right(5)
	f.logins()
	if why := f.store(); why != "" {
		t.Errorf("there is room again, but cache stats says %q", why)
	}
}

// The disk is full for a pipe without a daemon: it stays, its broker answers, and goes on when
// there is room.
func TestChaosDiskFullPipe(t *testing.T) {
	t.Parallel()
	dir := harness.SmallDisk(t, 24)
	app := newChaosApp(t, newCredentials(), "127.0.0.81", nil)
	config := harness.ConfigFile(t, dir, chaosConfig("http://"+app.address, "", "1h", "1h"))
	file := fill(t, dir)
	p := harness.Start(t, "pipe", "--protocol", "ejabberd", "--config", config)
	login := harness.Frame("auth:ann:app.example:" + chaosPassword("ann@app.example", 0))
	ask := func() string {
		t.Helper()
		p.Send(login + harness.Frame("auth:ann:app.example:wrong"))
		_ = p.Out.SetReadDeadline(time.Now().Add(harness.Timeout))
		reply := make([]byte, 8)
		if _, err := p.Out.Read(reply[:4]); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Out.Read(reply[4:]); err != nil {
			t.Fatal(err)
		}
		for i, right := range []byte{1, 0} {
			if got := reply[4*i+3]; got != right && got != 2 {
				t.Fatalf("answered %q", reply)
			}
		}
		return string(reply)
	}
	for range 10 {
		ask()
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	harness.WaitFor(t, "right answers", func() bool { return ask() == "\x00\x02\x00\x01\x00\x02\x00\x00" })
}

// Files of the store are damaged while no daemon runs: logins are answered by the backend, and the
// log says what to do.
func TestChaosStoreDamaged(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]struct {
		files string
		do    func(data []byte) []byte
		fails bool // the store cannot be used any more
	}{
		"table, flipped": {"*.sst", func(b []byte) []byte {
			for i := len(b) / 4; i < len(b); i += 97 {
				b[i] ^= 0x55
			}
			return b
		}, true},
		"table, empty":       {"*.sst", func([]byte) []byte { return nil }, true},
		"manifest, flipped":  {"MANIFEST-*", func(b []byte) []byte { b[9] ^= 0x55; return b }, true},
		"log, torn":          {"*.log", func(b []byte) []byte { return b[:len(b)*2/3] }, false},
		"log, zeros":         {"*.log", func(b []byte) []byte { clear(b[len(b)/2:]); return b }, false},
		"log, flipped early": {"*.log", func(b []byte) []byte { b[len(b)/8] ^= 0x55; return b }, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newDiskFault(t, t.TempDir())
			f.right(40)
			harness.WaitFor(t, "hashes on disk", func() bool {
				return harness.Decode[harness.StatsShown](t, harness.OK(t, "", "cache", "stats", "--config", f.config)).Disk["app.example"] >= f.users
			})
			f.restart() // so that tables are made of the log
			f.right(10)
			store := filepath.Join(harness.DataDirOf(f.config), "store")
			harness.WaitFor(t, "the log is written", func() bool { return sizeOf(store, "*.log") > 1000 })
			harness.Kill(t, f.s.Cmd.Process.Pid)
			<-f.s.Ended
			rewrite(t, store, damage.files, damage.do)
			f.s = serveChaos(t, f.config)
			f.logins()
			f.right(10)
			why := f.store()
			if failed := why != ""; failed != damage.fails {
				t.Errorf("cache stats says %q\n%s", why, f.s.Log.String())
			}
			if damage.fails {
				f.saysLoudly("check disk space and the disk itself", "move the directory away")
				f.diagnosed("store", "open", "works from memory", "restart postern")
				f.s.Stop(syscall.SIGTERM)
				f.diagnosed("store", "open", "cannot be opened", "move "+store+" away")
			}
		})
	}
}

// sizeOf is the size of all files of a name.
func sizeOf(dir, name string) (size int64) {
	files, _ := filepath.Glob(filepath.Join(dir, name))
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			size += info.Size()
		}
	}
	return size
}

// rewrite changes all files of a name that hold something.
func rewrite(t *testing.T, dir, name string, change func([]byte) []byte) {
	t.Helper()
	if sizeOf(dir, name) == 0 {
		t.Fatalf("there are no files %s, or they are empty", name)
	}
	files, _ := filepath.Glob(filepath.Join(dir, name))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err == nil && len(data) > 0 {
			err = os.WriteFile(file, change(data), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
