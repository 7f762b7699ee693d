package limit_test

import (
	"fmt"
	"time"

	"postern/internal/limit"
	"postern/internal/unixtime"
)

// Three different wrong passwords of one user within a minute begin a pause of ten seconds.
func ExampleTable() {
	rules := &limit.Rules{Refusals: 3, Window: time.Minute, First: 10 * time.Second, Longest: time.Hour}
	table := limit.NewTable[string]()
	now := unixtime.At(time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC))
	for secret := range uint64(4) {
		decision := table.Admit("joe", secret, rules, now, now.Add(5*time.Second))
		fmt.Println(secret, decision == limit.Blocked)
		if decision == limit.Pass {
			table.Refused("joe", secret, "joe", rules, now)
			table.Done("joe", rules, now)
		}
		now = now.Add(time.Second)
	}
	fmt.Println(table.State("joe", now).Until.Go().UTC().Format(time.TimeOnly))
	// Output:
	// 0 false
	// 1 false
	// 2 false
	// 3 true
	// 12:00:12
}
