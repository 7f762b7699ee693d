package network

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"postern/cmd/e2e/harness"
)

// bridgeIP is the address of the test program, which has the backend.
const bridgeIP = "10.77.0.1"

// host is a machine: a network namespace with one interface.
type host struct {
	t      *testing.T
	ip     string
	holder *exec.Cmd // a process that keeps the namespace
}

// newBridge starts the network.
func newBridge(t *testing.T) {
	t.Helper()
	do(t, "ip", "link", "add", "br0", "type", "bridge")
	do(t, "ip", "address", "add", bridgeIP+"/24", "dev", "br0")
	do(t, "ip", "link", "set", "br0", "up")
	t.Cleanup(func() { _ = exec.Command("ip", "link", "delete", "br0").Run() })
}

// newHost connects a machine, which has the number n.
func newHost(t *testing.T, n int) *host {
	t.Helper()
	h := &host{t: t, ip: fmt.Sprintf("10.77.0.%d", n), holder: exec.Command("unshare", "--net", "sleep", "infinity")}
	if err := h.holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.holder.Process.Kill(); _ = h.holder.Wait() })
	pid := strconv.Itoa(h.holder.Process.Pid)
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	harness.WaitFor(t, "the namespace is there", func() bool {
		its, err := os.Readlink("/proc/" + pid + "/ns/net")
		return err == nil && its != own
	})
	cable := "cable" + strconv.Itoa(n)
	do(t, "ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", pid)
	do(t, "ip", "link", "set", cable, "master", "br0", "up")
	h.do("ip", "link", "set", "lo", "up")
	h.do("ip", "address", "add", h.ip+"/24", "dev", "eth0")
	h.do("ip", "link", "set", "eth0", "up")
	return h
}

// enter is the command that runs another one on the machine.
func (h *host) enter() []string {
	return []string{"nsenter", "--net=/proc/" + strconv.Itoa(h.holder.Process.Pid) + "/ns/net", "--"}
}

func (h *host) do(command ...string) {
	h.t.Helper()
	do(h.t, append(h.enter(), command...)...)
}

// cut loses what the machine sends to another one, and heal ends that.
func (h *host) cut(to *host) {
	h.do("ip", "neighbour", "replace", to.ip, "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "permanent")
}

func (h *host) heal(to *host) { h.do("ip", "neighbour", "delete", to.ip, "dev", "eth0") }

// bad has what the machine sends get lost or late, and reports whether this kernel can do that.
func (h *host) bad(how ...string) bool {
	return exec.Command(h.enter()[0], append(h.enter()[1:], append([]string{"tc", "qdisc", "replace", "dev", "eth0", "root", "netem"}, how...)...)...).Run() == nil
}

func (h *host) good() { h.do("tc", "qdisc", "delete", "dev", "eth0", "root") }

// do runs a command to its end.
func do(t *testing.T, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Errorf("%q: %v: %s", command, err, out)
	}
}
