package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func dials(context.Context, string, string) (net.Conn, error) {
	a, b := net.Pipe()
	_ = b.Close()
	return a, nil
}

func says(check string, o []Outcome) Step {
	return Step{Check: check, Run: func(context.Context) []Outcome { return o }}
}

// A chain ends at its first failure and reports the rest as skipped; other chains, and steps marked
// Alone, continue.
func TestChains(t *testing.T) {
	loner := says("d", fine("d"))
	loner.Alone = true
	got := Run(t.Context(), []Chain{
		{"one", []Step{says("a", warn("a", "mend a")), says("b", fail("b", "mend b")), says("c", fine("c")), loner}},
		{"none", []Step{says("a", nil)}},
		{"two", []Step{says("a", fine("a"))}},
	})
	var lines []string
	for _, f := range got {
		lines = append(lines, f.Hop+" "+f.Check+" "+string(f.Status)+" "+f.Text)
	}
	want := "one a warning a|one b failure b|one c skipped not checked, because b failed|one d ok d|two a ok a"
	if s := strings.Join(lines, "|"); s != want {
		t.Errorf("got %s\nwant %s", s, want)
	}
}

// A check that hangs is abandoned after its time, even if it ignores its context.
func TestHangingCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		begun := time.Now()
		got := Run(t.Context(), []Chain{
			{"one", []Step{{Check: "a", Run: func(context.Context) []Outcome { <-hang; return nil }}}},
			{"two", []Step{{Check: "a", Run: func(ctx context.Context) []Outcome { <-ctx.Done(); return fail("a", "mend") }}}},
		})
		if took := time.Since(begun); took != 6*time.Second {
			t.Errorf("took %v", took)
		}
		if len(got) != 2 || got[0].Status != Failure || !strings.Contains(got[0].Text, "no result within 5s") || got[1].Took != 5*time.Second {
			t.Errorf("%+v", got)
		}
		close(hang)
	})
}

func TestExit(t *testing.T) {
	for _, c := range []struct {
		of   []Status
		want int
	}{{nil, 0}, {[]Status{OK, Skipped}, 0}, {[]Status{OK, Warning}, 1}, {[]Status{Failure, Warning, OK}, 2}} {
		var findings []Finding
		for _, s := range c.of {
			findings = append(findings, Finding{Status: s})
		}
		if r := NewReport("", time.Time{}, findings); r.Exit != c.want {
			t.Errorf("%v: exit status %d, want %d", c.of, r.Exit, c.want)
		}
	}
}

// sample has a finding of each kind.
func sample() Report {
	return NewReport("1.2", time.Date(2030, 5, 17, 14, 0, 0, 0, time.FixedZone("", 7200)), []Finding{
		{"files", "data-dir", OK, "/var/lib/postern has mode 0711", "", 12345},
		{"backend.json.app", "dns", Warning, "slow\x1b[2J\nname server", "mend it", 0},
		{"backend.json.app", "tcp", Failure, "no server listens", "start the web server", 0},
		{"backend.json.app", "tls", Skipped, "not checked, because tcp failed", "", 0},
	})
}

// Other programs rely on the names of fields and the words for statuses.
func TestJSON(t *testing.T) {
	got, err := json.MarshalIndent(sample(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile(filepath.Join("testdata", "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(append(got, '\n'), golden) {
		t.Errorf("got\n%s\nwant\n%s", got, golden)
	}
	if empty, _ := json.Marshal(NewReport("", time.Time{}, Run(t.Context(), nil))); !bytes.Contains(empty, []byte(`"findings":[]`)) {
		t.Errorf("without findings: %s", empty)
	}
}

func TestText(t *testing.T) {
	r := sample()
	var b strings.Builder
	if err := r.Write(&b, false); err != nil {
		t.Fatal(err)
	}
	want := `files
  ok       data-dir      /var/lib/postern has mode 0711
backend.json.app
  WARNING  dns           slow [2J name server
                         -> mend it
  FAILURE  tcp           no server listens
                         -> start the web server
  -        tls           not checked, because tcp failed
1 failure, 1 warning
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	var coloured strings.Builder
	if err := r.Write(&coloured, true); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(coloured.String(), red+"FAILURE"+plain+"  tcp") || !strings.Contains(coloured.String(), green+"ok") {
		t.Errorf("without colours:\n%q", coloured.String())
	}
}
