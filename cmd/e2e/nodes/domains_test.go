package nodes

import (
	"net/http"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
	"postern/internal/store/valkeystore/valkeytest"
)

// askIn logs joe in at a node, in a domain.
func (s *site) askIn(n int, domain string) int {
	s.t.Helper()
	r, err := http.NewRequest(http.MethodGet, "http://node/basic/"+domain, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.SetBasicAuth("joe", "secret")
	reply, err := s.nodes[n].http.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = reply.Body.Close()
	return reply.StatusCode
}

// A domain that one node registers, changes or removes is so at all, also if that was while another had no store.
func TestRegisteredDomains(t *testing.T) {
	t.Parallel()
	s := newSiteOf(t, valkeytest.Start(t, "--appendonly", "yes", "--appendfsync", "always"), func(config string) string {
		return config + "registry {\n  cache { bcrypt_cost = 4 }\n}\n"
	}, cheap, cheap)
	domain := func(n int, arguments ...string) {
		t.Helper()
		harness.OK(t, "", append(append([]string{"domain"}, arguments...), "--config", s.nodes[n].config)...)
	}
	becomes := func(n int, name string, want int) {
		t.Helper()
		begun := time.Now()
		harness.WaitFor(t, "the domain is as on the other node", func() bool { return s.askIn(n, name) == want })
		if took := time.Since(begun); took > spare*time.Second {
			t.Errorf("it took %v until node %d answers %d in %s", took, n, want, name)
		}
	}
	other := harness.NewWebApp(t, harness.Always(http.StatusOK, harness.JSONNo))
	if got := s.askIn(1, "new.example"); got == yes {
		t.Fatalf("%d before it is registered", got)
	}
	domain(0, "add", "new.example", "--backend", "json", "--url", s.app.URL)
	becomes(1, "new.example", yes)
	becomes(0, "new.example", yes)
	domain(1, "set", "new.example", "--url", other.URL)
	becomes(0, "new.example", no)
	domain(1, "set", "new.example", "--url", s.app.URL)
	becomes(0, "new.example", yes)
	domain(0, "remove", "new.example")
	harness.WaitFor(t, "it is gone on node 1", func() bool { return s.askIn(1, "new.example") != yes })

	s.nodes[1].Stop(syscall.SIGTERM)
	s.store.Kill()
	s.nodes[1].Server = harness.Serve(t, "--config", s.nodes[1].config) // without the store
	s.store.Start()
	harness.WaitFor(t, "node 0 has the store again", func() bool {
		return harness.Command(t, "", "domain", "add", "late.example", "--backend", "json", "--url", s.app.URL, "--config", s.nodes[0].config).Code == 0
	})
	becomes(1, "late.example", yes)
}
