package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"postern/cmd/internal/pipe/relay"
	"postern/wire"
)

// files are standard streams for what runs in this process.
func files(t *testing.T) stdio {
	t.Helper()
	var list [3]*os.File
	for i := range list {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		list[i] = f
	}
	return stdio{list[0], list[1], list[2]}
}

// The data directory is read-only for the daemon alone, by its unit's sandbox. Commands and pipes
// of root, who can write there, find the daemon all the same.
func TestServiceOnReadOnlyDirectory(t *testing.T) {
	dir, service := smallDisk(t, 24), t.TempDir()
	remount := func(flags uintptr) {
		t.Helper()
		if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	web := newWebApp(t, always(http.StatusOK, jsonYes))
	config := configFile(t, dir, "backend \"json\" \"app\" { url = \""+web.URL+"\" }\n"+
		"domain \"dom.example\" {\n  backends = [backend.json.app]\n  cache { storage = \"memory\" }\n}\n")
	remount(syscall.MS_RDONLY)
	cmd := exec.Command(binary, "serve", "--config", config)
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+service+":/run/other", "INVOCATION_ID=0123456789abcdef")
	s := serveCommand(t, cmd)
	remount(0)
	if log := s.log.String(); !strings.Contains(log, "check the disk") || !strings.Contains(log, "ReadWritePaths="+dir) {
		t.Errorf("the log does not say what to do:\n%s", log)
	}
	found, err := os.ReadDir(service)
	if err != nil || len(found) != 1 || !regexp.MustCompile("^data-[0-9a-f]{1,16}$").MatchString(found[0].Name()) {
		t.Fatalf("%v, %v", found, err)
	}
	if info, err := found[0].Info(); err != nil || info.Mode() != os.ModeDir|0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	before := runtimeDir
	runtimeDir = service
	t.Cleanup(func() { runtimeDir = before })
	streams := files(t)
	if code := run([]string{"reload", "--config", config}, streams); code != 0 {
		t.Errorf("reload: exit status %d\n%s", code, readText(streams.err.Name()))
	}
	pipes, err := (&app{stdio: files(t), configFile: config}).pipeSettings("generic", "")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = relay.Run(context.Background(), strings.NewReader("auth:joe:dom.example:secret\n"), &out, relay.Options{
		Protocol: wire.Generic, Deadline: patience, Pipeline: 1, Socket: pipes.Socket, Elsewhere: pipes.Elsewhere,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil || out.String() != "1\n" {
		t.Errorf("a pipe is answered %q, %v", out.String(), err)
	}
	s.stop(syscall.SIGTERM)
	if code := run([]string{"reload", "--config", config}, streams); code == 0 || !strings.Contains(readText(streams.err.Name()), "no daemon is running") {
		t.Errorf("without a daemon: exit status %d\n%s", code, readText(streams.err.Name()))
	}
}
