package cache_test

import (
	"fmt"
	"time"

	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/unixtime"
)

// One password over four hours: accepted, allowed from memory, allowed in an outage, refused.
func Example() {
	rules := &cache.Rules{Query: time.Hour, Verify: 24 * time.Hour, Outage: 168 * time.Hour, Secrets: 4, Refusals: 8}
	joe := auth.Identity{User: "joe", Domain: "dom.example"}
	key := cache.NewKeyer().Key(auth.OpAuth, joe, auth.NewSecret("good"))
	user := new(cache.User)

	login := func(now unixtime.Time, outcome cache.Outcome) {
		l := cache.NewLogin(key, "")
		step := l.Start(user, rules, now)
		if step.Do == cache.Ask {
			step = l.BackendAnswered(user, outcome, auth.SourceBackend, rules, now)
		}
		fmt.Println(step.Answer.Verdict, "from", step.Answer.Source)
	}
	now := unixtime.At(time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC))
	login(now, cache.Accepted)
	login(now.Add(30*time.Minute), cache.Refused) // not asked
	login(now.Add(2*time.Hour), cache.CannotAnswer)
	login(now.Add(3*time.Hour), cache.Refused)
	login(now.Add(4*time.Hour), cache.CannotAnswer)
	// Output:
	// allow from backend
	// allow from hot
	// allow from grace
	// deny from backend
	// unavailable from backend
}

func ExampleRecordKey() {
	key := cache.RecordKey(auth.Identity{User: "joe", Domain: "dom.example"})
	fmt.Printf("%q\n", key)
	id, ok := cache.RecordIdentity(key)
	fmt.Println(id, ok)
	// Output:
	// "cred/dom.example\x00joe"
	// joe@dom.example true
}
