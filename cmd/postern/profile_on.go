//go:build profile

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
)

// blockRate is the nanoseconds of waiting of which one event is sampled, on average.
const blockRate = 10000

// profile has the process write profiles of its processors' time, of contended locks, and of waiting to
// the directory that POSTERN_PROFILE names, when it ends. It is for scripts/bench, and in no package.
func profile() (stop func()) {
	dir := os.Getenv("POSTERN_PROFILE")
	if dir == "" {
		return func() {}
	}
	runtime.SetMutexProfileFraction(1)
	runtime.SetBlockProfileRate(blockRate)
	cpu, err := os.Create(filepath.Join(dir, "cpu"))
	if err == nil {
		err = pprof.StartCPUProfile(cpu)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "postern: profile:", err)
	}
	return func() {
		pprof.StopCPUProfile()
		for _, name := range []string{"mutex", "block"} {
			if err := write(filepath.Join(dir, name), name); err != nil {
				fmt.Fprintln(os.Stderr, "postern: profile:", err)
			}
		}
	}
}

func write(file, name string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup(name).WriteTo(f, 0), f.Close())
}
