package valkeystore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"
)

// Health is what Check finds out about a server.
type Health struct {
	Name       string // as in "valkey 8.1.1"
	Major      int    // of a version of Redis that it is like
	Policy     string // maxmemory-policy
	AppendOnly bool   // what is written outlives a restart
	RoundTrip  time.Duration
	Ahead      time.Duration // its clock, before this machine's
}

// Check looks at a server, which is used as a Store would use it, but not changed beyond its epoch.
func Check(o Options) (h Health, err error) {
	s, err := Open(o, slog.New(slog.DiscardHandler))
	if err != nil {
		return h, err
	}
	defer s.Close()
	if _, ok := s.Term(); !ok {
		return h, errors.New(s.Failed())
	}
	err = s.trip(writeWait, "look at", func(ctx context.Context, c valkey.Client) error {
		info, err := c.Do(ctx, c.B().Info().Build()).ToString()
		if err != nil {
			return err
		}
		h.read(info)
		begun := time.Now()
		at, err := c.Do(ctx, c.B().Time().Build()).AsStrSlice()
		h.RoundTrip = time.Since(begun)
		if err != nil || len(at) != 2 {
			return fmt.Errorf("its time: %w", err)
		}
		seconds, err1 := strconv.ParseInt(at[0], 10, 64)
		micros, err2 := strconv.ParseInt(at[1], 10, 64)
		h.Ahead = time.Unix(seconds, 1000*micros).Sub(begun.Add(h.RoundTrip / 2))
		return errors.Join(err1, err2)
	})
	return h, err
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
}
