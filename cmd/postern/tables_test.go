package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"postern/internal/config"
	"postern/internal/manual"
	"postern/internal/protocol"
)

// tableRows are the rows of the tables of a page, without their headings; cells have no marks of code.
func tableRows(t *testing.T, topic string) (all [][]string) {
	t.Helper()
	page, err := manual.Find(topic)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range page.Blocks {
		if b.Kind != manual.Table {
			continue
		}
		for _, row := range b.Rows[1:] {
			for i := range row {
				row[i] = strings.ReplaceAll(row[i], "`", "")
			}
			all = append(all, row)
		}
	}
	return all
}

// The table of ports has each protocol, with the port of its socket unit and the time within which it answers.
func TestPortsPage(t *testing.T) {
	rows := map[string][]string{}
	for _, row := range tableRows(t, "ports") {
		rows[row[0]] = row
	}
	for _, p := range protocol.Table {
		row := rows[string(p.Name)]
		if len(row) != 4 || row[3] != p.Deadline.String() {
			t.Errorf("%s answers within %v: %q", p.Name, p.Deadline, row)
			continue
		}
		unit, err := os.ReadFile(filepath.Join("../../scripts/systemd", "postern-"+string(p.Name)+".socket"))
		if says := strings.Contains(row[1], "no unit"); says != (err != nil) {
			t.Errorf("%s: %q; its unit: %v", p.Name, row, err)
		}
		for _, m := range regexp.MustCompile(`(?m)^ListenStream=(?:127\.0\.0\.1:)?([^[].*)$`).FindAllStringSubmatch(string(unit), -1) {
			if !slices.Contains(strings.Split(row[1], ", "), m[1]) {
				t.Errorf("%s: the unit has %s: %q", p.Name, m[1], row)
			}
		}
	}
}

// What pages say of defaults is what the configuration has.
func TestDefaultsOfPages(t *testing.T) {
	defaults := map[string]string{}
	for _, block := range config.Reference() {
		for _, a := range block.Attributes {
			defaults[strings.TrimSpace(block.Path+" "+a.Name)] = strings.Trim(a.Default, `"`)
		}
	}
	of := func(names ...string) (values []string) {
		for _, name := range names {
			value := defaults[name]
			if value == "" {
				t.Errorf("there is no %s", name)
			}
			values = append(values, value)
		}
		return values
	}
	for _, c := range []struct {
		topic, row, form string
		values           []string
	}{
		{"ports", "data_dir", "%s", of("data_dir")},
		{"ports", "requests to a backend at the same time (slots)", "%s", of("backend nextcloud slots")},
		{"ports", "time-out of a request to a backend", "%s", of("backend nextcloud timeout")},
		{"ports", "a password accepted from the cache", "used within %s, accepted by the backend within %s", of("domain cache query_ttl", "domain cache verify_ttl")},
		{"ports", "in an outage", "accepted by the backend within %s", of("domain cache outage_ttl")},
		{"ports", "wrong passwords before a pause", "%s for an account, %s from an address, within %s", of("limit user_refusals", "limit address_refusals", "limit window")},
		{"caching", "query_ttl", "%s", of("domain cache query_ttl")},
		{"caching", "verify_ttl", "%s", of("domain cache verify_ttl")},
		{"caching", "outage_ttl", "%s", of("domain cache outage_ttl")},
		{"caching", "refused_ttl", "%s", of("domain cache refused_ttl")},
		{"caching", "exists_ttl, absent_ttl", "%s, %s", of("domain cache exists_ttl", "domain cache absent_ttl")},
	} {
		found := ""
		for _, row := range tableRows(t, c.topic) {
			if row[0] == c.row {
				found = row[1]
			}
		}
		want := c.form
		for _, v := range c.values {
			want = strings.Replace(want, "%s", v, 1)
		}
		if found != want {
			t.Errorf("%s: %s: %q, want %q", c.topic, c.row, found, want)
		}
	}
}
