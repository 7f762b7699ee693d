package config

import (
	"reflect"
	"strings"
	"testing"
)

// hosts are configurations with one block of each path, in which %s stands for a line in it.
var hosts = map[string]string{
	"store valkey":           "store \"valkey\" {\naddresses = \"127.0.0.1:1\"\n%s\n}\n",
	"store valkey tls":       "store \"valkey\" {\naddresses = \"127.0.0.1:1\"\ntls {\n%s\n}\n}\n",
	"store valkey sentinel":  "store \"valkey\" {\naddresses = \"127.0.0.1:1\"\nsentinel {\nmaster = \"x\"\n%s\n}\n}\n",
	"":                       "%s\n",
	"limit":                  "limit {\n%s\n}\n",
	"listen":                 "listen \"LISTENER\" {\naddress = \"127.0.0.1:1\"\n%s\n}\n",
	"listen userdb":          "listen \"dovecot_userdb\" {\naddress = \"127.0.0.1:1\"\nuserdb {\n%s\n}\n}\n",
	"listen nginx_mail":      "listen \"http\" {\naddress = \"unix:/x\"\nnginx_mail {\nimap = \"127.0.0.1:143\"\npop3 = \"127.0.0.1:110\"\n%s\n}\n}\n",
	"listen tls":             "listen \"http\" {\naddress = \"unix:/x\"\ntls {\ncertificate = \"tls.pem\"\nkey = \"tls.key\"\n%s\n}\n}\n",
	"backend nextcloud":      "backend \"nextcloud\" \"x\" {\nurl = \"https://x.example.org\"\n%s\n}\n",
	"backend jsxc":           "backend \"jsxc\" \"x\" {\nurl = \"https://x.example.org\"\nsecret = \"x\"\n%s\n}\n",
	"backend json":           "backend \"json\" \"x\" {\nurl = \"https://x.example.org\"\n%s\n}\n",
	"backend http":           "backend \"http\" \"x\" {\nurl = \"https://x.example.org\"\nrealm = \"x\"\ndeny_body = \"x\"\n%s\n}\n",
	"backend auth_http":      "backend \"auth_http\" \"x\" {\nurl = \"https://x.example.org\"\n%s\n}\n",
	"backend users":          "backend \"users\" \"x\" {\n%s\n}\n",
	"backend app_passwords":  "backend \"app_passwords\" \"x\" {\nkey = file(\"cache.key\")\n%s\n}\n",
	"backend oidc":           "backend \"oidc\" \"x\" {\nissuer = \"https://x.example.org\"\naudience = \"x\"\nusername_claim = \"sub\"\n%s\n}\n",
	"domain":                 "domain \"example.com\" {\nbackends = [backend.nextcloud.cloud]\n%s\n}\n",
	"domain limit":           "domain \"example.com\" {\nbackends = [backend.nextcloud.cloud]\nlimit {\n%s\n}\n}\n",
	"domain token jsxc":      "domain \"example.com\" {\nbackends = [backend.jsxc.app]\ntoken \"jsxc\" {\nsecrets = [\"x\"]\n%s\n}\n}\n",
	"domain token totp":      "domain \"example.com\" {\nbackends = [backend.nextcloud.cloud]\ntoken \"totp\" {\nseed = env(\"OTP_SEED\")\nsecrets = [\"x\"]\n%s\n}\n}\n",
	"domain cache":           "domain \"example.com\" {\nbackends = [backend.nextcloud.cloud]\ncache {\n%s\n}\n}\n",
	"backend oidc scim":      "backend \"oidc\" \"x\" {\nclient_id = \"x\"\nissuer = \"https://x.example.org\"\naudience = \"x\"\nusername_claim = \"sub\"\nscim {\nurl = \"https://x.example.org/scim\"\ntoken = \"x\"\n%s\n}\n}\n",
	"domain allow":           "domain \"example.com\" {\nbackends = [backend.nextcloud.cloud]\nallow {\ngroups = \"mail\"\n%s\n}\n}\n",
	"registry":               "registry {\n%s\n}\n",
	"registry cache":         "registry {\ncache {\n%s\n}\n}\n",
	"domain roster ejabberd": "domain \"example.com\" {\nbackends = [backend.nextcloud.cloud]\nroster \"ejabberd\" {\napi = \"http://127.0.0.1:5281/api\"\n%s\n}\n}\n",
	"domain roster prosody":  "domain \"example.com\" {\nbackends = [backend.nextcloud.cloud]\nroster \"prosody\" {\ngroups_file = \"groups\"\n%s\n}\n}\n",
	"web":                    webHost("url = \"https://x.example.org\"\n%s", "", ""),
	"web tls":                webHost(webURL+"tls {\ncertificate = \"tls.pem\"\nkey = \"tls.key\"\n%s\n}", "", ""),
	"web status":             webHost(webURL, "%s", ""),
	"web self_service":       webHost(webURL, "", "%s"),
	"metrics":                "metrics {\naddress = \"127.0.0.1:2\"\n%s\n}\n",
	"audit":                  "audit {\nfile = \"audit.log\"\nsyslog = \"/dev/log\"\n%s\n}\n",
	"log":                    "log {\n%s\n}\n",
}

// webURL is written so that it is not taken for a line of another block.
const webURL = "url=\"https://x.example.org\"\n"

// webHost has both pages, with lines in the blocks.
func webHost(web, status, own string) string {
	return "web {\n" + web + "\nstatus {\naddress = \"127.0.0.1:1\"\ndefault_domain=\"x.example\"\naccounts = [\"x\"]\ngroups = [\"x\"]\n" + status +
		"\n}\nself_service {\nurl=\"https://y.example.org\"\naddress = \"unix:/run/y\"\n" + own + "\n}\n}\n"
}

// listenerOf is a protocol that takes the attribute of a listen block.
func listenerOf(name string) string {
	switch name {
	case "map":
		return "tcp_table"
	case "secret", "trusted_proxies", "proxy_protocol", "realm": // the rest of the line becomes a comment
		return "http\" {\nsecret = env(\"TOKEN_SECRET\")\n#"
	}
	return "ejabberd"
}

const others = "backend \"jsxc\" \"app\" {\nurl = \"https://cloud.example.org\"\nsecret = \"x\"\n}\n" +
	"backend \"nextcloud\" \"cloud\" { url = \"https://cloud.example.org\" }\ndomain \"*\" { backends = [backend.nextcloud.cloud] }\n"

// The reference has every attribute of the schema, no other, and the defaults and types of the parser.
func TestReference(t *testing.T) {
	used := map[string]bool{}
	for _, block := range Reference() {
		host := hosts[block.Path]
		for _, a := range block.Attributes {
			_, key := detailOf(block.Path, a.Name)
			used[key] = true
			parse := func(line string) *Config {
				text := strings.Replace(strings.Replace(host, "%s", line, 1), "LISTENER", listenerOf(a.Name), 1)
				if key == "mode" {
					text = strings.Replace(text, "127.0.0.1:1", "unix:/run/x", 1)
				}
				cfg, _ := Parse("/etc/postern/config.hcl", []byte(text+others), testEnv(t))
				for i := 0; cfg != nil && i < len(cfg.Listeners); i++ {
					cfg.Listeners[i].ChangesSaid = false
				}
				return cfg
			}
			// Lines that the host has are replaced.
			without := host
			for line := range strings.Lines(host) {
				if strings.HasPrefix(line, a.Name+" = ") {
					host = strings.Replace(host, line, "", 1)
				}
			}
			bare := parse("")
			switch {
			case a.Type == "":
				t.Errorf("block %q: %s has no type", block.Path, a.Name)
			case (bare == nil) != (a.Default == "") && a.Name != "api" && key != "listen address": // needed, but for relay
				t.Errorf("block %q: %s: a configuration without it is valid: %v; default %q", block.Path, a.Name, bare != nil, a.Default)
			case a.Default == "" || strings.HasPrefix(a.Default, "("):
			case !reflect.DeepEqual(bare, parse(a.Name+" = "+a.Default)):
				t.Errorf("block %q: %s = %s is not the default", block.Path, a.Name, a.Default)
			}
			if other := otherType(a.Type); parse(a.Name+" = "+other) != nil {
				t.Errorf("block %q: %s is a %s, and takes %s", block.Path, a.Name, a.Type, other)
			}
			host = without
		}
	}
	for key := range details {
		if !used[key] {
			t.Errorf("%q is described but not in the schema", key)
		}
	}
}

// otherType is a value that a type does not include.
func otherType(kind string) string {
	switch kind {
	case aNumber, aDuration, "list of backends":
		return `"twelve"`
	case aFlag:
		return `"true"`
	case "text or number":
		return `true`
	default:
		return "12"
	}
}
