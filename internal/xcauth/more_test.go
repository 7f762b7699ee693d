package xcauth

import (
	"io/fs"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/config"
)

// TestAFlagMayHaveAComment: ConfigArgParse takes a comment after a flag for its value, and refuses
// the file.
func TestAFlagMayHaveAComment(t *testing.T) {
	for _, line := range []string{"debug # all of it", "debug\t; all", "--debug   #"} {
		entries, err := parseConfig(line)
		if err != nil || len(entries) != 1 || entries[0].key != "debug" || entries[0].values[0] != "true" {
			t.Errorf("%q: %+v, %v", line, entries, err)
		}
	}
}

func TestValues(t *testing.T) {
	base := []string{"-u", "https://h/", "-s", "S", "-t", "generic"}
	for _, c := range []struct {
		args  string
		check func(o *Options) bool
		fails string
	}{
		{"--timeout 3", func(o *Options) bool { return o.ConnectTimeout == 3e9 && o.ReadTimeout == 3e9 }, ""},
		{"--timeout 3,4", func(o *Options) bool { return o.ConnectTimeout == 3e9 && o.ReadTimeout == 4e9 }, ""},
		{"--timeout (3,4.5)", func(o *Options) bool { return o.ReadTimeout == 4500e6 }, ""},
		{"--timeout 0", nil, "--timeout"},
		{"--timeout NaN", nil, "--timeout"},
		{"--timeout 3,", nil, "--timeout"},
		{"--timeout 3,4,5", nil, "--timeout"},
		{"--cache-bcrypt-rounds 10", func(o *Options) bool { return o.BcryptCost == 10 && len(o.Warnings) == 0 }, ""},
		{"--cache-bcrypt-rounds 13,4", func(o *Options) bool { return o.BcryptCost == 13 }, ""},
		{"--cache-bcrypt-rounds 20", func(o *Options) bool { return o.BcryptCost == 16 && len(o.Warnings) == 1 }, ""},
		{"--cache-bcrypt-rounds 3", nil, "rounds"},
		{"--cache-bcrypt-rounds 12,x", nil, "rounds"},
		{"--cache-query-ttl 90", func(o *Options) bool { return o.QueryTTL == 90*time.Second }, ""},
		{"--cache-query-ttl 90s", func(o *Options) bool { return o.QueryTTL == 90*time.Second }, ""},
		{"--cache-query-ttl 5m", func(o *Options) bool { return o.QueryTTL == 5*time.Minute }, ""},
		{"--cache-query-ttl 0", func(o *Options) bool { return o.QueryTTL == 0 }, ""},
		{"--cache-verification-ttl 2d", func(o *Options) bool { return o.VerifyTTL == 48*time.Hour }, ""},
		{"--cache-unreachable-ttl 2w", func(o *Options) bool { return o.OutageTTL == 14*24*time.Hour }, ""},
		{"--cache-unreachable-ttl 99999999999999w", func(o *Options) bool { return o.OutageTTL == maxTimespan }, ""},
		{"--cache-query-ttl -1", nil, "timespan"},
		{"--cache-query-ttl 1.5h", nil, "timespan"},
		{"--cache-query-ttl h", nil, "timespan"},
		{"-A a b c -R d e", func(o *Options) bool { return o.Test == auth.OpRoster && o.User == "d" && o.Password.Empty() }, ""},
		{"-R d e -I f g -A a b c", func(o *Options) bool { return o.Test == auth.OpIsUser && o.Domain == "g" }, ""},
		{"-T", func(o *Options) bool { return len(o.Warnings) == 1 }, ""},
		{"--version", func(o *Options) bool { return o.Version }, ""},
		{"-h --cache-query-ttl rubbish", func(o *Options) bool { return o.Help }, ""},
	} {
		o, err := Parse(Defaults(), append(base[:6:6], strings.Fields(c.args)...), noFiles)
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: %v", c.args, err)
			}
			continue
		}
		if err != nil || !c.check(o) {
			t.Errorf("%s: %+v, %v", c.args, o, err)
		}
	}
}

// TestFaultsShowNoSecret: an unknown argument may be a misplaced password.
func TestFaultsShowNoSecret(t *testing.T) {
	for _, args := range [][]string{
		{"cAnArY"}, {"-s", "x", "cAnArY"}, {"--sekret=cAnArY"}, {"-A", "u", "d", "-dcAnArY"}, {"-A", "u", "-KcAnArY"},
		{"--debug=cAnArY"}, {"-dcAnArY"},
	} {
		_, err := Parse(Defaults(), args, noFiles)
		if err == nil || strings.Contains(err.Error(), "cAnArY") {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestTimes(t *testing.T) {
	want := time.Date(2026, 3, 1, 12, 30, 5, 0, time.UTC)
	for _, text := range []string{
		"2026-03-01 12:30:05", "2026-03-01T12:30:05", "2026-03-01 12:30:05+00:00", "2026-03-01T12:30:05Z",
		"2026-03-01 13:30:05+01:00", "1772368205", "1772368205.0", " 2026-03-01 12:30:05 ",
	} {
		if got, err := parseTime(text); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	if got, err := parseTime("2026-03-01 12:30:05.678901"); err != nil || got.Sub(want) != 678901*time.Microsecond {
		t.Errorf("%v, %v", got, err)
	}
	for _, text := range []string{"", "None"} {
		if got, err := parseTime(text); err != nil || !got.IsZero() {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"yesterday", "2026-13-01 00:00:00", "-5", "NaN", "1e300", "0001-01-01 00:00:00", "datetime('now')"} {
		if got, err := parseTime(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestSocketNames(t *testing.T) {
	for _, c := range []struct {
		names string
		count int
		kind  string
		want  string
	}{
		{"ejabberd:prosody:postfix:saslauthd", 4, "generic", "ejabberd:generic:tcp_table:saslauthd"},
		{"prosody:prosody", 2, "ejabberd", "generic:generic"},
		{"xcauth.socket:generic", 2, "postfix", "tcp_table:generic"},
		{"", 2, "saslauthd", "saslauthd:saslauthd"},
		{"unknown", 1, "", "generic"},
		{"a:b:c", 0, "", ""},
	} {
		if got := SocketNames(c.names, c.count, c.kind); got != c.want {
			t.Errorf("%q of %d, %s: %q, want %q", c.names, c.count, c.kind, got, c.want)
		}
	}
}

func TestEjabberdAuth(t *testing.T) {
	for _, c := range []struct {
		args, url, log string
		debug, fails   bool
	}{
		{"", "http://localhost:8000/auth/", "/var/log/ejabberd", false, false},
		{"https://h/a -l /x -d", "https://h/a", "/x", true, false},
		{"--log=/x --debug https://h/a", "https://h/a", "/x", true, false},
		{"-l/x", "http://localhost:8000/auth/", "/x", false, false},
		{"https://h/a https://h/b", "", "", false, true},
		{"-x", "", "", false, true},
		{"-l", "", "", false, true},
	} {
		o, err := ParseEjabberdAuth(strings.Fields(c.args))
		if (err != nil) != c.fails || err == nil && (o.URL != c.url || o.Log != c.log || o.Debug != c.debug) {
			t.Errorf("%q: %+v, %v", c.args, o, err)
		}
	}
}

func TestGuessType(t *testing.T) {
	for args, want := range map[string]string{
		"-t ejabberd -x": "ejabberd", "--type=prosody": "prosody", "-tpostfix": "postfix", "-t=generic": "generic", "-d -t": "", "": "",
	} {
		if got := GuessType(strings.Fields(args)); got != want {
			t.Errorf("%q: %q", args, got)
		}
	}
}

// TestRosterOptions: compatibility mode sets how often a roster is updated, and whose accounts.
func TestRosterOptions(t *testing.T) {
	noFiles := func(string) ([]byte, error) { return nil, fs.ErrNotExist }
	for _, c := range []struct {
		args []string
		want []string
	}{
		{nil, []string{`min_interval = "1m"`}},
		{[]string{"--roster-min-interval", "5m", "--roster-foreign", "B.example, *"}, []string{`min_interval = "5m"`, `foreign      = ["b.example", "*"]`}},
		{[]string{"--roster-min-interval=0"}, []string{`min_interval = "0ms"`}},
	} {
		o, err := Parse(Defaults(), append([]string{"-u", "https://u/", "-s", "x", "--ejabberdctl", "/ctl"}, c.args...), noFiles)
		if err != nil {
			t.Fatal(err)
		}
		w := Writer{DataDir: "/d", Secret: func(_ string, s auth.Secret) string { return config.Quote(s.Reveal()) }}
		text := w.Config(o, nil)
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%q: no %s in\n%s", c.args, want, text)
			}
		}
	}
	for _, bad := range []string{"--roster-min-interval=x", "--roster-foreign=a b"} {
		if _, err := Parse(Defaults(), []string{bad}, noFiles); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}
