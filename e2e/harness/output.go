package harness

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/doctor"
)

// Decode reads a command's JSON.
func Decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return v
}

// StatsShown is what the tests look at in the output of `cache stats`.
type StatsShown struct {
	Running bool `json:"daemon_running"`
	Memory  map[string]struct {
		BackendAsked uint64 `json:"backend_asked"`
	}
	Disk        map[string]int `json:"disk_users"`
	DiskBytes   uint64         `json:"disk_bytes"`
	StoreFailed string         `json:"store_failed"`
}

// CacheShown is what the tests look at in the output of `cache show`.
type CacheShown struct {
	User      string
	Exists    string
	Refused   int `json:"refused_passwords_remembered"`
	Verifiers []struct {
		First    time.Time `json:"first_verified"`
		Verified time.Time `json:"last_verified"`
		Used     time.Time `json:"last_used"`
		OnDisk   bool      `json:"on_disk"`
		Stale    bool
	}
}

// DomainShown is an entry of the output of `domain list --json`.
type DomainShown struct {
	Domain, Source, Backend, Contact string
	Shadowed                         bool
}

// RosterShown is the output of `roster show`.
type RosterShown struct {
	User     string         `json:"user"`
	FullName *string        `json:"full_name"`
	Groups   map[string]int `json:"groups"`
	Own      []string       `json:"groups_at_login"`
	Complete bool           `json:"last_answer_carried_out"`
	Doubtful []string       `json:"groups_being_changed"`
}

// ShownRoster is what `roster show` prints of a user.
func ShownRoster(t *testing.T, config, user string) (shown RosterShown) {
	t.Helper()
	if err := json.Unmarshal([]byte(OK(t, "", "roster", "show", user, "--config", config)), &shown); err != nil {
		t.Fatal(err)
	}
	return shown
}

// Diagnose runs `postern doctor --json`.
func Diagnose(t *testing.T, code int, args ...string) doctor.Report {
	t.Helper()
	r := Command(t, "", append([]string{"doctor", "--json", "--ejabberd", "../../LICENSE"}, args...)...)
	var report doctor.Report
	if err := json.Unmarshal([]byte(r.Out), &report); err != nil {
		t.Fatalf("%v in %q, %q", err, r.Out, r.Err)
	}
	if r.Code != code || report.Exit != code || r.Err != "" {
		t.Errorf("exit status %d, said to be %d, %q; want %d\n%s", r.Code, report.Exit, r.Err, code, r.Out)
	}
	return report
}

// WantFinding expects a finding; status, text and cure are joined, and parts of that are wanted.
func WantFinding(t *testing.T, r doctor.Report, hop, check string, status doctor.Status, parts ...string) {
	t.Helper()
	there := ""
	for _, f := range r.Findings {
		if f.Hop != hop || f.Check != check {
			continue
		}
		text := f.Text + " -> " + f.Cure
		if f.Status == status && !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(text, p) }) {
			return
		}
		there += "\n" + string(f.Status) + ": " + text
	}
	t.Errorf("no %s of %s %s with %q, but%s", status, hop, check, parts, there)
}
