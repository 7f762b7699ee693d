package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Sizes of a soak.
const (
	soakConns   = 16          // connections of each path
	soakTOTP    = 1000.0      // single-use tokens per second, which are all remembered for 90 s
	soakSamples = 30          // at least
	soakPause   = time.Second // after which a connection that was closed is gone
)

// gauge is something that must not grow: by more than a share of itself and a remainder that
// comes and goes.
type gauge struct {
	name   string
	unit   float64
	share  float64
	spare  float64
	read   func() (float64, error)
	values []float64
}

// grown reports how much the middle value of the last third is over that of the second; the
// first is for warming up.
func (g *gauge) grown() (by float64, tooMuch bool) {
	third := len(g.values) / 3
	if third == 0 {
		return 0, false
	}
	before := median(append([]float64(nil), g.values[third:2*third]...))
	after := median(append([]float64(nil), g.values[2*third:]...))
	return after - before, after-before > before*g.share+g.spare
}

// soak drives a mixed load at half of what the server can do, and fails if something grows.
func soak(s settings) error {
	b, err := newBench(s)
	if err != nil {
		return err
	}
	defer b.close()
	paths, err := b.soakPaths()
	if err != nil {
		return err
	}
	rates, err := together(paths, func(p *path) (sample, error) { return closedLoop(p, soakConns, 1, 5*time.Second) })
	if err != nil {
		return err
	}
	total := 0.0
	for i, p := range paths {
		if rates[i] *= openShare; p.name == "token totp" {
			rates[i] = min(rates[i], soakTOTP)
		}
		total += rates[i]
	}
	gauges := b.gauges()
	length := time.Duration(s.minutes * float64(time.Minute))
	step := min(max(length/soakSamples, soakPause), time.Minute)
	fmt.Printf("%s; %.0f requests per second for %v\n", machine(), total, length)
	for begun := time.Now(); time.Since(begun) < length; {
		_, err := together(paths, func(p *path) (sample, error) {
			return openLoop(p, soakConns, rates[indexOf(paths, p)], step)
		})
		if err != nil {
			return err
		}
		time.Sleep(soakPause)
		line := time.Since(begun).Round(time.Second).String()
		for _, g := range gauges {
			v, err := g.read()
			if err != nil {
				return fmt.Errorf("%s: %w", g.name, err)
			}
			g.values = append(g.values, v)
			line += fmt.Sprintf("  %s %.1f", g.name, v/g.unit)
		}
		fmt.Println(line)
		b.postern.truncate()
	}
	return verdict(gauges)
}

func verdict(gauges []*gauge) error {
	var errs []error
	for _, g := range gauges {
		if by, tooMuch := g.grown(); tooMuch {
			errs = append(errs, fmt.Errorf("%s grew by %.1f from the second third to the last", g.name, by/g.unit))
		}
	}
	return errors.Join(errs...)
}

// soakPaths are the paths of the mixed load: all that do not wait.
func (b *bench) soakPaths() ([]*path, error) {
	all, err := b.posternPaths()
	if err != nil {
		return nil, err
	}
	var mixed []*path
	for _, p := range all {
		if !strings.Contains(p.name, "20 ms") && !strings.Contains(p.name, "bcrypt 12") && b.wants(p.name) {
			mixed = append(mixed, p)
		}
	}
	return mixed, nil
}

func indexOf(paths []*path, p *path) int {
	for i := range paths {
		if paths[i] == p {
			return i
		}
	}
	return -1
}

// together runs a load on all paths at once and returns their rates.
func together(paths []*path, run func(*path) (sample, error)) ([]float64, error) {
	rates, errs := make([]float64, len(paths)), make([]error, len(paths))
	var wg sync.WaitGroup
	for i, p := range paths {
		wg.Go(func() {
			s, err := run(p)
			if err != nil {
				errs[i] = fmt.Errorf("%s: %w", p.name, err)
			}
			rates[i] = s.Rate
		})
	}
	wg.Wait()
	return rates, errors.Join(errs...)
}

// gauges are what is watched of the server, between two loads.
func (b *bench) gauges() []*gauge {
	return []*gauge{
		{name: "resident MiB", unit: 1 << 20, share: 0.1, spare: 4 << 20, read: func() (float64, error) { return float64(b.postern.resident()), nil }},
		{name: "goroutines", unit: 1, share: 0.05, spare: 16, read: b.goroutines},
		{name: "descriptors", unit: 1, share: 0, spare: 8, read: func() (float64, error) {
			open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.postern.pid))
			return float64(len(open)), err
		}},
		{name: "store MiB", unit: 1 << 20, share: 0.1, spare: 16 << 20, read: func() (float64, error) {
			return diskSpace(filepath.Join(b.ownFile("data"), "store"))
		}},
	}
}

// goroutines asks the server for its tree of actors, the first line of which tells their number.
func (b *bench) goroutines() (float64, error) {
	b.postern.truncate()
	if err := syscall.Kill(b.postern.pid, syscall.SIGUSR1); err != nil {
		return 0, err
	}
	for deadline := time.Now().Add(startPatience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		said, err := os.ReadFile(b.postern.log)
		if err != nil {
			return 0, err
		}
		if _, rest, ok := strings.Cut(string(said), "goroutines="); ok {
			number, _, whole := strings.Cut(rest, " ")
			if whole {
				return strconv.ParseFloat(number, 64)
			}
		}
	}
	return 0, errors.New("the tree of actors did not come; it needs -log info")
}

// diskSpace is the size of the files below a directory.
func diskSpace(dir string) (sum float64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) { // compacted away
				return nil
			}
			return err
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			sum += float64(info.Size())
		}
		return nil
	})
	return sum, err
}
