package peers

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
	"postern/internal/auth"
	"postern/internal/manual"
	"postern/internal/roster"
)

// rosterEjabberdConfig takes the port of the HTTP API, and the permissions in the manual.
const rosterEjabberdConfig = `
hosts: [dom.example]
loglevel: warning
listen:
  - port: %d
    ip: "127.0.0.1"
    module: ejabberd_http
    request_handlers:
      /api: mod_http_api
%s
  console:
    from: [ejabberd_ctl]
    who: all
    what: "*"
  test:
    from: [mod_http_api]
    who: { ip: 127.0.0.1/8 }
    what: [get_vcard]
modules:
  mod_admin_extra: {}
  mod_roster: {}
  mod_shared_roster: {}
  mod_vcard: {}
`

// rosterEjabberd is a real ejabberd with shared rosters that postern maintains.
type rosterEjabberd struct {
	*ejabberd
	api string // URL
}

// startRosterEjabberd starts Debian's ejabberd with its HTTP API on loopback, and ends it with the
// test.
func startRosterEjabberd(t *testing.T, r harness.Release) *rosterEjabberd {
	t.Helper()
	port := harness.FreePort(t)
	e := &rosterEjabberd{startEjabberdNode(t, r, fmt.Sprintf(rosterEjabberdConfig, port, rosterPermissions(t))), fmt.Sprintf("http://127.0.0.1:%d/api", port)}
	harness.WaitFor(t, "ejabberd's API answers", func() bool {
		_, err := e.post("srg_get_members", map[string]string{"group": "none", "host": "dom.example"})
		return err == nil
	})
	return e
}

// rosterPermissions is what the manual says to write into ejabberd.yml.
func rosterPermissions(t *testing.T) string {
	t.Helper()
	page, err := manual.Find("rosters")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range page.Blocks {
		if b.Kind == manual.Code && b.Info == "yaml" {
			return strings.Join(b.Lines, "\n")
		}
	}
	t.Fatal("the manual has no permissions for ejabberd")
	return ""
}

func (e *rosterEjabberd) post(command string, args map[string]string) (string, error) {
	body, _ := json.Marshal(args)
	resp, err := http.Post(e.api+"/"+command, "application/json", strings.NewReader(string(body)))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: HTTP %d: %s", command, resp.StatusCode, text)
	}
	return string(text), err
}

// members is what srg_get_members gives, sorted.
func (e *rosterEjabberd) members(group string) (list []string) {
	e.t.Helper()
	text, err := e.post("srg_get_members", map[string]string{"group": group, "host": "dom.example"})
	if err != nil || json.Unmarshal([]byte(text), &list) != nil {
		e.t.Fatalf("members of %s: %q, %v", group, text, err)
	}
	slices.Sort(list)
	return list
}

func (e *rosterEjabberd) fullName(user string) string {
	text, err := e.post("get_vcard", map[string]string{"user": user, "host": "dom.example", "name": "FN"})
	if err != nil {
		e.t.Fatal(err)
	}
	var reply struct{ Content string }
	_ = json.Unmarshal([]byte(text), &reply)
	return reply.Content
}

// The real ejabberd by its HTTP API: a group of 500 is created, changed and emptied, by logins
// alone; then one is removed by hand.
func TestRealEjabberdRoster(t *testing.T) { ejabberdRoster(t, harness.Machine()) }

func ejabberdRoster(t *testing.T, r harness.Release) {
	e, c := startRosterEjabberd(t, r), harness.NewCloud(t)
	config := c.RosterConfig(t, `roster "ejabberd" {
    api          = "`+e.api+`"
    window       = "100ms"
    min_interval = "0s"
  }`)
	s := harness.Serve(t, "--config", config)
	becomes := func(what, group string, want []string) {
		t.Helper()
		begun := time.Now()
		s.Eventually(what, func() bool { return slices.Equal(e.members(group), want) })
		t.Logf("%s: %d members after %v", what, len(want), time.Since(begun).Round(time.Millisecond))
	}
	want := c.Team("Büro & Co", 0, 500)
	if plan := harness.OK(t, "", "roster", "plan", "user0@dom.example", "--config", config); strings.Count(plan, "srg_user_add") != 500 {
		t.Errorf("plan: %.300s", plan)
	}
	if n := len(e.members("Büro & Co")); n != 0 {
		t.Errorf("the plan made %d members", n)
	}
	s.LogIn(0, 1)
	becomes("created", "Büro & Co", want)
	if got := e.fullName("user499"); got != "Name of user499" {
		t.Errorf("full name %q", got)
	}
	want = c.Team("Büro & Co", 50, 550)
	for i := 100; i < 120; i++ {
		c.Mu.Lock()
		c.Names[fmt.Sprintf("user%d", i)] = fmt.Sprintf("Neuer Näme \"%d\" $(x)", i)
		c.Mu.Unlock()
	}
	s.LogIn(50, 51)
	becomes("changed", "Büro & Co", want)
	for i := 100; i < 120; i++ {
		if got := e.fullName(fmt.Sprintf("user%d", i)); got != fmt.Sprintf("Neuer Näme \"%d\" $(x)", i) {
			t.Errorf("user%d is named %q", i, got)
		}
	}
	s.LogIn(50, 70) // many at once, and nothing to do
	want = c.Team("Büro & Co", 50, 51)
	s.LogIn(50, 51)
	becomes("left by all but one", "Büro & Co", want)
	c.Team("Büro & Co", 0, 0)
	s.LogIn(50, 51)
	becomes("left by the last", "Büro & Co", nil)
	becomes("created by hand", "Other", func() []string { w := c.Team("Other", 0, 20); s.LogIn(0, 1); return w }())
	harness.OK(t, "", "roster", "forget-group", "Other@dom.example", "--config", config)
	becomes("removed by hand", "Other", nil)
}

// The same by ejabberdctl, with a group of 4, and the price of a command by either way.
func TestRealEjabberdctlRoster(t *testing.T) { ejabberdctlRoster(t, harness.Machine()) }

func ejabberdctlRoster(t *testing.T, r harness.Release) {
	e, c := startRosterEjabberd(t, r), harness.NewCloud(t)
	s := harness.ServeCommand(t, r.Command(harness.Binary, "serve", "--config", c.RosterConfig(t, `roster "ejabberd" {
    ejabberdctl  = "`+e.script+`"
    window       = "100ms"
    min_interval = "0s"
  }`)))
	want := c.Team("Team - \"$(x)\"", 0, 4)
	s.LogIn(0, 1)
	s.Eventually("created", func() bool { return slices.Equal(e.members("Team - \"$(x)\""), want) })
	want = c.Team("Team - \"$(x)\"", 0, 3)
	s.LogIn(0, 1)
	s.Eventually("changed", func() bool { return slices.Equal(e.members("Team - \"$(x)\""), want) })
	if got := e.fullName("user2"); got != "Name of user2" {
		t.Errorf("full name %q", got)
	}
	e.compare()
}

// ejabberd knows the command that ends a user's sessions, also of a user without any.
func TestRealEjabberdKick(t *testing.T) { harness.EachRelease(t, ejabberdKick) }

func ejabberdKick(t *testing.T, r harness.Release) {
	e := startRosterEjabberd(t, r)
	x := roster.NewEjabberdAPI(e.api, auth.Secret{}, harness.Timeout)
	defer x.Close()
	if _, err := x.Do(context.Background(), roster.Step{Command: roster.Kick, User: "joe", Host: "dom.example"}); err != nil {
		t.Error(err)
	}
}

// compare measures both executors with the same command. The CPU of the server counts too.
func (e *rosterEjabberd) compare() {
	step := roster.Step{Command: roster.UserAdd, User: "user0", Host: "dom.example", Group: "Price", Home: "dom.example"}
	price := func(x roster.Executor, n int) (wall, cpu time.Duration) {
		defer x.Close()
		run := func(n int) {
			for range n {
				if _, err := x.Do(context.Background(), step); err != nil {
					e.t.Fatal(err)
				}
			}
		}
		run(1)
		begun, used := time.Now(), e.cpu()
		run(n)
		return time.Since(begun) / time.Duration(n), (e.cpu() - used) / time.Duration(n)
	}
	wallCtl, cpuCtl := price(roster.NewEjabberdctl(e.script, harness.Timeout), 4)
	wallAPI, cpuAPI := price(roster.NewEjabberdAPI(e.api, auth.Secret{}, harness.Timeout), 1000)
	wall, cpu := float64(wallCtl)/float64(wallAPI), float64(cpuCtl)/float64(cpuAPI)
	e.t.Logf("one command: ejabberdctl %v, CPU %v; HTTP API %v, CPU %v; the API is %.0f times faster and takes %.0f times less CPU",
		wallCtl, cpuCtl, wallAPI, cpuAPI, wall, cpu)
	if wall < 50 || cpu < 50 {
		e.t.Errorf("the HTTP API is only %.0f times faster, with %.0f times less CPU", wall, cpu)
	}
}

// cpu is the processor time of the test, of the programs that it has run, and of the server.
func (e *rosterEjabberd) cpu() (sum time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			e.t.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	stat := harness.ReadText(fmt.Sprintf("/proc/%d/stat", e.pid))
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	for _, field := range fields[11:13] { // utime and stime, in hundredths of a second
		ticks, err := strconv.Atoi(field)
		if err != nil {
			e.t.Fatal(err)
		}
		sum += time.Duration(ticks) * 10 * time.Millisecond
	}
	return sum
}
