package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// burst has different users come at once, each with a first right login, over each front; then three
// times the capacity for longer.
func (r *storms) burst() error {
	for _, front := range []string{"generic", "ejabberd", "8 pipes", "dovecot"} {
		for _, users := range []int{r.size(1000), r.size(5000)} {
			if err := r.burstOf(front, users); err != nil {
				return err
			}
		}
	}
	return r.overcrowd()
}

func (r *storms) burstOf(name string, users int) error {
	s, capacity, err := r.newMeasured(burstDelay, hashing(r.cost))
	if err != nil {
		return err
	}
	defer s.close()
	f := s.front(name)
	what := fmt.Sprintf("burst of %d, %s", users, name)
	before := s.postern.resident()
	t, err := s.load(what, f, people(stormDomain, "user", 0, users, true), float64(users), once)
	if err != nil {
		return err
	}
	right := float64(users - users/50)
	possible := min(right, capacity*(f.deadline-burstDelay-slack).Seconds())
	r.table.atLeast(what+": yes, of those that the capacity allows", float64(t.yes)/possible, "", 0.95)
	if len(t.seconds()) > 1 {
		r.table.atLeast(what+": lowest full second, of 32 bare clients", float64(t.lowest())/capacity, "", 0.95)
	}
	t.atOnce(&r.table, what)
	fmt.Printf("  %44s resident memory %.0f MiB, %.0f before; 32 bare clients get %.0f/s (640 in theory)\n", "",
		mib(s.postern.resident()), mib(before), capacity)
	return nil
}

// atOnce adds the aim that what cannot be served is a temporary failure at once. A front with answers in
// order cannot give it before those that wait.
func (t *tally) atOnce(to *table, what string) {
	if t.front.name == "dovecot" && t.later > 0 {
		p50, _ := percentiles(slices.Clone(t.refuse))
		to.atMost(what+": median time until a temporary failure", float64(p50.Milliseconds()), " ms", 100)
	}
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// overcrowd offers three times the capacity, by users that are all different.
func (r *storms) overcrowd() error {
	s, capacity, err := r.newMeasured(burstDelay, hashing(r.cost)+"hot_entries = 1000\n") // else the cache grows with each yes
	if err != nil {
		return err
	}
	defer s.close()
	f := s.front("dovecot") // its answers need no order: a refusal does not wait for those before
	const theory = stormSlots * float64(time.Second) / float64(burstDelay)
	what, length := "three times the capacity, dovecot", r.long(30*time.Second)
	var memory []float64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(time.Second) {
			memory = append(memory, mib(s.postern.resident()))
		}
	}()
	t, err := s.load(what, f, people(stormDomain, "user", 0, int(3*theory*length.Seconds()), true), 3*theory, once)
	<-done
	if err != nil {
		return err
	}
	r.table.atLeast(what+": lowest full second, of 32 bare clients", float64(t.lowest())/capacity, "", 0.95)
	r.table.atMost(what+": late", float64(t.late), "", 0)
	t.atOnce(&r.table, what)
	fmt.Printf("  %44s resident memory %.0f MiB\n", "", memory)
	if third := len(memory) / 3; third > 0 {
		r.table.atMost(what+": memory of the last third, of the second", median(memory[2*third:])/median(memory[third:2*third]), "", 1.1)
	}
	return nil
}

// untilKnown tries again what was a temporary failure, or whose connection has ended, until most has
// passed since it was due.
func untilKnown(pause, most time.Duration) func(*login, said) (time.Duration, bool) {
	return func(l *login, s said) (time.Duration, bool) {
		return pause, (s == saidLater || s == saidCut) && time.Since(l.due) < most
	}
}

// afterCut tries again what has lost its connection.
func afterCut(l *login, s said) (time.Duration, bool) {
	return 0, s == saidCut && time.Since(l.due) < startTimeout
}

// hotCost is the cost of the hashes of users that are logged in before a restart. Theirs are not
// computed again where the hot tier is handed over, and at the usual cost a thousand take minutes.
func (r *storms) hotCost(users int) int {
	if users > 500 {
		return 4
	}
	return r.cost
}

// restart ends the server by SIGTERM and starts it again under load, as `systemctl restart` does. Users
// that were hot, and some that are known on disk only, come at once; then again with the backend down.
func (r *storms) restart() error {
	users := r.size(10000)
	cold := max(1, users/20)
	cost := r.hotCost(users)
	s, err := r.newScene(normalDelay, hashing(cost), func(dir string) error { return fill(dir, stormDomain, "cold", cold, r.cost) })
	if err != nil {
		return err
	}
	defer s.close()
	f := s.front("ejabberd")
	f.deadline = startTimeout // also of those that come while no process is there
	rate := min(1000, float64(users)/2)
	hot := people(stormDomain, "user", 0, users, false)
	if _, err := s.load(fmt.Sprintf("restart: the %d users before", users), f, hot, rate, untilKnown(time.Second, time.Minute)); err != nil {
		return err
	}
	s.idle(time.Minute)
	for _, down := range []bool{false, true} {
		back := people(stormDomain, "user", 0, users, false)
		what := fmt.Sprintf("restart under load, %d users come back", users)
		if down {
			what += ", backend down"
			s.app.down()
		} else { // among them those of the disk
			for i, l := range people(stormDomain, "cold", 0, cold, false) {
				back = slices.Insert(back, (i+1)*len(back)/(cold+1), l)
			}
		}
		took := make(chan error, 1)
		time.AfterFunc(r.long(2*time.Second), func() { took <- s.again() })
		t, err := s.load(what, f, back, rate, afterCut)
		if err := <-took; err != nil {
			return err
		}
		if err != nil {
			return err
		}
		r.table.atMost(what+": temporary failures", float64(t.later), "", 0)
		r.table.atMost(what+": p99", float64(t.p99().Milliseconds()), " ms", 250)
	}
	return nil
}

// again restarts the server with what it has stored with the service manager.
func (s *scene) again() error {
	begun := time.Now()
	s.postern.stop()
	ended, kept := time.Since(begun), s.keeper.names()
	err := s.start()
	fmt.Printf("  restarted: %v until it had ended, %v until the next was ready; handed over: %v\n",
		ended.Round(time.Millisecond), time.Since(begun).Round(time.Millisecond), kept)
	return err
}

// reboot starts a server that has users on disk and nothing in memory; all come at once.
func (r *storms) reboot() error {
	for _, users := range []int{r.size(200), r.size(10000)} {
		s, err := r.newScene(normalDelay, hashing(r.cost), func(dir string) error { return fill(dir, stormDomain, "user", users, r.cost) })
		if err != nil {
			return err
		}
		what := fmt.Sprintf("reboot, %d users known on disk", users)
		t, err := s.load(what, s.front("ejabberd"), people(stormDomain, "user", 0, users, false), min(1000, float64(users)), once)
		s.close()
		if err != nil {
			return err
		}
		r.table.atMost(what+": temporary failures", float64(t.later), "", 0)
		r.table.atMost(what+": p99", float64(t.p99().Milliseconds()), " ms", 250)
	}
	return r.rebootAlone()
}

// rebootAlone is a reboot with the backend down: every password is compared with its hash.
func (r *storms) rebootAlone() error {
	users := r.size(1000)
	hashes, err := hashRate(r.cost)
	if err != nil {
		return err
	}
	s, err := r.newScene(normalDelay, hashing(r.cost), func(dir string) error { return fill(dir, stormDomain, "user", users, r.cost) })
	if err != nil {
		return err
	}
	defer s.close()
	s.app.down()
	what := fmt.Sprintf("reboot, backend down, %d users", users)
	f := s.front("ejabberd")
	f.deadline = time.Hour // until they get in, however often they try
	logins := people(stormDomain, "user", 0, users, false)
	t, err := s.load(what, f, logins, float64(users), untilKnown(time.Second, 5*time.Minute))
	if err != nil {
		return err
	}
	alone := max(1, float64(users)/hashes) // they come within a second
	last := slices.Max(append(t.after, 0))
	fmt.Printf("  %44s the last was in after %.1f s; the hashes alone take %.1f s\n", "", last.Seconds(), alone)
	r.table.atMost(what+": time until the last is in, of the hashes alone", last.Seconds()/alone, "", 1.25)
	r.table.atMost(what+": share of pairs that are not let in in order of arrival", t.inversions(), "", 0.1)
	r.table.atLeast(what+": users that get in", float64(t.yes)/float64(users), "", 1)
	return nil
}

// inversions is the share of pairs of logins that were allowed in another order than they were due.
func (t *tally) inversions() float64 {
	type pair struct{ due, in time.Duration }
	list := make([]pair, len(t.taken))
	for i, took := range t.taken {
		list[i] = pair{t.after[i] - took, t.after[i]}
	}
	slices.SortFunc(list, func(a, b pair) int { return int(a.due - b.due) })
	odd, all := 0, 0
	for i := range list {
		for _, later := range list[i+1:] {
			if all++; later.in < list[i].in {
				odd++
			}
		}
	}
	return float64(odd) / float64(max(1, all))
}

// comeback takes the backend away while users wait for it and try again and again, and has it come back.
func (r *storms) comeback() error {
	users := r.size(5000)
	s, capacity, err := r.newMeasured(normalDelay, hashing(r.cost))
	if err != nil {
		return err
	}
	defer s.close()
	s.app.down()
	what := fmt.Sprintf("the backend comes back to %d users", users)
	away := r.long(20 * time.Second)
	returned := make(chan error, 1)
	time.AfterFunc(away, func() {
		s.app.mark()
		returned <- s.app.up()
	})
	f := s.front("ejabberd")
	f.deadline = time.Hour
	const pause = 2 * time.Second
	begun := time.Now()
	t, err := s.load(what, f, people(stormDomain, "user", 0, users, false), float64(users)/away.Seconds()*4, untilKnown(pause, 2*time.Minute))
	if err := <-returned; err != nil {
		return err
	}
	if err != nil {
		return err
	}
	first, asked := s.app.first()
	if !asked {
		return fmt.Errorf("the backend was not asked after it had come back")
	}
	// A user that was just refused comes back after the pause.
	last := begun.Add(slices.Max(append(t.after, 0))).Sub(first)
	fmt.Printf("  %44s first question %.1f s after the return; most at once per 100 ms: %v\n", "",
		first.Sub(begun.Add(away)).Seconds(), strings.Trim(fmt.Sprint(s.app.ramp(100*time.Millisecond, 20)), "[]"))
	r.table.atMost(what+": requests at the backend at once", float64(s.app.peak.Load()), "", stormSlots)
	r.table.atMost(what+": first question to last yes, of users/capacity and a retry", last.Seconds()/(float64(users)/capacity+pause.Seconds()), "", 1.25)
	r.table.atLeast(what+": users that get in", float64(t.yes)/float64(users), "", 1)
	return nil
}

// neighbour measures logins of domains beside one in a storm: first ones, with a backend of their own
// and with the same one, and known ones.
func (r *storms) neighbour() error {
	s, err := r.newScene(normalDelay, hashing(r.cost), func(dir string) error { return fill(dir, stormDomain, "known", r.size(1000), r.cost) })
	if err != nil {
		return err
	}
	defer s.close()
	beside := []struct {
		name, domain string
		same         bool // user in each login
	}{{"first logins, own backend", calmDomain, false}, {"first logins, same backend", sameDomain, false}, {"hot logins", calmDomain, true}}
	var p99 [2][3]time.Duration
	var later [2][3]int
	length := 20 * time.Second // 400 logins of each kind: of fewer, the p99 is that of one moment of the machine
	for storming := range 2 {
		errs := make(chan error, len(beside)+1)
		for i, n := range beside {
			go func() {
				logins := people(n.domain, fmt.Sprintf("%d-%d-", i, storming), 0, int(20*length.Seconds()), false)
				for _, l := range logins {
					if n.same {
						l.user = "joe"
					}
				}
				f := s.front("ejabberd")
				f.conns = 4
				t, err := s.load("neighbour, "+n.name+[]string{", quiet", ", storm beside"}[storming], f, logins, 20, once)
				if err == nil {
					p99[storming][i], later[storming][i] = t.p99(), t.later
				}
				errs <- err
			}()
		}
		waiting := len(beside)
		if storming == 1 {
			waiting++
			go func() { errs <- s.rage(length) }()
		}
		for range waiting {
			if err := <-errs; err != nil {
				return err
			}
		}
	}
	for i, n := range beside {
		// Below a floor the figures are those of the scheduler of a machine that is busy with the storm's own clients.
		quiet := max(p99[0][i], 5*time.Millisecond)
		r.table.atMost("neighbour, "+n.name+": temporary failures in a storm beside", float64(later[1][i]), "", 0)
		r.table.atMost("neighbour, "+n.name+": p99 in a storm beside, of the quiet one", float64(p99[1][i])/float64(quiet), "", 3)
	}
	return nil
}

// rage is the storm of neighbour: three times the capacity, among it users with hashes on disk
// with wrong passwords.
func (s *scene) rage(length time.Duration) error {
	const theory = stormSlots * float64(time.Second) / float64(normalDelay)
	logins := people(stormDomain, "user", 0, int(3*theory*length.Seconds()), false)
	for i := 0; i < len(logins); i += 20 {
		logins[i].user, logins[i].password, logins[i].wrong = fmt.Sprint("known", i/20%s.size(1000)), fmt.Sprint("wrong", i), true
	}
	_, err := s.load("neighbour, the storm itself", s.front("dovecot"), logins, 3*theory, once)
	return err
}

// phones has many phones that send an old password every second.
func (r *storms) phones() error {
	s, err := r.newScene(normalDelay, hashing(r.cost), nil)
	if err != nil {
		return err
	}
	defer s.close()
	phones, seconds := r.size(1000), int(r.long(15*time.Second).Seconds())
	old := func(times int) (list []*login) {
		for range times {
			round := people(stormDomain, "user", 0, phones, false)
			for _, l := range round {
				l.password, l.wrong = "wrong old password", true
			}
			list = append(list, round...)
		}
		return list
	}
	f := s.front("ejabberd")
	if _, err := s.load("phones, the first time", f, old(1), float64(phones), untilKnown(time.Second, 30*time.Second)); err != nil {
		return err
	}
	s.idle(30 * time.Second)
	s.app.mark()
	before, begun := s.postern.cpu(), time.Now()
	t, err := s.load(fmt.Sprintf("%d phones with an old password every second", phones), f, old(seconds), float64(phones), once)
	if err != nil {
		return err
	}
	used := s.postern.cpu() - before
	r.table.atMost("phones: of a processor", 100*used.Seconds()/time.Since(begun).Seconds(), " %", 5*max(r.scale, 1))
	r.table.atMost("phones: requests at the backend", float64(s.app.asked.Load()), "", 0)
	r.table.atMost("phones: temporary failures", float64(t.later), "", 0)
	return nil
}
