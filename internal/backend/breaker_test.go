package backend

import (
	"strings"
	"testing"
	"time"
)

// breakerStep is one event in the life of a breaker.
type breakerStep struct {
	at     int    // milliseconds
	do     string // ask, or the class to report; and after a space the account
	allow  bool   // what ask must give
	open   bool   // after the step
	reason string
}

// breakerLives are for a breaker of 3 failures with pauses from 1 s.
func breakerLives() map[string][]breakerStep {
	return map[string][]breakerStep{
		"opens after failures in a row": {
			{0, "outage", false, false, "one"}, {1, "outage", false, false, "two"}, {2, "ask", true, false, "still closed"},
			{3, "outage", false, true, "three"}, {1002, "ask", false, true, "pausing"}, {1003, "ask", true, true, "the probe"},
			{1004, "ask", false, true, "only one probe"},
		},
		"throttling opens at once": {
			{0, "throttled", false, true, "it is asked too much"}, {999, "ask", false, true, ""}, {1000, "ask", true, true, "probe"},
			{1000, "throttled", false, true, "still"}, {2999, "ask", false, true, "2 s"}, {3000, "ask", true, true, ""},
			{3001, "accepted", false, false, "over"},
		},
		"unsure changes nothing": {
			{0, "outage", false, false, ""}, {0, "outage", false, false, ""}, {0, "unsure", false, false, ""},
			{0, "outage", false, true, "it was no answer"},
		},
		"an answer in between starts anew": {
			{0, "outage", false, false, ""}, {0, "outage", false, false, ""}, {0, "refused", false, false, ""},
			{0, "outage", false, false, ""}, {0, "outage", false, false, ""}, {0, "misconfigured", false, false, ""},
			{0, "outage", false, false, ""}, {0, "outage", false, false, ""}, {0, "accepted", false, false, ""},
			{0, "outage", false, false, ""}, {0, "outage", false, false, ""}, {0, "outage", false, true, ""},
		},
		"unsupported changes nothing": {
			{0, "outage", false, false, ""}, {0, "outage", false, false, ""}, {0, "unsupported", false, false, ""},
			{0, "outage", false, true, "it was no answer"}, {1000, "ask", true, true, "probe"},
			{1001, "unsupported", false, true, "the probe did not probe"}, {1001, "ask", true, true, "so another may"},
		},
		"a good probe closes": {
			{0, "outage", false, false, ""}, {0, "outage", false, false, ""}, {0, "outage", false, true, ""},
			{1000, "ask", true, true, "probe"}, {1100, "refused", false, false, "it answers"}, {1100, "ask", true, false, ""},
			{1100, "outage", false, false, "counts from nothing"}, {1100, "outage", false, false, ""},
			{1100, "outage", false, true, ""}, {2099, "ask", false, true, "the first pause again"}, {2100, "ask", true, true, ""},
		},
		"pauses double up to ten times": {
			{0, "outage", false, false, ""}, {0, "outage", false, false, ""}, {0, "outage", false, true, ""},
			{1000, "ask", true, true, "1 s"}, {1000, "outage", false, true, ""},
			{2999, "ask", false, true, ""}, {3000, "ask", true, true, "2 s"}, {3000, "outage", false, true, ""},
			{6999, "ask", false, true, ""}, {7000, "ask", true, true, "4 s"}, {7000, "throttled", false, true, ""},
			{14999, "ask", false, true, ""}, {15000, "ask", true, true, "8 s"}, {15000, "outage", false, true, ""},
			{24999, "ask", false, true, ""}, {25000, "ask", true, true, "10 s"}, {25000, "outage", false, true, ""},
			{34999, "ask", false, true, ""}, {35000, "ask", true, true, "10 s again"},
		},
		"late failures do not lengthen the pause": {
			{0, "outage", false, false, ""}, {0, "outage", false, false, ""}, {0, "outage", false, true, ""},
			{900, "outage", false, true, "asked before it opened"}, {900, "outage", false, true, ""},
			{900, "outage", false, true, "as many as open it"}, {1000, "ask", true, true, ""},
		},
		"a late success closes": {
			{0, "outage", false, false, ""}, {0, "outage", false, false, ""}, {0, "outage", false, true, ""},
			{10, "accepted", false, false, "it does answer"}, {10, "ask", true, false, ""},
		},
		"one account does not open it": {
			{0, "outage joe", false, false, ""}, {0, "outage joe", false, false, ""}, {0, "outage joe", false, false, ""},
			{0, "throttled joe", false, false, ""}, {0, "outage joe", false, false, ""}, {0, "ask ann", true, false, ""},
			{0, "outage ann", false, false, "half a point more than half"}, {0, "outage ann", false, true, "two accounts"},
		},
		"three accounts do": {
			{0, "outage joe", false, false, ""}, {0, "outage ann", false, false, ""}, {0, "outage eve", false, true, ""},
		},
		"an account and the connection": {
			{0, "outage joe", false, false, ""}, {0, "outage joe", false, false, ""}, {0, "outage joe", false, false, ""},
			{0, "outage", false, false, ""}, {0, "outage", false, true, ""},
		},
		"a probe that fails for one account": {
			{0, "outage", false, false, ""}, {0, "outage", false, false, ""}, {0, "outage", false, true, ""},
			{999, "ask ann", false, true, ""}, {1000, "ask joe", true, true, "the probe"}, {1000, "ask ann", false, true, "one probe"},
			{1100, "outage joe", false, true, ""}, {1100, "ask joe", false, true, "pausing"},
			{1100, "ask ann", true, true, "another account"}, {1100, "ask eve", false, true, "one probe"},
			{1200, "accepted", false, false, "it works but for joe"},
		},
		"probes that fail for two accounts": {
			{0, "outage", false, false, ""}, {0, "outage", false, false, ""}, {0, "outage", false, true, ""},
			{1000, "ask joe", true, true, ""}, {1000, "outage joe", false, true, ""}, {1000, "ask ann", true, true, ""},
			{1000, "outage ann", false, true, ""}, {2999, "ask ann", false, true, "the pause doubles"},
			{2999, "ask eve", false, true, ""}, {3000, "ask ann", true, true, ""},
		},
		"the probes of one account leave room": {
			{0, "outage", false, false, ""}, {0, "outage", false, false, ""}, {0, "outage", false, true, ""},
			{1000, "ask joe", true, true, ""}, {1000, "outage joe", false, true, ""}, {2000, "ask joe", true, true, "the next pause is over"},
			{2000, "ask ann", true, true, "not held up by joe's"}, {2000, "outage joe", false, true, ""}, {2000, "refused", false, false, ""},
		},
		"a lost probe does not keep it open for ever": {
			{0, "outage", false, false, ""}, {0, "outage", false, false, ""}, {0, "outage", false, true, ""},
			{1000, "ask", true, true, "never reported"}, {10999, "ask", false, true, ""}, {11000, "ask", true, true, "another"},
		},
	}
}

// TestBreaker drives breakers along a clock in milliseconds.
func TestBreaker(t *testing.T) {
	classes := map[string]Class{"outage": Outage, "accepted": Accepted, "refused": Refused, "throttled": Throttled,
		"misconfigured": Misconfigured, "unsupported": Unsupported, "unsure": Unsure}
	for name, steps := range breakerLives() {
		t.Run(name, func(t *testing.T) {
			b := NewBreaker(BreakerOptions{Failures: 3, Cooldown: time.Second})
			for i, s := range steps {
				now := time.Unix(1000, 0).Add(time.Duration(s.at) * time.Millisecond)
				do, account, _ := strings.Cut(s.do, " ")
				if do == "ask" {
					if got := b.Allow(account, now); got != s.allow {
						t.Fatalf("step %d (%s): Allow = %v", i, s.reason, got)
					}
				} else {
					b.Report(classes[do], account, now)
				}
				if b.Open() != s.open {
					t.Fatalf("step %d (%s): Open = %v", i, s.reason, b.Open())
				}
			}
		})
	}
}

// TestBreakerOfOne: a breaker of one failure needs a second account, too.
func TestBreakerOfOne(t *testing.T) {
	now := time.Unix(1000, 0)
	b := NewBreaker(BreakerOptions{Failures: 1})
	for range 9 {
		if b.Report(Outage, "joe", now); b.Open() {
			t.Fatal("one account opened it")
		}
	}
	if b.Report(Outage, "ann", now); !b.Open() {
		t.Error("two accounts do not open it")
	}
}

func TestBreakerJitterAndDefaults(t *testing.T) {
	now := time.Unix(1000, 0)
	b := NewBreaker(BreakerOptions{Failures: 1, Cooldown: 8 * time.Second, Jitter: func() float64 { return 0.5 }})
	b.Report(Outage, "", now)
	if got := b.until.Sub(now); got != 7*time.Second {
		t.Errorf("a pause of 8 s with jitter 0.5 lasts %v, want 7s", got)
	}
	b = NewBreaker(BreakerOptions{})
	for range 4 {
		b.Report(Outage, "", now)
	}
	if b.Open() {
		t.Error("open after 4 outages, the default is 5")
	}
	b.Report(Outage, "", now)
	if !b.Open() || b.until.Sub(now) != time.Second {
		t.Errorf("open: %v, pause: %v; want a second", b.Open(), b.until.Sub(now))
	}
}
