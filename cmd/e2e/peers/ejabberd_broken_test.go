package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// brokenHosts takes the commands of five programs, in turn: a sound one, one without a sound
// configuration, one with a misspelt flag, one with a misspelt protocol, and one without its
// daemon.
const brokenHosts = `
hosts: [dom.example, broken.example, flag.example, protocol.example, absent.example]
extauth_pool_size: 2
auth_use_cache: false
host_config:
  dom.example:
    extauth_program: "%s"
  broken.example:
    extauth_program: "%s"
  flag.example:
    extauth_program: "%s"
  protocol.example:
    extauth_program: "%s"
  absent.example:
    extauth_program: "%s"
`

// A program that ends at once, on one host, takes external authentication down on all hosts until
// ejabberd is restarted. Ours stays, whatever is wrong, and works as soon as that is corrected.
func TestRealEjabberdBroken(t *testing.T) { harness.EachRelease(t, ejabberdBroken) }

func ejabberdBroken(t *testing.T, r harness.Release) {
	users := func(domain string) (config, sound string) {
		config = harness.ConfigFile(t, t.TempDir(), strings.ReplaceAll(harness.PipeConfig, "dom.example", domain))
		harness.OK(t, "secret\n", "user", "add", "joe@"+domain, "--config", config)
		return config, harness.ReadText(config)
	}
	write := func(config, text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sound, soundText := users("dom.example")
	broken, brokenText := users("broken.example")
	flag, _ := users("flag.example")
	protocol, _ := users("protocol.example")
	absent, _ := users("absent.example")
	write(broken, brokenText+"domain {\n")
	pipe := harness.Binary + " pipe --protocol ejabberd "
	e := startEjabberd(t, r, fmt.Sprintf(brokenHosts, pipe+"--config "+sound, pipe+"--config "+broken, pipe+"--confik "+flag,
		strings.Replace(pipe, "ejabberd", "ejaberd", 1)+"--config "+protocol, pipe+"--socket "+filepath.Join(harness.DataDirOf(absent), harness.RelaySocket)))
	harness.WaitFor(t, "two copies for each of five hosts", func() bool { return len(e.copies("pipe")) == 10 })
	before := e.copies("pipe")
	recovers := func(domain string) {
		t.Helper()
		harness.WaitFor(t, "a login on "+domain, func() bool {
			got, err := xmppLogin(e.port, "joe", domain, "secret")
			return err == nil && got == "success"
		})
		e.want(t, "joe", domain, "wrong", "not-authorized")
	}
	recovers("dom.example")
	absentAnswer := make(chan string)
	go func() {
		got, err := xmppLogin(e.port, "joe", "absent.example", "secret")
		absentAnswer <- fmt.Sprint(got, err)
	}()
	for range 5 { // more than the restarts that ejabberd allows
		for _, domain := range []string{"broken.example", "flag.example", "protocol.example"} {
			e.want(t, "joe", domain, "secret", "not-authorized")
		}
		e.want(t, "joe", "dom.example", "secret", "success")
	}
	harness.WaitFor(t, "ejabberd was told 15 times that we cannot tell", func() bool { _, n := e.complaints(); return n >= 15 })

	write(broken, brokenText)
	recovers("broken.example")

	// What breaks while it runs: the next broker does not start, until the configuration is corrected.
	write(sound, soundText+"domain {\n")
	harness.Kill(t, harness.OwnerOf(t, harness.DataDirOf(sound)))
	e.want(t, "joe", "dom.example", "secret", "not-authorized")
	e.want(t, "joe", "broken.example", "secret", "success")
	write(sound, soundText)
	recovers("dom.example")

	if got := <-absentAnswer; got != "not-authorized<nil>" {
		t.Errorf("without a daemon: %s", got)
	}
	harness.Serve(t, "--config", absent)
	recovers("absent.example")

	if after := e.copies("pipe"); !slices.Equal(after, before) {
		t.Errorf("the copies were %v and are %v", before, after)
	}
	if lost, _ := e.complaints(); lost > 0 {
		t.Errorf("ejabberd lost %d programs", lost)
	}

	// A command line is corrected where it stands, and ejabberd reloads it.
	write(e.config, strings.NewReplacer("--confik", "--config", "ejaberd ", "ejabberd ").Replace(harness.ReadText(e.config)))
	e.ctl(t, 0, "reload_config")
	recovers("flag.example")
	recovers("protocol.example")
	for _, domain := range []string{"dom.example", "broken.example", "absent.example"} {
		e.want(t, "joe", domain, "secret", "success")
	}
}
