package nodes

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
	"postern/internal/store/valkeystore/valkeytest"
)

// refusals is how many refusals of a user a node counts.
func (s *site) refusals(n int, user string) int {
	s.t.Helper()
	out := harness.OK(s.t, "", "limit", "show", user+"@dom.example", "--json", "--config", s.nodes[n].config)
	return harness.Decode[struct {
		Refusals int `json:"refusals"`
	}](s.t, out).Refusals
}

// counted waits until every node counts so many.
func (s *site) counted(user string, refusals int) {
	s.t.Helper()
	for n := range s.nodes {
		harness.WaitFor(s.t, fmt.Sprintf("node %d counts %d refusals of %s", n, refusals, user), func() bool { return s.refusals(n, user) == refusals })
	}
}

// Guesses one after another reach the backend as often as with one machine, wherever they come, and one machine lifts the
// limit of all. While the store is away each counts by itself; what it has counted the others hear then.
func TestLimits(t *testing.T) {
	t.Parallel()
	s := newSite(t, valkeytest.Start(t), cheap, cheap, cheap)
	s.backend(http.StatusOK, harness.JSONNo)
	for i := range 10 {
		s.want(i%3, "joe", fmt.Sprintf("guess %d", i), no)
		s.counted("joe", i+1)
	}
	s.want(1, "joe", "guess 0", later) // and so does one that was refused elsewhere
	for i := range 9 {
		s.want(i%3, "joe", fmt.Sprintf("another guess %d", i), later)
	}
	if n := s.app.Asked.Load(); n != 10 {
		t.Errorf("the backend was asked about %d guesses", n)
	}
	begun := time.Now()
	harness.OK(t, "", "limit", "forget", "joe@dom.example", "--config", s.nodes[1].config)
	s.counted("joe", 0)
	if took := time.Since(begun); took > spare*time.Second {
		t.Errorf("it took %v until all have forgotten", took)
	}
	for n := range s.nodes {
		s.want(n, "joe", "an old password", no) // is one refusal
	}
	s.counted("joe", 1)

	s.store.Kill()
	for i := range 6 {
		s.want(i%2, "jim", fmt.Sprintf("guess %d", i), no)
	}
	for n, want := range []int{3, 3, 0} {
		if got := s.refusals(n, "jim"); got != want {
			t.Errorf("node %d, without the store, counts %d refusals, want %d", n, got, want)
		}
	}
	s.store.Start() // empty: what was counted before is not forgotten
	s.counted("jim", 6)
	s.counted("joe", 1)
	s.store.Do("FLUSHALL")
	s.want(2, "jim", "guess 6", no)
	s.counted("jim", 7)
}

// A node that starts hears what the others have counted before, also if the node that saw it has ended.
func TestLimitsOfLateNode(t *testing.T) {
	t.Parallel()
	s := newSite(t, valkeytest.Start(t), cheap, cheap)
	s.backend(http.StatusOK, harness.JSONNo)
	for i := range 3 {
		s.want(0, "joe", fmt.Sprintf("guess %d", i), no)
	}
	s.counted("joe", 3)
	for _, n := range s.nodes {
		n.Stop(syscall.SIGKILL)
	}
	for _, n := range s.nodes {
		n.Server = harness.Serve(t, "--config", n.config)
	}
	s.counted("joe", 3)
	s.want(1, "joe", "guess 1", no)
	s.want(1, "joe", "guess 9", no)
	s.counted("joe", 4)
}
