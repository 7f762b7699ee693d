package actors

import (
	"strings"
	"time"

	"postern/internal/store"
)

// followRounds is after how many rounds of the sweeper it is looked whether the shared store may have failed to report
// changes.
const followRounds = uint64(200 * time.Millisecond / sweepEvery)

// domainsChanged puts changes of registered domains by other processes into effect.
func (b *Broker) domainsChanged(keys []string) {
	var names []string
	for _, key := range keys {
		if name, ok := strings.CutPrefix(key, store.Domains); ok {
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		b.env.System.Go(func() { b.follow(names, false) }) // it waits for the store
	}
}

// followTerm has the registered domains read again if the store may have failed to report changes.
func (b *Broker) followTerm() {
	disk := b.env.Disk()
	if disk == nil || disk.Shared() == nil {
		return
	}
	if term, ok := disk.Shared().Term(); ok && term != b.followed.Load() && b.following.TryLock() {
		b.env.System.Go(func() {
			defer b.following.Unlock()
			if b.followOnce(nil, true) {
				b.followed.Store(term)
			}
		})
	}
}

func (b *Broker) follow(names []string, all bool) {
	b.following.Lock()
	defer b.following.Unlock()
	if !b.followOnce(names, all) {
		b.followed.Store(0) // all are read when the store answers
	}
}

func (b *Broker) followOnce(names []string, all bool) (ok bool) {
	err := b.table.Follow(names, all)
	if err != nil && b.env.Context.Err() == nil {
		b.env.Log.Warn("registered domains could not be read after a change by another machine; it is tried again", "err", err)
	}
	return err == nil
}
