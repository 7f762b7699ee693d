package daemon

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"postern/cmd/e2e/harness"
)

// TestMetrics: what a daemon decided stands in its metrics, in the form that Prometheus wants.
func TestMetrics(t *testing.T) {
	t.Parallel()
	config := harness.ConfigFile(t, t.TempDir(), harness.MetricsBlock+harness.UsersConfig)
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	s := harness.Serve(t, "--config", config)
	harness.Exchange(t, s.Address("generic"), harness.JoeLine)
	for range 3 {
		harness.Exchange(t, s.Address("generic"), harness.JoeLine)
	}
	harness.Exchange(t, s.Address("ejabberd"), harness.Frame("auth:joe:dom.example:wrong"))
	harness.Exchange(t, s.Address("saslauthd"), harness.Fields("joe", "secret", "imap", ""))
	harness.Exchange(t, s.Address("tcp_table"), "get joe@dom.example\n")
	m := s.Metrics()
	m.Want(
		`decisions_total{front="generic",op="auth",source="backend",verdict="allow"}`, "1",
		`decision_seconds_count{front="generic"}`, "4",
		`decision_seconds_bucket{front="generic",le="30"}`, "4",
		`decisions_total{front="ejabberd",op="auth",source="backend",verdict="deny"}`, "1",
		`decision_seconds_count{front="saslauthd"}`, "1",
		`decision_seconds_count{front="tcp_table"}`, "1",
		`backend_answers_total{backend="users.local",class="refused"}`, "1",
		`backend_answers_total{backend="users.local",class="outage"}`, "0",
		`backend_breaker_open{backend="users.local"}`, "0",
		`cache_users{domain="dom.example"}`, "1",
		"connections_total", "7", "store_up", "1", "config_reload_failed", "0", "actor_restarts_total", "0", "cache_stalled", "0",
	)
	for _, name := range []string{"postern_build_info{", "postern_store_bytes ", "process_resident_memory_bytes ", "go_goroutines "} {
		if !strings.Contains(m.Text, "\n"+name) {
			t.Errorf("no %s", name)
		}
	}
	for _, word := range []string{"joe", "secret", "127.0.0.1"} {
		if strings.Contains(m.Text, word) {
			t.Errorf("%q stands in the metrics", word)
		}
	}
	problems, err := promlint.New(strings.NewReader(m.Text)).Lint()
	if err != nil {
		t.Error(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "postern_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// TestMetricsReload: metrics move, come and go with a reload, and show one that was refused.
func TestMetricsReload(t *testing.T) {
	t.Parallel()
	s := reloadServer(t, harness.MetricsBlock+harness.OneList+harness.UsersBase)
	first := s.MetricsAddress()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s.write(`metrics { address = "` + taken.Addr().String() + `" }` + "\n" + harness.OneList + harness.UsersBase)
	if r := harness.Command(t, "", "reload", "--config", s.file); r.Code == 0 || !strings.Contains(r.Err, "address already in use") {
		t.Errorf("exit status %d: %s", r.Code, r.Err)
	}
	s.Metrics().Want("config_reload_failed", "1")
	s.write(strings.Replace(harness.MetricsBlock, "127.0.0.1", "localhost", 1) + harness.OneList + harness.UsersBase)
	if out := harness.OK(t, "", "reload", "--config", s.file); !strings.Contains(out, "metrics changed") {
		t.Errorf("the reload printed: %s", out)
	}
	if now := s.MetricsAddress(); now == first {
		t.Errorf("metrics are still served at %s", now)
	}
	s.Metrics().Want("config_reload_failed", "0")
	s.write(harness.OneList + harness.UsersBase)
	harness.OK(t, "", "reload", "--config", s.file)
	for _, address := range []string{first, s.MetricsAddress()} {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			t.Errorf("a server still listens at %s", address)
		}
	}
	harness.Say(t, harness.Connect(t, s.Address("generic")), harness.JoeLine, "1\n")
}

// TestMetricsOfAnOutage: an alert can be made of a backend that is down and a cache that serves
// in its place.
func TestMetricsOfAnOutage(t *testing.T) {
	t.Parallel()
	app := harness.NewWebApp(t, harness.Always(http.StatusOK, harness.JSONYes))
	s := harness.Serve(t, "--config", harness.ConfigFile(t, t.TempDir(), harness.MetricsBlock+harness.OneList+`
backend "json" "app" {
  url = "`+app.URL+`"
  breaker_failures = 2
}
domain "dom.example" {
  backends = [backend.json.app]
  cache {
    bcrypt_cost = 4
    query_ttl   = "0s"
  }
}
`))
	c := harness.Connect(t, s.Address("generic"))
	harness.Say(t, c, harness.JoeLine, "1\n")
	app.Becomes(harness.Always(http.StatusServiceUnavailable, ""))
	harness.Say(t, c, harness.JoeLine, "1\n")
	harness.Say(t, c, "auth:ann:dom.example:secret\n", "0\n") // failures of one account do not open the breaker
	for range 2 {
		harness.Say(t, c, harness.JoeLine, "1\n")
	}
	s.Metrics().Want(
		`decisions_total{front="generic",op="auth",source="grace",verdict="allow"}`, "3",
		`backend_answers_total{backend="json.app",class="accepted"}`, "1",
		`backend_answers_total{backend="json.app",class="outage"}`, "2",
		`backend_seconds_count{backend="json.app"}`, "3",
		`backend_breaker_open{backend="json.app"}`, "1",
	)
}
