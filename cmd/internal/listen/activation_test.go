package listen

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"postern/cmd/internal/systemd"
	"postern/internal/config"
)

// Which socket goes to which listener.
func TestEndpoints(t *testing.T) {
	const ejabberd, ejabberd6, mux = "ejabberd tcp 127.0.0.1:23662", "ejabberd tcp [::1]:23662", "saslauthd unix /run/saslauthd/mux"
	for name, c := range map[string]struct {
		listeners, passed []string // NAME PROTOCOL ADDRESS, NAME NETWORK ADDRESS
		want, unserved    []string
		err               string
	}{
		"nothing":           {},
		"no block":          {nil, []string{ejabberd, ejabberd6, mux}, []string{"ejabberd ejabberd * 127.0.0.1:23662", "ejabberd-2 ejabberd * [::1]:23662", "saslauthd saslauthd * /run/saslauthd/mux"}, nil, ""},
		"xcauth's names":    {nil, []string{"prosody tcp 127.0.0.1:1", "postfix tcp 127.0.0.1:2"}, []string{"prosody generic * 127.0.0.1:1", "postfix tcp_table * 127.0.0.1:2"}, nil, ""},
		"by name":           {[]string{"x generic systemd:front"}, []string{"front tcp 127.0.0.1:1", "front unix /x"}, []string{"x generic * 127.0.0.1:1", "x-2 generic * /x"}, nil, ""},
		"name is taken":     {[]string{"x-2 generic 127.0.0.1:9", "x generic systemd:front"}, []string{"front tcp 127.0.0.1:1", "front unix /x"}, []string{"x-2 generic - 127.0.0.1:9", "x generic * 127.0.0.1:1", "x-3 generic * /x"}, nil, ""},
		"exact name only":   {[]string{"x generic systemd:generic"}, []string{"prosody tcp 127.0.0.1:1"}, nil, nil, `listener "x": systemd passed no socket named "generic"`},
		"what there is":     {[]string{"x generic systemd:front"}, []string{ejabberd, mux}, nil, nil, `passed were "ejabberd" at 127.0.0.1:23662, "saslauthd" at /run/saslauthd/mux`},
		"nothing there":     {[]string{"x generic systemd:front"}, nil, nil, nil, "passed were none: was postern started by hand"},
		"same address":      {[]string{"a generic 127.0.0.1:1", "b generic 127.0.0.1:2"}, []string{"odd tcp 127.0.0.1:2"}, []string{"a generic - 127.0.0.1:1", "b generic * 127.0.0.1:2"}, nil, ""},
		"same host name":    {[]string{"a generic localhost:1"}, []string{"odd tcp 127.0.0.1:1"}, []string{"a generic * 127.0.0.1:1"}, nil, ""},
		"same everywhere":   {[]string{"a generic :1"}, []string{"odd tcp [::]:1"}, []string{"a generic * [::]:1"}, nil, ""},
		"same path":         {[]string{"a saslauthd unix:/run/saslauthd/mux"}, []string{mux}, []string{"a saslauthd * /run/saslauthd/mux"}, nil, ""},
		"other port":        {[]string{"a generic 127.0.0.1:1"}, []string{"odd tcp 127.0.0.1:2"}, []string{"a generic - 127.0.0.1:1"}, []string{"odd"}, ""},
		"half by address":   {[]string{"ejabberd ejabberd 127.0.0.1:23662"}, []string{ejabberd, ejabberd6}, []string{"ejabberd ejabberd * 127.0.0.1:23662", "ejabberd-2 ejabberd * [::1]:23662"}, nil, ""},
		"beside its own":    {[]string{"ejabberd ejabberd 127.0.0.1:9"}, []string{ejabberd}, []string{"ejabberd ejabberd - 127.0.0.1:9", "ejabberd-2 ejabberd * 127.0.0.1:23662"}, nil, ""},
		"listener's name":   {[]string{"front generic 127.0.0.1:9"}, []string{"front tcp 127.0.0.1:1"}, []string{"front generic - 127.0.0.1:9", "front-2 generic * 127.0.0.1:1"}, nil, ""},
		"listener's limits": {[]string{"mail saslauthd 127.0.0.1:9"}, []string{mux}, []string{"mail saslauthd - 127.0.0.1:9", "saslauthd saslauthd mail /run/saslauthd/mux"}, nil, ""},
		"unknown":           {nil, []string{"odd tcp 127.0.0.1:1", ejabberd, "unknown tcp 127.0.0.1:2"}, []string{"ejabberd ejabberd * 127.0.0.1:23662"}, []string{"odd", "unknown"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := &config.Config{}
			for _, text := range c.listeners {
				f := strings.Fields(text)
				l, _ := config.DefaultListener(f[1])
				l.Name, l.Network, l.Address, l.DefaultDomain = f[0], "tcp", f[2], f[0]+".example"
				for _, network := range []string{"unix", "systemd"} {
					if rest, ok := strings.CutPrefix(f[2], network+":"); ok {
						l.Network, l.Address = network, rest
					}
				}
				cfg.Listeners = append(cfg.Listeners, l)
			}
			var passed []*systemd.Socket
			for _, text := range c.passed {
				f := strings.Fields(text)
				passed = append(passed, &systemd.Socket{Name: f[0], Network: f[1], Address: f[2]})
			}
			list, unserved, err := Match(cfg, passed)
			if err != nil || c.err != "" {
				if err == nil || c.err == "" || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v; want %q", err, c.err)
				}
				return
			}
			var got, left []string
			for _, e := range list {
				mark := "-"
				if e.Passed != nil {
					mark = "*"
					if base, _, _ := strings.Cut(e.DefaultDomain, "."); base != "" && !strings.HasPrefix(e.Name, base) {
						mark = base // the listener with these limits
					}
					if e.Network != e.Passed.Network || e.Address != e.Passed.Address {
						t.Errorf("%s is at %s, its socket at %s", e.Name, e.Address, e.Passed.Address)
					}
				}
				got = append(got, fmt.Sprint(e.Name, " ", e.Protocol, " ", mark, " ", e.Address))
			}
			for _, s := range unserved {
				left = append(left, s.Name)
			}
			if !slices.Equal(got, c.want) || !slices.Equal(left, c.unserved) {
				t.Errorf("%q, not served %q\nwant %q, %q", got, left, c.want, c.unserved)
			}
		})
	}
}
