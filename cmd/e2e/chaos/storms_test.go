package chaos

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// The daemon is restarted again and again while all users log in: no password that is right is refused,
// none that was refused is let in, and no pipe loses a question.
func TestChaosRestarts(t *testing.T) {
	t.Parallel()
	app := newChaosApp(t, newCredentials(), "127.0.0.90", nil)
	app.becomes(app.delayed(20 * time.Millisecond))
	text := withLongDeadlines(chaosConfig("http://"+app.address, "", "1h", "1h"))
	d := &chaosDaemon{t: t, config: harness.ConfigFile(t, t.TempDir(), text)}
	harness.OK(t, chaosPassword("joe@still.example", 0)+"\n", "user", "add", "joe@still.example", "--config", d.config)
	d.start()
	fronts := chaosFronts(d.address)
	for range 2 {
		fronts = append(fronts, ejabberdFront().over(harness.Start(t, "pipe", "--protocol", "ejabberd", "--config", d.config)))
	}
	users := chaosTimes(t, 200, 2000)
	c := newCrowd(t, app.credentials, time.Hour, fronts, users/(2*len(fronts)))
	c.lossy.Store(true) // a connection may end with what was written after the daemon had stopped reading
	times := chaosTimes(t, 4, 20)
	c.fault(fmt.Sprintf("%d restarts with %d users", times, users), func() {}, func() {
		for range times {
			s := d.now.Load()
			if code := s.Stop(syscall.SIGTERM); code != 0 || !strings.Contains(s.Log.String(), "msg=stopped clean=true") {
				t.Errorf("exit status %d, or something was not answered", code)
			}
			d.start()
			c.answered(3)
		}
	}, func() { c.lossy.Store(false) })
	c.stop()
}

// guesser guesses at one account over many connections, each of which sends as much as it may.
type guesser struct {
	t    *testing.T
	over atomic.Bool
	sent atomic.Int64
	wg   sync.WaitGroup
}

// guessers starts them. Each guess differs, so each costs a hash.
func guessers(t *testing.T, address, victim, domain string, connections int) *guesser {
	g := &guesser{t: t}
	for i := range connections {
		g.wg.Go(func() {
			c, err := ejabberdFront().at(func() string { return address }).connect()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			in, front := bufio.NewReader(c), ejabberdFront()
			for n := 0; !g.over.Load(); n++ {
				const burst = 64
				var b strings.Builder
				for k := range burst {
					b.WriteString(harness.Frame(fmt.Sprintf("auth:%s:%s:guess-%d-%d-%d", victim, domain, i, n, k)))
				}
				_ = c.SetDeadline(time.Now().Add(chaosLate))
				if _, err := io.WriteString(c, b.String()); err != nil {
					t.Error(err)
					return
				}
				for range burst {
					_, answer, err := front.read(in)
					if err != nil || answer == saidYes {
						t.Errorf("a guess was answered %v, %v", answer, err)
						return
					}
				}
				g.sent.Add(burst)
			}
		})
	}
	return g
}

func (g *guesser) stop() {
	g.over.Store(true)
	g.wg.Wait()
}

// The queue of password hashes is full of guesses at one account: others get in or are a
// temporary failure, and no user is let in or refused wrongly.
func TestChaosGuesses(t *testing.T) {
	t.Parallel()
	app := newChaosApp(t, newCredentials(), "127.0.0.91", nil)
	// Hashes must not be a fault on a busy machine before and after the guesses.
	text := withLongDeadlines(chaosConfig("http://"+app.address, "", chaosQuery.String(), chaosVerify.String()))
	c, s := chaosServer(t, app, text)
	harness.OK(t, "secret\n", "user", "add", "victim@still.example", "--config", s.Cmd.Args[len(s.Cmd.Args)-1])
	guesses := int64(chaosTimes(t, 128, 5000)) // answered; more than the queue holds are open all the time
	for range chaosTimes(t, 1, 10) {
		var g *guesser
		c.fault("guesses", func() { g = guessers(t, s.Address("ejabberd"), "victim", "still.example", 16) }, func() {
			harness.WaitFor(t, "guesses", func() bool { return g.sent.Load() >= guesses || t.Failed() })
			c.answered(12)
		}, func() { g.stop() })
	}
	c.stop()
}
