// Package doctor examines an installation for `postern doctor`: everything that a login passes on
// its way to an answer, from the configuration file to a backend's certificate and the delay that
// Nextcloud imposes on logins.
//
// A [Step] is one check. Its [Outcome] is a status, one sentence about what was found, and the
// cure: a command or a setting, in the words of the documentation that the administrator has at
// hand. Steps that depend on each other form a [Chain], in the order in which a login meets them:
// after a failure the rest of the chain is skipped and reported as such, because a refused TCP
// connection makes a TLS error meaningless. A step marked Alone neither ends its chain nor is
// skipped. [Run] walks all chains at once; each check has a few seconds, and one that hangs, as
// a check of a dead network file system does, is abandoned.
//
// All contact with the machine goes through [Env], so that tests can describe a machine with any
// fault. Checks change nothing: files are opened for reading, a port is bound only if no daemon
// may be using it, servers get only requests without effect (a wrong signature, a user that
// cannot exist), and a probe file is written only as the owner of the directory. Run as root,
// doctor would see files that the daemon cannot, so it computes permissions for the owner of the
// data directory, and warns where that is not enough.
//
// No finding holds a secret. The names of hops and checks and the JSON form of a [Report] are
// stable; the sentences are not.
package doctor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"postern/internal/config"
)

// Status is the result of a check.
type Status string

// The statuses, from best to worst; Skipped is neutral.
const (
	OK      Status = "ok"
	Warning Status = "warning" // works, but not well, or not in every case
	Failure Status = "failure" // logins fail, or secrets are open to others
	Skipped Status = "skipped" // not checked
)

// Finding is one line of a report. Hop and Check name what was examined and are stable across
// versions.
type Finding struct {
	Hop    string        `json:"hop"`
	Check  string        `json:"check"`
	Status Status        `json:"status"`
	Text   string        `json:"text"`
	Cure   string        `json:"cure"` // what to do; empty if ok
	Took   time.Duration `json:"took_ns"`
}

// Report is the result of all checks.
type Report struct {
	Version  string    `json:"version"` // of postern
	At       time.Time `json:"at"`
	Status   Status    `json:"status"` // the worst of the findings; ok even if some were skipped
	Exit     int       `json:"exit"`
	Failures int       `json:"failures"`
	Warnings int       `json:"warnings"`
	Findings []Finding `json:"findings"`
}

// NewReport counts the findings and determines the status.
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

// Outcome is one result of a check.
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

// skip is the outcome if something cannot be examined from here.
func skip(text, cure string) []Outcome { return []Outcome{{Skipped, text, cure}} }

// Step is one check. No outcome means that there was nothing to examine.
type Step struct {
	Check string
	Run   func(ctx context.Context) []Outcome
	// Alone: the steps after it do not depend on it, nor it on those before.
	Alone bool
}

// Chain is the checks of one hop, in order.
type Chain struct {
	Hop   string
	Steps []Step
}

// stepTimeout bounds one check.
const stepTimeout = 5 * time.Second

// Run runs all chains concurrently and returns their findings in the order of the chains. It takes
// at most stepTimeout and a second for each check.
func Run(ctx context.Context, chains []Chain) []Finding {
	found := make([][]Finding, len(chains))
	var all sync.WaitGroup
	for i := range chains {
		all.Go(func() { found[i] = chains[i].run(ctx) })
	}
	all.Wait()
	out := []Finding{}
	for _, f := range found {
		out = append(out, f...)
	}
	return out
}

func (c *Chain) run(ctx context.Context) (out []Finding) {
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

// bounded runs a step with a time limit. A step that ignores its context, as one on a file system
// that hangs does, is abandoned.
func (s *Step) bounded(ctx context.Context) []Outcome {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	result := make(chan []Outcome, 1)
	go func() { result <- s.Run(ctx) }()
	grace := time.NewTimer(stepTimeout + time.Second)
	defer grace.Stop()
	select {
	case out := <-result:
		return out
	case <-grace.C:
		return fail(fmt.Sprintf("no result within %v", stepTimeout), "check for a file system or a name service that hangs")
	}
}

// Subject is the installation to examine.
type Subject struct {
	Version  string // of this program
	File     string // the configuration; empty for the built-in one
	Flags    string // that name it on a command line, with a space before them; empty if none are needed
	Config   *config.Config
	Problems config.Problems // of its parser; Config is nil if one is an error
	StoreDir string
	DataDir  string // if Config is nil: as far as the file says
	Daemon   *Daemon
	Known    KnownUser
	Ejabberd string // its configuration; empty for the usual places
	Service  Service

	Registered    []Registered // domains with their backends
	RegisteredErr error        // why they are not known

	Keyless    map[string]int // app passwords without SCRAM keys, by domain; nil: not known
	KeylessErr error          // why not; nil: no daemon runs
}

// Chains returns all checks in the order of a report. Without a valid configuration, these are only
// the checks of the configuration.
func (e *Env) Chains(s Subject) []Chain {
	of := *e
	of.unit = s.Service
	of.cure = of.newCures(s)
	e = &of
	out := []Chain{e.configuration(s)}
	if s.Config == nil {
		return append(out, Chain{"files", []Step{{Check: "owner", Run: func(context.Context) []Outcome {
			found, _ := e.misowned(s.DataDir)
			return found
		}}}}, e.ejabberdAuth(s.Ejabberd, nil))
	}
	out = append(out, e.files(s.Config, s.Daemon), e.storage(s.Config, s.StoreDir, s.Daemon), e.daemon(s.Config, s.Daemon, s.Version, s.File))
	out = append(out, e.listeners(s.Config, s.Daemon)...)
	all, registry := s.withRegistered()
	out = append(out, registry)
	out = append(out, e.backends(all, &s)...)
	out = append(out, e.proxies(all))
	out = append(out, e.tokens(s.Config, s.Registered), e.ejabberdAuth(s.Ejabberd, s.Config))
	return append(out, e.rosters(s.File, s.Config)...)
}
