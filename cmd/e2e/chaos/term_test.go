package chaos

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// termLoad is a set of clients, each of which sends questions until the daemon gets SIGTERM.
type termLoad struct {
	sync.RWMutex // held for reading while questions are written
	termSent     bool
	answered     atomic.Int64
}

// untilTerm asks on one connection after the other. What was written before SIGTERM is answered,
// once each; then the connection ends.
func (k *chaosClient) untilTerm(load *termLoad) error {
	k.users = k.people()
	var c net.Conn
	var in *bufio.Reader
	for {
		load.RLock()
		if load.termSent {
			load.RUnlock()
			return ends(c, in)
		}
		if c == nil || k.front.once {
			var err error
			if c, err = k.front.connect(); err != nil {
				load.RUnlock()
				return err
			}
			defer c.Close()
			in = bufio.NewReader(c)
			_ = c.SetDeadline(time.Now().Add(harness.Timeout))
			if k.front.greet != nil {
				err = k.front.greet(c, in)
			}
			if err != nil {
				load.RUnlock()
				return fmt.Errorf("greeting: %w", err)
			}
		}
		order, open, text := k.some()
		_, err := io.WriteString(c, text)
		load.RUnlock()
		if err == nil {
			err = k.answers(in, order, open, load)
		}
		if err != nil {
			return err
		}
		if k.front.once {
			if err := ends(c, in); err != nil {
				return err
			}
			c = nil
		}
	}
}

// some are questions, in order and by number, and their text.
func (k *chaosClient) some() (order []int, open map[int]chaosQuestion, text string) {
	open = make(map[int]chaosQuestion)
	var b strings.Builder
	for range 1 + k.random.IntN(k.front.burst) {
		k.next++
		q := k.question(k.users[k.random.IntN(len(k.users))])
		order, open[k.next] = append(order, k.next), q
		b.WriteString(k.front.frame(q, k.next))
	}
	return order, open, b.String()
}

// answers reads as many answers as there are questions open.
func (k *chaosClient) answers(in *bufio.Reader, order []int, open map[int]chaosQuestion, load *termLoad) error {
	begun := time.Now()
	for n := len(open); len(open) > 0; {
		id, answer, err := k.front.read(in)
		if err != nil {
			return fmt.Errorf("LOST: %d of %d answers were missing after %v: %w", len(open), n, time.Since(begun).Round(time.Millisecond), err)
		}
		if id == 0 {
			id, order = order[0], order[1:]
		}
		q, asked := open[id]
		if !asked {
			return errors.New("an answer to something that was not asked")
		}
		delete(open, id)
		k.check(q, answer, false, begun)
		load.answered.Add(1)
	}
	return nil
}

// ends waits for the end of a connection, before which nothing may come: a second answer would.
func ends(c net.Conn, in *bufio.Reader) error {
	if c == nil {
		return nil
	}
	_ = c.SetReadDeadline(time.Now().Add(harness.Timeout))
	rest, err := io.ReadAll(in)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("after the last answer came %q", rest)
	}
	return err
}

// The daemon gets SIGTERM under load, again and again: every question until then is answered once,
// and the daemon ends in time.
func TestChaosTerm(t *testing.T) {
	t.Parallel()
	app := newChaosApp(t, newCredentials(), "127.0.0.86", nil)
	right := httpReply(200)
	app.becomes(func(c net.Conn, body string) bool {
		return app.pause(time.Duration(rand.IntN(40))*time.Millisecond) && right(c, body)
	})
	d := &chaosDaemon{t: t, config: harness.ConfigFile(t, t.TempDir(), chaosConfig("http://"+app.address, "", chaosQuery.String(), "1h"))}
	harness.OK(t, chaosPassword("joe@still.example", 0)+"\n", "user", "add", "joe@still.example", "--config", d.config)
	c := &chaos{t: t, seed: chaosSeed(t), credentials: app.credentials, each: chaosUsers}
	var all int64
	times := chaosTimes(t, 5, 50)
	for n := range times {
		d.start()
		load := new(termLoad)
		var wg sync.WaitGroup
		for i, f := range append(chaosFronts(d.address), chaosFronts(d.address)...) {
			k := &chaosClient{chaos: c, front: f, number: i, random: rand.New(rand.NewPCG(c.seed, uint64(100*n+i)))}
			wg.Go(func() {
				if err := k.untilTerm(load); err != nil {
					t.Errorf("%s: %v", f.name, err)
				}
			})
		}
		harness.WaitFor(t, "a load", func() bool { return load.answered.Load() >= 300 || t.Failed() })
		s := d.now.Load()
		load.Lock()
		s.Signal(syscall.SIGTERM)
		load.termSent = true
		load.Unlock()
		wg.Wait()
		select {
		case <-s.Ended:
		case <-time.After(harness.Timeout):
			t.Fatal("the daemon did not end")
		}
		if code := s.Cmd.ProcessState.ExitCode(); code != 0 || !strings.Contains(s.Log.String(), "msg=stopped clean=true") {
			t.Errorf("exit status %d, or something was not answered", code)
		}
		if all += load.answered.Load(); t.Failed() {
			break
		}
	}
	t.Logf("%d times SIGTERM; %d answers, each right or \"cannot tell\", none lost", times, all)
}
