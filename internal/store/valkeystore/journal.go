package valkeystore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"

	"postern/internal/store"
)

const (
	journalKept = "16384" // entries, about: some 3 MB
	journalPage = 1024    // entries that are read at once
	entryField  = "e"
)

// Append implements store.Journal. The entries are those of a stream, whose numbers have the time by the server's clock.
func (s *Store) Append(entries [][]byte) error {
	return s.trip(writeWait, "append", func(ctx context.Context, c valkey.Client) error {
		commands := make([]valkey.Completed, len(entries))
		for i, e := range entries {
			commands[i] = c.B().Xadd().Key(s.name([]byte(store.Refusals))).Maxlen().Almost().Threshold(journalKept).Id("*").
				FieldValue().FieldValue(entryField, valkey.BinaryString(e)).Build()
		}
		var errs []error
		for _, reply := range c.DoMulti(ctx, commands...) {
			errs = append(errs, reply.Error())
		}
		return errors.Join(errs...)
	})
}

// After implements store.Journal.
func (s *Store) After(position string) (entries []store.Entry, next string, err error) {
	start := "-"
	if position != "" {
		start = "(" + position
	}
	next = position
	err = s.trip(writeWait, "read", func(ctx context.Context, c valkey.Client) error {
		replies := c.DoMulti(ctx, c.B().Time().Build(), c.B().Xrange().Key(s.name([]byte(store.Refusals))).Start(start).End("+").Count(journalPage).Build())
		now, err := replies[0].AsStrSlice()
		if err != nil {
			return err
		}
		list, err := replies[1].AsXRange()
		if err != nil || len(now) != 2 {
			return errors.Join(errors.New("unexpected reply"), err)
		}
		seconds, err1 := strconv.ParseInt(now[0], 10, 64)
		micros, err2 := strconv.ParseInt(now[1], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("its time: %w", err)
		}
		for _, x := range list {
			at, _, _ := strings.Cut(x.ID, "-")
			ms, err := strconv.ParseInt(at, 10, 64)
			if err != nil {
				return fmt.Errorf("an entry's number: %w", err)
			}
			age := time.Duration(seconds*1000+micros/1000-ms) * time.Millisecond
			entries, next = append(entries, store.Entry{Data: []byte(x.FieldValues[entryField]), Age: max(age, 0)}), x.ID
		}
		return nil
	})
	if err != nil {
		return nil, position, err
	}
	return entries, next, nil
}
