package recent

import (
	"maps"
	"math/bits"
	"slices"
	"time"

	"postern/internal/auth"
)

// series is what one listener has decided, by minutes. A minute's place is its number modulo Minutes.
type series [Minutes]minute

// minute returns a minute by its number since 1970; an older one in its place is forgotten.
func (s *series) minute(number int64) *minute {
	m := &s[place(number)]
	if m.number < number {
		*m = minute{number: number}
	}
	return m // of a clock that was set back: counted in the later one
}

func place(number int64) int64 { return (number%Minutes + Minutes) % Minutes }

// minute counts the decisions of a minute.
type minute struct {
	number int64
	Counts
}

// Counts are the decisions of some time.
type Counts struct {
	Verdicts [auth.Verdicts]uint64
	Sources  [auth.Sources]uint64
	took     [buckets]uint32
}

func (c *Counts) note(d *Decision) {
	c.Verdicts[d.Verdict]++
	c.Sources[d.Source]++
	c.took[bucketOf(d.Took)]++
}

// Add adds the decisions of another time.
func (c *Counts) Add(o *Counts) {
	for i, n := range o.Verdicts {
		c.Verdicts[i] += n
	}
	for i, n := range o.Sources {
		c.Sources[i] += n
	}
	for i, n := range o.took {
		c.took[i] += n
	}
}

// Total is the number of decisions.
func (c *Counts) Total() (n uint64) {
	for _, v := range c.Verdicts {
		n += v
	}
	return n
}

// Buckets of times: four for each power of two of microseconds, up to hours.
const (
	perOctave = 4
	buckets   = 34 * perOctave
)

// bucketOf returns the bucket of a time.
func bucketOf(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 0))
	if us < perOctave {
		return int(us)
	}
	octave := bits.Len64(us) - 3 // us>>octave is from 4 to 7
	return min((octave+1)*perOctave+int(us>>octave)-perOctave, buckets-1)
}

// upperOf returns the end of a bucket.
func upperOf(bucket int) time.Duration {
	if bucket < perOctave {
		return time.Duration(bucket+1) * time.Microsecond
	}
	octave, part := bucket/perOctave-1, bucket%perOctave+perOctave
	return time.Duration(part+1) << octave * time.Microsecond
}

// Quantile returns a time within which a share of the decisions came, from 0 to 1, at most a fifth too long; 0 if
// there was none.
func (c *Counts) Quantile(share float64) time.Duration {
	all := uint64(0)
	for _, n := range c.took {
		all += uint64(n)
	}
	if all == 0 {
		return 0
	}
	rank, seen := uint64(share*float64(all-1))+1, uint64(0)
	for i, n := range c.took {
		if seen += uint64(n); seen >= rank {
			return upperOf(i)
		}
	}
	return upperOf(buckets - 1)
}

// Remembered shows where answers came from: out of the cache, or asked of a backend.
func (c *Counts) Remembered() (cached, asked uint64) {
	for _, s := range []auth.Source{auth.SourceHot, auth.SourceCache, auth.SourceRefusedBefore, auth.SourceGrace} {
		cached += c.Sources[s]
	}
	return cached, c.Sources[auth.SourceBackend]
}

// Front is what a listener has decided within the last hour.
type Front struct {
	Name string
	// Minutes are the counts of each, the oldest first; the last one is under way.
	Minutes [Minutes]Counts
}

// Hour returns the sum of the minutes.
func (f *Front) Hour() (sum Counts) {
	for i := range f.Minutes {
		sum.Add(&f.Minutes[i])
	}
	return sum
}

// Hour returns what the listeners have decided within the last hour, by their names, and since when it is counted.
// Listeners without a decision are left out.
func (l *Log) Hour(now time.Time) (fronts []Front, since time.Time) {
	if l == nil {
		return nil, time.Time{}
	}
	m := l.memory.Load()
	if m == nil {
		return nil, time.Time{}
	}
	last := now.Unix() / 60
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(m.fronts)) {
		f, any := Front{Name: name}, false
		for i := range f.Minutes {
			number := last - Minutes + 1 + int64(i)
			if at := &m.fronts[name][place(number)]; at.number == number {
				f.Minutes[i], any = at.Counts, true
			}
		}
		if any {
			fronts = append(fronts, f)
		}
	}
	return fronts, m.since
}
