package backend

import (
	"errors"
	"testing"

	"postern/internal/auth"
)

// Answers of backends in a chain.
var (
	yes        = Result{Class: Accepted}
	no         = Result{Class: Refused}
	noKnown    = Result{Class: Refused, Known: true}
	noAbsent   = Result{Class: Refused, Absent: true}
	down       = Result{Class: Outage, Err: errors.New("down")}
	throttled  = Result{Class: Throttled, Err: errors.New("throttled")}
	broken     = Result{Class: Misconfigured, Err: errors.New("misconfigured")}
	notTheir   = Result{Class: Unsupported}
	unsure     = Result{Class: Unsure, Err: errors.New("no right to look")}
	mixed      = Result{Class: Misconfigured, Suspect: true, Err: errors.New("no under one name, and under the next down")}
	everything = []Result{yes, no, noKnown, noAbsent, down, throttled, broken, notTheir, unsure, mixed}
)

// TestChain checks the combined result of some answers, and after which of them the chain ends.
func TestChain(t *testing.T) {
	cases := map[string]struct {
		op      auth.Operation
		answers []Result
		decided bool // by the last of them
		want    Class
	}{
		"no backend was asked":           {auth.OpAuth, nil, false, Outage},
		"yes":                            {auth.OpAuth, []Result{yes}, true, Accepted},
		"no, of one who knows the user":  {auth.OpAuth, []Result{noKnown}, true, Refused},
		"no":                             {auth.OpAuth, []Result{no}, false, Refused},
		"no, yes":                        {auth.OpAuth, []Result{no, yes}, true, Accepted},
		"outage, yes":                    {auth.OpAuth, []Result{down, yes}, true, Accepted},
		"outage, known no":               {auth.OpAuth, []Result{down, noKnown}, true, Refused},
		"misconfigured, yes":             {auth.OpAuth, []Result{broken, yes}, true, Accepted},
		"absent, outage: grace":          {auth.OpAuth, []Result{noAbsent, down}, false, Outage},
		"outage, absent: grace":          {auth.OpAuth, []Result{down, noAbsent}, false, Outage},
		"throttled, absent: grace":       {auth.OpAuth, []Result{throttled, noAbsent}, false, Throttled},
		"no, outage: no grace":           {auth.OpAuth, []Result{no, down}, false, Misconfigured},
		"outage, no: no grace":           {auth.OpAuth, []Result{down, no}, false, Misconfigured},
		"no, throttled: no grace":        {auth.OpAuth, []Result{no, throttled}, false, Misconfigured},
		"absent, no, outage: no grace":   {auth.OpAuth, []Result{noAbsent, no, down}, false, Misconfigured},
		"isuser: no, outage":             {auth.OpIsUser, []Result{no, down}, false, Outage},
		"isuser: unsure, absent":         {auth.OpIsUser, []Result{unsure, noAbsent}, false, Unsure},
		"isuser: absent, unsure":         {auth.OpIsUser, []Result{noAbsent, unsure}, false, Unsure},
		"isuser: unsure, misconfigured":  {auth.OpIsUser, []Result{unsure, broken}, false, Unsure},
		"isuser: unsure, outage":         {auth.OpIsUser, []Result{unsure, down}, false, Outage},
		"isuser: unsure, yes":            {auth.OpIsUser, []Result{unsure, yes}, true, Accepted},
		"no, unsure: no grace":           {auth.OpAuth, []Result{no, unsure}, false, Misconfigured},
		"throttled, outage":              {auth.OpAuth, []Result{throttled, down}, false, Outage},
		"outage, throttled":              {auth.OpAuth, []Result{down, throttled}, false, Outage},
		"misconfigured, throttled":       {auth.OpAuth, []Result{broken, throttled}, false, Throttled},
		"no, misconfigured":              {auth.OpAuth, []Result{no, broken}, false, Misconfigured},
		"no to a name, outage: no grace": {auth.OpAuth, []Result{mixed, down}, false, Misconfigured},
		"outage, no to a name: no grace": {auth.OpAuth, []Result{down, mixed}, false, Misconfigured},
		"no to a name, yes":              {auth.OpAuth, []Result{mixed, yes}, true, Accepted},
		"unsupported":                    {auth.OpRoster, []Result{notTheir}, false, Unsupported},
		"unsupported, no":                {auth.OpAuth, []Result{notTheir, no}, false, Refused},
		"no, unsupported":                {auth.OpAuth, []Result{no, notTheir}, false, Refused},
		"unsupported, outage":            {auth.OpAuth, []Result{notTheir, down}, false, Outage},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			chain, decided := NewChain(c.op), false
			for i, r := range c.answers {
				if decided {
					t.Fatalf("the chain had ended before answer %d", i)
				}
				decided = chain.Add(r)
			}
			if got := chain.Result(); got.Class != c.want || decided != c.decided {
				t.Errorf("%v, decided %t; want %v, %t", got.Class, decided, c.want, c.decided)
			}
		})
	}
}

// TestChainNeverInvents tries every combination of two and three answers: a yes needs a yes, a no
// needs that all backends answered or that one knows the user, and a misconfiguration or an
// outage has its reason.
func TestChainNeverInvents(t *testing.T) {
	for _, a := range everything {
		for _, b := range everything {
			for _, c := range everything {
				checkChain(t, []Result{a, b})
				checkChain(t, []Result{a, b, c})
			}
		}
	}
}

func checkChain(t *testing.T, answers []Result) {
	t.Helper()
	chain := NewChain(auth.OpAuth)
	asked := answers[:0:0]
	for _, r := range answers {
		asked = append(asked, r)
		if chain.Add(r) {
			break
		}
	}
	var accepted, known, cannot, suspect bool
	for _, r := range asked {
		suspect = suspect || r.Suspect || r.Class == Refused && !r.Absent
		accepted = accepted || r.Class == Accepted
		known = known || r.Class == Refused && r.Known
		cannot = cannot || r.Class == Outage || r.Class == Throttled || r.Class == Misconfigured ||
			r.Class == Unsure
	}
	got := chain.Result()
	decided := got.Class == Accepted || got.Class == Refused
	switch {
	case chain.Suspect() != (suspect && !decided):
		t.Errorf("%v is suspect: %t", classes(asked), chain.Suspect())
	case chain.Suspect() && got.Class != Misconfigured:
		t.Errorf("%v may be served in grace: %v", classes(asked), got.Class)
	case (got.Class == Accepted) != accepted:
		t.Errorf("%v became %v", classes(asked), got.Class)
	case got.Class == Refused && cannot && !known:
		t.Errorf("%v became a no", classes(asked))
	case (got.Class == Outage || got.Class == Throttled || got.Class == Misconfigured || got.Class == Unsure) && got.Err == nil:
		t.Errorf("%v became %v without a reason", classes(asked), got.Class)
	}
}

func classes(results []Result) (all []string) {
	for _, r := range results {
		all = append(all, r.Class.String())
	}
	return all
}
