package actors

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// clockBackend is a backend under a clock that jumps: it remembers when it accepted what.
type clockBackend struct {
	clock *clock
	down  atomic.Bool

	mu       sync.Mutex
	password map[string]string
	accepted map[string]moment // by user and password
	jumps    []time.Duration
}

// moment is a time, and the number of jumps before it.
type moment struct {
	at    time.Time
	jumps int
}

func (w *clockBackend) ask(ctx context.Context, q backend.Query) backend.Result {
	if w.down.Load() {
		return outage(ctx, q)
	}
	if q.Op != auth.OpAuth {
		return goodPassword(q)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if q.Secret.Reveal() != w.current(q.User) {
		return backend.Result{Class: backend.Refused}
	}
	w.accepted[q.User+" "+q.Secret.Reveal()] = moment{w.clock.now(), len(w.jumps)}
	return backend.Result{Class: backend.Accepted}
}

// current is a user's password. The caller holds mu.
func (w *clockBackend) current(user string) string {
	if p := w.password[user]; p != "" {
		return p
	}
	return "first"
}

// jump sets the clock.
func (w *clockBackend) jump(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.jumps = append(w.jumps, d)
	w.clock.advance(d)
}

// lasts reports whether a password may still be good at one of some times by what the backend has
// said of it: accepted less than a lifetime before, and not in the future. Whether what was
// accepted at a jump is of the time before or after it is left open.
func (w *clockBackend) lasts(user, password string, ttl time.Duration, times ...time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	m, ok := w.accepted[user+" "+password]
	since := []time.Time{m.at}
	if m.jumps < len(w.jumps) {
		since = append(since, m.at.Add(w.jumps[m.jumps]))
	}
	for _, at := range since {
		for _, now := range times {
			if age := now.Sub(at); ok && age < ttl+time.Minute && age > -6*time.Minute {
				return true
			}
		}
	}
	return false
}

// clockClient asks on a connection of its own about users of its own, and checks every answer.
type clockClient struct {
	*rig
	w       *clockBackend
	phase   *atomic.Int64 // even: everything is well
	name    string
	random  *rand.Rand
	token   string
	until   time.Time // the token's end
	refused map[string]bool

	bursts atomic.Int64
}

// sentQuestion is a question, and the user's password at that time.
type sentQuestion struct {
	question
	current string
}

// run asks until over is set.
func (v *clockClient) run(address string, over *atomic.Bool) {
	c := v.dial(address)
	in := bufio.NewReader(c)
	for turn := 0; !over.Load() && !v.t.Failed(); turn++ {
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		burst, text := v.questions(turn)
		phase, begun := v.phase.Load(), v.clock.now()
		if _, err := io.WriteString(c, text); err != nil {
			v.t.Error(err)
			return
		}
		for _, q := range burst {
			got := make([]byte, 4)
			if _, err := io.ReadFull(in, got); err != nil {
				v.t.Errorf("no answer to %s of %s: %v", q.op, q.user, err)
				return
			}
			v.judge(q, got[3], begun, v.clock.now(), phase%2 == 0 && v.phase.Load() == phase)
		}
		v.bursts.Add(1)
	}
}

// questions are a burst of right, wrong and outdated passwords, existence and a token. Now and
// then a password is changed before.
func (v *clockClient) questions(turn int) (burst []sentQuestion, text string) {
	v.w.mu.Lock()
	defer v.w.mu.Unlock()
	for range 12 {
		user := fmt.Sprint(v.name, v.random.IntN(3))
		if len(burst) == 0 && v.random.IntN(4) == 0 {
			v.w.password[user] = fmt.Sprint("changed", turn)
		}
		q := sentQuestion{question{op: "auth", user: user, domain: "dom.example"}, v.w.current(user)}
		switch v.random.IntN(8) {
		case 0:
			q.op = "isuser"
		case 1:
			q.op, q.user = "isuser", "nobody"
		case 2:
			q.user, q.secret = v.name, v.token
		case 3:
			q.secret = fmt.Sprint("wrong", v.random.IntN(5))
		case 4, 5: // some password of the past
			q.secret = fmt.Sprint("changed", v.random.IntN(turn+1))
		default:
			q.secret = q.current
		}
		burst = append(burst, q)
		text += q.frame("ejabberd")
	}
	return burst, text
}

// judge checks an answer that came between two times.
func (v *clockClient) judge(q sentQuestion, got byte, begun, ended time.Time, calm bool) {
	right := true
	switch ttl := 168 * time.Hour; {
	case got == 2:
		right = !calm
	case q.op == "isuser":
		right = (got == 1) == (q.user != "nobody")
	case q.secret == v.token:
		past := begun.After(v.until) || ended.After(v.until)
		right = got == 1 && (begun.Before(v.until) || ended.Before(v.until)) || got == 0 && past
	case got == 0:
		right = q.secret != q.current
		v.refused[q.user+" "+q.secret] = true
	default:
		if calm {
			ttl = time.Hour
		}
		right = v.w.lasts(q.user, q.secret, ttl, begun, ended) && (q.secret == q.current || !v.refused[q.user+" "+q.secret])
	}
	if !right {
		v.t.Errorf("WRONG: %s of %s with %q was answered %d after %v; the password is %q, calm %t, the clock is %v off",
			q.op, q.user, q.secret, got, ended.Sub(begun), q.current, calm, time.Duration(v.clock.offset.Load()))
	}
}

// TestChaosClock: the clock jumps by a day, back and forth, and once beyond every lifetime, with
// the backend there or away, while clients ask. No password is accepted past a lifetime by that
// clock, no request waits, tokens are judged by it, and a limited user may log in after the longest
// pause.
func TestChaosClock(t *testing.T) {
	const day = 24 * time.Hour
	jumps := []time.Duration{day, -day, -day, day, 8 * day, -8 * day}
	if os.Getenv("POSTERN_CHAOS") != "" {
		for range 60 {
			jumps = append(jumps, []time.Duration{day, -day, time.Hour, -time.Hour, 8 * day, -8 * day}[rand.IntN(6)])
		}
	}
	for _, storage := range []config.Storage{config.StorageMemory, config.StorageDisk} {
		t.Run(string(storage), func(t *testing.T) {
			w := &clockBackend{password: map[string]string{}, accepted: map[string]moment{}}
			disk := openStore(t)
			r := newRig(t, func(s *setup) {
				withTokens(s)
				onDisk(s, disk)
				s.cfg.Domains[0].Cache.Storage = storage
				s.cfg.Domains[0].JSXC.TTL = 10 * day
				s.cfg.Backends[0].BreakerFailures, s.cfg.Backends[0].BreakerCooldown = 5, 10*time.Millisecond
				guarded := s.cfg.Domains[0]
				guarded.Name = "guarded.example"
				s.cfg.Domains = append(s.cfg.Domains, guarded)
				withLimits(s)
				s.cfg.Domains[0].Limit, s.cfg.Domains[1].Limit = config.Limit{}, s.cfg.Domains[0].Limit
				s.fake.ask = w.ask
				w.clock = s.clock
			})
			r.jumpClock(w, jumps)
		})
	}
}

// jumpClock makes the clock jump while clients ask.
func (r *rig) jumpClock(w *clockBackend, jumps []time.Duration) {
	var over atomic.Bool
	var phase atomic.Int64
	var wg sync.WaitGroup
	var all []*clockClient
	address := r.listen(listenerBlock("ejabberd"))
	for i := range 4 {
		v := &clockClient{rig: r, w: w, phase: &phase, name: fmt.Sprint("user", i, "-"), random: rand.New(rand.NewPCG(uint64(i), 7)), refused: map[string]bool{}}
		v.token, v.until = r.jsxcToken(v.name, 30*time.Minute), r.clock.now().Add(30*time.Minute).Truncate(time.Second).Add(time.Second)
		all = append(all, v)
		wg.Go(func() { v.run(address, &over) })
	}
	defer func() { over.Store(true); wg.Wait() }()
	asked := func(n int64) {
		for _, v := range all {
			want := v.bursts.Load() + n
			eventually(r.t, "answers", func() bool { return v.bursts.Load() >= want || r.t.Failed() })
		}
	}
	asked(3)
	for i, jump := range jumps {
		joe := func(password string) auth.Request {
			q := login("joe", password)
			q.Domain = "guarded.example"
			return q
		}
		for n := range 6 {
			if a := r.ask(joe(fmt.Sprint("guess", i, n))); a.Verdict == allow {
				r.t.Errorf("a guess was answered %v", a.Verdict)
			}
		}
		w.jump(jump)
		asked(3)
		phase.Add(1)
		w.down.Store(true)
		asked(3)
		w.jump(jump / 24)
		asked(2)
		w.down.Store(false)
		eventually(r.t, "the backend's return", func() bool { return r.auth(fmt.Sprint("fresh", i), "first").Verdict == allow })
		phase.Add(1)
		asked(2)
		if w.jump(16 * time.Minute); r.ask(joe("first")).Verdict != allow {
			r.t.Errorf("after a jump by %v and 16 minutes joe is still locked out", jump)
		}
		asked(2) // no answer has two jumps on its way
		if r.t.Failed() {
			return
		}
	}
	var n int64
	for _, v := range all {
		n += 12 * v.bursts.Load()
	}
	r.t.Logf("%d jumps by up to eight days, %d questions, 0 wrong answers", len(jumps), n)
}
