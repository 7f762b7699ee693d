package cache

import "time"

// AskSooner decides between the two ways to answer a login that a comparison can answer: the comparison,
// which waits for its turn for wait and then takes compare, or a question to the backend, which takes ask
// until its answer, if healthy. A comparison that hardly waits spares the backend the question.
func AskSooner(wait, compare, ask time.Duration, healthy bool) bool {
	return healthy && wait >= longWait && ask < wait+compare
}

// longWait is what a login would notice.
const longWait = 10 * time.Millisecond
