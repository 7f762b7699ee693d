package chaos

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"path"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"postern/cmd/e2e/harness"
)

// groupsAPI is a mod_http_api that keeps its groups even if its callers are killed.
type groupsAPI struct {
	*harness.WebApp
	mu     sync.Mutex
	groups map[string]map[string]bool
}

func newGroupsAPI(t *testing.T) *groupsAPI {
	t.Helper()
	e := &groupsAPI{groups: map[string]map[string]bool{}}
	e.WebApp = harness.NewWebApp(t, e.answer)
	return e
}

func (e *groupsAPI) answer(w http.ResponseWriter, r *http.Request) {
	var args struct{ User, Host, Group string }
	_ = json.NewDecoder(r.Body).Decode(&args)
	e.mu.Lock()
	defer e.mu.Unlock()
	group := e.groups[args.Group]
	if group == nil {
		group = map[string]bool{}
		e.groups[args.Group] = group
	}
	switch path.Base(r.URL.Path) {
	case "srg_user_add":
		group[args.User+"@"+args.Host] = true
	case "srg_user_del":
		delete(group, args.User+"@"+args.Host)
	case "srg_get_members":
		_ = json.NewEncoder(w).Encode(append([]string{}, slices.Sorted(maps.Keys(group))...))
		return
	}
	_, _ = io.WriteString(w, "0")
}

// members lists the members of all groups that are not empty.
func (e *groupsAPI) members() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(e.groups)) {
		if members := e.groups[name]; len(members) > 0 {
			fmt.Fprintln(&b, name, slices.Sorted(maps.Keys(members)))
		}
	}
	return b.String()
}

// rosterUsers is how many users move between the groups.
const rosterUsers = 6

// moveUsers changes a group of the cloud, and logs all users in. A group's end is noticed only by
// the logins of its last known members: two stay.
func moveUsers(c *harness.Cloud, d *chaosDaemon, random *rand.Rand) error {
	c.Team(fmt.Sprint("Team ", random.IntN(4)), random.IntN(rosterUsers/2), rosterUsers/2+2+random.IntN(rosterUsers/2-1))
	return converse(d, func(conn io.ReadWriter) error {
		for i := range rosterUsers {
			if _, err := askExtauth(conn, fmt.Sprintf("auth:user%d:dom.example:secret", i)); err != nil {
				return err
			}
		}
		return nil
	})
}

// recordsConfig has a registry, and a domain with shared rosters.
func recordsConfig(t *testing.T, c *harness.Cloud, e *groupsAPI) string {
	return harness.ConfigFile(t, t.TempDir(), fmt.Sprintf(`
listen "ejabberd" {
  address  = "127.0.0.1:0"
  deadline = %q
  changes  = true
}
backend "users" "local" { bcrypt_cost = 4 }
backend "jsxc" "cloud" {
  url    = %q
  secret = "test"
}
domain "still.example" { backends = [backend.users.local] }
domain "dom.example" {
  backends = [backend.jsxc.cloud]
  cache { bcrypt_cost = 4 }
  roster "ejabberd" {
    api          = %q
    window       = "10ms"
    min_interval = "0s"
  }
}
limit { enabled = false }
`, chaosDeadline, c.URL, e.URL+"/api")+harness.RegistryOnly)
}

// The daemon is killed while domains are registered and removed, and shared rosters change, again
// and again; now and then a command is killed too, with the daemon or while it uses the store
// itself. Afterwards a domain is registered and served if its registration succeeded, and neither
// if its removal did. What was known of rosters still is, and in the end the XMPP server has the
// right members in every group.
func TestChaosKillRecords(t *testing.T) {
	t.Parallel()
	seed := chaosSeed(t)
	c, e := harness.NewCloud(t), newGroupsAPI(t)
	d := &chaosDaemon{t: t, config: recordsConfig(t, c, e)}
	harness.OK(t, joePassword+"\n", "user", "add", "joe@still.example", "--config", d.config)
	for _, domain := range []string{"keep.example", "gone.example"} {
		harness.OK(t, "", "domain", "add", domain, "--backend", "users", "--auth-domain", "still.example", "--config", d.config)
	}
	d.start()
	harness.OK(t, "", "domain", "remove", "gone.example", "--config", d.config)
	admins := []*domainAdmin{newDomainAdmin(t, d.config, 0, seed), newDomainAdmin(t, d.config, 1, seed)}
	acked := func() (n int64) {
		for _, k := range admins {
			n += k.acked.Load()
		}
		return n
	}
	var answered, moved atomic.Int64
	kills, random := 0, rand.New(rand.NewPCG(seed, 99))
	for kills < chaosTimes(t, 5, 100) && !t.Failed() {
		var over atomic.Bool
		var wg sync.WaitGroup
		for _, k := range admins {
			wg.Go(func() { k.work(&over) })
		}
		wg.Go(func() { voice(t, d, &over, &answered) })
		wg.Go(func() {
			for !over.Load() {
				if moveUsers(c, d, random) == nil {
					moved.Add(1)
				}
			}
		})
		more := func(what string, count func() int64, n int64) {
			n += count()
			harness.WaitFor(t, what, func() bool { return count() >= n || t.Failed() })
		}
		for i := range 4 {
			more("acknowledged commands", acked, 2)
			more("rosters that change", moved.Load, 2)
			d.killed()
			if i%2 == 1 {
				more("a command without a daemon", acked, 1)
			}
			d.start()
		}
		over.Store(true)
		wg.Wait()
		s := d.now.Load()
		registered := map[string]string{}
		for _, l := range harness.Decode[[]harness.DomainShown](t, harness.OK(t, "", "domain", "list", "--json", "--source", "registry", "--config", d.config)) {
			registered[l.Domain] = l.Contact
		}
		for _, k := range admins {
			k.check(registered, s.Address("ejabberd"))
		}
		reached(t, d, c, e)
		rosterSurvives(t, d, c)
		c.Team(fmt.Sprint("Team ", random.IntN(4)), 0, 0) // its end is noticed by its members' logins
		reached(t, d, c, e)
		kills += 5
	}
	var failed int64
	for _, k := range admins {
		failed += k.failed.Load()
	}
	t.Logf("%d kills; %d commands were acknowledged, %d failed; %d questions were answered, rosters moved %d times",
		kills, acked(), failed, answered.Load(), moved.Load())
}

// reached waits until the XMPP server has the cloud's groups, when all users have logged in.
func reached(t *testing.T, d *chaosDaemon, c *harness.Cloud, e *groupsAPI) {
	t.Helper()
	s := d.now.Load()
	s.LogIn(0, rosterUsers)
	harness.WaitFor(t, "the right members", func() bool { return e.members() == c.Members() })
}

// rosterSurvives kills the daemon when every user's roster is known to be carried out: it still is.
func rosterSurvives(t *testing.T, d *chaosDaemon, c *harness.Cloud) {
	t.Helper()
	known := func() (list []harness.RosterShown) {
		for i := range rosterUsers {
			list = append(list, harness.ShownRoster(t, d.config, fmt.Sprintf("user%d@dom.example", i)))
		}
		return list
	}
	var before []harness.RosterShown
	harness.WaitFor(t, "what is known of every roster", func() bool {
		before = known()
		open := slices.ContainsFunc(before, func(u harness.RosterShown) bool {
			return !u.Complete || len(u.Doubtful) > 0 || !slices.Equal(u.Own, c.GroupsOf(u.User))
		})
		if open { // a run for later logins has changed groups of earlier ones, which are asked about at their next login
			d.now.Load().LogIn(0, rosterUsers)
		}
		return !open
	})
	d.killed()
	d.start()
	if after := known(); !reflect.DeepEqual(before, after) {
		t.Errorf("LOST: known of rosters was %+v, after a kill %+v", before, after)
	}
}
