package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// pipeDepth is the number of requests that a pipelining connection sends in one write.
const pipeDepth = 16

// The open loop runs at openAt connections and offers openShare of the rate that the closed loop
// reached there.
const (
	openAt    = 128
	openShare = 0.5
)

// bench is one run: its servers, their files and the paths to measure.
type bench struct {
	settings
	dir     string // of all files; removed by close
	echo    *child
	cloud   *child
	idp     *provider // at cloud
	relay   *child
	postern *child
	paths   []*path
	apps    []string // app passwords, by user
	defers  []func() // run by close, last first
}

func (b *bench) file(name string) string { return filepath.Join(b.dir, name) }

// echoFile and ownFile name files of the echo server and of the program under test.
func (b *bench) echoFile(name string) string { return filepath.Join(b.dir, "echo", name) }
func (b *bench) ownFile(name string) string  { return filepath.Join(b.dir, "own", name) }

// cloudURL is the address at which the web server answers after wait milliseconds.
func (b *bench) cloudURL(wait string) string { return "http://" + b.cloud.addr + "/" + wait }

func (b *bench) close() {
	for i := len(b.defers) - 1; i >= 0; i-- {
		b.defers[i]()
	}
}

// newBench starts the servers, with accounts and caches filled.
func newBench(s settings) (b *bench, err error) {
	b = &bench{settings: s}
	if b.dir, err = os.MkdirTemp("", "pbench"); err != nil {
		return nil, err
	}
	b.defers = append(b.defers, func() { _ = os.RemoveAll(b.dir) })
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if err = os.Mkdir(b.echoFile(""), 0o700); err != nil {
		return nil, err
	}
	if b.echo, err = b.started(startSelf("echo", b.echoFile(""))); err != nil {
		return nil, err
	}
	if b.cloud, err = b.started(startSelf("cloud")); err != nil {
		return nil, err
	}
	if b.idp, err = newProvider(b.cloud.addr); err != nil {
		return nil, err
	}
	if b.relay, err = b.started(startSelf("relay", b.cloudURL("0"))); err != nil {
		return nil, err
	}
	b.postern, err = b.started(b.startConfigured(b.file("own"), b.prepare))
	return b, err
}

// prepare fills the store and the users file of the program under test before it starts.
func (b *bench) prepare(config string) error {
	for _, cost := range []int{4, 12} {
		if err := fill(b.ownFile("data"), fmt.Sprintf("disk%d.bench", cost), "user", diskUsers, cost); err != nil {
			return err
		}
	}
	var err error
	if b.apps, err = fillApps(b.ownFile("data"), hotAccounts); err != nil {
		return err
	}
	return addUser(b.binary, config, "joe@users.bench")
}

// started registers a server that was started without error to be stopped by close.
func (b *bench) started(c *child, err error) (*child, error) {
	if err == nil {
		b.defers = append(b.defers, c.stop)
	}
	return c, err
}

// choose sets b.paths to the selected paths, preceded by their baselines.
func (b *bench) choose() error {
	own, err := b.posternPaths()
	if err != nil {
		return err
	}
	var chosen []*path
	needed := make(map[string]bool)
	own = append(own, b.sharedPaths()...)
	own = append(own, b.startPeers()...)
	for _, p := range own {
		if b.wants(p.name) {
			needed[p.baseline] = true
		}
	}
	for _, p := range own {
		if b.wants(p.name) || needed[p.name] {
			chosen = append(chosen, p)
			needed[p.baseline] = true
		}
	}
	for _, p := range b.ceilings() {
		if needed[p.name] || needed[p.with] || b.wants(p.name) {
			b.paths = append(b.paths, p)
		}
	}
	b.paths = append(b.paths, chosen...)
	return nil
}

// warmUp drives every path briefly, then waits until the server is idle: it hashes new passwords
// after it has answered.
func (b *bench) warmUp() error {
	for _, p := range b.paths {
		if p.missing != "" || p.maxLength > 0 {
			continue
		}
		conns := hotAccounts
		if p.maxConns > 0 {
			conns = p.maxConns
		}
		if _, err := closedLoop(p, conns, 1, 50*time.Millisecond); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	for before, now := time.Duration(-1), b.postern.cpu(); now != before; {
		time.Sleep(500 * time.Millisecond)
		before, now = now, b.postern.cpu()
	}
	return nil
}

// cell is a way to drive a path.
type cell struct {
	mode  string // "closed", "pipelined" or "open"; scripts/bench/README defines them
	conns int
}

// measureAll measures all paths cell by cell and round by round, so that other load on the
// machine affects all of them alike.
func (b *bench) measureAll() (t *table, err error) {
	t = new(table)
	for _, p := range b.paths {
		if p.missing != "" {
			t.missing = append(t.missing, p.name+": "+p.missing)
		}
	}
	cells := []cell{{"pipelined", 1}, {"pipelined", 16}}
	for _, conns := range b.conns {
		cells = append(cells, cell{"closed", conns})
		if conns == openAt {
			cells = append(cells, cell{"open", conns})
		}
	}
	for _, c := range cells {
		samples := make(map[*path][]sample)
		for range b.rounds {
			for _, p := range b.paths {
				if !p.fits(c) {
					continue
				}
				one, err := b.measureOne(t, p, c)
				if err != nil {
					return nil, fmt.Errorf("%s at %d connections, %s: %w", p.name, c.conns, c.mode, err)
				}
				samples[p] = append(samples[p], one)
			}
			b.postern.truncate()
		}
		t.add(c, b.paths, samples)
	}
	return t, nil
}

// fits reports whether the path is measured in cell c.
func (p *path) fits(c cell) bool {
	switch {
	case p.missing != "", p.maxConns > 0 && c.conns > p.maxConns:
		return false
	case p.fixedConns > 0:
		return c == cell{"closed", 1000}
	}
	return c.mode != "pipelined" || p.pipelines
}

// measureOne makes one measurement of a path. The open loop takes its rate from t.
func (b *bench) measureOne(t *table, p *path, c cell) (sample, error) {
	length := b.length()
	if p.maxLength > 0 {
		length = min(length, p.maxLength)
	}
	if p.fixedConns > 0 {
		c.conns = p.fixedConns
	}
	switch c.mode {
	case "open":
		return openLoop(p, c.conns, openShare*t.of(p.name, cell{"closed", c.conns}).Rate, length)
	case "pipelined":
		return closedLoop(p, c.conns, pipeDepth, length)
	}
	return closedLoop(p, c.conns, 1, length)
}

// measure runs the benchmark, prints the table and writes the JSON file, if one is named.
func measure(s settings) error {
	b, err := newBench(s)
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.choose(); err != nil {
		return err
	}
	if err := b.warmUp(); err != nil {
		return err
	}
	t, err := b.measureAll()
	if err != nil {
		return err
	}
	if err := b.extremes(t); err != nil {
		return err
	}
	t.judge()
	if err := t.judgeBearer(b.idp); err != nil {
		return err
	}
	t.print()
	return errors.Join(t.write(s.jsonFile), t.writeLines(s.out))
}
