package actors

import (
	"fmt"
	"postern/internal/auth"
	"postern/internal/config"
	"testing"
	"time"
)

// TestClockJumps: with a clock that is a day off, in either direction, no password is accepted past a
// lifetime, and no user is locked out.
func TestClockJumps(t *testing.T) {
	const day = 24 * hour
	good, bad := login("joe", "good"), login("joe", "bad")
	for name, story := range map[string][]timedRequest{
		"a day on":             {{0, false, good, allow, fromBackend}, {day, false, good, allow, fromBackend}, {0, false, good, allow, hot}},
		"a day back":           {{0, false, good, allow, fromBackend}, {-day, false, good, allow, fromBackend}, {0, false, good, allow, hot}},
		"there and back":       {{0, false, good, allow, fromBackend}, {day, false, good, allow, fromBackend}, {-day, false, good, allow, fromBackend}, {0, false, good, allow, hot}},
		"a refusal, on":        {{0, false, bad, deny, fromBackend}, {day, false, bad, deny, fromBackend}, {0, false, good, allow, fromBackend}},
		"a refusal, back":      {{0, false, bad, deny, fromBackend}, {-day, false, bad, deny, fromBackend}, {0, false, good, allow, fromBackend}},
		"grace, a day on":      {{0, false, good, allow, fromBackend}, {day, true, good, allow, grace}},
		"grace, eight days on": {{0, false, good, allow, fromBackend}, {8 * day, true, good, unavailable, fromBackend}},
		"grace, a day back":    {{0, false, good, allow, fromBackend}, {-day, true, good, unavailable, fromBackend}, {0, false, good, allow, fromBackend}},
		"existence, back":      {{0, false, isUser("joe"), allow, fromBackend}, {-day, false, isUser("joe"), allow, fromBackend}},
		"absence, back":        {{0, false, isUser("nobody"), deny, fromBackend}, {-day, false, isUser("nobody"), deny, fromBackend}},
	} {
		for _, storage := range []config.Storage{config.StorageMemory, config.StorageDisk} {
			t.Run(fmt.Sprint(name, "/", storage), func(t *testing.T) { newScriptedBackend("good").play(t, storage, story) })
		}
	}
}

// TestClockJumpsTokens: a token is valid until its end by the present clock, and once only
// however the clock jumps.
func TestClockJumpsTokens(t *testing.T) {
	const day = 24 * hour
	r := newRig(t, withTokens)
	text, once := r.jsxcToken("joe", hour), r.totpToken("joe")
	for _, step := range []struct {
		after   time.Duration
		verdict string
	}{{0, "allow"}, {day, "deny"}, {-day, "allow"}, {2 * hour, "deny"}} {
		r.clock.advance(step.after)
		if a := r.auth("joe", text); a.Verdict.String() != step.verdict {
			t.Errorf("after %v: %v, want %v", step.after, a.Verdict, step.verdict)
		}
	}
	r.clock.advance(-2 * hour)
	r.want(r.auth("joe", once), allow, auth.SourceToken)
	for _, jump := range []time.Duration{0, day, -day, -day, day} {
		r.clock.advance(jump)
		if a := r.auth("joe", once); a.Verdict == allow {
			t.Errorf("a used token is good again after a jump of %v", jump)
		}
	}
}
