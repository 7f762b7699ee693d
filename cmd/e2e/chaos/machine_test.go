package chaos

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// File descriptors run out. Open connections are still served, for which the backend's connections
// need descriptors as well; later ones are served when there are some again. The log mentions it
// without filling the disk.
func TestChaosDescriptors(t *testing.T) {
	t.Parallel()
	app := newChaosApp(t, newCredentials(), "127.0.0.82", nil)
	config := harness.ConfigFile(t, t.TempDir(), chaosConfig("http://"+app.address, "", "1h", "1h"))
	s := serveChaos(t, config, "sh", "-c", `ulimit -n 150; exec "$@"`, "sh")
	login := func(user string) string {
		return "auth:" + user + ":app.example:" + chaosPassword(user+"@app.example", 0) + "\n"
	}
	first := harness.Connect(t, s.Address("generic"))
	harness.Say(t, first, login("ann"), "1\n")
	// No listener has so many that it would end idle ones.
	var late []net.Conn
	for _, listener := range []string{"ejabberd", "tcp_table", "socketmap", "generic"} {
		for range 50 {
			late = append(late, harness.Connect(t, s.Address(listener)))
		}
	}
	const refused = "connection could not be accepted"
	s.Eventually("descriptors run out", func() bool { return strings.Contains(s.Log.String(), refused) })
	begun := time.Now()
	for i := range 200 {
		harness.Say(t, first, login("ann"), "1\n")
		harness.Say(t, first, login(fmt.Sprint("stranger", i)), "1\n") // the backend's connection is kept
	}
	harness.WaitFor(t, "a second of want", func() bool { return time.Since(begun) > time.Second })
	// Each of the four listeners logs while its pauses double from 5 ms to a second, then each second.
	n, took := strings.Count(s.Log.String(), refused), time.Since(begun)
	if n > 4*(10+int(took/time.Second)+1) {
		t.Errorf("%d lines in %v", n, took)
	}
	for _, c := range late[:150] {
		_ = c.Close()
	}
	for i, c := range late[150:] {
		_ = c.SetDeadline(time.Now().Add(harness.Timeout))
		harness.Say(t, c, login(fmt.Sprint("late", i)), "1\n")
	}
	harness.Say(t, first, login("bob"), "1\n")
}

// A great many invented users and domains, more than are remembered: memory stays where it was
// after the first of them.
func TestChaosStrangers(t *testing.T) {
	t.Parallel()
	app := newChaosApp(t, newCredentials(), "127.0.0.83", nil)
	text := chaosConfig("http://"+app.address, "", "1h", "1h")
	text = strings.Replace(text, "query_ttl   =", "hot_entries = 2000\n    query_ttl   =", 1)
	config := harness.ConfigFile(t, t.TempDir(), text+`
domain "*" {
  backends = [backend.users.local]
  cache {
    storage     = "memory"
    hot_entries = 2000
  }
}
`)
	s := serveChaos(t, config)
	many := chaosTimes(t, 50_000, 1_000_000)
	address := s.Address("ejabberd")
	invent(t, address, 0, many/5)
	early := usageOf(t, s.Cmd.Process.Pid)
	invent(t, address, many/5, many)
	late := usageOf(t, s.Cmd.Process.Pid)
	t.Logf("%d MiB after %d strangers, %d MiB after %d", early.resident>>10, many/5, late.resident>>10, many)
	if grown := late.resident - early.resident; grown > early.resident/3+16<<10 {
		t.Errorf("%d KiB more after %d strangers more; %d KiB before", grown, many*4/5, early.resident)
	}
	if late.files > early.files+4 {
		t.Errorf("%d descriptors, there were %d", late.files, early.files)
	}
}

// stranger is a question about an unknown user. Few are logins, since each of these costs a hash.
func stranger(i int) string {
	switch i % 128 {
	case 0:
		return fmt.Sprintf("auth:someone%d:still.example:wrong%d", i, i)
	case 64:
		return fmt.Sprintf("auth:someone%d:invented%d.example:wrong", i, i)
	case 2, 3, 4, 5, 6, 7, 8, 9, 66, 67, 68, 69, 70, 71, 72, 73:
		return fmt.Sprintf("isuser:someone%d:still.example", i)
	}
	return fmt.Sprintf("isuser:someone%d:invented%d.example", i, i)
}

// invent asks for strangers on a few connections, many at once; none must exist.
func invent(t *testing.T, address string, from, to int) {
	t.Helper()
	const conns, depth = 4, 64
	var wg sync.WaitGroup
	for n := range conns {
		wg.Go(func() {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			in, reply := bufio.NewReader(c), make([]byte, 4*depth)
			for i := from + n*depth; i < to; i += conns * depth {
				var b strings.Builder
				for j := range depth {
					b.WriteString(harness.Frame(stranger(i + j)))
				}
				_ = c.SetDeadline(time.Now().Add(harness.Timeout))
				_, err := io.WriteString(c, b.String())
				if err == nil {
					_, err = io.ReadFull(in, reply)
				}
				if err != nil {
					t.Error(err)
					return
				}
				for j := range depth {
					if answer := reply[4*j+3]; answer != 0 && answer != 2 {
						t.Errorf("stranger %d was answered %d", i+j, answer)
					}
				}
			}
		})
	}
	wg.Wait()
}
