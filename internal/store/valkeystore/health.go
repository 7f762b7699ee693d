package valkeystore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"

	"postern/internal/store"
)

// Health is what Check finds out about a server.
type Health struct {
	Name        string        // as in "valkey 8.1.1"
	Major       int           // of a version of Redis that it is like
	Policy      string        // maxmemory-policy
	AppendOnly  bool          // what is written outlives a restart
	DiskFailing bool          // it cannot write its files
	Full        int           // percent of maxmemory in use; 0 without such a bound
	Refusing    string        // why it takes no changes; "" if it does
	Denied      []string      // what its user may not do, in the server's words
	RoundTrip   time.Duration // of a usual command
	Heard       time.Duration // until a change by another connection is reported; 0: it is not
	Ahead       time.Duration // its clock, before this machine's
	Guided      bool          // Sentinels or nodes of a cluster say where it is
	Replicas    int
	Silent      []string // which of these do not say what the majority says, and why
}

// Of a check.
const (
	trips     = 5                // measured
	hearWait  = 3 * time.Second  // for a change to be reported
	probeKept = 10 * time.Second // the records of a check
)

// probe is a key of the kind Changes that stands for no account.
const probe = store.Changes + "probe"

// Check looks at a server, which is used as a Store would use it, but not changed beyond its epoch.
func Check(o Options) (h Health, err error) {
	quiet := slog.New(slog.DiscardHandler)
	s, err := Open(o, quiet)
	if err != nil {
		return h, err
	}
	defer s.Close()
	if _, ok := s.Term(); !ok {
		return h, errors.New(s.Failed())
	}
	h.Guided, h.Silent = o.guided(), s.silent()
	if err := s.trip(writeWait, "look at", h.look); err != nil {
		return h, err
	}
	h.try(s)
	other, err := Open(o, quiet)
	if err != nil {
		return h, err
	}
	defer other.Close()
	h.hear(s, other)
	return h, nil
}

// look asks the server about itself.
func (h *Health) look(ctx context.Context, c valkey.Client) error {
	info, err := c.Do(ctx, c.B().Info().Build()).ToString()
	if err != nil {
		return err
	}
	h.read(info)
	var took []time.Duration
	for range trips {
		begun := time.Now()
		at, err := c.Do(ctx, c.B().Time().Build()).AsStrSlice()
		took = append(took, time.Since(begun))
		if err != nil || len(at) != 2 {
			return fmt.Errorf("its time: %w", err)
		}
		seconds, err1 := strconv.ParseInt(at[0], 10, 64)
		micros, err2 := strconv.ParseInt(at[1], 10, 64)
		h.Ahead = time.Unix(seconds, 1000*micros).Sub(begun.Add(time.Since(begun) / 2))
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
	}
	slices.Sort(took)
	h.RoundTrip = took[trips/2]
	return nil
}

// try does what a Store does, and notes what the server does not let it do.
func (h *Health) try(s *Store) {
	note := func(err error) {
		for _, denial := range []string{"NOPERM", "WRONGPASS"} {
			if _, text, denied := strings.Cut(fmt.Sprint(err), denial+" "); denied && err != nil {
				h.Denied = append(h.Denied, text)
				return
			}
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) && h.Refusing == "" {
			h.Refusing = strings.TrimPrefix(err.Error(), store.ErrAway.Error()+": ")
		}
	}
	key := []byte(probe)
	_, err := s.Swap([]store.Change{{Key: key, Value: []byte{1}, Keep: probeKept}})
	note(err)
	_, err = s.Get(key)
	note(err)
	note(s.Scan(key, func(_, _ []byte) bool { return true }))
	_, err = s.Swap([]store.Change{{Key: key}})
	note(err)
	_, err = s.Swap([]store.Change{{Key: key, Over: true, Was: s.versions.Next()}})
	note(err)
	for _, command := range [][]string{{"MGET"}, {"UNLINK"}} { // which a scan of nothing does not use
		note(s.trip(writeWait, "try", func(ctx context.Context, c valkey.Client) error {
			return c.Do(ctx, c.B().Arbitrary(command...).Keys(s.name(key)).Build()).Error()
		}))
	}
	_, _, err = s.After("")
	note(err)
	note(s.trip(writeWait, "try", func(ctx context.Context, c valkey.Client) error { // it adds nothing
		err := c.Do(ctx, c.B().Xadd().Key(s.name(key)).Nomkstream().Id("*").FieldValue().FieldValue(entryField, "").Build()).Error()
		if valkey.IsValkeyNil(err) {
			return nil
		}
		return err
	}))
	slices.Sort(h.Denied)
	h.Denied = slices.Compact(h.Denied)
}

// hear measures how long it takes until one Store knows what another has written.
func (h *Health) hear(s, other *Store) {
	told := make(chan time.Time, 1)
	s.Watch(func(keys []string) {
		if slices.Contains(keys, probe) {
			select {
			case told <- time.Now():
			default:
			}
		}
	})
	begun := time.Now()
	if _, err := other.Swap([]store.Change{{Key: []byte(probe), Value: []byte{2}, Keep: probeKept}}); err != nil {
		return // try has said why
	}
	select {
	case at := <-told:
		h.Heard = max(at.Sub(begun), 1)
	case <-time.After(hearWait):
	}
}

// silent lists the guides that do not say what the majority says.
func (s *Store) silent() (list []string) {
	at, _, _ := s.primary()
	for _, g := range s.guides {
		switch said := g.said.Load(); {
		case said == nil:
			list = append(list, g.address+" does not answer")
		case said.err != nil:
			list = append(list, fmt.Sprintf("%s: %v", g.address, said.err))
		case said.at != at:
			list = append(list, fmt.Sprintf("%s names %s", g.address, said.at))
		}
	}
	return list
}

// read takes what INFO says.
func (h *Health) read(info string) {
	fields := make(map[string]string)
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	h.Name = "redis " + fields["redis_version"]
	if v := fields["valkey_version"]; v != "" {
		h.Name = "valkey " + v
	}
	major, _, _ := strings.Cut(fields["redis_version"], ".")
	h.Major, _ = strconv.Atoi(major)
	h.Policy, h.AppendOnly = fields["maxmemory_policy"], fields["aof_enabled"] == "1"
	for _, field := range []string{"rdb_last_bgsave_status", "aof_last_bgrewrite_status", "aof_last_write_status"} {
		h.DiskFailing = h.DiskFailing || fields[field] == "err"
	}
	used, _ := strconv.ParseFloat(fields["used_memory"], 64)
	if most, _ := strconv.ParseFloat(fields["maxmemory"], 64); most > 0 {
		h.Full = int(100 * used / most)
	}
	h.Replicas, _ = strconv.Atoi(fields["connected_slaves"])
}
