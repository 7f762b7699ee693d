package store

import (
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// journal is a Journal in memory for several processes.
type journal struct {
	mu      sync.Mutex
	entries [][]byte
	away    bool
	twice   bool // appends, and then fails once
	term    uint64
	news    []*News
}

func (j *journal) Watch(func([]string)) {}

func (j *journal) Term() (uint64, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.term, !j.away
}

func (j *journal) Append(entries [][]byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.away {
		return ErrAway
	}
	j.entries = append(j.entries, entries...)
	for _, n := range j.news {
		n.Look()
	}
	if j.twice {
		j.twice = false
		return ErrAway
	}
	return nil
}

func (j *journal) After(position string) (list []Entry, next string, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	from, _ := strconv.Atoi(position)
	if j.away {
		return nil, position, ErrAway
	}
	for _, e := range j.entries[min(from, len(j.entries)):min(from+3, len(j.entries))] { // pages of three
		list = append(list, Entry{Data: e, Age: time.Second})
	}
	return list, strconv.Itoa(from + len(list)), nil
}

func (j *journal) set(change func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.term++
	change()
}

// listener is a process that hears.
type listener struct {
	*News
	mu    sync.Mutex
	heard []string
	age   time.Duration
}

func (j *journal) start(t *testing.T) *listener {
	l := new(listener)
	l.News = NewNews(j, slog.New(slog.DiscardHandler), func(data []byte, age time.Duration) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.heard, l.age = append(l.heard, string(data)), max(l.age, age)
	})
	j.set(func() { j.news = append(j.news, l.News) })
	t.Cleanup(l.Close)
	return l
}

func (l *listener) want(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		l.mu.Lock()
		got = slices.Clone(l.heard)
		l.mu.Unlock()
		if slices.Equal(got, want) {
			return
		}
	}
	t.Fatalf("heard %q, want %q", got, want)
}

// What one process sends, each other receives once, and nothing is lost while the store is away, or comes twice by its return.
func TestNews(t *testing.T) {
	j := new(journal)
	a, b := j.start(t), j.start(t)
	a.Send([]byte("1"))
	b.want(t, "1")
	j.set(func() { j.twice = true })
	a.Send([]byte("2"))
	b.want(t, "1", "2")
	j.set(func() { j.away = true })
	for _, text := range []string{"3", "4", "5", "6"} {
		a.Send([]byte(text))
	}
	b.Send([]byte("of b"))
	time.Sleep(20 * time.Millisecond) // it is older than that when it is sent
	b.want(t, "1", "2")
	j.set(func() { j.away = false })
	b.want(t, "1", "2", "3", "4", "5", "6")
	a.want(t, "of b")
	if b.mu.Lock(); b.age < time.Second+20*time.Millisecond {
		t.Errorf("what waited is %v old", b.age)
	}
	b.mu.Unlock()

	j.set(func() { j.entries = nil }) // emptied
	a.Send([]byte("7"))
	b.want(t, "1", "2", "3", "4", "5", "6", "7")
	late := j.start(t)
	late.want(t, "7")
	j.set(func() { j.entries = append(j.entries, []byte("short"), nil) }) // not of postern
	a.Send([]byte("8"))
	late.want(t, "7", "8")
	b.want(t, "1", "2", "3", "4", "5", "6", "7", "8")
	a.want(t, "of b")
}

// What waits has a bound, and the newest stays.
func TestNewsBound(t *testing.T) {
	j := &journal{away: true}
	a := j.start(t)
	for i := range maxUnsent + 5 {
		a.Send([]byte(strconv.Itoa(i)))
	}
	j.set(func() { j.away = false })
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		j.mu.Lock()
		n := len(j.entries)
		j.mu.Unlock()
		if n == maxUnsent {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d entries, want %d", n, maxUnsent)
		}
	}
}
