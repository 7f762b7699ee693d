package chaos

import (
	"slices"
	"strings"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// chaosServer starts a daemon with all fronts, and clients on them and on two pipes.
func chaosServer(t *testing.T, app *chaosApp, text string) (*chaos, *harness.Server) {
	t.Helper()
	config := harness.ConfigFile(t, t.TempDir(), text)
	harness.OK(t, chaosPassword("joe@still.example", 0)+"\n", "user", "add", "joe@still.example", "--config", config)
	s := serveChaos(t, config)
	fronts := chaosFronts(s.Address)
	for _, f := range []*chaosFront{ejabberdFront(), genericFront()} {
		fronts = append(fronts, f.over(harness.Start(t, "pipe", "--protocol", f.name, "--config", config)))
	}
	return newChaos(t, app.credentials, chaosVerify, fronts), s
}

// A backend goes through every kind of fault, repeatedly: no answer is wrong, every question is
// answered in time, users of another backend are not affected, and everything works again
// afterwards.
func TestChaosBackend(t *testing.T) {
	t.Parallel()
	app := newChaosApp(t, newCredentials(), "127.0.0.77", nil)
	c, s := chaosServer(t, app, chaosConfig("http://"+app.address, "", chaosQuery.String(), chaosVerify.String()))
	before := usageOf(t, s.Cmd.Process.Pid)
	right := httpReply(200)
	modes := app.modes()
	names := []string{"refused", "flapping", "slowing"}
	for name := range modes {
		names = append(names, name)
	}
	slices.Sort(names)
	for end := time.Now().Add(chaosLong(t)); ; {
		for _, name := range names {
			hold := func() { c.answered(12) }
			switch name {
			case "refused":
				c.fault(name, app.down, hold, app.up)
			case "flapping":
				c.fault(name, func() {}, func() {
					for i := range 10 {
						app.becomes([]appMode{modes["reset"], right}[i%2])
						time.Sleep(200 * time.Millisecond) // the fault itself, not a wait for something
					}
				}, func() {})
			case "slowing": // until it has one slot, and nothing is in time, and back
				c.fault(name, func() {}, func() {
					for i, d := range []time.Duration{20, 100, 500, 2000, 500, 100, 20} {
						app.becomes(app.delayed(d * time.Millisecond))
						c.answered(4)
						if i == 2 {
							s.Eventually("slots at the floor", func() bool { return s.Metrics().Value(`backend_slots_limit{backend="json.app"}`) == "1" })
						}
					}
				}, func() { app.becomes(right) })
			default:
				c.fault(name, func() { app.becomes(modes[name]) }, hold, func() { app.becomes(right); app.hangUp() })
			}
			if t.Failed() {
				return
			}
		}
		if time.Now().After(end) {
			break
		}
	}
	c.stop()
	harness.WaitFor(t, "nothing to be left behind", func() bool { return usageOf(t, s.Cmd.Process.Pid).near(before) })
	for _, text := range []string{"backend cannot answer", "breaker changed"} {
		s.Eventually("the log says "+text, func() bool { return strings.Contains(s.Log.String(), text) })
	}
	if strings.Contains(s.Log.String(), "pw-") || strings.Contains(s.Log.String(), "wrong-") {
		t.Error("a password is in the log")
	}
}

// A backend with TLS and a certificate that expires.
func TestChaosCertificate(t *testing.T) {
	t.Parallel()
	ca := newChaosCA(t)
	good, expired := ca.issue(t, "127.0.0.78", time.Hour), ca.issue(t, "127.0.0.78", -time.Hour)
	app := newChaosApp(t, newCredentials(), "127.0.0.78", good)
	c, s := chaosServer(t, app, withLongDeadlines(chaosConfig("https://"+app.address, "ca_file = \""+ca.file+"\"", chaosQuery.String(), chaosVerify.String())))
	for range chaosTimes(t, 1, 10) {
		c.fault("an expired certificate", func() { app.certs.Store(expired); app.becomes(lastReply) },
			func() { c.answered(20) }, func() { app.certs.Store(good); app.becomes(httpReply(200)) })
	}
	c.stop()
	s.Eventually("the log says that the certificate has expired", func() bool {
		return strings.Contains(s.Log.String(), "certificate is not trusted") && strings.Contains(s.Log.String(), "expired")
	})
}
