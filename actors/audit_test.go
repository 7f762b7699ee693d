package actors

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/audit"
	"postern/internal/auth"
	"postern/internal/backend"
)

// events are the lines of the audit log once the broker has ended, without their times.
func (r *rig) events() (list []audit.Event) {
	r.t.Helper()
	r.stop()
	for line := range strings.Lines(r.trail.String()) {
		var e audit.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			r.t.Fatalf("%q: %v", line, err)
		}
		list = append(list, e)
	}
	return list
}

// The limits that begin are in the audit log, once each, with the client's address.
func TestAuditOfLimits(t *testing.T) {
	r := newRig(t, withLimits)
	for i := range 5 {
		r.ask(from("192.0.2.1", guess("ann", i)))
	}
	for i := range 5 {
		r.ask(from("192.0.2.1", guess("bob", 10+i)))
	}
	want := []audit.Event{
		{Kind: audit.Limit, Action: "user", Client: "192.0.2.1", Domain: "dom.example", User: "ann", Backend: "backend.json.fake", Refusals: 4, Window: "10m0s"},
		{Kind: audit.Limit, Action: "address", Client: "192.0.2.1", Network: "192.0.2.1/32", Domain: "dom.example", User: "bob", Front: "control", Refusals: 6, Window: "10m0s"},
	}
	if got := r.events(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func guess(user string, n int) auth.Request {
	return auth.Request{Op: auth.OpAuth, User: user, Domain: "dom.example", Secret: auth.NewSecret(fmt.Sprint("wrong", n))}
}

// A password that is refused after it was accepted is in the audit log, and so is an account that was disabled; a
// password that never was right is not.
func TestAuditOfRefusals(t *testing.T) {
	var ends, disabled atomic.Bool
	r := newRig(t, func(s *setup) {
		s.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
			if disabled.Load() && q.User == "bob" {
				return backend.Result{Class: backend.Refused, Disabled: true}
			}
			if ends.Load() {
				return backend.Result{Class: backend.Refused}
			}
			return goodPassword(q)
		}
	})
	login := func(user, password string) auth.Request {
		return from("192.0.2.1", auth.Request{Op: auth.OpAuth, User: user, Domain: "dom.example", Secret: auth.NewSecret(password)})
	}
	for _, user := range []string{"ann", "bob"} {
		r.want(r.ask(login(user, "good")), auth.Allow, auth.SourceBackend)
		r.want(r.ask(login(user, "never right")), auth.Deny, auth.SourceBackend)
	}
	r.clock.advance(25 * time.Hour)
	ends.Store(true)
	r.want(r.ask(login("ann", "good")), auth.Deny, auth.SourceBackend)
	r.want(r.ask(login("ann", "good")), auth.Deny, auth.SourceRefusedBefore)
	ends.Store(false)
	disabled.Store(true)
	r.want(r.ask(login("bob", "good")), auth.Deny, auth.SourceBackend)
	got := map[string]int{}
	for _, e := range r.events() {
		if e.Kind != audit.Refusal || e.Client != "192.0.2.1" || e.Domain != "dom.example" {
			t.Errorf("%+v", e)
		}
		got[e.User+" "+e.Action]++
	}
	if want := map[string]int{"ann password": 1, "bob password": 1, "bob account": 1}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// A change that a server asks for is in the audit log, whether it is done or not, with what is at the other end.
func TestAuditOfChanges(t *testing.T) {
	r := newRig(t, func(s *setup) {
		s.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
			if q.Op == auth.OpSetPass && q.User == "ann" {
				return backend.Result{Class: backend.Accepted}
			}
			return goodPassword(q)
		}
	})
	open := listenerBlock("generic")
	open.Changes = true
	closed := listenerBlock("generic")
	closed.Name = "closed"
	r.exchange(r.listen(open), "setpass:ann:dom.example:"+canary+"\nsetpass:bob:dom.example:"+canary+"\nauth:ann:dom.example:good\n")
	r.exchange(r.listen(closed), "setpass:ann:dom.example:"+canary+"\n")
	got := r.events()
	if len(got) != 3 {
		t.Fatalf("%+v", got)
	}
	for i, want := range []audit.Event{
		{Action: "setpass", Outcome: audit.Done, User: "ann", Front: "generic"},
		{Action: "setpass", Outcome: audit.Failed, User: "bob", Front: "generic"},
		{Action: "setpass", Outcome: audit.Failed, User: "ann", Front: "closed"},
	} {
		e := got[i]
		if !strings.HasPrefix(e.Peer, "127.0.0.1:") || (e.Reason == "") != (e.Outcome == audit.Done) {
			t.Errorf("%+v", e)
		}
		want.Kind, want.Domain, want.Peer, want.Reason = audit.Change, "dom.example", e.Peer, e.Reason
		if !reflect.DeepEqual(e, want) {
			t.Errorf("got %+v, want %+v", e, want)
		}
	}
	if strings.Contains(r.trail.String(), canary) {
		t.Error("the audit log has a password")
	}
}
