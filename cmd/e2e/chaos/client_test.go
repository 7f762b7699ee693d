package chaos

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// chaosClient asks on one front, one burst after the other, and checks every answer.
type chaosClient struct {
	*chaos
	front  *chaosFront
	number int
	random *rand.Rand
	users  []*chaosUser
	next   int // id of the next question

	exact, cannot, lost atomic.Int64
	streak              atomic.Int64 // bursts in a row that were answered exactly
}

// run asks until the run is over, on one connection after the other.
func (k *chaosClient) run() {
	k.users = k.people()
	for !k.over.Load() && !k.t.Failed() {
		lossy := k.lossy.Load()
		if err := k.session(); err != nil && (k.front.keeps || !lossy && !k.lossy.Load()) {
			k.t.Errorf("%s: %v", k.front.name, err)
			return
		}
		time.Sleep(chaosPace) // in some faults no process is there: retry no faster than questions are sent
	}
}

// session is the life of one connection.
func (k *chaosClient) session() error {
	c, err := k.front.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	in := bufio.NewReader(c)
	if k.front.greet != nil {
		_ = c.SetDeadline(time.Now().Add(chaosLate))
		if err := k.front.greet(c, in); err != nil {
			return fmt.Errorf("greeting: %w", err)
		}
	}
	pace := time.NewTicker(chaosPace)
	defer pace.Stop()
	for range 50 {
		if k.over.Load() {
			break
		}
		<-pace.C
		if err := k.burst(c, in); err != nil {
			return err
		}
		if k.front.once {
			break
		}
	}
	if k.front.keeps {
		return nil
	}
	return k.finish(c, in)
}

// finish ends the input, after which nothing may come: a second answer to something would.
func (k *chaosClient) finish(c net.Conn, in *bufio.Reader) error {
	_ = c.SetDeadline(time.Now().Add(chaosLate))
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	rest, err := io.ReadAll(in)
	if len(rest) > 0 {
		k.t.Errorf("%s: after the last answer came %q", k.front.name, rest)
	}
	return err
}

// burst sends some questions at once and checks the answers.
func (k *chaosClient) burst(c net.Conn, in *bufio.Reader) error {
	if u := k.users[k.random.IntN(len(k.users))]; k.front.logins && u.domain != "still.example" && k.random.IntN(10) == 0 {
		k.change(u)
	}
	n := 1 + k.random.IntN(k.front.burst)
	open := make(map[int]chaosQuestion, n)
	var text strings.Builder
	order := make([]int, 0, n)
	for range n {
		q := k.question(k.users[k.random.IntN(len(k.users))])
		k.next++
		open[k.next] = q
		order = append(order, k.next)
		text.WriteString(k.front.frame(q, k.next))
	}
	phase, begun := k.phase.Load(), time.Now()
	_ = c.SetDeadline(begun.Add(chaosLate))
	if _, err := io.WriteString(c, text.String()); err != nil {
		k.lost.Add(int64(n))
		return err
	}
	exact := true
	for range n {
		id, answer, err := k.front.read(in)
		if err != nil {
			k.lost.Add(int64(len(open)))
			return fmt.Errorf("%d of %d answers were missing after %v: %w", len(open), n, time.Since(begun).Round(time.Millisecond), err)
		}
		if id == 0 { // by order
			id, order = order[0], order[1:]
		}
		q, asked := open[id]
		if !asked {
			return errors.New("an answer to something that was not asked")
		}
		delete(open, id)
		calm := phase == k.phase.Load() && phase%2 == 0
		if !k.check(q, answer, calm, begun) {
			exact = false
		}
	}
	if exact {
		k.streak.Add(1)
	} else {
		k.streak.Store(0)
	}
	return nil
}

// check judges an answer, and reports whether it was exact.
func (k *chaosClient) check(q chaosQuestion, got said, calm bool, begun time.Time) bool {
	blurred := k.front.blurred && got == saidNo && !calm // "no" is also this protocol's "cannot tell"
	switch {
	case got == q.want && !blurred:
		if q.old != nil {
			q.old.refused = true
		}
		k.exact.Add(1)
		return true
	case blurred && q.want == saidNo: // which of the two is unknown
		k.exact.Add(1)
		return true
	case got == saidCannot || blurred:
		k.cannot.Add(1)
		if calm {
			k.t.Errorf("%s: %s in calm", k.front.name, k.describe(q, got, begun))
		}
		return false
	case q.old != nil && got == saidYes && !q.old.refused && (!calm || begun.Sub(q.old.changed) < k.verify):
		return true
	}
	k.t.Errorf("%s: WRONG: %s", k.front.name, k.describe(q, got, begun))
	return false
}

func (k *chaosClient) describe(q chaosQuestion, got said, begun time.Time) string {
	text := fmt.Sprintf("login of %s with %q was answered %v after %v", q.address(), q.password, got, time.Since(begun).Round(time.Millisecond))
	if q.exists {
		text = fmt.Sprintf("existence of %s was answered %v", q.address(), got)
	}
	if q.old != nil {
		text += fmt.Sprintf(" (changed %v before, refused: %t)", begun.Sub(q.old.changed).Round(time.Millisecond), q.old.refused)
	}
	return text + fmt.Sprintf("; phase %d", k.phase.Load())
}
