package web

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// haproxyConf takes a port and the listener's address, for version 1, and another port and the server of the manual.
const haproxyConf = `
defaults
  mode tcp
  timeout connect 10s
  timeout client 60s
  timeout server 60s
listen one
  bind 127.0.0.1:%d
  server postern %s send-proxy
listen two
  bind 127.0.0.1:%d
  %s check check-send-proxy
`

// HAProxy passes connections on with where they came from, by both versions of its protocol: what a client guesses
// counts against its own address, and HAProxy's health checks, which send a header and nothing else, are no fault.
func TestWebHAProxy(t *testing.T) {
	t.Parallel()
	file := harness.ConfigFile(t, t.TempDir(), harness.UsersBase+`
listen "generic" {
  address         = "127.0.0.1:0"
  proxy_protocol  = true
  trusted_proxies = ["127.0.0.1"]
}
limit {
  address_refusals = 3
  exempt           = []
}
`)
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", file)
	s := harness.Serve(t, "--config", file)
	w := &site{Server: s, dir: t.TempDir()}
	ports := []int{harness.FreePort(t), harness.FreePort(t)}
	conf := w.write(t, "haproxy.cfg", fmt.Sprintf(haproxyConf, ports[0], s.Address("generic"), ports[1],
		strings.TrimSuffix(harness.PageBlocks(t, "limits", "TestWebHAProxy", "127.0.0.1:23663", s.Address("generic"))[0], "\n")))
	w.start(t, harness.Machine(), ports[1], "", "haproxy", "-db", "-f", conf)
	for i, port := range ports {
		attacker, neighbour := fmt.Sprintf("127.0.1.%d", i+1), fmt.Sprintf("127.0.2.%d", i+1)
		through := func(from, line string) string {
			c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				t.Fatal(err)
			}
			return harness.ExchangeOn(t, c, line)
		}
		if got := through(attacker, harness.JoeLine); got != "1\n" {
			t.Fatalf("port %d: a login is answered %q", port, got)
		}
		for n := range 4 {
			through(attacker, fmt.Sprintf("auth:nobody%d:dom.example:wrong%d-%d\n", n, i, n))
		}
		pauses := func(address string) int {
			return harness.Decode[struct{ Pauses int }](t, harness.OK(t, "", "limit", "show", address, "--config", file)).Pauses
		}
		if n := pauses(attacker); n != 1 {
			t.Errorf("port %d: the attacker has %d pauses", port, n)
		}
		if n := pauses(neighbour); n != 0 || through(neighbour, "auth:ann:dom.example:wrong\n") != "0\n" {
			t.Errorf("port %d: its neighbour has %d pauses", port, n)
		}
	}
	c := harness.Connect(t, s.Address("generic"))
	if _, err := c.Write([]byte(harness.JoeLine)); err != nil {
		t.Fatal(err)
	}
	harness.ClosedBy(t, c)
	s.Eventually("the line about it", func() bool { return strings.Contains(s.Log.String(), "without the header of the PROXY protocol") })
	s.Eventually("the client's address in the log", func() bool { return strings.Contains(s.Log.String(), "client=127.0.1.1") })
	if log := s.Log.String(); strings.Count(log, "without the header of the PROXY protocol") != 1 {
		t.Errorf("the log: %s", log)
	}
}
