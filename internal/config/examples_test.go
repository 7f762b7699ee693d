package config_test

import (
	"fmt"
	"os"

	"postern/internal/config"
)

// A Config has every default filled in.
func ExampleParse() {
	cfg, problems := config.Parse("config.hcl", []byte(`
listen "generic" { address = "127.0.0.1:23663" }
backend "users" "local" {}
domain "example.org" { backends = [backend.users.local] }
`), config.Env{})
	fmt.Println(cfg.DataDir, len(problems))
	for _, l := range cfg.Listeners {
		fmt.Println(l.Name, l.Protocol, l.Network, l.Address, l.Deadline)
	}
	for _, d := range cfg.Domains {
		fmt.Println(d.Name, d.Backends, d.Cache.Storage, d.Cache.QueryTTL)
	}
	// Output:
	// /var/lib/postern 0
	// generic generic tcp 127.0.0.1:23663 4s
	// example.org [users.local] disk 1h0m0s
}

// A diagnostic shows the place and what to do about it. The password in the address is not
// shown.
func ExampleProblems() {
	cfg, problems := config.Parse("config.hcl", []byte(`backend "json" "app" { url = "https://postern:secret@app.example.org" }
domain "*" { backends = [backend.json.app] }
`), config.Env{})
	fmt.Println(cfg == nil, problems.Failed(), problems.Count(config.Error))
	if err := problems.Write(os.Stdout); err != nil {
		fmt.Println(err)
	}
	// Output:
	// true true 1
	// config.hcl:1:30: error: url holds a user name or password
	//     1 | backend "json" "app" { url = "https://(not shown)@app.example.org" }
	//       |                              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
	//         remove the text before the @: it would be logged
}

// A reload looks at the differences between two configurations.
func ExampleDiff() {
	parse := func(deadline string) *config.Config {
		cfg, _ := config.Parse("config.hcl", []byte(`
listen "generic" {
  address  = "127.0.0.1:23663"
  deadline = "`+deadline+`"
}
backend "users" "local" {}
domain "*" { backends = [backend.users.local] }
`), config.Env{})
		return cfg
	}
	changes := config.Diff(parse("4s"), parse("3s"))
	for _, c := range changes.Listeners.Changed {
		fmt.Println(c.New.Name, c.Old.Deadline, c.New.Deadline)
	}
	fmt.Println(changes.Backends.Empty(), changes.Domains.Empty())
	// Output:
	// generic 4s 3s
	// true true
}

func ExampleParseDuration() {
	fmt.Println(config.ParseDuration("1d12h"))
	_, err := config.ParseDuration("30")
	fmt.Println(err)
	// Output:
	// 36h0m0s <nil>
	// not a duration: "30" has no unit; write "30s" for seconds (units: ms, s, m, h, d, w)
}
