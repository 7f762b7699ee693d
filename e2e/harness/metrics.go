package harness

import (
	"strings"
	"testing"
)

// MetricsBlock has the daemon serve metrics.
const MetricsBlock = `metrics { address = "127.0.0.1:0" }` + "\n"

// Exposition is a text of metrics.
type Exposition struct {
	t    *testing.T
	Text string
}

// Value is that of a series, "" if there is none. Labels stand in the order of their names.
func (e Exposition) Value(series string) string {
	for line := range strings.Lines(e.Text) {
		if value, found := strings.CutPrefix(line, "postern_"+series+" "); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Want checks some series: each is a name and a value.
func (e Exposition) Want(series ...string) {
	e.t.Helper()
	for i := 0; i < len(series); i += 2 {
		if got := e.Value(series[i]); got != series[i+1] {
			e.t.Errorf("postern_%s is %q, want %q", series[i], got, series[i+1])
		}
	}
}
