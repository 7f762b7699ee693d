package config

import (
	"fmt"
	"reflect"
	"testing"
	"time"
)

// TestLimit: the file's block holds for all domains, and a domain's own changes what it names.
func TestLimit(t *testing.T) {
	own := defaultLimit()
	own.UserRefusals, own.LongestPause = 5, time.Hour
	file := defaultLimit()
	file.UserRefusals, file.Window, file.Exempt = 3, time.Minute, nil
	both := file
	both.FirstPause, both.AddressRefusals = time.Second, 0
	for _, c := range []struct {
		name, file, domain string
		want               Limit
	}{
		{"neither", "", "", defaultLimit()},
		{"of the domain", "", `user_refusals = 5; longest_pause = "1h"`, own},
		{"of the file", `user_refusals = 3; window = "1m"; exempt = []`, "", file},
		{"of both", `user_refusals = 3; window = "1m"; exempt = []`, `first_pause = "1s"; address_refusals = 0`, both},
		{"off", "enabled = false", "", Limit{}},
		{"off, and numbers change nothing", "enabled = false", "user_refusals = 5", Limit{}},
		{"off here", "", "enabled = false", Limit{}},
		{"on here", "enabled = false", "enabled = true", defaultLimit()},
	} {
		src := fmt.Sprintf("limit {\n%s\n}\n", lines(c.file)) + domain(okRefs+fmt.Sprintf("limit {\n%s\n}", lines(c.domain)))
		cfg, _ := parse(t, src)
		if got := cfg.Domains[0].Limit; !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	cfg, _ := parse(t, domain(okRefs+`limit { exempt = ["192.0.2.7", "2001:db8:1::5/48"] }`))
	if got := fmt.Sprint(cfg.Domains[0].Limit.Exempt); got != "[192.0.2.7/32 2001:db8:1::/48]" {
		t.Errorf("exempt: %s", got)
	}
}

func TestComplaintsAboutLimits(t *testing.T) {
	limit := func(attrs string) string { return "limit {\n" + attrs + "\n}\n" + base }
	runComplaints(t, []complaint{
		{"two limits", "limit {}\nlimit {}\n" + base, Error, 2, "two limit blocks", "join"},
		{"two limits of a domain", domain(okRefs + "limit {}\nlimit {}"), Error, 5, "two limit blocks", "join"},
		{"unknown word", limit("refusals = 3"), Error, 2, "unknown attribute", "user_refusals"},
		{"too many refusals", limit("user_refusals = 101"), Error, 2, "out of range", "0 to 100"},
		{"no window", limit(`window = "0s"`), Error, 2, "window is too short", "1s"},
		{"pauses the wrong way round", limit("first_pause = \"1m\"\nlongest_pause = \"10s\""), Error, 1, "first_pause is longer", "longest_pause"},
		{"no network", limit(`exempt = ["localhost"]`), Error, 2, "addresses and networks", "192.0.2.7"},
		{"mapped address", limit(`exempt = ["::ffff:192.0.2.7"]`), Error, 2, "own form", "192.0.2.0/24"},
		{"unguarded", jsxcOff, Warning, 5, "nothing limits", "leave the limits on"},
		{"budget out of range", jsxc(okURL + okSecret + "refusal_budget = -1"), Error, 4, "out of range", "0 to 1000"},
	})
}

const jsxcOff = "backend \"jsxc\" \"c\" {\n" + okURL + okSecret + "}\ndomain \"*\" {\nbackends = [backend.jsxc.c]\nlimit { enabled = false }\n}\n"

func lines(attrs string) string {
	out := []byte(attrs)
	for i := range out {
		if out[i] == ';' {
			out[i] = '\n'
		}
	}
	return string(out)
}
