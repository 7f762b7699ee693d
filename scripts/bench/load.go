package main

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// sample is one measurement of a path.
type sample struct {
	Rate       float64       // expected answers per second
	P50        time.Duration // time of a request, from its write to its answer; open loop: from when it was due
	P99        time.Duration
	CPU        time.Duration // of the server, per request
	Refused    float64       `json:",omitempty"` // refusals per second, where the path expects them
	P99Refused time.Duration `json:",omitempty"`
}

// closedLoop drives a path with conns connections, each of which sends depth requests at once,
// waits for the answers and sends the next ones.
func closedLoop(p *path, conns, depth int, length time.Duration) (sample, error) {
	return load(p, conns, func(a asker, _ int, begun time.Time, to *record) error {
		for n := 0; ; n++ {
			now := time.Now()
			if now.Sub(begun) > length {
				return nil
			}
			if err := a.ask(n, depth, now, to); err != nil {
				return err
			}
		}
	})
}

// openLoop offers a path rate requests per second over conns connections. The time of a request
// counts from when it was due, even if a slow one before it delayed its write.
func openLoop(p *path, conns int, rate float64, length time.Duration) (sample, error) {
	between := time.Duration(float64(conns) / rate * float64(time.Second))
	return load(p, conns, func(a asker, conn int, begun time.Time, to *record) error {
		due := begun.Add(between * time.Duration(conn) / time.Duration(conns))
		for n := 0; due.Sub(begun) < length; n++ {
			time.Sleep(time.Until(due))
			if err := a.ask(n, 1, due, to); err != nil {
				return err
			}
			due = due.Add(between)
		}
		return nil
	})
}

// load connects, then runs work on all connections at once and sums up their records.
func load(p *path, conns int, work func(a asker, conn int, begun time.Time, to *record) error) (s sample, err error) {
	var wg sync.WaitGroup
	records := make([]record, conns)
	errs := make([]error, conns)
	start := make(chan time.Time)
	for i := range conns {
		a, err := p.connect(i)
		if err != nil {
			return s, err
		}
		defer a.close()
		records[i].taken = make([]time.Duration, 0, 1<<18/conns)
		wg.Go(func() {
			if begun, ok := <-start; ok {
				errs[i] = work(a, i, begun, &records[i])
			}
		})
	}
	before, begun := p.server.cpu(), time.Now()
	for range conns {
		start <- begun
	}
	wg.Wait()
	took, used := time.Since(begun), p.server.cpu()-before
	var all record
	for i := range conns {
		if errs[i] != nil {
			return s, errs[i]
		}
		all.taken = append(all.taken, records[i].taken...)
		all.refused = append(all.refused, records[i].refused...)
	}
	if len(all.taken) == 0 {
		return s, errors.New("no request was answered")
	}
	s.Rate, s.Refused = float64(len(all.taken))/took.Seconds(), float64(len(all.refused))/took.Seconds()
	s.P50, s.P99 = percentiles(all.taken)
	_, s.P99Refused = percentiles(all.refused)
	s.CPU = used / time.Duration(len(all.taken)+len(all.refused))
	return s, nil
}

// percentiles returns the median and the 99th percentile, and sorts times.
func percentiles(times []time.Duration) (p50, p99 time.Duration) {
	if len(times) == 0 {
		return 0, 0
	}
	slices.Sort(times)
	return times[len(times)/2], times[len(times)*99/100]
}

// median returns the middle value, or the mean of the middle two. It does not change values.
func median[T float64 | time.Duration](values []T) T {
	values = slices.Sorted(slices.Values(values))
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

// medians returns the median of each figure.
func medians(samples []sample) sample {
	return sample{
		Rate:       medianOf(samples, func(s sample) float64 { return s.Rate }),
		P50:        medianOf(samples, func(s sample) time.Duration { return s.P50 }),
		P99:        medianOf(samples, func(s sample) time.Duration { return s.P99 }),
		CPU:        medianOf(samples, func(s sample) time.Duration { return s.CPU }),
		Refused:    medianOf(samples, func(s sample) float64 { return s.Refused }),
		P99Refused: medianOf(samples, func(s sample) time.Duration { return s.P99Refused }),
	}
}

func medianOf[T float64 | time.Duration](samples []sample, figure func(sample) T) T {
	values := make([]T, len(samples))
	for i, s := range samples {
		values[i] = figure(s)
	}
	return median(values)
}
