package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"postern/internal/config"
)

// TestOrdinaryMachine: without a store block nothing of the driver for shared stores runs.
func TestOrdinaryMachine(t *testing.T) {
	running := func(block string) bool {
		t.Helper()
		dir := t.TempDir()
		file := filepath.Join(dir, "config.hcl")
		text := fmt.Sprintf("data_dir = %q\n%s\nbackend \"users\" \"local\" {}\ndomain \"dom.example\" { backends = [backend.users.local] }\n", filepath.Join(dir, "data"), block)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, problems := config.Load(file)
		if cfg == nil {
			t.Fatal(problems)
		}
		d, err := Start(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Stop(context.Background())
		stacks := make([]byte, 1<<20)
		return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "valkey")
	}
	if running("") {
		t.Error("a goroutine of the driver runs without a store block")
	}
	if !running("store \"valkey\" { addresses = \"127.0.0.1:1\" }") {
		t.Error("none runs with a store block: the test shows nothing")
	}
}
