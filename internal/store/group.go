package store

import (
	"errors"
	"sync"
)

// ErrBusy means that too many changes wait for the disk already.
var ErrBusy = errors.New("too many changes wait for the store")

// Group commits changes that must be durable, many with one fsync. It is safe for concurrent use.
type Group struct {
	store   Store
	waiting chan change
	stop    chan struct{}
	once    sync.Once
	done    chan struct{}
}

type change struct {
	ops  []Op
	done func(error)
}

// maxGroup bounds one commit.
const maxGroup = 256

// NewGroup starts the commits to s. At most limit changes wait.
func NewGroup(s Store, limit int) *Group {
	g := &Group{store: s, waiting: make(chan change, limit), stop: make(chan struct{}), done: make(chan struct{})}
	go g.run()
	return g
}

// Apply makes ops durable and then calls done on the group's goroutine, which done must not block.
// It does not block either: when too many changes wait, done is called at once with ErrBusy.
func (g *Group) Apply(ops []Op, done func(error)) {
	select {
	case <-g.stop:
		done(ErrClosed)
		return
	default:
	}
	select {
	case g.waiting <- change{ops, done}:
	default:
		done(ErrBusy)
	}
}

// Close commits the waiting changes and stops. The store stays open. No Apply may follow.
func (g *Group) Close() {
	g.once.Do(func() { close(g.stop) })
	<-g.done
}

func (g *Group) run() {
	defer close(g.done)
	for {
		select {
		case c := <-g.waiting:
			g.commit(c)
			continue
		case <-g.stop:
		}
		select {
		case c := <-g.waiting:
			g.commit(c)
		default:
			return
		}
	}
}

// commit applies first and other waiting changes, up to maxGroup.
func (g *Group) commit(first change) {
	batch := []change{first}
	ops := append([]Op(nil), first.ops...)
	for len(batch) < maxGroup {
		select {
		case c := <-g.waiting:
			batch = append(batch, c)
			ops = append(ops, c.ops...)
			continue
		default:
		}
		break
	}
	err := g.store.Apply(ops, true)
	for _, c := range batch {
		c.done(err)
	}
}
