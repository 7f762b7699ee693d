package status

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"postern/internal/auth"
	"postern/internal/recent"
)

// maxShown is how many decisions are listed.
const maxShown = 200

// View is what the page shows, with names as they may be seen.
type View struct {
	At      time.Time `json:"at"`
	Privacy bool      `json:"privacy"`
	Health  string    `json:"health"` // "ok", "warning" or "failure": the worst of Notes
	Notes   []Note    `json:"notes"`
	State
	Since     time.Time  `json:"counted_since"`
	Minute    Figures    `json:"minute"` // the last whole one
	Hour      Figures    `json:"hour"`
	Fronts    []Front    `json:"fronts"`
	Decisions []Decision `json:"decisions"`
}

// Note is what an administrator should know of.
type Note struct {
	Severity string `json:"severity"` // "warning" or "failure"
	Text     string `json:"text"`
}

// Figures are counts of decisions.
type Figures struct {
	Yes         uint64   `json:"allow"`
	No          uint64   `json:"deny"`
	Temporary   uint64   `json:"unavailable"`
	Unsupported uint64   `json:"unsupported"`
	Remembered  uint64   `json:"from_cache"`
	Asked       uint64   `json:"from_backend"`
	P50         Duration `json:"p50_seconds"`
	P99         Duration `json:"p99_seconds"`
}

// Total is the number of decisions.
func (f Figures) Total() uint64 { return f.Yes + f.No + f.Temporary + f.Unsupported }

// HitRate is the share of the answers from the cache among those that a backend or the cache gave, in percent. It is
// false if there was none.
func (f Figures) HitRate() (percent float64, ok bool) {
	if f.Remembered+f.Asked == 0 {
		return 0, false
	}
	return 100 * float64(f.Remembered) / float64(f.Remembered+f.Asked), true
}

func figures(c *recent.Counts) Figures {
	f := Figures{
		Yes: c.Verdicts[auth.Allow], No: c.Verdicts[auth.Deny], Temporary: c.Verdicts[auth.Unavailable], Unsupported: c.Verdicts[auth.Unsupported],
		P50: Duration(c.Quantile(.5)), P99: Duration(c.Quantile(.99)),
	}
	f.Remembered, f.Asked = c.Remembered()
	return f
}

// Front is what a listener has decided.
type Front struct {
	Name    string                  `json:"name"`
	Minute  Figures                 `json:"minute"` // the last whole one
	Hour    Figures                 `json:"hour"`
	Minutes [recent.Minutes]Figures `json:"minutes"` // the oldest first; the last one is under way
}

// Decision is an answer, as it is shown.
type Decision struct {
	At      time.Time `json:"at"`
	Front   string    `json:"front"`
	Op      string    `json:"op"`
	User    string    `json:"user"`
	Domain  string    `json:"domain"`
	Verdict string    `json:"verdict"`
	Source  string    `json:"source"`
	Took    Duration  `json:"took_seconds"`
	Client  string    `json:"client,omitempty"`
	Service string    `json:"service,omitempty"`
	Reason  string    `json:"reason,omitempty"`
}

// NewView makes the content of the page. The filter is for its list of decisions. With privacy, names and addresses are
// shortened, and the limited stay in their order.
func NewView(s State, log *recent.Log, f recent.Filter, privacy bool, now time.Time) *View {
	v := &View{At: now.UTC(), Privacy: privacy, State: s}
	fronts, since := log.Hour(now)
	v.Since = since
	var minute, hour recent.Counts
	for i := range fronts {
		front := &fronts[i]
		sum, last := front.Hour(), &front.Minutes[recent.Minutes-2]
		hour.Add(&sum)
		minute.Add(last)
		shown := Front{Name: front.Name, Minute: figures(last), Hour: figures(&sum)}
		for j := range front.Minutes {
			shown.Minutes[j] = figures(&front.Minutes[j])
		}
		v.Fronts = append(v.Fronts, shown)
	}
	v.Minute, v.Hour = figures(&minute), figures(&hour)
	f.WholeUser = f.WholeUser || privacy // parts of a name would bring it to light letter by letter
	for _, d := range log.Last(f, maxShown) {
		v.Decisions = append(v.Decisions, Decision{
			At: d.At.UTC(), Front: d.Front, Op: d.Op.String(), User: d.User, Domain: d.Domain, Verdict: d.Verdict.String(), Source: d.Source.String(),
			Took: Duration(d.Took), Client: d.Client, Service: d.Service, Reason: d.Reason,
		})
	}
	v.Limits.Limited = slices.Clone(s.Limits.Limited)
	v.Backends = slices.Clone(s.Backends)
	if privacy {
		v.shorten()
	}
	v.note(now)
	return v
}

// shorten takes from names and addresses what belongs to one person.
func (v *View) shorten() {
	for i := range v.Decisions {
		d := &v.Decisions[i]
		d.Reason = ShortenText(d.Reason, d.User, d.Client)
		d.User, d.Client = ShortenUser(d.User), ShortenAddress(d.Client)
	}
	for i := range v.Limits.Limited {
		l := &v.Limits.Limited[i]
		if l.Kind == Address {
			l.Name = ShortenAddress(l.Name)
		} else {
			l.Name = ShortenUser(l.Name)
		}
	}
	for i := range v.Backends {
		v.Backends[i].Cause = ShortenText(v.Backends[i].Cause)
	}
}

// note says what is not as it should be, the worst first.
func (v *View) note(now time.Time) {
	bad := func(format string, args ...any) {
		v.Notes = append(v.Notes, Note{"failure", fmt.Sprintf(format, args...)})
	}
	warn := func(format string, args ...any) {
		v.Notes = append(v.Notes, Note{"warning", fmt.Sprintf(format, args...)})
	}
	for _, b := range v.Backends {
		if b.Open {
			bad("Backend %s is not asked since %s: %s. The cache serves the users it knows.", b.Name, stamp(b.Since, now), orUnknown(b.Cause))
		}
	}
	if v.Store.Failed != "" {
		bad("The store does not work: %s", v.Store.Failed)
	}
	if s := v.Store.Shared; s != nil && !s.Connected {
		bad("The shared store is away: every password is asked about at the backends.")
	}
	if v.Config.Refused != "" {
		bad("The last reload was refused, at %s: the configuration of %s is in force.", stamp(v.Config.Rejected, now), stamp(v.Config.Loaded, now))
	}
	if v.CacheStalled {
		bad("A part of the cache does not answer.")
	}
	if v.Restarts > 0 {
		warn("%s after a fault of postern: please report it, with the log.", plural(uint64(v.Restarts), "restart", "restarts"))
	}
	for _, d := range v.Domains {
		if d.StoreFailing {
			warn("The cache of %s could not be written at the last attempt.", d.Name)
		}
	}
	if v.Minute.Temporary > 0 {
		warn("%s within the last minute.", plural(v.Minute.Temporary, "temporary failure", "temporary failures"))
	}
	if n := len(v.Limits.Limited); n > 0 {
		warn("%s limited, after too many wrong passwords.", plural(uint64(n), "account or address is", "accounts or addresses are"))
	}
	v.Health = "ok"
	for _, n := range v.Notes {
		if v.Health = "warning"; n.Severity == "failure" {
			v.Health = n.Severity
			break
		}
	}
}

func orUnknown(cause string) string {
	if cause == "" {
		return "unknown"
	}
	return cause
}

func plural(n uint64, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + more
}

// appendSeconds writes a duration as seconds.
func appendSeconds(to []byte, d time.Duration) []byte {
	return strconv.AppendFloat(to, d.Seconds(), 'f', -1, 64)
}
