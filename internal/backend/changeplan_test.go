package backend

import (
	"fmt"
	"strings"
	"testing"

	"postern/internal/auth"
)

// TestChange checks which backends are asked what, and the outcome.
func TestChange(t *testing.T) {
	cases := map[string]struct {
		op      auth.Operation
		hops    int
		answers []Result
		asked   string // the index of each backend that was asked, and the operation
		want    Class
		put     bool
	}{
		"one backend is asked at once":                {auth.OpTryRegister, 1, []Result{yes}, "0:tryregister", Accepted, true},
		"one backend, whatever it says":               {auth.OpSetPass, 1, []Result{down}, "0:setpass", Outage, true},
		"a registration that no other has":            {auth.OpTryRegister, 2, []Result{no, noAbsent, notTheir, yes}, "0:isuser 1:isuser 0:tryregister 1:tryregister", Accepted, true},
		"a registration that another has":             {auth.OpTryRegister, 2, []Result{yes}, "0:isuser", Refused, false},
		"a registration that a later one has":         {auth.OpTryRegister, 2, []Result{no, yes}, "0:isuser 1:isuser", Refused, false},
		"a registration beside an outage":             {auth.OpTryRegister, 2, []Result{down}, "0:isuser", Outage, false},
		"a registration beside a later outage":        {auth.OpTryRegister, 2, []Result{no, throttled}, "0:isuser 1:isuser", Throttled, false},
		"a registration beside one that cannot say":   {auth.OpTryRegister, 2, []Result{unsure}, "0:isuser", Unsure, false},
		"a registration beside one that says nothing": {auth.OpTryRegister, 2, []Result{notTheir}, "0:isuser", Unsure, false},
		"a registration beside a half refusal":        {auth.OpTryRegister, 2, []Result{mixed}, "0:isuser", Misconfigured, false},
		"a registration that none takes":              {auth.OpTryRegister, 2, []Result{no, no, notTheir, notTheir}, "0:isuser 1:isuser 0:tryregister 1:tryregister", Unsupported, true},
		"a registration with an unknown outcome":      {auth.OpTryRegister, 2, []Result{no, no, down}, "0:isuser 1:isuser 0:tryregister", Outage, true},
		"the first one has the user":                  {auth.OpSetPass, 2, []Result{yes, yes}, "0:isuser 0:setpass", Accepted, true},
		"the second one has the user":                 {auth.OpSetPass, 2, []Result{noAbsent, yes, yes}, "0:isuser 1:isuser 1:setpass", Accepted, true},
		"the one that has the user cannot change it":  {auth.OpRemoveUser, 2, []Result{yes, notTheir}, "0:isuser 0:removeuser", Unsupported, true},
		"the first one may have the user":             {auth.OpSetPass, 2, []Result{down}, "0:isuser", Outage, false},
		"none has the user":                           {auth.OpRemoveUser, 2, []Result{no, no}, "0:isuser 1:isuser", Refused, false},
		"a wrong password":                            {auth.OpRemoveUser3, 2, []Result{no, yes, no}, "0:isuser 1:isuser 1:removeuser3", Refused, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			plan, decided := NewChange(c.op, c.hops), false
			var asked []string
			for i, r := range c.answers {
				if decided {
					t.Fatalf("the plan had ended before answer %d", i)
				}
				hop, op := plan.Next()
				asked = append(asked, fmt.Sprintf("%d:%v", hop, op))
				decided = plan.Add(i, r)
				if again := plan.Add(i, yes); again != decided {
					t.Errorf("answer %d, brought twice, counted twice", i)
				}
			}
			r := plan.Result()
			if got := strings.Join(asked, " "); !decided || got != c.asked || r.Class != c.want || plan.Put() != c.put {
				t.Errorf("asked %s: %v, put %t, ended %t; want %s: %v, put %t", got, r.Class, plan.Put(), decided, c.asked, c.want, c.put)
			}
			if !plan.Put() && r.Err == nil {
				t.Errorf("%v without a reason", r.Class)
			}
		})
	}
}

// TestChangeNeverDoubles tries every combination of answers about the user: a registration is asked
// for only if every backend is sure not to have the user, and another change only of the first backend
// that has.
func TestChangeNeverDoubles(t *testing.T) {
	absent := func(r Result) bool { return r.Class == Refused && !r.Suspect }
	for _, a := range everything {
		for _, b := range everything {
			for _, op := range []auth.Operation{auth.OpTryRegister, auth.OpSetPass} {
				plan := NewChange(op, 2)
				for i := 0; ; i++ {
					hop, asked := plan.Next()
					if asked == op {
						wanted := hop == 0 && op == auth.OpTryRegister && absent(a) && absent(b) ||
							op == auth.OpSetPass && (hop == 0 && a.Class == Accepted || hop == 1 && absent(a) && b.Class == Accepted)
						if !wanted {
							t.Errorf("after %v, %v backend %d is asked for %v", a.Class, b.Class, hop, op)
						}
						break
					}
					if plan.Add(i, []Result{a, b}[hop]) {
						break
					}
				}
			}
		}
	}
}
