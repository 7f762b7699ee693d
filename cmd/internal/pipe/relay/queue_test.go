package relay

import (
	"testing"
	"time"

	"postern/internal/auth"
)

var (
	now   = time.Unix(1_800_000_000, 0)
	allow = auth.Answer{Verdict: auth.Allow, Source: auth.SourceBackend}
	deny  = auth.Answer{Verdict: auth.Deny, Source: auth.SourceBackend}
)

func filled(ops ...auth.Operation) *queue {
	q := &queue{}
	for i, op := range ops {
		req := auth.Request{Op: op, User: "joe", Domain: "d", Secret: auth.NewSecret("x")}
		q.add(&item{req: req, deadline: now.Add(time.Duration(i+1) * time.Second)}, false)
	}
	return q
}

func verdicts(items []*item) (list []auth.Verdict) {
	for _, it := range items {
		list = append(list, it.answer.Verdict)
	}
	return list
}

func same(t *testing.T, got []auth.Verdict, want ...auth.Verdict) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("answers %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("answers %v, want %v", got, want)
		}
	}
}

func TestQueueKeepsOrder(t *testing.T) {
	q := filled(auth.OpAuth, auth.OpIsUser)
	q.add(&item{deadline: now}, true)
	q.unsent()
	same(t, verdicts(q.pop())) // the refused one waits for its turn
	q.reply(allow)
	same(t, verdicts(q.pop()), auth.Allow)
	q.reply(deny)
	same(t, verdicts(q.pop()), auth.Deny, auth.Deny)
	if q.reply(allow) {
		t.Error("a reply without a request was accepted")
	}
}

// A late reply must not answer the next question.
func TestQueueSkipsLateReplies(t *testing.T) {
	q := filled(auth.OpAuth, auth.OpAuth)
	q.unsent()
	if next := q.expire(now.Add(time.Second)); !next.Equal(now.Add(2 * time.Second)) {
		t.Errorf("next deadline is %v", next)
	}
	same(t, verdicts(q.pop()), auth.Unavailable)
	q.reply(allow) // for the first
	same(t, verdicts(q.pop()))
	q.reply(deny)
	same(t, verdicts(q.pop()), auth.Deny)
}

func TestQueueAsksAgainOnce(t *testing.T) {
	q := filled(auth.OpAuth, auth.OpSetPass, auth.OpIsUser, auth.OpTryRegister, auth.OpRemoveUser, auth.OpRemoveUser3)
	if n := len(q.unsent()); n != 6 {
		t.Fatalf("%d sent", n)
	}
	q.reply(allow)
	q.lost()
	again := q.unsent()
	if len(again) != 1 || again[0].req.Op != auth.OpIsUser {
		t.Fatalf("asked again: %d", len(again))
	}
	if again[0].req.User != "joe" {
		t.Error("the question was lost")
	}
	same(t, verdicts(q.pop()), auth.Allow, auth.Unavailable)
	q.lost()
	if len(q.unsent()) != 0 {
		t.Error("asked a third time")
	}
	same(t, verdicts(q.pop()), auth.Unavailable, auth.Unavailable, auth.Unavailable, auth.Unavailable)
}

// A request that was not sent before the connection was lost is sent, even a change.
func TestQueueUnsentChangeIsSent(t *testing.T) {
	q := filled(auth.OpSetPass)
	q.lost()
	if list := q.unsent(); len(list) != 1 || list[0].tries != 1 {
		t.Error("a change that was never sent was given up")
	}
}

func TestQueueForgetsSecrets(t *testing.T) {
	q := filled(auth.OpAuth)
	it := q.items[0]
	q.expire(now.Add(time.Hour))
	if !it.req.Secret.Empty() {
		t.Error("an answered request keeps its password")
	}
	same(t, verdicts(q.pop()), auth.Unavailable)
}

// Requests that a stopping daemon has not begun are sent to its successor, changes too, and do not
// count as tries.
func TestQueueDraining(t *testing.T) {
	q := filled(auth.OpSetPass, auth.OpAuth)
	for range 3 {
		q.unsent()
		q.reply(auth.Answer{Source: auth.SourceDraining})
		q.reply(auth.Answer{Source: auth.SourceDraining})
		q.lost()
	}
	same(t, verdicts(q.pop()))
	if n := len(q.unsent()); n != 2 {
		t.Fatalf("%d sent", n)
	}
	q.reply(allow)
	q.reply(deny)
	same(t, verdicts(q.pop()), auth.Allow, auth.Deny)
}

// If there is no daemon and no broker can be started, the peer does not wait for its deadline.
func TestQueueGivesUp(t *testing.T) {
	q := filled(auth.OpAuth)
	q.giveUpAt = now.Add(100 * time.Millisecond)
	if next := q.expire(now); !next.Equal(q.giveUpAt) {
		t.Errorf("next look at %v", next)
	}
	same(t, verdicts(q.pop()))
	q.expire(q.giveUpAt)
	same(t, verdicts(q.pop()), auth.Unavailable)
}
