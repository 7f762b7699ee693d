package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// domainAdmin registers, changes and removes domains of its own by commands, one after the other, and
// knows what may be registered: what the last command that succeeded has left, and what those
// since have tried.
type domainAdmin struct {
	t      *testing.T
	config string
	number int
	random *rand.Rand
	turn   int
	may    map[string][]string // contacts that a domain, or a list of some, may have; notThere

	acked, failed atomic.Int64
}

// notThere is the contact of a domain that is not registered.
const notThere = "-"

// listRows is how many domains stand in the list that an administrator imports.
const listRows = 5

func newDomainAdmin(t *testing.T, config string, number int, seed uint64) *domainAdmin {
	k := &domainAdmin{t: t, config: config, number: number, random: rand.New(rand.NewPCG(seed, uint64(number))), may: map[string][]string{}}
	for i := range 4 {
		k.may[fmt.Sprintf("d%d-%d.example", number, i)] = []string{notThere}
	}
	k.may[k.list()] = []string{notThere}
	return k
}

// list stands for all domains of the administrator's list, which are imported together or not at all.
func (k *domainAdmin) list() string { return fmt.Sprintf("l%d.example", k.number) }

// rows are the domains that a name stands for.
func (k *domainAdmin) rows(name string) (domains []string) {
	if name != k.list() {
		return []string{name}
	}
	for i := range listRows {
		domains = append(domains, fmt.Sprintf("row%d.%s", i, name))
	}
	return domains
}

// work gives one command after the other.
func (k *domainAdmin) work(over *atomic.Bool) {
	for !over.Load() && !k.t.Failed() {
		k.command()
	}
}

// command gives a random command. One that fails may have done its work, or not.
func (k *domainAdmin) command() {
	k.turn++
	contact := fmt.Sprint(k.turn)
	name := k.list()
	if k.random.IntN(4) > 0 {
		name = fmt.Sprintf("d%d-%d.example", k.number, k.random.IntN(4))
	}
	may := k.may[name]
	var r harness.Result
	switch {
	case name == k.list():
		var list strings.Builder
		list.WriteString("domain\tbackend\tauth_domain\tcontact\n")
		for _, domain := range k.rows(name) {
			fmt.Fprintf(&list, "%s\tusers\tstill.example\t%s\n", domain, contact)
		}
		r = k.attempt(list.String(), "import", "-")
	case slices.Contains(may, notThere):
		r = k.attempt("", "add", name, "--backend", "users", "--auth-domain", "still.example", "--contact", contact)
	case k.random.IntN(2) == 0:
		contact = notThere
		r = k.attempt("", "remove", name)
	default:
		r = k.attempt("", "set", name, "--contact", contact)
	}
	there := slices.DeleteFunc(slices.Clone(may), func(m string) bool { return m == notThere })
	switch {
	case r.Code == 0:
		k.may[name] = []string{contact}
		k.acked.Add(1)
	case strings.Contains(r.Err, "not registered"):
		if k.may[name] = []string{notThere}; !slices.Contains(may, notThere) {
			k.t.Errorf("LOST: %s, which was registered with contact %v: %s", name, may, r.Err)
		}
	case strings.Contains(r.Err, "registered already"):
		if k.may[name] = there; len(there) == 0 {
			k.t.Errorf("CAME BACK: %s, which was removed: %s", name, r.Err)
		}
	default:
		k.may[name] = append(may, contact)
		k.failed.Add(1)
	}
}

// attempt runs a command, which now and then is killed like the daemon.
func (k *domainAdmin) attempt(stdin string, args ...string) harness.Result {
	cmd := exec.Command(harness.Binary, append(append([]string{"domain"}, args...), "--config", k.config)...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if err := cmd.Start(); err != nil {
		k.t.Error(err)
		return harness.Result{Code: -1}
	}
	after, killed := harness.Timeout, k.random.IntN(8) == 0
	if killed {
		after = time.Duration(k.random.IntN(200)) * time.Millisecond
	}
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	if !timer.Stop() && !killed {
		k.t.Errorf("domain %v did not end", args)
	}
	return harness.Result{Code: cmd.ProcessState.ExitCode(), Out: out.String(), Err: errs.String()}
}

// check compares what is registered with what may be, and has joe log in at each domain: he may
// where it is registered, and nowhere else.
func (k *domainAdmin) check(registered map[string]string, address string) {
	k.t.Helper()
	c := harness.Connect(k.t, address)
	for name, may := range k.may {
		now := make(map[string]bool)
		for _, domain := range k.rows(name) {
			contact, there := registered[domain]
			answer := "\x00\x02\x00\x01"
			if !there {
				contact, answer = notThere, "\x00\x02\x00\x00"
			}
			now[contact] = true
			if !slices.Contains(may, contact) {
				k.t.Errorf("WRONG: %s has contact %s, may have %v (%s: not registered)", domain, contact, may, notThere)
			}
			k.may[name] = []string{contact}
			_ = c.SetDeadline(time.Now().Add(harness.Timeout))
			insist(k.t, c, "auth:joe:"+domain+":"+joePassword, answer)
		}
		if len(now) > 1 {
			k.t.Errorf("WRONG: the list %s was imported in part: contacts %v", name, now)
		}
	}
}

// joePassword is joe's at still.example.
var joePassword = chaosPassword("joe@still.example", 0)

// insist asks until there is an answer, which must be right: on a busy machine there may be no
// time for a hash.
func insist(t *testing.T, c io.ReadWriter, question, want string) {
	t.Helper()
	for end := time.Now().Add(harness.Timeout); ; {
		got, err := askExtauth(c, question)
		if err != nil {
			t.Fatalf("%q: %v", question, err)
		}
		if got == want {
			return
		}
		if got != "\x00\x02\x00\x02" || time.Now().After(end) {
			t.Fatalf("WRONG: %q was answered %q, want %q", question, got, want)
		}
	}
}

// askExtauth asks a question in ejabberd's protocol.
func askExtauth(c io.ReadWriter, question string) (string, error) {
	if _, err := io.WriteString(c, harness.Frame(question)); err != nil {
		return "", err
	}
	reply := make([]byte, 4)
	_, err := io.ReadFull(c, reply)
	return string(reply), err
}

// voice asks about two domains while everything else happens: one that was registered before the
// first fault, and one that was removed then.
func voice(t *testing.T, d *chaosDaemon, over *atomic.Bool, answered *atomic.Int64) {
	for n := 0; !over.Load() && !t.Failed(); n++ {
		err := converse(d, func(c io.ReadWriter) error {
			for question, wrong := range map[string]string{
				"auth:joe:keep.example:" + joePassword:  "\x00\x02\x00\x00",
				"isuser:joe:keep.example":               "\x00\x02\x00\x00",
				fmt.Sprint("auth:joe:keep.example:", n): "\x00\x02\x00\x01",
				"auth:joe:gone.example:" + joePassword:  "\x00\x02\x00\x01",
			} {
				got, err := askExtauth(c, question)
				if err != nil {
					return err
				}
				if answered.Add(1); got == wrong {
					t.Errorf("WRONG: %q was answered %q", question, got)
				}
			}
			return nil
		})
		if err != nil {
			time.Sleep(chaosPace) // no daemon is there
		}
	}
}

// converse runs do on a connection to the daemon that runs now.
func converse(d *chaosDaemon, do func(c io.ReadWriter) error) error {
	c, err := ejabberdFront().at(func() string { return d.address("ejabberd") }).connect()
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(chaosLate))
	return errors.Join(do(c))
}
