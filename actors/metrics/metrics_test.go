package metrics

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/internal/auth"
)

// registryOf is a registry with nothing else in it.
func registryOf(d *Decisions) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(d)
	return registry
}

// TestHistogram: a duration counts in the bucket of the least bound that it does not exceed, and in
// all above; one beyond all bounds only in the whole.
func TestHistogram(t *testing.T) {
	d := NewDecisions()
	f := d.Front("generic")
	for _, took := range []time.Duration{0, time.Millisecond, time.Millisecond + 1, 30 * time.Second, time.Hour} {
		f.Note(auth.OpAuth, auth.Allow, auth.SourceHot, took)
	}
	families, err := registryOf(d).Gather()
	if err != nil || families[0].GetName() != "postern_decision_seconds" {
		t.Fatal(families, err)
	}
	h := families[0].GetMetric()[0].GetHistogram()
	if sum := h.GetSampleSum(); h.GetSampleCount() != 5 || sum < 3630.002 || sum > 3630.0021 {
		t.Errorf("%d in %v s", h.GetSampleCount(), sum)
	}
	upTo := make(map[float64]uint64)
	for _, b := range h.GetBucket() {
		upTo[b.GetUpperBound()] = b.GetCumulativeCount()
	}
	for bound, want := range map[float64]uint64{.0001: 1, .001: 2, .005: 3, 10: 3, 30: 4} {
		if upTo[bound] != want {
			t.Errorf("%d took up to %v s, want %d", upTo[bound], bound, want)
		}
	}
}

// TestFrontIsCountedOn: a listener that comes back under its name goes on with its counts, and
// another one has its own.
func TestFrontIsCountedOn(t *testing.T) {
	d := NewDecisions()
	d.Front("a").Note(auth.OpAuth, auth.Allow, auth.SourceHot, 0)
	d.Front("a").Note(auth.OpAuth, auth.Allow, auth.SourceHot, 0)
	d.Front("a").Note(auth.OpIsUser, auth.Deny, auth.SourceBackend, 0)
	d.Front("b").Note(auth.OpAuth, auth.Allow, auth.SourceHot, 0)
	families, err := registryOf(d).Gather()
	if err != nil || families[1].GetName() != "postern_decisions_total" {
		t.Fatal(families, err)
	}
	got := make(map[string]float64)
	for _, m := range families[1].GetMetric() {
		key := ""
		for _, l := range m.GetLabel() {
			key += l.GetValue() + " "
		}
		got[key] = m.GetCounter().GetValue()
	}
	want := map[string]float64{"a auth hot allow ": 2, "a isuser backend deny ": 1, "b auth hot allow ": 1}
	for key, n := range want {
		if got[key] != n {
			t.Errorf("%q: %v, want %v", key, got[key], n)
		}
	}
	if len(got) != len(want) {
		t.Errorf("counted: %v", got)
	}
}
