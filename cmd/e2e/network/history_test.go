package network

import (
	"cmp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// Bounds of a yes after another node's refusal.
const (
	connected    = 250 * time.Millisecond
	disconnected = 3 * time.Second
)

// asked is a question about a secret: a password, or a single-use token.
type asked struct {
	secret string
	token  bool
}

// history is what was asked and answered.
type history struct {
	begun time.Time

	mu           sync.Mutex
	ops          []porcupine.Operation
	known        map[asked]map[int]bool // the nodes that have accepted it since they were started
	no           map[asked]int64        // when the first refusal that counts was answered
	worst        map[bool]time.Duration // the longest time from a refusal to a yes, while connected or not
	yes, bridged int
}

func newHistory() *history {
	return &history{begun: time.Now(), known: make(map[asked]map[int]bool), no: make(map[asked]int64), worst: make(map[bool]time.Duration)}
}

// circumstances are those of a question.
type circumstances struct {
	isolated bool // the node may not hear of refusals
	outage   bool // the backend was away
	slack    int  // by which the bounds are longer
}

// note adds an answer of a node. A refusal counts if the node has accepted the secret itself: another one may not have
// known of that. A yes may be as late as a bound says. A node that is cut off bridges outages of the backend
// by what it knew before: such a yes is promised, and not noted.
func (h *history) note(node int, q asked, answer int, call, end time.Time, c circumstances) {
	op := porcupine.Operation{ClientId: node, Input: q, Output: answer, Call: int64(call.Sub(h.begun)), Return: int64(end.Sub(h.begun))}
	h.mu.Lock()
	defer h.mu.Unlock()
	if answer == yes && !q.token && c.isolated && c.outage {
		h.bridged++
		return
	}
	if h.known[q] == nil {
		h.known[q] = make(map[int]bool)
	}
	switch answer {
	case yes:
		h.yes++
		h.known[q][node] = true
		if at, refused := h.no[q]; refused && !q.token {
			h.worst[c.isolated] = max(h.worst[c.isolated], time.Duration(op.Call-at))
		}
		if !q.token {
			bound := connected
			if c.isolated {
				bound = disconnected
			}
			op.Call -= int64(c.slack) * int64(bound)
		}
	case no:
		if !q.token && !h.known[q][node] {
			return
		}
		if _, before := h.no[q]; !before {
			h.no[q] = op.Return
		}
	default:
		return
	}
	h.ops = append(h.ops, op)
}

// restarted notes that a node has forgotten what it had accepted.
func (h *history) restarted(node int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, nodes := range h.known {
		delete(nodes, node)
	}
}

// model is what is promised of each secret: after a refusal it is accepted no more, and a token only once.
var model = porcupine.Model{
	Partition: func(ops []porcupine.Operation) (parts [][]porcupine.Operation) {
		of := make(map[asked]int)
		for _, op := range ops {
			q := op.Input.(asked)
			i, ok := of[q]
			if !ok {
				i = len(parts)
				of[q] = i
				parts = append(parts, nil)
			}
			parts[i] = append(parts[i], op)
		}
		return parts
	},
	Init: func() any { return false },
	Step: func(ended, input, output any) (bool, any) {
		switch q := input.(asked); {
		case output == yes:
			return !ended.(bool), q.token
		default:
			return true, ended.(bool) || !q.token
		}
	},
}

// decisive are the answers about one secret on which the verdict depends: of a password, the refusal that was answered
// first, and the yeses that were asked for last. More of them, of which many overlap, take the checker for ever.
func decisive(part []porcupine.Operation) []porcupine.Operation {
	const most = 16
	if part[0].Input.(asked).token {
		return part
	}
	var refusal, yeses []porcupine.Operation
	for _, op := range part {
		switch {
		case op.Output == yes:
			yeses = append(yeses, op)
		case len(refusal) == 0 || op.Return < refusal[0].Return:
			refusal = []porcupine.Operation{op}
		}
	}
	slices.SortFunc(yeses, func(a, b porcupine.Operation) int { return cmp.Compare(b.Call, a.Call) })
	return append(refusal, yeses[:min(most, len(yeses))]...)
}

// check fails the test if there is no order of the answers that keeps what is promised.
func (h *history) check(t *testing.T, ended func(secret string) any) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	begun, shown := time.Now(), 0
	for _, part := range model.Partition(h.ops) {
		part = decisive(part)
		result := porcupine.CheckOperationsTimeout(model, part, time.Minute)
		if result == porcupine.Ok {
			continue
		}
		q := part[0].Input.(asked)
		t.Errorf("%v: accepted after it was refused, or a token twice: %s; the backend has refused it since %v", q, result, ended(q.secret))
		if shown++; shown > 5 {
			break
		}
		for _, op := range part {
			t.Logf("  node %d: %d, from %v (as it counts) to %v", op.ClientId, op.Output, time.Duration(op.Call), time.Duration(op.Return))
		}
	}
	t.Logf("%d answers about %d secrets checked in %v; %d secrets refused; the latest yes after a refusal came after %v (connected) and %v (cut off); %d times a node that was cut off has bridged an outage",
		len(h.ops), len(h.known), time.Since(begun).Round(time.Millisecond), len(h.no), h.worst[false], h.worst[true], h.bridged)
}

// TestModel: the checker finds what it is there for.
func TestModel(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(1000 + ms)) }
	type answer struct {
		node, answer, call, end int
		isolated                bool
	}
	for name, c := range map[string]struct {
		token   bool
		answers []answer
		want    porcupine.CheckResult
	}{
		"a late yes":             {false, []answer{{0, yes, 0, 1, false}, {1, yes, 0, 1, false}, {0, no, 100, 110, false}, {1, yes, 300, 301, false}}, porcupine.Ok},
		"too late":               {false, []answer{{0, yes, 0, 1, false}, {1, yes, 0, 1, false}, {0, no, 100, 110, false}, {1, yes, 400, 401, false}}, porcupine.Illegal},
		"late while cut off":     {false, []answer{{0, yes, 0, 1, false}, {0, no, 100, 110, false}, {1, yes, 3000, 3001, true}}, porcupine.Ok},
		"too late for that":      {false, []answer{{0, yes, 0, 1, false}, {0, no, 100, 110, false}, {1, yes, 3200, 3201, true}}, porcupine.Illegal},
		"it did not know":        {false, []answer{{1, yes, 0, 1, false}, {0, no, 100, 110, false}, {1, yes, 900, 901, false}}, porcupine.Ok},
		"a token twice":          {true, []answer{{0, yes, 0, 10, false}, {1, yes, 5, 12, false}}, porcupine.Illegal},
		"a token once":           {true, []answer{{0, yes, 0, 10, false}, {1, no, 5, 12, false}, {2, no, 0, 20, false}}, porcupine.Ok},
		"a token, no then a yes": {true, []answer{{1, no, 0, 4, false}, {0, yes, 5, 10, false}}, porcupine.Ok},
	} {
		h := newHistory()
		h.begun = at(0)
		for _, a := range c.answers {
			h.note(a.node, asked{"x", c.token}, a.answer, at(a.call), at(a.end), circumstances{isolated: a.isolated, slack: 1})
		}
		if got := porcupine.CheckOperationsTimeout(model, decisive(h.ops), time.Minute); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
