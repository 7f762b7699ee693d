package backend

import (
	"cmp"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"postern/internal/auth"
)

// paceRig drives a Pace along a clock: a question begins whenever the pace has room.
type paceRig struct {
	*Pace
	now     time.Time
	running ends
	least   int // limit since the last phase began
	most    int
	answers int
}

// ends are questions under way, ordered by when they end.
type ends []Timing

func (e ends) Len() int           { return len(e) }
func (e ends) Less(i, j int) bool { return e[i].Begun.Add(e[i].Took).Before(e[j].Begun.Add(e[j].Took)) }
func (e ends) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any)        { *e = append(*e, x.(Timing)) }
func (e *ends) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func newPaceRig(floor, ceiling int) *paceRig {
	return &paceRig{Pace: NewPace(PaceOptions{Floor: floor, Ceiling: ceiling}), now: time.Unix(1000, 0)}
}

// phase keeps the backend busy for a time; serve gives each question its class and time, given how
// many are under way with it.
func (r *paceRig) phase(length time.Duration, serve func(alongside int) Timing) {
	end := r.now.Add(length)
	r.least, r.most, r.answers = r.Limit(), r.Limit(), 0
	for r.now.Before(end) {
		for len(r.running) < r.Limit() {
			t := serve(len(r.running) + 1)
			t.Op, t.Begun, t.Alongside = cmp.Or(t.Op, auth.OpAuth), r.now, len(r.running)+1
			heap.Push(&r.running, t)
		}
		t := heap.Pop(&r.running).(Timing)
		if done := t.Begun.Add(t.Took); done.After(r.now) {
			r.now = done
		}
		r.Report(t, r.now)
		r.answers++
		r.least, r.most = min(r.least, r.Limit()), max(r.most, r.Limit())
	}
}

// takes accepts after a time, whatever the load.
func takes(d time.Duration) func(int) Timing {
	return func(int) Timing { return Timing{Op: auth.OpAuth, Class: Accepted, Took: d} }
}

// processors accepts after work on so many processors that all questions share.
func processors(n int, work time.Duration) func(int) Timing {
	return func(alongside int) Timing {
		return Timing{Op: auth.OpAuth, Class: Accepted, Took: max(work, work*time.Duration(alongside)/time.Duration(n))}
	}
}

// TestPaceSlowsAndRecovers: a backend that becomes slow gets min_slots, and all slots within 10 s
// of its recovery.
func TestPaceSlowsAndRecovers(t *testing.T) {
	for _, floor := range []int{1, 4, 32} {
		t.Run(fmt.Sprint("floor ", floor), func(t *testing.T) {
			r := newPaceRig(floor, 32)
			r.phase(10*time.Second, takes(20*time.Millisecond))
			if r.least != 32 {
				t.Fatalf("a steady backend got %d at a time", r.least)
			}
			for range 3 {
				r.phase(20*time.Second, takes(2*time.Second))
				if r.Limit() != floor {
					t.Errorf("while it is slow it gets %d at a time, want %d", r.Limit(), floor)
				}
				r.phase(10*time.Second, takes(20*time.Millisecond))
				if r.Limit() != 32 {
					t.Errorf("10 s after the recovery it gets %d at a time", r.Limit())
				}
			}
		})
	}
}

// TestPaceRecoversWithFewLogins: one login a second is enough.
func TestPaceRecoversWithFewLogins(t *testing.T) {
	r := newPaceRig(4, 32)
	r.phase(time.Second, takes(20*time.Millisecond))
	r.phase(20*time.Second, takes(2*time.Second))
	for range 9 {
		r.now = r.now.Add(time.Second)
		r.Report(Timing{Op: auth.OpAuth, Class: Accepted, Begun: r.now, Took: 20 * time.Millisecond, Alongside: 1}, r.now)
	}
	if r.Limit() != 32 {
		t.Errorf("it gets %d at a time", r.Limit())
	}
}

// TestPaceSharedProcessors: a backend with few processors, and known without load, gets fewer than
// the ceiling, and loses no throughput by it.
func TestPaceSharedProcessors(t *testing.T) {
	r := newPaceRig(4, 64)
	for range 20 { // one login at a time
		r.now = r.now.Add(time.Second)
		r.Report(Timing{Op: auth.OpAuth, Class: Accepted, Begun: r.now, Took: 200 * time.Millisecond, Alongside: 1}, r.now)
	}
	r.phase(30*time.Second, processors(2, 200*time.Millisecond))
	r.phase(2*time.Minute, processors(2, 200*time.Millisecond))
	if r.most > 24 {
		t.Errorf("up to %d at a time", r.most)
	}
	if r.answers < 1100 {
		t.Errorf("%d answers in two minutes of 10 a second", r.answers)
	}
}

// TestPaceFollowsASlowerBackend: a backend that is slower for good gets all slots again, since it is
// not the load.
func TestPaceFollowsASlowerBackend(t *testing.T) {
	r := newPaceRig(4, 32)
	r.phase(5*time.Second, takes(20*time.Millisecond))
	r.phase(10*time.Minute, takes(time.Second))
	if r.Limit() != 32 {
		t.Errorf("after ten minutes it gets %d at a time", r.Limit())
	}
}

// TestPaceNoSignal: what is no sign of load does not slow a backend down.
func TestPaceNoSignal(t *testing.T) {
	odd := 0
	for name, serve := range map[string]func(int) Timing{
		"refusals":   func(int) Timing { return Timing{Class: Refused, Took: 3 * time.Second} },
		"outages":    func(int) Timing { return Timing{Class: Outage, Took: 3 * time.Second} },
		"throttling": func(int) Timing { return Timing{Class: Throttled, Took: 3 * time.Second} },
		"its own delay": func(int) Timing {
			return Timing{Class: Accepted, Took: 3 * time.Second, Delay: 2900 * time.Millisecond}
		},
		"unknown delay": func(int) Timing { return Timing{Class: Accepted, Took: 3 * time.Second, Delay: -1} },
		"scatter": func(int) Timing {
			return Timing{Class: Accepted, Took: time.Duration(50+rand.N(150)) * time.Millisecond}
		},
		"one of ten": func(int) Timing {
			if odd++; odd%10 == 0 {
				return Timing{Class: Accepted, Took: 5 * time.Second}
			}
			return Timing{Class: Accepted, Took: 100 * time.Millisecond}
		},
		"another operation": func(int) Timing {
			if odd++; odd%2 == 0 {
				return Timing{Op: auth.OpRoster, Class: Accepted, Took: 2 * time.Second}
			}
			return Timing{Class: Accepted, Took: 100 * time.Millisecond}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newPaceRig(4, 32)
			r.phase(5*time.Second, takes(100*time.Millisecond))
			r.phase(time.Minute, serve)
			want := 32
			if name == "one of ten" {
				want = 16 // when some happen to end together
			}
			if r.least < want {
				t.Errorf("down to %d at a time", r.least)
			}
		})
	}
}

// TestPaceRamp: after an outage it begins with one question, and doubles.
func TestPaceRamp(t *testing.T) {
	const service = 50 * time.Millisecond
	r := newPaceRig(4, 32)
	r.phase(time.Second, takes(service))
	r.running = nil
	r.Resume(0, r.now)
	for _, want := range []int{1, 2, 4, 8, 16, 32, 32} {
		if r.Limit() != want {
			t.Fatalf("%d at a time, want %d", r.Limit(), want)
		}
		round := r.Limit()
		r.now = r.now.Add(service)
		for range round {
			r.Report(Timing{Class: Accepted, Begun: r.now.Add(-service), Took: service, Alongside: round}, r.now)
		}
	}
	r.Resume(20, r.now)
	if r.Limit() != 21 {
		t.Errorf("beside 20 old questions %d at a time, want 21", r.Limit())
	}
	for range 9 {
		r.Report(Timing{Class: Accepted, Begun: r.now.Add(-time.Minute), Took: service, Alongside: 20}, r.now)
	}
	if r.Limit() != 21 {
		t.Errorf("late answers raise it to %d", r.Limit())
	}
	r.Resume(0, r.now)
	r.phase(10*time.Second, processors(2, service))
	if r.most > 24 {
		t.Errorf("a ramp goes on under load up to %d", r.most)
	}
}

// TestPaceExpect estimates by what waits, the mean and the limit.
func TestPaceExpect(t *testing.T) {
	p := NewPace(PaceOptions{Floor: 4, Ceiling: 32})
	if got := p.Expect(1000, 32); got > 500*time.Millisecond {
		t.Errorf("before anything was measured, %v behind 1,000", got)
	}
	now := time.Unix(1000, 0)
	for range 50 {
		p.Report(Timing{Class: Refused, Begun: now, Took: 50 * time.Millisecond, Alongside: 1}, now)
	}
	for _, c := range []struct {
		before, width int
		want          time.Duration
	}{{31, 32, 100}, {0, 32, 51}, {1919, 32, 3050}, {1919, 99, 3050}, {7, 8, 100}, {7, 0, 450}} {
		if got := p.Expect(c.before, c.width).Milliseconds(); got != int64(c.want) {
			t.Errorf("behind %d in %d slots: %d ms, want %d", c.before, c.width, got, c.want)
		}
	}
	p.Resume(0, now)
	if got, want := p.Expect(31, 32).Milliseconds(), int64(350); got != want {
		t.Errorf("on a ramp %d ms, want %d: five rounds more", got, want)
	}
}

// TestPaceBounds: whatever is reported, the limit stays between floor and ceiling, or on a ramp at 1
// at least, and the estimates are positive.
func TestPaceBounds(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		ceiling := 1 + random.IntN(64)
		floor := random.IntN(80)
		p := NewPace(PaceOptions{Floor: floor, Ceiling: ceiling})
		now, least := time.Unix(1000, 0), max(min(floor, ceiling), 1)
		for range 500 {
			now = now.Add(time.Duration(random.Int64N(int64(2*time.Second))) - 100*time.Millisecond) // a clock may go back
			if random.IntN(50) == 0 {
				p.Resume(random.IntN(ceiling+1), now)
			}
			took := time.Duration(random.Int64N(int64(time.Minute) >> random.IntN(20)))
			p.Report(Timing{
				Op: auth.Operation(random.IntN(3)), Class: Class(random.IntN(Classes)), Begun: now.Add(-took), Took: took,
				Delay: time.Duration(random.IntN(3)-1) * took / 2, Alongside: random.IntN(ceiling + 1),
			}, now)
			if n := p.Limit(); n > ceiling || n < 1 || n < least && !p.ramping {
				t.Fatalf("seed %d: %d at a time, of %d to %d (ramp %v)", seed, n, least, ceiling, p.ramping)
			}
			if p.Service() <= 0 || p.Expect(random.IntN(9), random.IntN(9)) < p.Service() {
				t.Fatalf("seed %d: service %v", seed, p.Service())
			}
		}
	}
}
