package chaos

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// chaosDaemon is a daemon that is killed and restarted under its clients.
type chaosDaemon struct {
	t      *testing.T
	config string
	now    atomic.Pointer[harness.Server]
}

func (d *chaosDaemon) start() { d.now.Store(serveChaos(d.t, d.config)) }

func (d *chaosDaemon) address(listener string) string { return d.now.Load().Address(listener) }

// killed ends the daemon without notice.
func (d *chaosDaemon) killed() {
	d.t.Helper()
	s := d.now.Load()
	harness.Kill(d.t, s.Cmd.Process.Pid)
	<-s.Ended
}

// registrar registers accounts through the daemon, and knows which of them were acknowledged.
type registrar struct {
	mu    sync.Mutex
	acked []string
}

// register makes accounts, one after the other, until the connection or the run ends.
func (r *registrar) register(d *chaosDaemon, over *atomic.Bool) {
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for n := 0; !over.Load(); n++ {
		<-pace.C
		name := fmt.Sprintf("new%d-%d", n, time.Now().UnixNano())
		c, err := ejabberdFront().at(func() string { return d.address("ejabberd") }).connect()
		if err != nil {
			continue
		}
		_ = c.SetDeadline(time.Now().Add(chaosLate))
		reply := make([]byte, 4)
		_, err = io.WriteString(c, harness.Frame("tryregister:"+name+":still.example:"+name))
		if err == nil {
			_, err = io.ReadFull(c, reply)
		}
		_ = c.Close()
		if err == nil && reply[3] == 1 {
			r.mu.Lock()
			r.acked = append(r.acked, name)
			r.mu.Unlock()
		}
	}
}

// check asks for all accounts that exist since the last check, or ever.
func (r *registrar) check(t *testing.T, address string, from int) int {
	t.Helper()
	r.mu.Lock()
	acked := append([]string(nil), r.acked[from:]...)
	r.mu.Unlock()
	c := harness.Connect(t, address)
	for _, name := range acked {
		_ = c.SetDeadline(time.Now().Add(harness.Timeout))
		insist(t, c, "auth:"+name+":still.example:"+name, "\x00\x02\x00\x01")
	}
	return from + len(acked)
}

// The daemon is killed in the middle of everything, again and again. The store opens each time; an
// account with an acknowledged registration exists; a password that was refused stays refused,
// whether the backend is there or not; and no pipe loses a question.
func TestChaosKill(t *testing.T) {
	t.Parallel()
	app := newChaosApp(t, newCredentials(), "127.0.0.79", nil)
	d := &chaosDaemon{t: t, config: harness.ConfigFile(t, t.TempDir(), withLongDeadlines(chaosConfig("http://"+app.address, "", "1h", "1h")))}
	harness.OK(t, chaosPassword("joe@still.example", 0)+"\n", "user", "add", "joe@still.example", "--config", d.config)
	d.start()
	fronts := append(chaosFronts(d.address), ejabberdFront().over(harness.Start(t, "pipe", "--protocol", "ejabberd", "--config", d.config)))
	c := newChaos(t, app.credentials, time.Hour, fronts)
	var over atomic.Bool
	var writes registrar
	var wg sync.WaitGroup
	wg.Go(func() { writes.register(d, &over) })
	defer func() { over.Store(true); wg.Wait() }()
	checked := 0
	for done := 0; done < chaosTimes(t, 10, 100) && !t.Failed(); done += 5 {
		c.lossy.Store(true)
		c.fault(fmt.Sprintf("kill %d", done), func() {
			for i := range 5 {
				d.killed()
				if i == 3 { // what is remembered must serve, and nothing that was refused
					app.down()
				}
				d.start()
				c.answered(3)
			}
		}, app.up, func() { c.lossy.Store(false) })
		checked = writes.check(t, d.address("ejabberd"), checked)
	}
	if t.Failed() {
		return
	}
	over.Store(true)
	wg.Wait()
	c.stop()
	if n := writes.check(t, d.address("ejabberd"), 0); n < 10 {
		t.Errorf("only %d accounts were made", n)
	}
}

// A storm of SIGHUP while the clients ask: nothing has changed, so no client may notice.
func TestChaosHup(t *testing.T) {
	t.Parallel()
	app := newChaosApp(t, newCredentials(), "127.0.0.80", nil)
	c, s := chaosServer(t, app, withLongDeadlines(chaosConfig("http://"+app.address, "", chaosQuery.String(), chaosVerify.String())))
	before := usageOf(t, s.Cmd.Process.Pid)
	for range chaosTimes(t, 200, 5000) {
		s.Signal(syscall.SIGHUP)
		time.Sleep(5 * time.Millisecond) // the storm's own measure
	}
	c.answered(20)
	c.stop()
	harness.WaitFor(t, "nothing to be left behind", func() bool { return usageOf(t, s.Cmd.Process.Pid).near(before) })
}
