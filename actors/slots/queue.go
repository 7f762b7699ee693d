package slots

import (
	"container/heap"
	"container/list"

	"postern/internal/limit"
)

// queue holds the questions that wait: ready ones for a slot, parked ones for the budget of refusals.
// In both, domain blocks take turns, and those of a block keep the order of arrival. No operation but
// displaced and wakeAll takes time that grows with the number that wait. The zero queue is not usable.
type queue struct {
	ready  fair
	parked map[limit.Bound]*fair
	ends   deadlines      // all of them
	from   map[uint64]int // how many have passwords that are not known, by the client's address
}

// place is where a question waits.
type place struct {
	in   *fair // nil: nowhere
	line *line
	at   *list.Element
	end  int // index in ends
	// bound is what a parked question waits for, or a ready one has waited for: it has been given the
	// room, which another gets if this one does not take it.
	bound limit.Bound
}

func newQueue() *queue {
	return &queue{parked: make(map[limit.Bound]*fair), from: make(map[uint64]int)}
}

func (w *queue) size() int { return len(w.ends) }

// add has a question wait for a slot.
func (w *queue) add(q *Question) {
	w.ready.push(q, false)
	w.count(q)
}

// park has a question wait for a part of the budget. One that comes back from there is the next again.
func (w *queue) park(q *Question, bound limit.Bound) {
	f := w.parked[bound]
	if f == nil {
		f = new(fair)
		w.parked[bound] = f
	}
	f.push(q, q.bound == bound)
	q.bound = bound
	w.count(q)
}

func (w *queue) count(q *Question) {
	heap.Push(&w.ends, q)
	if from := q.Guess.From; from != 0 && q.unproven() {
		w.from[from]++
	}
}

// pop takes the next question that is ready; nil if there is none.
func (w *queue) pop() *Question {
	q := w.ready.next()
	if q != nil {
		w.remove(q)
	}
	return q
}

// remove takes a question out. Its bound stays.
func (w *queue) remove(q *Question) {
	in := q.in
	in.remove(q)
	if in.size == 0 && in != &w.ready {
		delete(w.parked, q.bound)
	}
	heap.Remove(&w.ends, q.end)
	if from := q.Guess.From; from != 0 && q.unproven() {
		if w.from[from]--; w.from[from] <= 0 {
			delete(w.from, from)
		}
	}
}

// wake makes the next question that is parked for a bound ready.
func (w *queue) wake(bound limit.Bound) {
	if f := w.parked[bound]; f != nil {
		w.unpark(f.next())
	}
}

// wakeAll makes all questions ready.
func (w *queue) wakeAll() {
	for _, f := range w.parked {
		for f.size > 0 {
			w.unpark(f.turns.Back().Value.(*line).questions.Back().Value.(*Question)) // each goes before the others
		}
	}
}

// wakeAtOnce bounds the work of wakeSome.
const wakeAtOnce = 64

// wakeSome makes one question ready of each of some bounds, which are not the same every time.
func (w *queue) wakeSome() {
	n := 0
	for bound := range w.parked {
		if w.wake(bound); n == wakeAtOnce {
			return
		}
		n++
	}
}

func (w *queue) unpark(q *Question) {
	f := q.in
	f.remove(q)
	if f.size == 0 {
		delete(w.parked, q.bound)
	}
	w.ready.push(q, true)
}

// displaced returns the last question of the block with the most, which has to go to make room for one of
// block. It is nil if that would be no fairer than to refuse the new one.
func (w *queue) displaced(block string) *Question {
	longest := w.ready.longest(nil)
	for _, f := range w.parked {
		longest = f.longest(longest)
	}
	if longest == nil || longest.block == block || w.waiting(block)+1 >= longest.questions.Len() {
		return nil
	}
	return longest.questions.Back().Value.(*Question)
}

// waiting is how many questions of a block wait.
func (w *queue) waiting(block string) int {
	n := w.ready.of(block)
	for _, f := range w.parked {
		n += f.of(block)
	}
	return n
}

// fair is a queue in which domain blocks take turns. The zero value is empty.
type fair struct {
	size  int
	lines map[string]*line
	turns list.List // of *line, the next one first
}

// line is the questions of a block, the next one first; at least one.
type line struct {
	block     string
	turn      *list.Element
	questions list.List
}

// push adds a question to those of its block, as the first or the last of them.
func (f *fair) push(q *Question, first bool) {
	l := f.lines[q.Block]
	if l == nil {
		l = &line{block: q.Block}
		l.turn = f.turns.PushBack(l)
		if f.lines == nil {
			f.lines = make(map[string]*line)
		}
		f.lines[q.Block] = l
	}
	if q.in, q.line = f, l; first {
		q.at = l.questions.PushFront(q)
	} else {
		q.at = l.questions.PushBack(q)
	}
	f.size++
}

// next returns the first question of the block that comes next, and passes the turn on; nil if there
// is none.
func (f *fair) next() *Question {
	turn := f.turns.Front()
	if turn == nil {
		return nil
	}
	f.turns.MoveToBack(turn)
	return turn.Value.(*line).questions.Front().Value.(*Question)
}

func (f *fair) remove(q *Question) {
	l := q.line
	l.questions.Remove(q.at)
	if l.questions.Len() == 0 {
		f.turns.Remove(l.turn)
		delete(f.lines, l.block)
	}
	f.size--
	q.in, q.line, q.at = nil, nil, nil
}

// of is how many questions are those of a block.
func (f *fair) of(block string) int {
	if l := f.lines[block]; l != nil {
		return l.questions.Len()
	}
	return 0
}

// before is how many questions come before the next one of a block: none of another block, but once
// for each of its own.
func (f *fair) before(block string, own int) int {
	if f.size-f.of(block) <= own+1 {
		return f.size - f.of(block) + own
	}
	n := own
	for name, l := range f.lines {
		if name != block {
			n += min(l.questions.Len(), own+1)
		}
	}
	return n
}

// longest is the longest of the lines and another one.
func (f *fair) longest(other *line) *line {
	for _, l := range f.lines {
		if other == nil || l.questions.Len() > other.questions.Len() {
			other = l
		}
	}
	return other
}

// deadlines is a heap of questions, as container/heap has it: the first is the one with the
// earliest deadline.
type deadlines []*Question

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].Deadline.Before(d[j].Deadline) }
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].end, d[j].end = i, j
}

// Push implements heap.Interface.
func (d *deadlines) Push(x any) {
	q := x.(*Question)
	q.end = len(*d)
	*d = append(*d, q)
}

// Pop implements heap.Interface.
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	q := (*d)[last]
	(*d)[last] = nil
	if *d = (*d)[:last]; last == 0 {
		*d = nil // gives back the memory of a burst
	}
	return q
}
