package nextcloudtest

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// status asks for an account's own data and returns the status of the answer.
func status(t *testing.T, s *Server, name, password string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/ocs/v2.php/cloud/user?format=json", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(name, password)
	req.Header.Set("OCS-APIRequest", "true")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func start(t *testing.T) *Server {
	t.Helper()
	s, stop := Start(&User{ID: "joe", Password: "right"})
	t.Cleanup(stop)
	return s
}

// TestThrottle holds the server against the figures of FIELD 3.3.
func TestThrottle(t *testing.T) {
	s := start(t)
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	// The first failure waits for its own sake, each later login for the failures before it.
	for i, want := range []time.Duration{ms(200), ms(200), ms(400), ms(800), ms(1600), ms(3200), ms(6400), ms(12800), maxDelay, maxDelay, maxDelay} {
		before := s.Slept()
		if got := status(t, s, "joe", "wrong"); got != http.StatusUnauthorized || s.Slept()-before != want {
			t.Errorf("failure %d: HTTP %d after %v, want 401 after %v", i+1, got, s.Slept()-before, want)
		}
	}
	if got := status(t, s, "joe", "right"); got != http.StatusTooManyRequests || s.Attempts("127.0.0.1") != 11 {
		t.Errorf("after 11 failures: HTTP %d", got)
	}
	s.Advance(blocked)
	before := s.Slept()
	if got := status(t, s, "joe", "right"); got != http.StatusOK || s.Slept()-before != maxDelay {
		t.Errorf("half an hour later: HTTP %d after %v", got, s.Slept()-before)
	}
	if s.Attempts("127.0.0.1") != 11 {
		t.Error("a good login clears the failures")
	}
	s.Advance(remembered)
	before = s.Slept()
	if got := status(t, s, "joe", "right"); got != http.StatusOK || s.Slept() != before || s.Attempts("127.0.0.1") != 0 {
		t.Errorf("half a day later: HTTP %d after %v", got, s.Slept()-before)
	}
}

func TestExempt(t *testing.T) {
	s := start(t)
	s.Change(func(state *State) { state.AllowListed = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	for range 30 {
		status(t, s, "joe", "wrong")
	}
	if s.Slept() != 0 || s.Attempts("127.0.0.1") != 0 {
		t.Errorf("%d failures, %v", s.Attempts("127.0.0.1"), s.Slept())
	}
}

func TestSubnets(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.2", false}, {"::ffff:192.0.2.1", "192.0.2.1", true},
		{"2001:db8:0:100::1", "2001:db8:0:1ff::2", true}, {"2001:db8:0:100::1", "2001:db8:0:200::1", false},
	} {
		if got := subnet(c.a) == subnet(c.b); got != c.same {
			t.Errorf("%s and %s are counted together: %t", c.a, c.b, got)
		}
	}
}

func TestPHPArrays(t *testing.T) {
	for want, entries := range map[string]object{
		`[]`: {}, `["a","b"]`: {"1": "b", "0": "a"}, `{"1":"a"}`: {"1": "a"}, `{"joe":1}`: {"joe": 1}, `{"0":1,"x":2}`: {"0": 1, "x": 2},
	} {
		if got, err := json.Marshal(php(entries)); err != nil || string(got) != want {
			t.Errorf("%v: %s, %v; want %s", entries, got, err, want)
		}
	}
}
