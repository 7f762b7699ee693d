package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// pipeDepth is how many requests a pipelining connection sends at once.
const pipeDepth = 16

// openAt is the number of connections of the open loop, and openShare what is offered then,
// of what the closed loop gave.
const (
	openAt    = 128
	openShare = 0.5
)

// bench is one run: the servers and where they have their files.
type bench struct {
	settings
	dir     string
	echo    *child
	cloud   *child
	relay   *child
	postern *child
	paths   []*path
	defers  []func() // run at the end, last first
}

func (b *bench) file(name string) string     { return filepath.Join(b.dir, name) }
func (b *bench) echoFile(name string) string { return filepath.Join(b.dir, "echo", name) }

// cloudURL is where the web server answers after so many milliseconds.
func (b *bench) cloudURL(wait string) string { return "http://" + b.cloud.addr + "/" + wait }

func (b *bench) ownFile(name string) string { return filepath.Join(b.dir, "own", name) }

func (b *bench) close() {
	for i := len(b.defers) - 1; i >= 0; i-- {
		b.defers[i]()
	}
}

// newBench starts the servers and fills what they know.
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
	if b.relay, err = b.started(startSelf("relay", b.cloudURL("0"))); err != nil {
		return nil, err
	}
	b.postern, err = b.started(b.startConfigured(b.file("own"), b.prepare))
	return b, err
}

// prepare fills what the program under test knows before it starts.
func (b *bench) prepare(config string) error {
	for _, cost := range []int{4, 12} {
		if err := fill(b.ownFile("data"), fmt.Sprintf("disk%d.bench", cost), diskUsers, cost); err != nil {
			return err
		}
	}
	return addUser(b.settings.postern, config, "joe@users.bench")
}

// started has a server stopped at the end.
func (b *bench) started(c *child, err error) (*child, error) {
	if err == nil {
		b.defers = append(b.defers, c.stop)
	}
	return c, err
}

// choose collects the paths that are wanted, each after what it is compared with.
func (b *bench) choose() error {
	own, err := b.posternPaths()
	if err != nil {
		return err
	}
	var chosen []*path
	needed := make(map[string]bool)
	for _, p := range append(own, b.startPeers()...) {
		if b.wants(p.name) {
			chosen = append(chosen, p)
			needed[p.beside] = true
		}
	}
	for _, p := range b.ceilings() {
		if needed[p.name] || needed[p.along] || b.wants(p.name) {
			b.paths = append(b.paths, p)
		}
	}
	b.paths = append(b.paths, chosen...)
	return nil
}

// warmUp takes every path once and waits until the server has nothing left to do: new passwords
// are hashed after their answer.
func (b *bench) warmUp() error {
	for _, p := range b.paths {
		if p.missing != "" || p.longest > 0 {
			continue
		}
		conns := hotAccounts
		if p.most > 0 {
			conns = p.most
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

// cell is a place in the table.
type cell struct {
	mode  string // closed, pipelined or open
	conns int
}

// measureAll measures all paths cell by cell and round by round, so that a noisy moment of the
// machine falls on all of them.
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
				one, err := b.one(t, p, c)
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

// fits reports whether a path is measured in a cell.
func (p *path) fits(c cell) bool {
	switch {
	case p.missing != "", p.most > 0 && c.conns > p.most:
		return false
	case p.atOnce > 0:
		return c == cell{"closed", 1000}
	}
	return c.mode != "pipelined" || p.pipes
}

// one is one measurement.
func (b *bench) one(t *table, p *path, c cell) (sample, error) {
	length := b.length()
	if p.longest > 0 {
		length = min(length, p.longest)
	}
	if p.atOnce > 0 {
		c.conns = p.atOnce
	}
	switch c.mode {
	case "open":
		return openLoop(p, c.conns, openShare*t.of(p.name, cell{"closed", c.conns}).Rate, length)
	case "pipelined":
		return closedLoop(p, c.conns, pipeDepth, length)
	}
	return closedLoop(p, c.conns, 1, length)
}

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
	t.print()
	return t.write(s.jsonFile)
}
