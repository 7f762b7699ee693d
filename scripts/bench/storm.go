package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"postern/internal/auth/passhash"
)

// Sizes of a storm.
const (
	stormSlots  = 32
	burstDelay  = 50 * time.Millisecond // of the backend, in the bursts
	normalDelay = 20 * time.Millisecond // in all others
	stormDomain = "storm.bench"
	sameDomain  = "same.bench" // beside it, with the same backend
	calmDomain  = "calm.bench" // beside it, with a backend of its own
)

// errMissed means that a storm ran, and that what must hold does not.
var errMissed = errors.New("missed")

// storm runs the scenarios in which all users come at once, and returns an error if something that
// must hold does not.
func storm(s settings) error {
	scenarios := []struct {
		name string
		run  func(*storms) error
	}{
		{"burst", (*storms).burst}, {"restart", (*storms).restart}, {"reboot", (*storms).reboot},
		{"comeback", (*storms).comeback}, {"neighbour", (*storms).neighbour}, {"phones", (*storms).phones},
	}
	r := &storms{settings: s}
	var err error
	if r.dir, err = os.MkdirTemp("", "pstorm"); err != nil {
		return err
	}
	defer os.RemoveAll(r.dir)
	fmt.Println(machine())
	for _, one := range scenarios {
		if !s.wants(one.name) {
			continue
		}
		begun := time.Now()
		fmt.Println(one.name)
		if err := one.run(r); err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
		fmt.Printf("  took %v\n", time.Since(begun).Round(time.Second))
	}
	r.table.printAims()
	if err := r.table.writeLines(s.out); err != nil {
		return err
	}
	return r.table.anyMissed()
}

// storms is a run of scenarios, and what they found.
type storms struct {
	settings
	dir   string
	count int
	mu    sync.Mutex // protects table while loads run
	table table
}

// size scales a number of users, and long a duration.
func (r *storms) size(n int) int { return max(1, int(float64(n)*r.scale)) }

func (r *storms) long(d time.Duration) time.Duration {
	return max(time.Second, time.Duration(float64(d)*r.scale))
}

// scene is one server in a storm, with its backends.
type scene struct {
	*storms
	app, calm *imitation
	keeper    *keeper
	postern   *child
	config    string
	pipes     []*exec.Cmd
	addresses map[string]string
}

// newScene starts the backends and writes the configuration, with the attributes of the cache blocks. fill,
// if any, fills the data directory before the server starts.
func (r *storms) newScene(delay time.Duration, cache string, fill func(dataDir string) error) (s *scene, err error) {
	r.count++
	s = &scene{storms: r, config: filepath.Join(r.dir, fmt.Sprint("scene", r.count)), addresses: make(map[string]string)}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.app, err = newImitation(delay); err != nil {
		return nil, err
	}
	if s.calm, err = newImitation(delay); err != nil {
		return nil, err
	}
	if s.keeper, err = newKeeper(s.config + ".notify"); err != nil {
		return nil, err
	}
	if err := s.write(cache); err != nil {
		return nil, err
	}
	if fill != nil {
		if err := fill(s.config + ".data"); err != nil {
			return nil, err
		}
	}
	return s, s.start()
}

// newMeasured is newScene with no users on disk, and measures how many logins a second the backend can answer.
func (r *storms) newMeasured(delay time.Duration, cache string) (s *scene, capacity float64, err error) {
	if s, err = r.newScene(delay, cache, nil); err != nil {
		return nil, 0, err
	}
	if capacity, err = s.app.capacity(r.long(time.Second)); err != nil {
		s.close()
		return nil, 0, err
	}
	return s, capacity, nil
}

// hashing is a cache with hashes of a bcrypt cost.
func hashing(cost int) string { return fmt.Sprintf("bcrypt_cost = %d\n", cost) }

// write writes the configuration: as an admin would, with the defaults where a storm does not need
// another value.
func (s *scene) write(cache string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "data_dir = %q\nlog { level = %q }\n", s.config+".data", s.level)
	for _, name := range []string{"generic", "ejabberd"} {
		address, err := freeAddress()
		if err != nil {
			return err
		}
		s.addresses[name] = address
		fmt.Fprintf(&b, "listen %q { address = %q }\n", name, address)
	}
	s.addresses["dovecot"] = s.config + ".dovecot"
	fmt.Fprintf(&b, "listen \"dovecot\" { address = \"unix:%s\" }\n", s.addresses["dovecot"])
	for name, a := range map[string]*imitation{"app": s.app, "calm": s.calm} {
		fmt.Fprintf(&b, "backend \"json\" %q {\n  url = \"http://%s\"\n  slots = %d\n}\n", name, a.address, stormSlots)
	}
	for domain, backend := range map[string]string{stormDomain: "app", sameDomain: "app", calmDomain: "calm"} {
		fmt.Fprintf(&b, "domain %q {\n  backends = [backend.json.%s]\n  cache {\n%s}\n}\n", domain, backend, cache)
	}
	return os.WriteFile(s.config, []byte(b.String()), 0o600)
}

func (s *scene) start() (err error) {
	s.postern, err = startKept(s.keeper, s.binary, s.config, s.addresses["generic"])
	if err != nil {
		s.postern = nil
	}
	return err
}

func (s *scene) close() {
	for _, p := range s.pipes {
		_ = p.Process.Kill()
		_ = p.Wait()
	}
	if s.postern != nil {
		s.postern.stop()
	}
	for _, a := range []*imitation{s.app, s.calm} {
		if a != nil {
			a.down()
		}
	}
	if s.keeper != nil {
		s.keeper.close()
	}
	_ = os.RemoveAll(s.config + ".data")
}

// front returns the peer's side of a listener, or of 8 pipes.
func (s *scene) front(name string) *front {
	switch name {
	case "generic":
		return socketFront(name, "tcp", s.addresses[name], 4*time.Second)
	case "ejabberd":
		return socketFront(name, "tcp", s.addresses[name], 9*time.Second)
	case "dovecot":
		return socketFront(name, "unix", s.addresses[name], 8*time.Second)
	}
	return &front{name: name, deadline: 9 * time.Second, conns: 8, dial: s.pipe, frame: frameEjabberd, read: readEjabberd}
}

// pipeEnds are the peer's ends of a `postern pipe`.
type pipeEnds struct {
	io.Reader
	io.WriteCloser
}

// pipe starts a `postern pipe`, as ejabberd does.
func (s *scene) pipe() (io.ReadWriteCloser, error) {
	cmd := exec.Command(s.binary, "pipe", "--protocol", "ejabberd", "--config", s.config)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.pipes = append(s.pipes, cmd)
	return pipeEnds{out, in}, cmd.Start()
}

// people makes logins of different users with the right password; each fiftieth has a wrong one if
// mixed.
func people(domain, prefix string, from, n int, mixed bool) (list []*login) {
	for i := from; i < from+n; i++ {
		l := &login{user: fmt.Sprint(prefix, i), domain: domain, password: "password"}
		if mixed && i%50 == 49 {
			l.password, l.wrong = "wrong", true
		}
		list = append(list, l)
	}
	return list
}

// load opens a front's connections, drives one load over them, and prints its figures.
func (s *scene) load(what string, f *front, logins []*login, rate float64, try func(*login, said) (time.Duration, bool)) (*tally, error) {
	t := newTally(f)
	lines, err := openLines(f, t.failed)
	if err != nil {
		return nil, err
	}
	defer closeLines(lines)
	err = t.run(lines, logins, rate, try)
	s.mu.Lock() // neighbours are loads at the same time
	defer s.mu.Unlock()
	t.print(what)
	s.table.atMost(what+": wrong answers, requests without one", float64(t.wrong+t.cut), "", 0)
	return t, err
}

// idle waits until the server has nothing left to do, such as hashes of new passwords.
func (s *scene) idle(most time.Duration) {
	for end, before, now := time.Now().Add(most), time.Duration(-1), s.postern.cpu(); now-before > 20*time.Millisecond && time.Now().Before(end); {
		time.Sleep(500 * time.Millisecond)
		before, now = now, s.postern.cpu()
	}
}

// hashRate is how many comparisons with a hash of a cost all processors make per second.
func hashRate(cost int) (float64, error) {
	hash, err := passhash.New("password", cost)
	if err != nil {
		return 0, err
	}
	var wg sync.WaitGroup
	const each = 4
	begun := time.Now()
	for range runtime.NumCPU() {
		wg.Go(func() {
			for range each {
				passhash.Match(hash, "password")
			}
		})
	}
	wg.Wait()
	return float64(each*runtime.NumCPU()) / time.Since(begun).Seconds(), nil
}
