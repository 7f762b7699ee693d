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

// Sizes of a soak run.
const (
	soakConns   = 16          // connections of each path
	soakTOTP    = 1000.0      // single-use tokens per second; the server remembers each for 90 s
	soakSamples = 30          // at least
	soakPause   = time.Second // time for the server to notice closed connections
)

// gauge is a quantity that must not grow over the run by more than share*value + spare.
type gauge struct {
	name   string
	unit   float64 // that values are divided by for printing
	share  float64
	spare  float64
	read   func() (float64, error)
	values []float64
}

// grown returns the difference between the medians of the last and the second third, and whether
// it is too much. The first third is for warming up.
func (g *gauge) grown() (by float64, tooMuch bool) {
	third := len(g.values) / 3
	if third == 0 {
		return 0, false
	}
	before, after := median(g.values[third:2*third]), median(g.values[2*third:])
	return after - before, after-before > before*g.share+g.spare
}

// soak drives a mixed load at half of what the server can serve and fails if a gauge grows.
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
	rates, err := together(paths, func(_ int, p *path) (sample, error) { return closedLoop(p, soakConns, 1, 5*time.Second) })
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
	for begun, n := time.Now(), 0; n < 2 || time.Since(begun) < length; n++ { // one sample shows no growth
		_, err := together(paths, func(i int, p *path) (sample, error) { return openLoop(p, soakConns, rates[i], step) })
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

// verdict returns an error that lists the gauges that have grown.
func verdict(gauges []*gauge) error {
	var errs []error
	for _, g := range gauges {
		if by, tooMuch := g.grown(); tooMuch {
			errs = append(errs, fmt.Errorf("%s grew by %.1f from the second third to the last", g.name, by/g.unit))
		}
	}
	return errors.Join(errs...)
}

// soakPaths returns the paths of the mixed load: all but the slow ones.
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

// together calls run for all paths at once, each with its index, and returns the rates.
func together(paths []*path, run func(i int, p *path) (sample, error)) ([]float64, error) {
	rates, errs := make([]float64, len(paths)), make([]error, len(paths))
	var wg sync.WaitGroup
	for i, p := range paths {
		wg.Go(func() {
			s, err := run(i, p)
			if err != nil {
				errs[i] = fmt.Errorf("%s: %w", p.name, err)
			}
			rates[i] = s.Rate
		})
	}
	wg.Wait()
	return rates, errors.Join(errs...)
}

// gauges returns the gauges of the server. They are read between two loads.
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

// goroutines returns the number of goroutines in the server, from the report that it logs on
// SIGUSR1.
func (b *bench) goroutines() (float64, error) {
	b.postern.truncate()
	if err := syscall.Kill(b.postern.pid, syscall.SIGUSR1); err != nil {
		return 0, err
	}
	var number string
	if !waitUntil(func() (found bool) {
		log, _ := os.ReadFile(b.postern.log)
		_, rest, _ := strings.Cut(string(log), "goroutines=")
		number, _, found = strings.Cut(rest, " ")
		return found
	}) {
		return 0, errors.New("no report in the log after SIGUSR1; it needs -log info")
	}
	return strconv.ParseFloat(number, 64)
}

// diskSpace returns the total size of the files below a directory, in bytes.
func diskSpace(dir string) (sum float64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) { // a compaction has removed it
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
