package harness

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

const MetricsBlock = `metrics { address = "127.0.0.1:0" }` + "\n"

// MetricsAddress is where the daemon said last that it serves metrics.
func (s *Server) MetricsAddress() string {
	s.T.Helper()
	address := ""
	for line := range strings.Lines(s.Log.String()) {
		if _, at, found := strings.Cut(strings.TrimSpace(line), `msg="serving metrics" address=`); found {
			address = at
		}
	}
	if address == "" {
		s.T.Fatal("no metrics are served")
	}
	return address
}

// Metrics reads the metrics of a daemon.
func (s *Server) Metrics() exposed {
	s.T.Helper()
	client := http.Client{Timeout: Timeout, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + s.MetricsAddress() + "/metrics")
	if err != nil {
		s.T.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.T.Fatalf("HTTP %d, %v: %s", resp.StatusCode, err, text)
	}
	return exposed{s.T, string(text)}
}

// exposed is a text of metrics.
type exposed struct {
	t    *testing.T
	Text string
}

// Value is that of a series, "" if there is none. Labels stand in the order of their names.
func (e exposed) Value(series string) string {
	for line := range strings.Lines(e.Text) {
		if value, found := strings.CutPrefix(line, "postern_"+series+" "); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Want checks some series: each is a name and a value.
func (e exposed) Want(series ...string) {
	e.t.Helper()
	for i := 0; i < len(series); i += 2 {
		if got := e.Value(series[i]); got != series[i+1] {
			e.t.Errorf("postern_%s is %q, want %q", series[i], got, series[i+1])
		}
	}
}
