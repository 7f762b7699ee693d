package main

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// sample is one measurement of a path at a number of connections.
type sample struct {
	Rate float64       // requests per second
	P50  time.Duration // of a request, from its write to its answer
	P99  time.Duration
	CPU  time.Duration // of the server, per request
}

// closedLoop drives a server with conns connections, each of which asks, waits for the
// answer and asks again. line makes the n-th request of a connection; want is its answer.
func closedLoop(c *child, conns int, length time.Duration, line func(conn, n int) string, want string) (s sample, err error) {
	var wg sync.WaitGroup
	latencies := make([][]time.Duration, conns)
	errs := make([]error, conns)
	start := make(chan struct{})
	for i := range conns {
		socket, err := net.Dial("tcp", c.addr)
		if err != nil {
			return s, err
		}
		defer socket.Close()
		wg.Add(1)
		go func() {
			defer wg.Done()
			<-start
			latencies[i], errs[i] = drive(socket, i, length, line, want)
		}()
	}
	before, begun := c.cpu(), time.Now()
	close(start)
	wg.Wait()
	took, used := time.Since(begun), c.cpu()-before
	var all []time.Duration
	for i := range conns {
		if errs[i] != nil {
			return s, errs[i]
		}
		all = append(all, latencies[i]...)
	}
	if len(all) == 0 {
		return s, fmt.Errorf("no request was answered")
	}
	slices.Sort(all)
	s.Rate = float64(len(all)) / took.Seconds()
	s.P50, s.P99 = all[len(all)/2], all[len(all)*99/100]
	s.CPU = used / time.Duration(len(all))
	return s, nil
}

func drive(socket net.Conn, conn int, length time.Duration, line func(conn, n int) string, want string) ([]time.Duration, error) {
	r := bufio.NewReaderSize(socket, 256)
	taken := make([]time.Duration, 0, 1<<16)
	end := time.Now().Add(length)
	for n := 0; ; n++ {
		begun := time.Now()
		if begun.After(end) {
			return taken, nil
		}
		if _, err := socket.Write([]byte(line(conn, n))); err != nil {
			return nil, err
		}
		got, err := r.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		if string(got) != want {
			return nil, fmt.Errorf("answered %q, want %q: what was measured is not what was meant", got, want)
		}
		taken = append(taken, time.Since(begun))
	}
}

// median returns the sample of the middle rate.
func median(samples []sample) sample {
	slices.SortFunc(samples, func(a, b sample) int {
		switch {
		case a.Rate < b.Rate:
			return -1
		case a.Rate > b.Rate:
			return 1
		}
		return 0
	})
	return samples[len(samples)/2]
}
