package peers

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// ejabberdConfig takes the c2s port and what a test adds.
const ejabberdConfig = `
loglevel: warning
listen:
  - port: %d
    ip: "127.0.0.1"
    module: ejabberd_c2s
    starttls: false
    max_stanza_size: 65536
auth_method: [external]
modules:
  mod_admin_extra: {}
%s`

// ejabberd is a running ejabberd on loopback alone: a node that needs no epmd.
type ejabberd struct {
	harness.Release
	t      *testing.T
	port   int
	pid    int
	config string // its file
	log    string // its file
	script string // runs ejabberdctl for this node
	ended  func() // kills it
}

// startEjabberd starts a release's ejabberd with more lines of configuration, and ends it with the
// test.
func startEjabberd(t *testing.T, r harness.Release, more string) *ejabberd {
	t.Helper()
	port := harness.FreePort(t)
	e := startEjabberdNode(t, r, fmt.Sprintf(ejabberdConfig, port, more))
	e.port = port
	harness.WaitFor(t, "ejabberd accepts connections", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return e
}

// startEjabberdNode does the same with a whole configuration, and does not wait for it.
func startEjabberdNode(t *testing.T, r harness.Release, config string) *ejabberd {
	t.Helper()
	ctl, erl := r.Program(t, "ejabberdctl"), r.Program(t, "erl")
	dir, distribution := t.TempDir(), harness.FreePort(t)
	e := &ejabberd{Release: r, t: t, config: filepath.Join(dir, "ejabberd.yml"),
		log: filepath.Join(dir, "ejabberd.log"), script: filepath.Join(dir, "ctl")}
	node := fmt.Sprintf("postern%d@localhost", distribution)
	for name, text := range map[string]string{
		"ejabberd.yml": config, "inetrc": "",
		// Debian's script changes to the user ejabberd, which may not read the test's directory,
		// and which only root can become. The copy stays the user it is; all else is as it was.
		"ejabberdctl": strings.Replace(r.Text(ctl), "INSTALLUSER=ejabberd\n", "INSTALLUSER=\n", 1),
		"ctl": fmt.Sprintf("#!/bin/sh\nexport LC_ALL=C.UTF-8 HOME=%[1]s ERL_DIST_PORT=%[2]d ERL_OPTIONS='-setcookie test'\n"+
			"exec %[1]s/ejabberdctl --node %[3]s --config-dir %[1]s --logs %[1]s --spool %[1]s \"$@\"\n", dir, distribution, node),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := r.Command(erl, "-noinput", "-sname", node, "-setcookie", "test",
		"-erl_epmd_port", strconv.Itoa(distribution), "-start_epmd", "false", "-kernel", "inet_dist_use_interface", "{127,0,0,1}",
		"-mnesia", "dir", `"`+filepath.Join(dir, "spool")+`"`, "-s", "ejabberd")
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "HOME="+dir, "EJABBERD_CONFIG_PATH="+e.config, "EJABBERD_LOG_PATH="+e.log,
		"ERL_LIBS=/usr/lib/x86_64-linux-gnu:/usr/lib/aarch64-linux-gnu", "ERL_CRASH_DUMP=/dev/null")
	var out harness.OutBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	e.pid = cmd.Process.Pid
	e.ended = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(func() {
		e.ended()
		if t.Failed() {
			t.Logf("ejabberd:\n%s\n%s", out.String(), harness.ReadText(e.log))
		}
	})
	return e
}

// want logs a user in over XMPP.
func (e *ejabberd) want(t *testing.T, user, domain, password, condition string) {
	t.Helper()
	if got, err := xmppLogin(e.port, user, domain, password); err != nil || got != condition {
		t.Errorf("%s@%s with %.40q: %s, %v; want %s", user, domain, password, got, err, condition)
	}
}

// ctl runs ejabberdctl, which must end with that exit status.
func (e *ejabberd) ctl(t *testing.T, code int, args ...string) (output string) {
	t.Helper()
	r := e.Run(t, "", e.script, args...)
	if r.Code != code {
		t.Errorf("ejabberdctl %v: exit status %d, want %d\n%s%s", args, r.Code, code, r.Out, r.Err)
	}
	return r.Out + r.Err
}

// copies are the external programs that ejabberd runs for hosts with a text in the program's
// command line.
func (e *ejabberd) copies(text string) (pids []int) {
	for _, helper := range childrenOf(e.pid) {
		for _, pid := range childrenOf(helper) {
			if strings.Contains(strings.ReplaceAll(harness.ReadText(fmt.Sprintf("/proc/%d/cmdline", pid)), "\x00", " "), text) {
				pids = append(pids, pid)
			}
		}
	}
	slices.Sort(pids)
	return pids
}

// childrenOf lists the processes that a process has started and that run.
func childrenOf(parent int) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat := harness.ReadText(fmt.Sprintf("/proc/%d/stat", pid))
		fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
		if len(fields) > 1 && fields[0] != "Z" && fields[1] == strconv.Itoa(parent) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// complaints counts what ejabberd has logged, with a delay, against its external programs: that
// they ended, and that they cannot tell.
func (e *ejabberd) complaints() (lost, cannotTell int) {
	log := harness.ReadText(e.log)
	return strings.Count(log, "terminated unexpectedly") + strings.Count(log, "Failed to start external") + strings.Count(log, "reached_max_restart"),
		strings.Count(log, "unexpected response from external")
}
