package peers

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// faultBackends has the accounts joe0 to joe4, password secret, on one host, and those of
// oldPasswords on the other.
const faultBackends = `
backend "users" "local" { bcrypt_cost = 4 }
backend "json" "app" { url = "%s" }
domain "dom.example" {
  backends = [backend.users.local]
  cache { bcrypt_cost = 4 }
}
domain "app.example" {
  backends = [backend.json.app]
  cache { bcrypt_cost = 4 }
}
`

const faultHosts = `
hosts: [dom.example, app.example]
extauth_program: "%s"
extauth_pool_size: 4
auth_use_cache: false
`

// The real ejabberd with two hosts of four copies each, as they are installed. Whatever ends,
// under a stream of logins, no answer is wrong and none is lost.
func TestRealEjabberdUnderFaults(t *testing.T) { harness.EachRelease(t, ejabberdUnderFaults) }

func ejabberdUnderFaults(t *testing.T, r harness.Release) {
	program, err := harness.Released()
	if err != nil {
		t.Fatal(err)
	}
	config := harness.ConfigFile(t, t.TempDir(), fmt.Sprintf(faultBackends, harness.NewWebApp(t, oldPasswords).URL))
	for i := range 5 {
		harness.OK(t, "secret\n", "user", "add", fmt.Sprintf("joe%d@dom.example", i), "--config", config)
	}
	e := startEjabberd(t, r, fmt.Sprintf(faultHosts, program+" pipe --protocol ejabberd --config "+config))
	var s *harness.Server
	data := harness.DataDirOf(config)
	killCopies := func(n int) func() {
		return func() {
			before := e.copies("-relay")
			for _, pid := range before[:n] {
				harness.Kill(t, pid)
			}
			harness.WaitFor(t, "eight copies again", func() bool {
				now := e.copies("-relay")
				return len(now) == 8 && !slices.ContainsFunc(before[:n], func(pid int) bool { return slices.Contains(now, pid) })
			})
		}
	}
	for round, fault := range []struct {
		name string
		do   func()
	}{
		{"a copy is killed", killCopies(1)},
		{"the owner is killed", func() {
			first := harness.OwnerOf(t, data)
			harness.Kill(t, first)
			harness.WaitFor(t, "another owner", func() bool {
				o := strings.TrimSpace(harness.ReadText(data + "/" + harness.OwnerLock))
				return o != "" && o != fmt.Sprint(first)
			})
		}},
		{"a daemon starts", func() { s = harness.Serve(t, "--config", config) }},
		{"two copies are killed", killCopies(2)},
		{"the daemon is stopped and started", func() {
			if code := s.Stop(syscall.SIGTERM); code != 0 {
				t.Errorf("the daemon ended with status %d", code)
			}
			s = harness.Serve(t, "--config", config)
		}},
		{"the daemon is killed and started", func() {
			_ = s.Cmd.Process.Kill()
			<-s.Ended
			s = harness.Serve(t, "--config", config)
		}},
		{"the daemon is stopped for good", func() { s.Stop(syscall.SIGTERM) }},
	} {
		t.Run(fault.name, func(t *testing.T) { e.stream(t, round, fault.do) })
	}
	if _, cannotTell := e.complaints(); cannotTell > 0 {
		t.Errorf("ejabberd was told %d times that we cannot tell", cannotTell)
	}
}

// loginTry is one login and what came of it.
type loginTry struct {
	user, domain, password string
	want, got              string
	begun                  time.Time
	took                   time.Duration
}

// attemptNumber is a login of the stream: a third with a wrong password, on both hosts, of
// returning users and of new ones.
func attemptNumber(i int) loginTry {
	a := loginTry{user: fmt.Sprintf("joe%d", i%5), domain: "dom.example", password: "secret", want: "success"}
	if i%2 == 1 {
		a.user, a.domain = fmt.Sprintf("u%d", i), "app.example"
		if i%4 == 1 {
			a.user = "often"
		}
		a.password = "pw-" + a.user
	}
	if i%3 == 0 {
		a.password, a.want = fmt.Sprintf("wrong%d", i%7), "not-authorized"
	}
	return a
}

// stream logs in from eight clients at once, at least 200 times, before, while and after do is
// done.
func (e *ejabberd) stream(t *testing.T, round int, do func()) {
	var mu sync.Mutex
	var list []loginTry
	next, finish := 10000*round, false // new users in each round
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for {
				mu.Lock()
				a, end := attemptNumber(next), finish
				next++
				mu.Unlock()
				if end {
					return
				}
				a.begun = time.Now()
				got, err := xmppLogin(e.port, a.user, a.domain, a.password)
				a.took = time.Since(a.begun)
				if a.got = got; err != nil {
					a.got = err.Error()
				}
				mu.Lock()
				list = append(list, a)
				mu.Unlock()
			}
		})
	}
	answered := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(list)
	}
	harness.WaitFor(t, "60 logins", func() bool { return answered() >= 60 })
	begun := time.Now()
	do()
	from := answered()
	harness.WaitFor(t, "60 more logins", func() bool { return answered() >= max(200, from+60) })
	mu.Lock()
	finish = true
	mu.Unlock()
	clients.Wait()

	wrong, lost, longest := 0, 0, time.Duration(0)
	for _, a := range list {
		if !a.begun.Before(begun) { // before it, eight connections at once may wait for the kernel
			longest = max(longest, a.took)
		}
		switch {
		case a.got == a.want:
			continue
		case a.got == "success":
			wrong++
		default:
			lost++
		}
		t.Errorf("%s@%s was answered %s after %v; want %s", a.user, a.domain, a.got, a.took.Round(time.Millisecond), a.want)
	}
	t.Logf("%d logins, %d wrong, %d lost; the longest since then took %v", len(list), wrong, lost, longest.Round(time.Millisecond))
}
