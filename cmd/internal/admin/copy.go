package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"postern/actors/changes"
	"postern/cmd/internal/control"
	"postern/cmd/internal/daemon"
	"postern/cmd/internal/datadir"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/logfile"
	"postern/internal/store"
	"postern/internal/unixtime"
)

// Copied counts what CopyStore has done.
type Copied struct {
	Users    int `json:"users"`           // records of users that were written
	Dropped  int `json:"dropped"`         // passwords left out, since the other store knows of a later change
	Newer    int `json:"newer"`           // records left alone, since a newer version of postern has written them
	Changes  int `json:"changes"`         // times of changes that were written
	Tokens   int `json:"tokens"`          // used single-use tokens that were written
	Others   int `json:"others"`          // records of registered domains, app passwords and rosters that were written
	Occupied int `json:"others_left_out"` // of these, left out since there are some already
}

// Bounds of CopyStore.
const (
	copyBatch  = 256             // records in one write
	copyRounds = 8               // of a record that a broker changes meanwhile
	copyTries  = 20              // of a read for which a shared store takes too long
	tokensKept = 5 * time.Minute // longer than a single-use token is good
)

// CopyStore copies what is known of users from the data directory to the shared store of the block store, or back. No
// broker may run on the directory, while others may use the shared store. What the target has is combined with it:
// the newer is kept, and what one of them knows to be changed since does not come back.
func CopyStore(ctx context.Context, cfg *config.Config, toShared bool) (n Copied, err error) {
	if cfg.Store.Kind == "" {
		return n, errors.New(`the configuration has no block store "valkey": leave it there until the store is copied`)
	}
	if toShared && absent(datadir.Store(cfg.DataDir)) {
		return n, fmt.Errorf("there is nothing to copy in %s", cfg.DataDir)
	}
	lock, err := datadir.Lock(ctx, cfg.DataDir, 0, control.Yield)
	if errors.Is(err, datadir.ErrOwned) {
		return n, fmt.Errorf("%w: stop it first, and start it after the copy", err)
	}
	if err != nil {
		return n, err
	}
	defer lock.Close()
	log := slog.New(logfile.NewHandler(os.Stderr, slog.LevelError+1)) // the error says the same
	shared, err := daemon.OpenShared(cfg, log)
	if err != nil {
		return n, err
	}
	defer shared.Close()
	if _, ok := shared.Term(); !ok {
		return n, fmt.Errorf("the store at %s cannot be used: %s", cfg.Store.Where(), shared.Failed())
	}
	directory, err := cache.Open(datadir.Store(cfg.DataDir), log)
	if err != nil {
		return n, errors.Join(err, datadir.GiveToOwner(cfg.DataDir))
	}
	c := copying{from: directory, to: shared, n: &n}
	if !toShared {
		c.from, c.to = shared, directory
	}
	err = c.run(ctx)
	return n, errors.Join(err, directory.Close(), datadir.GiveToOwner(cfg.DataDir))
}

// copying is one copy. One of the stores is a store.Shared.
type copying struct {
	from, to store.Store
	n        *Copied

	fromTimes, toTimes changes.Times
}

func (c *copying) run(ctx context.Context) (err error) {
	if _, err := c.from.Get([]byte(cache.Unclaimed)); err == nil {
		return errors.New("the store is one of postern 0.1: start postern once before it is copied")
	}
	if c.fromTimes, err = changes.Load(c.from); err != nil {
		return err
	}
	if c.toTimes, err = changes.Load(c.to); err != nil {
		return err
	}
	ours, err := keysOf(c.from, store.Credentials)
	if err != nil {
		return err
	}
	theirs, err := keysOf(c.to, store.Credentials)
	if err != nil {
		return err
	}
	all := append(ours, theirs...)
	slices.Sort(all)
	for part := range slices.Chunk(slices.Compact(all), copyBatch) {
		if err := errors.Join(ctx.Err(), c.users(part)); err != nil {
			return err
		}
	}
	// Changes come after the users: a repeated copy must still know what they end from what is newer.
	if c.toTimes, err = changes.Load(c.to); err != nil { // brokers may have noted some meanwhile
		return err
	}
	lacking := c.toTimes.Lacking(c.fromTimes)
	c.n.Changes = len(lacking)
	for part := range slices.Chunk(lacking, copyBatch) {
		if err := c.to.Apply(part, true); err != nil {
			return err
		}
	}
	if c.n.Tokens, err = c.missing(store.Nonces, tokensKept); err != nil {
		return err
	}
	for _, kind := range []string{store.Domains, store.AppPasswords, store.Roster} {
		if err := errors.Join(ctx.Err(), c.others(kind)); err != nil {
			return err
		}
	}
	return nil
}

// keysOf lists the keys of a kind.
func keysOf(s store.Store, kind string) (keys []string, err error) {
	err = s.Scan([]byte(kind), func(key, _ []byte) bool {
		keys = append(keys, string(key))
		return true
	})
	return keys, err
}

// read is Get with what a shared store knows of the record besides. There is no record if it has no value.
func read(s store.Store, key string) (r store.Record, err error) {
	shared, ok := s.(store.Shared)
	if !ok {
		r.Value, err = s.Get([]byte(key))
	}
	for try := 0; ok && try < copyTries; try++ {
		if r, err = shared.Read([]byte(key)); !errors.Is(err, store.ErrAway) {
			break
		}
	}
	if errors.Is(err, store.ErrNotFound) {
		return store.Record{}, nil
	}
	return r, err
}

// users combines records of users. Those that a broker changes meanwhile are combined again.
func (c *copying) users(keys []string) error {
	versions := store.NewVersions()
	for range copyRounds {
		var list []store.Change
		for _, key := range keys {
			change, wanted, err := c.user(key)
			if err != nil {
				return fmt.Errorf("%q: %w", key, err)
			}
			if wanted {
				if change.Over, change.Now = true, versions.Next(); change.Value == nil {
					change.Now = store.Version{}
				}
				list = append(list, change)
			}
		}
		lost, err := c.write(list)
		if err != nil {
			return err
		}
		c.n.Users += len(list) - len(lost)
		if keys = keys[:0]; len(lost) == 0 {
			return nil
		}
		for _, l := range lost {
			keys = append(keys, string(list[l.Change].Key))
		}
	}
	return fmt.Errorf("%d records change all the time: try again", len(keys))
}

// user returns what the target is to have under a key, if that is something else.
func (c *copying) user(key string) (change store.Change, wanted bool, err error) {
	from, err := read(c.from, key)
	if err != nil {
		return change, false, err
	}
	to, err := read(c.to, key)
	if err != nil {
		return change, false, err
	}
	id, ok := cache.RecordIdentity([]byte(key))
	if !ok {
		return change, false, nil
	}
	change = store.Change{Key: []byte(key), Was: to.Version}
	missedByFrom, missedByTo := c.fromTimes.Missed(c.toTimes, id), c.toTimes.Missed(c.fromTimes, id)
	ours, known := decodeUser(from)
	theirs, readable := decodeUser(to)
	if !known || !readable {
		c.n.Newer++
		change.Value = from.Value
		return change, to.Value == nil && missedByFrom.IsZero(), nil
	}
	user, dropped := cache.Combine(ours, theirs, since(missedByFrom), since(missedByTo))
	c.n.Dropped += dropped
	change.Value = user.Encode()
	return change, !bytes.Equal(change.Value, to.Value), nil
}

// since is a moment as records have it; 0 for none.
func since(t time.Time) unixtime.Time {
	if t.IsZero() {
		return 0
	}
	return unixtime.At(t)
}

// decodeUser reads a record. ok is false if a newer version of postern has written it.
func decodeUser(r store.Record) (u *cache.User, ok bool) {
	if r.Value == nil {
		return new(cache.User), true
	}
	u, err := cache.Decode(r.Value)
	if err != nil {
		return nil, false
	}
	if r.Former { // a later refusal may be lost
		u.Distrust()
	}
	return u, true
}

// write carries out changes.
func (c *copying) write(list []store.Change) ([]store.Lost, error) {
	if shared, ok := c.to.(store.Shared); ok {
		return shared.Swap(list)
	}
	ops := make([]store.Op, len(list))
	for i := range list {
		ops[i] = store.Op{Key: list[i].Key, Value: list[i].Value}
	}
	return nil, c.to.Apply(ops, true)
}

// missing copies the records of a kind that the target has not.
func (c *copying) missing(kind string, keep time.Duration) (n int, err error) {
	keys, err := keysOf(c.from, kind)
	if err != nil {
		return 0, err
	}
	for part := range slices.Chunk(keys, copyBatch) {
		var list []store.Change
		for _, key := range part {
			from, err := read(c.from, key)
			if err != nil {
				return n, err
			}
			if to, err := read(c.to, key); err != nil {
				return n, err
			} else if from.Value != nil && to.Value == nil {
				list = append(list, store.Change{Key: []byte(key), Value: from.Value, Over: true, Keep: keep})
			}
		}
		versions := store.NewVersions()
		for i := range list {
			list[i].Now = versions.Next()
		}
		lost, err := c.write(list)
		if err != nil {
			return n, err
		}
		n += len(list) - len(lost)
	}
	return n, nil
}

// others copies the records of a kind of which it is not known which are newer: only to where there are none.
func (c *copying) others(kind string) error {
	ours, err := keysOf(c.from, kind)
	if err != nil {
		return err
	}
	theirs, err := keysOf(c.to, kind)
	if err != nil {
		return err
	}
	if len(theirs) > 0 {
		c.n.Occupied += len(ours)
		return nil
	}
	n, err := c.missing(kind, 0)
	c.n.Others += n
	return err
}
