package valkeystore

import (
	"context"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"

	"postern/internal/store"
)

// Term implements store.Watcher.
func (s *Store) Term() (term uint64, ok bool) {
	return s.term.Load(), s.up.Load() && time.Since(s.begun)-time.Duration(s.proof.Load()) < staleAfter
}

// Watch implements store.Watcher.
func (s *Store) Watch(changed func(keys []string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = changed
	s.fresh.Signal()
}

// watch sends the heartbeats, and makes the connections until they are there. started is closed after the first
// heartbeat that was answered.
func (s *Store) watch(started chan struct{}) {
	defer s.running.Done()
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		err := s.round()
		if s.context.Err() == nil {
			s.report(err)
		}
		if err == nil && started != nil {
			close(started)
			started = nil
		}
		select {
		case <-s.context.Done():
			if c := s.tracking.Load(); c != nil {
				(*c).Close()
			}
			return
		case <-tick.C:
		case <-s.kick:
		}
	}
}

// round sends a heartbeat to where the server is.
func (s *Store) round() error {
	at, known, err := s.primary()
	if err != nil {
		return err
	}
	if at != s.at {
		s.leave()
		s.at = at
	}
	if err = s.connect(); err == nil {
		err = s.beat(known)
	}
	if misplaced(err) {
		s.lose()
	}
	return err
}

// leave drops the connections to a server that was replaced.
func (s *Store) leave() {
	c := s.tracking.Swap(nil)
	s.mu.Lock()
	data := s.data
	s.data = nil
	s.mu.Unlock()
	if data != nil {
		data.Close()
	}
	if c != nil {
		(*c).Close()
		s.lose()
	}
}

// beat sends one heartbeat, on the connection on which the server reports changes: it has no other. That it is the
// server was known at a time since the store was opened.
func (s *Store) beat(known time.Duration) error {
	client := s.tracking.Load()
	if client == nil {
		o := s.clientOptions(s.at)
		o.ClientTrackingOptions = s.tracked()
		o.OnInvalidations = s.invalidated
		o.ConnWriteTimeout = beatWait
		c, err := dialClient(o)
		if err != nil {
			return err
		}
		s.tracking.Store(&c)
		client = &c
	}
	downs, sent := s.downs.Load(), time.Since(s.begun)
	ctx, cancel := context.WithTimeout(s.context, beatWait)
	defer cancel()
	s.counts.trips.Add(1)
	fresh := newEpoch()
	reply, err := beat.Exec(ctx, *client, []string{s.options.Prefix + epochKey}, []string{string(fresh[:])}).AsStrSlice()
	if err != nil {
		return err
	}
	epoch, replicas, err := epochOfReply(reply)
	if err != nil {
		return err
	}
	s.reps.Store(replicas)
	was := s.epoch.Swap(&epoch)
	renewed := was != nil && *was != epoch
	if renewed {
		s.counts.renewed.Add(1)
		s.log.Warn("the shared store was emptied, restarted or replaced: every password is asked about again, and single-use tokens wait", "for", claimAfter)
	}
	if s.downs.Load() != downs { // the connection was lost meanwhile: the next heartbeat has another one
		return nil
	}
	up := s.up.Load()
	if renewed || !up {
		s.term.Add(1) // before it is up: what is read from here on is watched
	}
	s.proof.Store(int64(min(sent, known)))
	if s.up.Store(true); !up && s.counts.lost.Load() > 0 {
		s.counts.restored.Add(1)
	}
	return nil
}

// tracked has the server report the kinds of records that processes have in memory.
func (s *Store) tracked() []string {
	options := []string{"BCAST"}
	for _, kind := range store.Watched {
		options = append(options, "PREFIX", s.options.Prefix+kind)
	}
	return options
}

// report logs when the server is lost, and when it is back.
func (s *Store) report(err error) {
	if err == nil {
		if s.away.Swap(nil) != nil {
			s.log.Info("the shared store is back", "address", s.at)
		}
		return
	}
	why := err.Error()
	if s.away.Swap(&why) == nil {
		s.log.Error("the shared store is away: logins are asked about at the backends until it is back", "address", s.options.Where(), "err", err)
	}
}

// invalidated takes what the server tells; nil stands for everything, and for the end of the connection.
func (s *Store) invalidated(list []valkey.ValkeyMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if list == nil {
		s.down()
		return
	}
	s.counts.told.Add(uint64(len(list)))
	for _, m := range list {
		if key, err := m.ToString(); err == nil {
			s.told = append(s.told, key)
		}
	}
	s.fresh.Signal()
}

// lose ends the term: the server is not the one to ask any more.
func (s *Store) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down()
}

// down ends the term. The caller holds mu.
func (s *Store) down() {
	s.downs.Add(1)
	if s.up.Swap(false) {
		s.counts.lost.Add(1)
	}
	s.term.Add(1)
	clear(s.own)
	s.told = nil // another term says more
}

// expect notes that the server is going to tell of writes of this process.
func (s *Store) expect(keys []string, versions []store.Version) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, key := range keys {
		s.own[key] = ownWrite{versions[i], now}
	}
	if now.Sub(s.swept) > ownFor {
		s.swept = now
		for key, w := range s.own {
			if now.Sub(w.at) > ownFor {
				delete(s.own, key)
			}
		}
	}
}

// check passes on which keys other processes have changed.
func (s *Store) check() {
	defer s.running.Done()
	for {
		s.mu.Lock()
		for (len(s.told) == 0 || s.changed == nil) && s.context.Err() == nil {
			s.told = nil // nothing was read yet
			s.fresh.Wait()
		}
		if s.context.Err() != nil {
			s.mu.Unlock()
			return
		}
		told, changed := s.told, s.changed
		s.told = nil
		var foreign, doubtful []string
		for _, key := range told {
			switch _, mine := s.own[key]; {
			case mine, strings.HasPrefix(key[len(s.options.Prefix):], store.Refused): // or it has expired
				doubtful = append(doubtful, key)
			default:
				foreign = append(foreign, key)
			}
		}
		s.mu.Unlock()
		s.pass(changed, foreign)
		if len(doubtful) > 0 {
			s.pass(changed, s.others(doubtful))
		}
	}
}

func (s *Store) pass(changed func([]string), names []string) {
	keys := make([]string, 0, len(names))
	for _, name := range names {
		if key := strings.TrimPrefix(name, s.options.Prefix); key != epochKey {
			keys = append(keys, key)
		}
	}
	if len(keys) > 0 {
		changed(keys)
	}
}

// others are the keys that do not have the version that this process has written. If they cannot be read, all are.
func (s *Store) others(names []string) (others []string) {
	var values []valkey.ValkeyMessage
	err := s.trip(beatWait, "check", func(ctx context.Context, c valkey.Client) (err error) {
		values, err = c.Do(ctx, c.B().Mget().Key(names...).Build()).ToArray()
		return err
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, name := range names {
		if err != nil || i >= len(values) {
			others = append(others, name)
			continue
		}
		var version store.Version // zero for a key that is not there
		value, err := values[i].AsBytes()
		if err == nil {
			if _, version, _, err = decode(value); err != nil {
				others = append(others, name)
				continue
			}
		}
		own, mine := s.own[name]
		mark := strings.HasPrefix(name[len(s.options.Prefix):], store.Refused)
		switch {
		case mine && own.version == version:
			delete(s.own, name)
		case mark && version == (store.Version{}): // it has expired
		default:
			others = append(others, name)
		}
	}
	return others
}
