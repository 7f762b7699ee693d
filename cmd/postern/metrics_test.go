package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

const metricsBlock = `metrics { address = "127.0.0.1:0" }` + "\n"

// metricsAddress is where the daemon said last that it serves metrics.
func (s *server) metricsAddress() string {
	s.t.Helper()
	address := ""
	for line := range strings.Lines(s.log.String()) {
		if _, at, found := strings.Cut(strings.TrimSpace(line), `msg="serving metrics" address=`); found {
			address = at
		}
	}
	if address == "" {
		s.t.Fatal("no metrics are served")
	}
	return address
}

// metrics reads the metrics of a daemon.
func (s *server) metrics() exposed {
	s.t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + s.metricsAddress() + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("HTTP %d, %v: %s", resp.StatusCode, err, text)
	}
	return exposed{s.t, string(text)}
}

// exposed is a text of metrics.
type exposed struct {
	t    *testing.T
	text string
}

// value is that of a series, "" if there is none. Labels stand in the order of their names.
func (e exposed) value(series string) string {
	for line := range strings.Lines(e.text) {
		if value, found := strings.CutPrefix(line, "postern_"+series+" "); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// want checks some series: each is a name and a value.
func (e exposed) want(series ...string) {
	e.t.Helper()
	for i := 0; i < len(series); i += 2 {
		if got := e.value(series[i]); got != series[i+1] {
			e.t.Errorf("postern_%s is %q, want %q", series[i], got, series[i+1])
		}
	}
}

// TestMetrics: what a daemon decided stands in its metrics, in the form that Prometheus wants.
func TestMetrics(t *testing.T) {
	t.Parallel()
	config := configFile(t, t.TempDir(), metricsBlock+usersConfig)
	ok(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	s := serve(t, "--config", config)
	exchange(t, s.address("generic"), joeLine)
	for range 3 {
		exchange(t, s.address("generic"), joeLine)
	}
	exchange(t, s.address("ejabberd"), frame("auth:joe:dom.example:wrong"))
	exchange(t, s.address("saslauthd"), fields("joe", "secret", "imap", ""))
	exchange(t, s.address("tcp_table"), "get joe@dom.example\n")
	m := s.metrics()
	m.want(
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
		if !strings.Contains(m.text, "\n"+name) {
			t.Errorf("no %s", name)
		}
	}
	for _, word := range []string{"joe", "secret", "127.0.0.1"} {
		if strings.Contains(m.text, word) {
			t.Errorf("%q stands in the metrics", word)
		}
	}
	problems, err := promlint.New(strings.NewReader(m.text)).Lint()
	if err != nil {
		t.Error(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "postern_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// TestMetricsReload: metrics move, come and go with a reload, and tell of one that was refused.
func TestMetricsReload(t *testing.T) {
	t.Parallel()
	s := reloadServer(t, metricsBlock+oneList+usersBase)
	first := s.metricsAddress()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s.write(`metrics { address = "` + taken.Addr().String() + `" }` + "\n" + oneList + usersBase)
	if r := command(t, "", "reload", "--config", s.file); r.code == 0 || !strings.Contains(r.err, "address already in use") {
		t.Errorf("exit status %d: %s", r.code, r.err)
	}
	s.metrics().want("config_reload_failed", "1")
	s.write(strings.Replace(metricsBlock, "127.0.0.1", "localhost", 1) + oneList + usersBase)
	if out := ok(t, "", "reload", "--config", s.file); !strings.Contains(out, "metrics changed") {
		t.Errorf("told: %s", out)
	}
	if now := s.metricsAddress(); now == first {
		t.Errorf("metrics are still served at %s", now)
	}
	s.metrics().want("config_reload_failed", "0")
	s.write(oneList + usersBase)
	ok(t, "", "reload", "--config", s.file)
	for _, address := range []string{first, s.metricsAddress()} {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			t.Errorf("somebody still listens at %s", address)
		}
	}
	say(t, connect(t, s.address("generic")), joeLine, "1\n")
}

// TestMetricsOfAnOutage: an alert can be made of a backend that is down and a cache that serves
// in its place.
func TestMetricsOfAnOutage(t *testing.T) {
	t.Parallel()
	app := newWebApp(t, always(http.StatusOK, jsonYes))
	s := serve(t, "--config", configFile(t, t.TempDir(), metricsBlock+oneList+`
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
	c := connect(t, s.address("generic"))
	say(t, c, joeLine, "1\n")
	app.becomes(always(http.StatusServiceUnavailable, ""))
	for range 3 {
		say(t, c, joeLine, "1\n")
	}
	s.metrics().want(
		`decisions_total{front="generic",op="auth",source="grace",verdict="allow"}`, "3",
		`backend_answers_total{backend="json.app",class="accepted"}`, "1",
		`backend_answers_total{backend="json.app",class="outage"}`, "2",
		`backend_seconds_count{backend="json.app"}`, "3",
		`backend_breaker_open{backend="json.app"}`, "1",
	)
}
