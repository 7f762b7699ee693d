package packages

import (
	"debug/elf"
	"debug/macho"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// Each archive, unpacked in /, has programs for its system and their documentation; those for this one run.
func TestTarball(t *testing.T) {
	if !full() {
		t.Log("make package-test makes the archives, which compiles for four systems")
		return
	}
	for system, is := range map[string]func(program string) bool{
		"linux-amd64":   elfOf(elf.EM_X86_64, elf.ELFOSABI_NONE),
		"linux-arm64":   elfOf(elf.EM_AARCH64, elf.ELFOSABI_NONE),
		"freebsd-amd64": elfOf(elf.EM_X86_64, elf.ELFOSABI_FREEBSD),
		"darwin-arm64": func(program string) bool {
			f, err := macho.Open(program)
			if err == nil {
				defer f.Close()
			}
			return err == nil && f.Cpu == macho.CpuArm64
		},
	} {
		root := t.TempDir()
		if r := harness.RunCommand(t, "", "tar", "-xzf", made(t, "postern-*-"+system+".tar.gz"), "-C", root); r.Code != 0 {
			t.Fatalf("%s: %s", system, r.Err)
		}
		for _, file := range []string{"bin/postern", "lib/postern/postern-relay"} {
			program := filepath.Join(root, "usr/local", file)
			if !is(program) {
				t.Errorf("%s: %s is for another system", system, file)
			}
			if system != runtime.GOOS+"-"+runtime.GOARCH {
				continue
			}
			if r := harness.RunCommand(t, "", program, "--version"); r.Code != 0 {
				t.Errorf("%s --version: %+v", file, r)
			}
		}
		units := !harness.Missing(filepath.Join(root, "usr/local/lib/systemd/system/postern.service"))
		if units != strings.HasPrefix(system, "linux-") {
			t.Errorf("%s: units of systemd: %t", system, units)
		}
		for _, file := range []string{"share/man/man8/postern.8.gz", "share/doc/postern/config.hcl.example"} {
			if _, err := os.Stat(filepath.Join(root, "usr/local", file)); err != nil {
				t.Errorf("%s: %v", system, err)
			}
		}
	}
}

// elfOf reports whether a program is one for a processor and a system.
func elfOf(processor elf.Machine, system elf.OSABI) func(program string) bool {
	return func(program string) bool {
		f, err := elf.Open(program)
		if err == nil {
			defer f.Close()
		}
		return err == nil && f.Machine == processor && f.OSABI == system
	}
}
