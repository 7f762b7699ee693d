package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain runs this program as one of the servers that the benchmark starts, as main does.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{"echo", "cloud", "relay"}, os.Args[1]) {
		main()
		return
	}
	os.Exit(m.Run())
}

// brief returns settings for a run of a moment with the real program.
func brief(t *testing.T, only string) settings {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "postern")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/postern").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return settings{binary: binary, seconds: 0.05, rounds: 1, conns: []int{1, 16}, only: only, level: "info", minutes: 0.05}
}

// A run measures the selected paths and their baselines, and compares them with the aims.
func TestMeasure(t *testing.T) {
	s := brief(t, "hot cache,jsxc 0 ms,dovecot,Valkey")
	s.conns = append(s.conns, 128) // the aims are for 128 connections
	s.jsonFile = filepath.Join(t.TempDir(), "out.json")
	if err := measure(s); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(s.jsonFile)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Rows []row
		Aims []aim
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	there := make(map[string]bool)
	for _, r := range got.Rows {
		if r.Rate <= 0 || r.P50 <= 0 || r.P99 < r.P50 || r.Ratio <= 0 {
			t.Errorf("%s %s at %d connections: %+v", r.Path, r.Mode, r.Conns, r.sample)
		}
		there[r.Path+" "+r.Mode] = true
	}
	for _, want := range []string{
		"echo closed", "echo pipelined", "echo open", "hot cache closed", "hot cache pipelined", "hot cache open",
		"http.Client 0 ms closed", "bare relay 0 ms closed", "jsxc 0 ms closed",
		"echo dovecot closed", "dovecot closed", "dovecot pipelined", "hot, Valkey closed", "cold, Valkey, bcrypt 4 closed", "disk cache, bcrypt 4 closed",
	} {
		if !there[want] {
			t.Errorf("%s was not measured", want)
		}
		delete(there, want)
	}
	for _, odd := range []string{"token jsxc closed", "echo saslauthd closed", "http.Client 20 ms closed"} {
		if there[odd] {
			t.Errorf("%s was measured", odd)
		}
	}
	if len(got.Aims) < 4 {
		t.Errorf("the aims are %+v", got.Aims)
	}
}

// A soak run of a few seconds reads every gauge more than once.
func TestSoak(t *testing.T) {
	s := brief(t, "token jsxc")
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	was := os.Stdout
	os.Stdout = out
	err = soak(s)
	os.Stdout = was
	if err != nil {
		t.Fatal(err)
	}
	said, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^\d+s  resident MiB [1-9]\d*\.\d  goroutines [1-9]\d*\.0  descriptors [1-9]\d*\.0  store MiB \d+\.\d$`)
	if n := len(line.FindAll(said, -1)); n < 2 {
		t.Errorf("%d lines of figures in:\n%s", n, said)
	}
}

// A storm of few people goes through its scenarios, has no wrong answer, and gives its verdicts. What they
// are depends on what else the machine does.
func TestStorm(t *testing.T) {
	s := brief(t, "restart,neighbour,phones")
	s.scale, s.cost, s.out = 0.005, 4, filepath.Join(t.TempDir(), "out.txt")
	if err := storm(s); err != nil && !errors.Is(err, errMissed) {
		t.Fatal(err)
	}
	out, err := os.ReadFile(s.out)
	if err != nil {
		t.Fatal(err)
	}
	exact := regexp.MustCompile(`(?m)^BenchmarkAim/\S+_wrong_answers_requests_without_one 1 (\S+) at-most `).FindAllSubmatch(out, -1)
	if len(exact) < 10 {
		t.Errorf("%d loads in:\n%s", len(exact), out)
	}
	for _, one := range exact {
		if string(one[1]) != "0.0000" {
			t.Errorf("%s", one[0])
		}
	}
	for _, what := range []string{"restart_under_load_50_users_come_back_backend_down_temporary_failures", "phones_of_a_processor", "neighbour_hot_logins_p99"} {
		if !bytes.Contains(out, []byte("BenchmarkAim/"+what)) {
			t.Errorf("%s is not in:\n%s", what, out)
		}
	}
}

// What a service stores goes to its next start, until it says otherwise.
func TestKeeper(t *testing.T) {
	k, err := newKeeper(filepath.Join(t.TempDir(), "notify"))
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	file := func() *os.File {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		return r
	}
	barrier := file()
	k.message([]string{"FDSTORE=1", "FDNAME=a"}, []*os.File{file(), file()})
	b := file()
	again, err := syscall.Dup(int(b.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	k.message([]string{"FDSTORE=1", "FDNAME=b"}, []*os.File{b})
	k.message([]string{"FDSTORE=1", "FDNAME=b"}, []*os.File{os.NewFile(uintptr(again), "again")})
	k.message([]string{"BARRIER=1"}, []*os.File{barrier})
	if got := k.names(); !slices.Equal(got, []string{"a", "a", "b"}) {
		t.Errorf("kept: %v", got)
	}
	if err := barrier.Close(); err == nil {
		t.Error("the barrier was not closed")
	}
	log := filepath.Join(t.TempDir(), "log")
	for _, want := range []string{"3 a:a:b ready\n", "2 a:a ready\n"} {
		c := &child{log: log, cmd: exec.Command("/bin/sh", "-c",
			`[ $LISTEN_PID = $$ ] && [ -e /proc/self/fd/$((2 + LISTEN_FDS)) ] && echo "$LISTEN_FDS $LISTEN_FDNAMES ready" >"$0"; exec sleep 60`, log)}
		k.ready <- struct{}{} // of a start before: not to be taken for one of this
		if err := startAnd(k, c, log); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(log); string(got) != want {
			t.Errorf("%q, want %q", got, want)
		}
		c.stop()
		k.message([]string{"FDSTOREREMOVE=1", "FDNAME=b"}, nil)
	}
}

// startAnd says READY=1 for a service once it has written its log.
func startAnd(k *keeper, c *child, log string) error {
	_ = os.Remove(log)
	go func() {
		waitUntil(func() bool { text, _ := os.ReadFile(log); return len(text) > 0 })
		k.message([]string{"READY=1"}, nil)
	}()
	return k.start(c)
}

func TestTally(t *testing.T) {
	due := time.Now()
	tl := newTally(&front{deadline: time.Second})
	tl.begun = due
	tl.wg.Add(9)
	for _, one := range []struct {
		s     said
		wrong bool
		after time.Duration
	}{{saidYes, false, 100}, {saidYes, false, 900}, {saidYes, false, 1150}, {saidYes, false, 1300}, {saidNo, true, 1}, {saidLater, false, 2}, {saidNo, false, 1}, {saidYes, true, 1}, {saidCut, false, 1}} {
		tl.note(&login{due: due, wrong: one.wrong}, one.s, due.Add(one.after*time.Millisecond))
	}
	tl.wg.Wait()
	if tl.yes != 3 || tl.late != 1 || tl.no != 1 || tl.later != 1 || tl.wrong != 2 || tl.cut != 1 {
		t.Errorf("%+v", tl)
	}
	if got := tl.seconds(); !slices.Equal(got, []int{2, 1}) {
		t.Errorf("yes per second: %v", got)
	}
	if n := tl.inversions(); n != 0 {
		t.Errorf("inversions: %v", n)
	}
	tl.taken, tl.after = []time.Duration{10, 10, 10}, []time.Duration{30, 20, 10}
	if n := tl.inversions(); n != 0 {
		t.Errorf("inversions of the same order: %v", n)
	}
	tl.taken = []time.Duration{30, 19, 8} // due at 0, 1 and 2, in at 30, 20 and 10
	if n := tl.inversions(); n != 1 {
		t.Errorf("inversions of the opposite order: %v", n)
	}
	blurred := newTally(&front{deadline: time.Second, blurred: true})
	blurred.wg.Add(1)
	if blurred.note(&login{due: due}, saidNo, due); blurred.wrong != 0 || blurred.later != 1 {
		t.Errorf("a no that may be a temporary failure: %+v", blurred)
	}
}

// A row has a line for each round, and every line is one that benchstat reads.
func TestLines(t *testing.T) {
	var tab table
	own, other := &path{name: "token jsxc", baseline: "echo"}, &path{name: "echo", baseline: "echo"}
	two := []sample{{Rate: 10, CPU: 5}, {Rate: 20, CPU: 6}}
	tab.add(cell{"closed", 16}, []*path{own, other}, map[*path][]sample{own: two, other: two})
	tab.atMost("a thing, of 3: p99", 1.5, " ms", 2)
	file := filepath.Join(t.TempDir(), "out")
	if err := tab.writeLines(file); err != nil {
		t.Fatal(err)
	}
	out, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for want, times := range map[string]int{
		"BenchmarkPath/token_jsxc/closed/conns=16 1 10 req/s 5 cpu-ns/req 1.0000 ratio\n": 1,
		"BenchmarkPath/token_jsxc/closed/conns=16 1 20 req/s 6 cpu-ns/req 1.0000 ratio\n": 1,
		"BenchmarkPath/echo/closed/conns=16 1 10 req/s 5 cpu-ns/req\n":                    1,
		"BenchmarkAim/a_thing_of_3_p99/ms 1 1.5000 at-most 2.0000 must 2.0000 aim\n":      1,
		"cpu: ": 1,
	} {
		if n := bytes.Count(out, []byte(want)); n != times {
			t.Errorf("%q is there %d times in:\n%s", want, n, out)
		}
	}
}

// What a run has written about its aims can be shown again, with a verdict for each.
func TestAims(t *testing.T) {
	all := []aim{
		{"a path, of the echo", 0.8, "", atLeast, 0.65, 0.72},
		{"another path", 0.7, "", atLeast, 0.65, 0.72},
		{"a third one", 0.6, "", atLeast, 0.65, 0.72},
		{"a time", 45, " ms", atMost, 45, 45},
		{"a share", 6, " %", atMost, 5, 5},
	}
	for i, verdict := range []string{"met", "must", "missed", "met", "missed"} {
		if got := all[i].verdict(); got != verdict || all[i].missed() != (verdict == "missed") {
			t.Errorf("%+v: %s", all[i], got)
		}
		got, ok := readAim(strings.TrimSpace(all[i].line()))
		want := all[i]
		if want.What = strings.ReplaceAll(want.What, ",", ""); !ok || got != want {
			t.Errorf("%q is read as %+v", all[i].line(), got)
		}
	}
	if a, ok := readAim("BenchmarkPath/echo/closed/conns=1 1 100 req/s 5 cpu-ns/req 1.0000 ratio"); ok {
		t.Errorf("a path is read as %+v", a)
	}
}

// The first answer of a pipe and the start of a server with a domain.
func TestStarts(t *testing.T) {
	b := &bench{settings: brief(t, ""), dir: t.TempDir()}
	for range 2 { // the second time the store is there
		config := b.file("pipe.hcl")
		text := "data_dir = \"" + b.file("data") + "\"\nbackend \"users\" \"local\" {}\ndomain \"pipe.bench\" { backends = [backend.users.local] }\n"
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := b.pipe(config, "pipe.bench")
		if err != nil {
			t.Fatal(err)
		}
		if err := p.end(); err != nil || p.took <= 0 {
			t.Errorf("%v until the first answer, %v", p.took, err)
		}
	}
	c, took, err := b.withDomains(10)
	if err != nil {
		t.Fatal(err)
	}
	if c.stop(); took <= 0 {
		t.Errorf("ready after %v", took)
	}
}

func TestGrown(t *testing.T) {
	steady := func(n int, at func(i int) float64) (out []float64) {
		for i := range n {
			out = append(out, at(i))
		}
		return out
	}
	for name, c := range map[string]struct {
		values []float64
		want   bool
	}{
		"steady":                  {steady(30, func(int) float64 { return 100 }), false},
		"warming up":              {steady(30, func(i int) float64 { return 100 - 90/float64(1+i*i) }), false},
		"growing":                 {steady(30, func(i int) float64 { return 100 + 5*float64(i) }), true},
		"growing within bounds":   {steady(30, func(i int) float64 { return 100 + float64(i) }), false},
		"a step in the last part": {steady(30, func(i int) float64 { return 100 + 50*float64(i/21) }), true},
		"one high value":          {steady(30, func(i int) float64 { return 100 + 500*float64(i/29) }), false},
		"too few":                 {[]float64{1, 1000}, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := &gauge{name: "x", unit: 1, share: 0.1, spare: 5, values: c.values}
			if by, got := g.grown(); got != c.want {
				t.Errorf("grown by %v: %t", by, got)
			}
			if err := verdict([]*gauge{g}); (err != nil) != c.want {
				t.Errorf("the verdict is %v", err)
			}
		})
	}
}

func TestFigures(t *testing.T) {
	var times []time.Duration
	for i := range 100 {
		times = append(times, time.Duration(100-i))
	}
	if p50, p99 := percentiles(times); p50 != 51 || p99 != 100 {
		t.Errorf("the percentiles of 1 to 100 are %d and %d", p50, p99)
	}
	if p50, p99 := percentiles(nil); p50 != 0 || p99 != 0 {
		t.Errorf("the percentiles of nothing are %d and %d", p50, p99)
	}
	if m := median([]float64{9, 1, 2}); m != 2 {
		t.Errorf("the median of 1, 2, 9 is %v", m)
	}
	if m := median([]float64{9, 1, 2, 4}); m != 3 {
		t.Errorf("the median of 1, 2, 4, 9 is %v", m)
	}
	// The ratio is the median of the rounds, not the ratio of the medians.
	own, other := &path{name: "own", baseline: "other"}, &path{name: "other", baseline: "other"}
	var tab table
	at := cell{"closed", 1}
	tab.add(at, []*path{own, other}, map[*path][]sample{
		own:   {{Rate: 10}, {Rate: 20}, {Rate: 90}},
		other: {{Rate: 100}, {Rate: 20}, {Rate: 180}},
	})
	if r := tab.of("own", at); r.Rate != 20 || r.Ratio != 0.5 {
		t.Errorf("own has %v, ratio %v", r.Rate, r.Ratio)
	}
}
