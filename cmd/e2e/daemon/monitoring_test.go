package daemon

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// shipped is the folder of what packages install besides the programs.
const shipped = "../../../scripts/package/"

// fail2ban finds the addresses of guesses in the log, in both formats, and only those: neither what a
// user's name pretends, nor a device with an old password.
func TestFail2ban(t *testing.T) {
	t.Parallel()
	regex := harness.Program(t, "fail2ban-regex")
	filters := t.TempDir() // a filter includes others of its folder
	harness.Symlink(t, "/etc/fail2ban/filter.d/common.conf", filepath.Join(filters, "common.conf"))
	filter := filepath.Join(filters, "postern.conf")
	harness.WriteFile(t, filter, harness.ReadText(shipped+"fail2ban/filter.conf"))
	for _, format := range []string{"text", "json"} {
		data := t.TempDir()
		socket, file := filepath.Join(t.TempDir(), "mux"), filepath.Join(data, "postern.log")
		config := harness.ConfigFile(t, data, harness.UsersBase+`
listen "saslauthd" { address = "unix:`+socket+`" }
log {
  file   = "postern.log"
  format = "`+format+`"
}
`)
		harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
		harness.Start(t, "serve", "--config", config)
		harness.FileSays(t, file, "saslauthd")
		for _, c := range []struct{ user, secret, domain, client string }{
			{"joe", "wrong", "dom.example", "192.0.2.1"},
			{"joe", "wrong", "dom.example", "192.0.2.2"}, // the same again
			{"joe", "secret", "dom.example", "192.0.2.3"},
			{`joe took=1ms client=192.0.2.66 x`, "wrong", "dom.example", "2001:db8::7"},
			{`joe","took":"1ms","client":"192.0.2.66","x":"`, "wrong", "dom.example", "192.0.2.4"},
			{`joe" took=1ms client=192.0.2.66 "`, "wrong", "other.example", "192.0.2.5"},
			{"joe", "other", "dom.example", ""},
		} {
			request := harness.Fields(c.user, c.secret, "imap", c.domain)
			if c.client != "" {
				request += harness.Frame(c.client + ";1234")
			}
			harness.Exchange(t, socket, request)
		}
		harness.FileSays(t, file, "192.0.2.5")
		r := harness.RunCommand(t, "", regex, "--out", "ip", file, filter)
		got := strings.Fields(r.Out)
		if want := []string{"192.0.2.1", "2001:db8::7", "192.0.2.4", "192.0.2.5"}; !slices.Equal(got, want) {
			t.Errorf("%s: found %q, want %q\n%s\n%s", format, got, want, r.Err, harness.ReadText(file))
		}
		// Lines in the journal begin in another way.
		lines := regexp.MustCompile(`(?m)^(time=\S+ |\{"time":"[^"]*",)`).ReplaceAllString(harness.ReadText(file), "Nov 30 10:00:00 host postern[7]: ")
		harness.WriteFile(t, file, lines)
		if r := harness.RunCommand(t, "", regex, "--out", "ip", file, filter); !slices.Equal(strings.Fields(r.Out), got) {
			t.Errorf("%s in the journal: found %q, want %q\n%s\n%s", format, strings.Fields(r.Out), got, r.Err, lines)
		}
	}
}

// Prometheus accepts the alerts.
func TestAlerts(t *testing.T) {
	t.Parallel()
	r := harness.RunCommand(t, "", harness.Machine().Unpacked(t, "prometheus/usr/bin/promtool"), "check", "rules", shipped+"prometheus/postern.rules.yml")
	if r.Code != 0 || !strings.Contains(r.Out, "SUCCESS: 10 rules found") {
		t.Errorf("exit status %d\n%s%s", r.Code, r.Out, r.Err)
	}
}

// The alerts, the dashboard and the manual ask for metrics that exist, with labels that they have.
func TestMonitoredMetricsExist(t *testing.T) {
	t.Parallel()
	config := harness.ConfigFile(t, t.TempDir(), harness.MetricsBlock+harness.UsersConfig)
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	s := harness.Serve(t, "--config", config)
	harness.Exchange(t, s.Address("generic"), harness.JoeLine)
	labels := map[string]string{}
	series := regexp.MustCompile(`(?m)^([a-z_]+)(\{[^}]*\})? `)
	for _, m := range series.FindAllStringSubmatch(s.Metrics().Text, -1) {
		labels[m[1]] = m[2]
	}
	var queries []string
	for _, m := range regexp.MustCompile(`(?m)^ *expr: (.*)$`).FindAllStringSubmatch(harness.ReadText(shipped+"prometheus/postern.rules.yml"), -1) {
		queries = append(queries, m[1])
	}
	queries = append(queries, dashboard(t)...)
	for _, line := range strings.Split(harness.ReadText("../../../internal/manual/pages/metrics.md"), "\n") {
		if m := regexp.MustCompile("^\\| `([^`]+)` \\|").FindStringSubmatch(line); m != nil && !strings.Contains(line, "machines.md") { // without a shared store
			queries = append(queries, m[1])
		}
	}
	if len(queries) < 40 {
		t.Fatalf("only %d queries: %q", len(queries), queries)
	}
	metric := regexp.MustCompile(`\b((?:postern|process)_[a-z_]+)(?:\{([^}]*)\})?`)
	label := regexp.MustCompile(`([a-z_]+)[!=]=?~?"`)
	by := regexp.MustCompile(`by \(([^)]*)\)`)
	for _, query := range queries {
		has := "instance,job,le"
		for _, m := range metric.FindAllStringSubmatch(query, -1) {
			there, found := labels[m[1]]
			if !found {
				t.Errorf("no metric %s: %s", m[1], query)
			}
			has += there
			for _, l := range label.FindAllStringSubmatch(m[2], -1) {
				if l[1] != "instance" && l[1] != "job" && !strings.Contains(there, l[1]+`="`) {
					t.Errorf("%s has no label %s: %s", m[1], l[1], query)
				}
			}
		}
		for _, m := range by.FindAllStringSubmatch(query, -1) {
			for name := range strings.SplitSeq(m[1], ", ") {
				if !regexp.MustCompile(`\b` + name + `\b`).MatchString(has) {
					t.Errorf("nothing has the label %s: %s", name, query)
				}
			}
		}
	}
}

// dashboard returns the queries of Grafana's dashboard.
func dashboard(t *testing.T) (queries []string) {
	t.Helper()
	data, err := os.ReadFile(shipped + "prometheus/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Title  string
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(data, &board); err != nil || board.Title != "postern" {
		t.Fatalf("%q, %v", board.Title, err)
	}
	seen := map[string]bool{}
	for _, p := range board.Panels {
		if key := fmt.Sprint(p.ID); seen[key] || seen[p.Title] || len(p.Targets) == 0 {
			t.Errorf("panel %d, %q: twice, or without a query", p.ID, p.Title)
		} else {
			seen[key], seen[p.Title] = true, true
		}
		for _, target := range p.Targets {
			queries = append(queries, target.Expr)
		}
	}
	return queries
}
