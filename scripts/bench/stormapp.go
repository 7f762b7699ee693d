package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// imitation is the web application behind a storm, in the JSON API. It takes the same time for every
// answer, accepts every password but those that begin with "wrong", and counts what it is asked.
type imitation struct {
	address string
	delay   time.Duration

	asked, now, peak atomic.Int64
	server           *http.Server

	mu    sync.Mutex
	begun []time.Time // when each question came, since mark
	most  []int64     // concurrent ones then
}

func newImitation(delay time.Duration) (*imitation, error) {
	a := &imitation{address: "127.0.0.1:0", delay: delay}
	return a, a.up()
}

// up listens; down ends that and all connections.
func (a *imitation) up() error {
	l, err := net.Listen("tcp", a.address)
	if err != nil {
		return err
	}
	a.address = l.Addr().String()
	a.server = &http.Server{Handler: a}
	go func() { _ = a.server.Serve(l) }()
	return nil
}

func (a *imitation) down() { _ = a.server.Close() }

// ServeHTTP implements http.Handler.
func (a *imitation) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	now := a.now.Add(1)
	for {
		if peak := a.peak.Load(); now <= peak || a.peak.CompareAndSwap(peak, now) {
			break
		}
	}
	a.asked.Add(1)
	a.mu.Lock()
	a.begun, a.most = append(a.begun, time.Now()), append(a.most, now)
	a.mu.Unlock()
	time.Sleep(a.delay)
	a.now.Add(-1)
	answer := `{"success":true}`
	if bytes.Contains(body, []byte(`"password":"wrong`)) {
		answer = `{"success":false}`
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, answer)
}

// mark begins to count anew.
func (a *imitation) mark() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.begun, a.most = nil, nil
	a.asked.Store(0)
	a.peak.Store(0)
}

// first is when the first question since mark came.
func (a *imitation) first() (time.Time, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.begun) == 0 {
		return time.Time{}, false
	}
	return a.begun[0], true
}

// ramp is the most concurrent questions in each step of time since the first one, for n steps.
func (a *imitation) ramp(step time.Duration, n int) []int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	most := make([]int64, n)
	for i, at := range a.begun {
		if k := int(at.Sub(a.begun[0]) / step); k < n {
			most[k] = max(most[k], a.most[i])
		}
	}
	return most
}

// capacity is how many answers a second the application gives to as many bare HTTP clients as
// postern has slots.
func (a *imitation) capacity(length time.Duration) (float64, error) {
	web := newHTTPAsker("http://" + a.address + "/login")
	s, err := closedLoop(&path{asker: func() asker { return web }}, stormSlots, 1, length)
	web.client.CloseIdleConnections()
	a.mark()
	return s.Rate, err
}
