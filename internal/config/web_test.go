package config

import (
	"strings"
	"testing"

	"postern/internal/auth"
)

// webBlock is a web block with a status page, and more lines in it.
func webBlock(lines string) string {
	return "web {\nurl = \"https://x.example\"\nstatus {\naddress = \"127.0.0.1:7\"\naccounts = \"root@x.example\"\n" + lines + "\n}\n}\n" + base
}

func TestWeb(t *testing.T) {
	cfg, problems := parse(t, strings.Replace(webBlock(`default_domain = "X.example"
accounts = ["Root", "eve@Y.example"]
groups   = ["admin"]
token    = file("/etc/postern/status.token")`), "accounts = \"root@x.example\"\n", "", 1))
	if len(problems) > 0 {
		t.Error(render(problems))
	}
	s := cfg.Web.Status
	if s == nil || cfg.Web.SelfService != nil {
		t.Fatalf("%+v", cfg.Web)
	}
	if want := (auth.Identity{User: "Root", Domain: "x.example"}); len(s.Accounts) != 2 || s.Accounts[0] != want || s.Accounts[1].Domain != "y.example" {
		t.Errorf("accounts: %v", s.Accounts)
	}
	if s.Origin != "https://x.example" || s.Socket.Network != "tcp" || s.Socket.Address != "127.0.0.1:7" || s.Token.Empty() || cfg.Web.Privacy {
		t.Errorf("%+v", s)
	}
	if len(cfg.Web.TrustedProxies) != 2 || len(cfg.Web.Pages()) != 1 {
		t.Errorf("%+v", cfg.Web)
	}
}

func TestSelfService(t *testing.T) {
	block := func(lines string) string {
		return "web {\nurl = \"https://x.example\"\nself_service {\naddress = \"127.0.0.1:7\"\n" + lines + "\n}\n}\n" + base
	}
	for lines, want := range map[string][2]string{
		"":                               {"", ""},
		`imap = "mail.x.example"`:        {"mail.x.example", "mail.x.example"},
		"imap = \"i.x\"\nsmtp = \"s.x\"": {"i.x", "s.x"},
	} {
		cfg, problems := parse(t, block(lines))
		if len(problems) > 0 || cfg.Web.SelfService == nil || [2]string{cfg.Web.SelfService.IMAP, cfg.Web.SelfService.SMTP} != want {
			t.Errorf("%s: %s, %+v", lines, render(problems), cfg.Web.SelfService)
		}
	}
	for lines, want := range map[string]string{
		`smtp = "mail.x.example"`:     "there is no imap",
		`imap = "mail.x.example:993"`: "not the name of a server",
		`imap = ""`:                   "empty",
		`imap = "<b>"`:                "not the name of a server",
	} {
		if _, problems := Parse("/etc/postern/test.hcl", []byte(block(lines)), testEnv(t)); !strings.Contains(render(problems), want) {
			t.Errorf("%s: %s", lines, render(problems))
		}
	}
}

func TestOriginOf(t *testing.T) {
	for text, want := range map[string]string{
		"https://Status.Example.ORG":   "https://status.example.org",
		"https://status.example.org/":  "https://status.example.org",
		"https://h:443":                "https://h",
		"https://h:8443/":              "https://h:8443",
		"https://[2001:db8::1]:8443":   "https://[2001:db8::1]:8443",
		"https://h:":                   "https://h",
		"http://h":                     "",
		"https://":                     "",
		"https://h/status":             "",
		"https://user@h":               "",
		"https://h?":                   "",
		"https://h?x=y":                "",
		"https://h#":                   "",
		"https://h#x":                  "",
		"//h":                          "",
		"https:h":                      "",
		"https://h\u00e9.example":      "",
		"https://h;frame-ancestors":    "",
		"https://h,https://evil.local": "",
	} {
		if got, ok := originOf(text); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v", text, got, ok)
		}
	}
}

func TestWebComplaints(t *testing.T) {
	own := "}\nself_service {\naddress = \"127.0.0.1:8\"\n"
	runComplaints(t, []complaint{
		{"no page", "web { url = \"https://x.example\" }\n" + base, Error, 1, "no page", "status"},
		{"no url", strings.Replace(webBlock(""), "url = \"https://x.example\"\n", "", 1), Error, 2, "no url", "https://"},
		{"not https", strings.Replace(webBlock(""), "https:", "http:", 1), Error, 2, "not https", "sign-in"},
		{"a path", strings.Replace(webBlock(""), "x.example\"", "x.example/status\"", 1), Error, 2, "not https", "without a path"},
		{"no address", strings.Replace(webBlock(""), "address = \"127.0.0.1:7\"\n", "", 1), Error, 3, "no address", "address"},
		{"nobody may", strings.Replace(webBlock(""), "accounts = \"root@x.example\"\n", "", 1), Error, 3, "who may see", "accounts"},
		{"no account", strings.Replace(webBlock(""), "root@x.example", "root", 1), Error, 5, "no account", "default_domain"},
		{"groups of no domain", webBlock("groups = \"admin\""), Error, 6, "groups are those of one domain", "default_domain"},
		{"short token", webBlock("token = \"hunter2\""), Error, 6, "guessed", "openssl"},
		{"twice", strings.Replace(webBlock(""), "\"root@x.example\"", "[\"root@x.example\", \"root@X.example\"]", 1), Warning, 5, "twice", "remove"},
		{"systemd", strings.Replace(webBlock(""), "127.0.0.1:7", "systemd:x", 1), Error, 4, "systemd", "127.0.0.1"},
		{"open to the network", strings.Replace(webBlock(""), "127.0.0.1:7", "192.0.2.1:7", 1), Warning, 4, "clear text", "127.0.0.1"},
		{"mode of a port", webBlock("mode = \"0600\""), Error, 6, "Unix sockets only", "unix:"},
		{"default_domain", webBlock("default_domain = \"*\""), Error, 6, "not a domain", "example.org"},
		{"one url for both", webBlock(own), Error, 7, "same url", "port"},
		{"one address for both", strings.Replace(webBlock(own), "8\"", "7\"\nurl = \"https://y.example\"", 1), Error, 8, "same address", "each"},
		{"address of a listener", webBlock("") + "listen \"generic\" { address = \"127.0.0.1:7\" }\n", Error, 4, "same address", "each"},
		{"address of the metrics", webBlock("") + "metrics { address = \"127.0.0.1:7\" }\n", Error, 4, "metrics", "each"},
		{"proxy by name", strings.Replace(webBlock(""), "web {", "web {\ntrusted_proxies = \"localhost\"", 1), Error, 2, "no address", "10.0.0.0/8"},
	})
}
