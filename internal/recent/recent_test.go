package recent

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"postern/internal/auth"
)

var begin = time.Date(2026, 3, 1, 12, 0, 30, 0, time.UTC)

func on() *Log {
	l := new(Log)
	l.Switch(true, begin)
	return l
}

func TestOff(t *testing.T) {
	var none *Log
	none.Note(Decision{})
	off := new(Log)
	off.Note(Decision{At: begin})
	for _, l := range []*Log{none, off} {
		fronts, _ := l.Hour(begin)
		if l.On() || len(fronts)+len(l.Last(Filter{}, 10)) > 0 {
			t.Error("a log that is off remembers")
		}
	}
	l := on()
	l.Note(Decision{At: begin, Front: "x"})
	l.Switch(true, begin.Add(time.Minute))
	if _, since := l.Hour(begin); len(l.Last(Filter{}, 1)) != 1 || since != begin {
		t.Error("switching on again has forgotten")
	}
	l.Switch(false, begin)
	l.Switch(true, begin)
	if len(l.Last(Filter{}, 1)) != 0 {
		t.Error("switching off has not forgotten")
	}
}

func TestOffAllocatesNothing(t *testing.T) {
	l := new(Log)
	if n := testing.AllocsPerRun(100, func() { l.Note(Decision{At: begin, User: "joe"}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestLast: the last decisions come in order, whatever their verdicts, and many of one kind do not push out the others.
func TestLast(t *testing.T) {
	l := on()
	l.Note(Decision{At: begin, User: "eve", Verdict: auth.Deny, Front: "a"})
	for i := range 3 * kept {
		l.Note(Decision{At: begin.Add(time.Duration(i+1) * time.Millisecond), User: fmt.Sprint("joe", i), Domain: "X.example", Verdict: auth.Allow, Front: "b"})
	}
	l.Note(Decision{At: begin.Add(time.Hour), User: "ann", Domain: "y.example", Verdict: auth.Unavailable, Front: "a"})
	names := func(f Filter, most int) (out string) {
		for _, d := range l.Last(f, most) {
			out += d.User + " "
		}
		return out
	}
	for name, c := range map[string]struct {
		filter Filter
		most   int
		want   string
	}{
		"the last":       {Filter{}, 3, fmt.Sprintf("ann joe%d joe%d ", 3*kept-1, 3*kept-2)},
		"a user":         {Filter{User: "EVE"}, 9, "eve "},
		"part of one":    {Filter{User: fmt.Sprint(3*kept - 1)}, 9, fmt.Sprintf("joe%d ", 3*kept-1)},
		"a domain":       {Filter{Domain: "Y.ex"}, 9, "ann "},
		"folded":         {Filter{Domain: "x.EXAMPLE"}, 1, fmt.Sprintf("joe%d ", 3*kept-1)},
		"a verdict":      {Filter{Verdict: "deny"}, 9, "eve "},
		"a listener":     {Filter{Front: "a"}, 9, "ann eve "},
		"no such user":   {Filter{User: "bob"}, 9, ""},
		"no such reply":  {Filter{Verdict: "maybe"}, 9, ""},
		"all conditions": {Filter{User: "ann", Domain: "y", Verdict: "unavailable", Front: "a"}, 9, "ann "},
	} {
		if got := names(c.filter, c.most); got != c.want {
			t.Errorf("%s: %q; want %q", name, got, c.want)
		}
	}
	if n := len(l.Last(Filter{}, 10*kept)); n != kept+2 {
		t.Errorf("%d decisions are kept", n)
	}
}

func TestLongTextsAreCut(t *testing.T) {
	l := on()
	l.Note(Decision{At: begin, User: strings.Repeat("é", maxText), Reason: strings.Repeat("x", 1<<16)})
	d := l.Last(Filter{}, 1)[0]
	if len(d.User) > maxText+3 || !strings.HasSuffix(d.User, "é...") || len(d.Reason) != maxText+3 {
		t.Errorf("%d bytes of a user, %d of a reason", len(d.User), len(d.Reason))
	}
}

// TestRequestsAreNotKept: a name is a part of a request, in which there is a password.
func TestRequestsAreNotKept(t *testing.T) {
	for _, request := range []string{"user=joe&pass=secret", "joe"} {
		l := on()
		name := request[strings.Index(request, "joe"):][:3]
		l.Note(Decision{At: begin, User: name})
		if d := l.Last(Filter{}, 1)[0]; d.User != "joe" || unsafe.StringData(d.User) == unsafe.StringData(name) {
			t.Errorf("%q is kept with the request", d.User)
		}
	}
}

// TestHour: minutes go by, and those that are over an hour old are not counted.
func TestHour(t *testing.T) {
	l := on()
	note := func(at time.Time, v auth.Verdict, took time.Duration) {
		l.Note(Decision{At: at, Front: "mux", Verdict: v, Source: auth.SourceHot, Took: took})
	}
	note(begin, auth.Allow, time.Millisecond)
	note(begin.Add(20*time.Second), auth.Deny, time.Millisecond)
	note(begin.Add(time.Minute), auth.Allow, 2*time.Millisecond)
	l.Note(Decision{At: begin, Front: "pipe"})
	fronts, since := l.Hour(begin.Add(time.Minute))
	if len(fronts) != 2 || fronts[0].Name != "mux" || fronts[1].Name != "pipe" || since != begin {
		t.Fatalf("%d listeners since %v", len(fronts), since)
	}
	m := fronts[0].Minutes
	if m[59].Total() != 1 || m[58].Total() != 2 || m[58].Verdicts[auth.Deny] != 1 {
		t.Errorf("minutes: %v, %v", m[58].Verdicts, m[59].Verdicts)
	}
	hour := fronts[0].Hour()
	if cached, asked := hour.Remembered(); hour.Total() != 3 || cached != 3 || asked != 0 {
		t.Errorf("%d decisions, %d cached, %d asked", hour.Total(), cached, asked)
	}
	fronts, _ = l.Hour(begin.Add(60 * time.Minute)) // the first minute has become old
	if hour = fronts[0].Hour(); hour.Total() != 1 {
		t.Errorf("%d decisions an hour later", hour.Total())
	}
	note(begin.Add(60*time.Minute), auth.Allow, time.Second) // in the place of the first minute
	fronts, _ = l.Hour(begin.Add(60 * time.Minute))
	if hour = fronts[0].Hour(); hour.Total() != 2 || fronts[0].Minutes[59].Total() != 1 {
		t.Errorf("%d decisions", hour.Total())
	}
	if fronts, _ = l.Hour(begin.Add(3 * time.Hour)); len(fronts) != 0 {
		t.Error("listeners without decisions are listed")
	}
}

// TestClocksThatAreSetBack, and times before 1970, do no harm.
func TestClocksThatAreSetBack(t *testing.T) {
	l := on()
	for _, at := range []time.Time{begin, begin.Add(-time.Hour), {}, time.Unix(-61, 0)} {
		l.Note(Decision{At: at, Front: "mux", Took: -time.Second})
	}
	l.Hour(time.Time{})
	if fronts, _ := l.Hour(begin); len(fronts) != 1 {
		t.Errorf("%d listeners", len(fronts))
	}
}

func TestManyListeners(t *testing.T) {
	l := on()
	for i := range 3 * maxFront {
		l.Note(Decision{At: begin, Front: fmt.Sprint(i)})
	}
	fronts, _ := l.Hour(begin)
	total := uint64(0)
	for i := range fronts {
		hour := fronts[i].Hour()
		total += hour.Total()
	}
	if len(fronts) != maxFront+1 || total != 3*maxFront {
		t.Errorf("%d listeners, %d decisions", len(fronts), total)
	}
}

// TestQuantile: a bucket's end is at most a fifth beyond any time in it, and buckets have no gaps.
func TestQuantile(t *testing.T) {
	last := -1
	for us := int64(0); us < 1<<22; us += 1 + us/64 {
		d := time.Duration(us) * time.Microsecond
		b := bucketOf(d)
		if b != last && b != last+1 || upperOf(b) <= d || us > 4 && float64(upperOf(b)) > 1.26*float64(d) {
			t.Fatalf("%v is in bucket %d, after %d, which ends at %v", d, b, last, upperOf(b))
		}
		last = b
	}
	if b := bucketOf(1 << 62); b != buckets-1 {
		t.Errorf("the longest time is in bucket %d", b)
	}
	var c Counts
	if c.Quantile(.5) != 0 {
		t.Error("nothing took time")
	}
	for i := range 100 {
		c.note(&Decision{Took: time.Duration(i+1) * time.Millisecond})
	}
	for share, want := range map[float64]time.Duration{0: time.Millisecond, .5: 50 * time.Millisecond, .99: 99 * time.Millisecond, 1: 100 * time.Millisecond} {
		if got := c.Quantile(share); got < want || float64(got) > 1.26*float64(want) {
			t.Errorf("%v of them within %v; want %v", share, got, want)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	l := on()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 1000 {
				l.Note(Decision{At: begin, Front: fmt.Sprint(i), Verdict: auth.Verdict(j % auth.Verdicts)})
			}
		})
		wg.Go(func() {
			for range 20 {
				l.Last(Filter{User: "x"}, 200)
				l.Hour(begin)
				l.Switch(true, begin)
			}
		})
	}
	wg.Wait()
	fronts, _ := l.Hour(begin)
	for i := range fronts {
		if hour := fronts[i].Hour(); hour.Total() != 1000 {
			t.Errorf("%s: %d", fronts[i].Name, hour.Total())
		}
	}
}

func BenchmarkNote(b *testing.B) {
	for name, l := range map[string]*Log{"off": new(Log), "on": on()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			d := Decision{At: time.Now(), Took: time.Millisecond, Front: "mux", Verdict: auth.Allow, Source: auth.SourceHot, User: "joe", Domain: "x.example"}
			for b.Loop() {
				l.Note(d)
			}
		})
	}
}
