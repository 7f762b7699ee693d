package main

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// sample is one measurement of a path.
type sample struct {
	Rate       float64       // right answers per second
	P50        time.Duration // of a request, from its write to its answer; open loop: from the time it was due
	P99        time.Duration
	CPU        time.Duration // of the server, per request
	Refused    float64       `json:",omitempty"` // refusals per second, where they are expected
	P99Refused time.Duration `json:",omitempty"`
}

// closedLoop drives a path with conns connections, each of which asks depth questions at
// once, waits for the answers and asks again.
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

// openLoop offers a path so many requests per second over conns connections. A request that
// is late because one before it was slow has waited since it was due.
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

// load runs work on conns connections at once.
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
		return s, fmt.Errorf("no request was answered")
	}
	s.Rate, s.Refused = float64(len(all.taken))/took.Seconds(), float64(len(all.refused))/took.Seconds()
	s.P50, s.P99 = percentiles(all.taken)
	_, s.P99Refused = percentiles(all.refused)
	s.CPU = used / time.Duration(len(all.taken)+len(all.refused))
	return s, nil
}

// percentiles returns the median and the 99th percentile.
func percentiles(times []time.Duration) (p50, p99 time.Duration) {
	if len(times) == 0 {
		return 0, 0
	}
	slices.Sort(times)
	return times[len(times)/2], times[len(times)*99/100]
}

// median returns the middle of some values, of an even number the mean of the middle two.
func median[T float64 | time.Duration](values []T) T {
	values = slices.Sorted(slices.Values(values))
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

// medians returns the middle of each figure of some samples.
func medians(samples []sample) sample {
	rate, refused := make([]float64, len(samples)), make([]float64, len(samples))
	p50, p99, p99r, cpu := make([]time.Duration, len(samples)), make([]time.Duration, len(samples)), make([]time.Duration, len(samples)), make([]time.Duration, len(samples))
	for i, s := range samples {
		rate[i], refused[i], p50[i], p99[i], p99r[i], cpu[i] = s.Rate, s.Refused, s.P50, s.P99, s.P99Refused, s.CPU
	}
	return sample{Rate: median(rate), P50: median(p50), P99: median(p99), CPU: median(cpu), Refused: median(refused), P99Refused: median(p99r)}
}
