// Package doctor tells an administrator what stands between a login and its answer. Each check
// looks at one thing and says ok, warning or failure, and what to do, in a plain sentence. Checks
// that build on each other are a chain, which ends at its first failure; what comes after was
// not checked, and is said to be so. Nothing here changes anything, and no text holds a secret.
package doctor

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Status is what came of a check.
type Status string

// The outcomes of a check.
const (
	OK      Status = "ok"
	Warning Status = "warning" // works, but not well, or not in every case
	Failure Status = "failure" // logins fail, or secrets are open to others
	Skipped Status = "skipped" // not checked
)

// Finding is one line of a report. Hop and Check name what was looked at, and do not change
// from version to version.
type Finding struct {
	Hop    string        `json:"hop"`
	Check  string        `json:"check"`
	Status Status        `json:"status"`
	Text   string        `json:"text"`
	Cure   string        `json:"cure"` // what to do; empty if ok
	Took   time.Duration `json:"took_ns"`
}

// Report is all that was found.
type Report struct {
	Version  string    `json:"version"` // of postern
	At       time.Time `json:"at"`
	Status   Status    `json:"status"` // the worst of the findings; ok even if some were skipped
	Exit     int       `json:"exit"`
	Failures int       `json:"failures"`
	Warnings int       `json:"warnings"`
	Findings []Finding `json:"findings"`
}

// NewReport sums findings up.
func NewReport(version string, at time.Time, findings []Finding) Report {
	r := Report{Version: version, At: at.UTC(), Status: OK, Findings: findings}
	for _, f := range findings {
		switch f.Status {
		case Failure:
			r.Failures++
		case Warning:
			r.Warnings++
		}
	}
	switch {
	case r.Failures > 0:
		r.Status, r.Exit = Failure, 2
	case r.Warnings > 0:
		r.Status, r.Exit = Warning, 1
	}
	return r
}

// Outcome is what one look came to.
type Outcome struct {
	Status Status
	Text   string
	Cure   string
}

func fine(format string, args ...any) []Outcome {
	return []Outcome{{OK, fmt.Sprintf(format, args...), ""}}
}

func warn(text, cure string) []Outcome { return []Outcome{{Warning, text, cure}} }

func fail(text, cure string) []Outcome { return []Outcome{{Failure, text, cure}} }

// skip is an outcome for what cannot be looked at from here.
func skip(text, cure string) []Outcome { return []Outcome{{Skipped, text, cure}} }

// Step is one check. No outcome at all means that there was nothing to look at.
type Step struct {
	Check string
	Run   func(ctx context.Context) []Outcome
	// Alone says that what follows does not build on it.
	Alone bool
}

// Chain are the checks of one hop, in order.
type Chain struct {
	Hop   string
	Steps []Step
}

// patience bounds one check.
const patience = 5 * time.Second

// Run walks all chains at the same time and returns their findings in the order of the chains. It
// takes at most a few seconds for each check, whatever happens.
func Run(ctx context.Context, chains []Chain) []Finding {
	found := make([][]Finding, len(chains))
	var all sync.WaitGroup
	for i := range chains {
		all.Go(func() { found[i] = chains[i].walk(ctx) })
	}
	all.Wait()
	out := []Finding{}
	for _, f := range found {
		out = append(out, f...)
	}
	return out
}

func (c *Chain) walk(ctx context.Context) (out []Finding) {
	failed := ""
	for _, s := range c.Steps {
		if failed != "" && !s.Alone {
			out = append(out, Finding{Hop: c.Hop, Check: s.Check, Status: Skipped, Text: "not checked, because " + failed + " failed"})
			continue
		}
		begun := time.Now()
		for _, o := range s.bounded(ctx) {
			out = append(out, Finding{c.Hop, s.Check, o.Status, o.Text, o.Cure, time.Since(begun)})
			if o.Status == Failure && !s.Alone {
				failed = s.Check
			}
		}
	}
	return out
}

// bounded runs a step for as long as it may take. One that does not heed its context, such as a
// look at a file system that hangs, is left behind.
func (s *Step) bounded(ctx context.Context) []Outcome {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	result := make(chan []Outcome, 1)
	go func() { result <- s.Run(ctx) }()
	grace := time.NewTimer(patience + time.Second)
	defer grace.Stop()
	select {
	case out := <-result:
		return out
	case <-grace.C:
		return fail(fmt.Sprintf("no result within %v", patience), "look for a file system or a name service that hangs")
	}
}
