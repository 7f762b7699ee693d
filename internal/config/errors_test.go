package config

import (
	"fmt"
	"strings"
	"testing"
)

// complaint is one configuration and the problem that it must cause.
type complaint struct {
	name, src string
	severity  Severity
	line      int
	message   string // part of Message
	cure      string // part of Cure
}

func listen(attrs string) string { return "listen \"ejabberd\" {\n" + attrs + "\n}\n" + base }

func jsxc(attrs string) string {
	return "backend \"jsxc\" \"c\" {\n" + attrs + "\n}\ndomain \"*\" { backends = [backend.jsxc.c] }\n"
}

func nextcloud(attrs string) string {
	return "backend \"nextcloud\" \"c\" {\n" + attrs + "\n}\ndomain \"*\" { backends = [backend.nextcloud.c] }\n"
}

// logins returns a domain with these login rules.
func logins(rules string) string {
	return "backend \"nextcloud\" \"c\" { url = \"https://h/\" }\ndomain \"x.example\" {\nbackends = [backend.nextcloud.c]\nlogin = " + rules + "\n}\n"
}

func domain(lines string) string { return usersBlock + "domain \"x.example\" {\n" + lines + "\n}\n" }

const (
	okURL    = "url = \"https://h/\"\n"
	okSecret = "secret = env(\"TOKEN_SECRET\")\n"
	okRefs   = "backends = [backend.users.local]\n"
	okAddr   = "address = \"127.0.0.1:1\"\n"
)

func runComplaints(t *testing.T, cases []complaint) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg, problems := Parse("/etc/postern/test.hcl", []byte(c.src), testEnv(t))
			if (cfg == nil) != (c.severity == Error) || problems.Failed() != (c.severity == Error) {
				t.Errorf("config: %v, failed: %v", cfg != nil, problems.Failed())
			}
			if strings.Contains(render(problems), canary) {
				t.Errorf("a secret is shown:\n%s", render(problems))
			}
			for _, p := range problems {
				if p.Severity == c.severity && p.Line == c.line && strings.Contains(p.Message, c.message) &&
					strings.Contains(p.Message+p.Cure, c.cure) {
					lines := strings.Split(c.src, "\n")
					if c.line > 0 && (p.Column == 0 || p.Source == "" || p.Column > len(lines[c.line-1])+1) {
						t.Errorf("no place is shown: %+v", p)
					}
					return
				}
			}
			t.Errorf("no %s at line %d with %q and %q in:\n%s", c.severity, c.line, c.message, c.cure, render(problems))
		})
	}
}

func TestComplaintsAboutListenersOfOneProtocol(t *testing.T) {
	of := func(name, lines string) string {
		return "listen \"" + name + "\" {\n" + okAddr + lines + "\n}\n" + base
	}
	runComplaints(t, []complaint{
		{"fixed domain elsewhere", of("dovecot", "fixed_domain = \"x.example\""), Error, 3, "saslauthd", "default_domain"},
		{"fixed domain and default", of("saslauthd", "fixed_domain = \"x.example\"\ndefault_domain = \"y.example\""), Error, 3, "without a domain", "remove"},
		{"fixed domain is none", of("saslauthd", "fixed_domain = \"a b\""), Error, 3, "not a domain", ""},
		{"fixed domain is all", of("saslauthd", "fixed_domain = \"*\""), Error, 3, "not a domain", ""},
		{"unknown map", of("tcp_table", "map = \"logins\""), Error, 3, "unknown", "login"},
		{"map elsewhere", of("socketmap", "map = \"login\""), Error, 3, "tcp_table", "remove"},
		{"userdb elsewhere", of("dovecot", "userdb { uid = 1 }"), Error, 3, "dovecot_userdb and http", "remove"},
		{"http for everything", of("http", ""), Error, 2, "can reach a TCP port", "secret"},
		{"short secret", of("http", "secret = \"hunter2\""), Error, 3, "guessed", "openssl"},
		{"secret elsewhere", of("dovecot", "secret = \"x\""), Error, 3, "http protocol", "remove"},
		{"nginx_mail elsewhere", of("dovecot", "nginx_mail {}"), Error, 3, "http protocol", "remove"},
		{"tls elsewhere", of("dovecot", "tls {}"), Error, 3, "http protocol", "remove"},
		{"no mail server", of("http", "nginx_mail {}"), Error, 3, "no server", "imap"},
		{"mail server by name", of("http", "nginx_mail { imap = \"localhost:143\" }"), Error, 3, "not an IP address", "no names"},
		{"proxies without need", of("generic", "trusted_proxies = \"127.0.0.1\""), Error, 3, "for the http protocol, or for proxy_protocol", "add proxy_protocol"},
		{"proxy by name", of("http", "trusted_proxies = \"localhost\""), Error, 3, "no address", "10.0.0.0/8"},
		{"tls without a key", of("http", "tls { certificate = \"tls.pem\" }"), Error, 3, "no key", "PEM"},
		{"tls of two pairs", of("http", "tls {\ncertificate = \"tls.pem\"\nkey = \"tls.pem\"\n}"), Error, 5, "pair", "chain"},
		{"client_ca is none", of("http", "tls {\ncertificate = \"tls.pem\"\nkey = \"tls.key\"\nclient_ca = \"no-ca.pem\"\n}"), Error, 6, "no certificate", "PEM"},
		{"tls file is missing", of("http", "tls {\ncertificate = \"none.pem\"\nkey = \"tls.key\"\n}"), Error, 4, "cannot read", "path"},
		{"uid is a flag", of("dovecot_userdb", "userdb { uid = true }"), Error, 3, "not a user", "number"},
		{"uid is root's", of("dovecot_userdb", "userdb { uid = 0 }"), Error, 3, "out of range", ""},
		{"gid is no name", of("dovecot_userdb", "userdb { gid = \"a b\" }"), Error, 3, "not a user or group", ""},
		{"uid is root's, as a text", of("dovecot_userdb", "userdb { uid = \"0\" }"), Error, 3, "root's", "for mail"},
		{"uid of nobody", of("dovecot_userdb", "userdb { uid = \"vmial\" }"), Error, 3, "no vmial on this machine", "number"},
		{"relative home", of("dovecot_userdb", "userdb { home = \"mail/%{user}\" }"), Error, 3, "absolute", "%{user}"},
		{"unknown template", of("dovecot_userdb", "userdb { home = \"/mail/%%{name}\" }"), Error, 3, "template", "%{domain}"},
		{"unknown template, as HCL reads it", of("dovecot_userdb", "userdb { home = \"/mail/%{name}\" }"), Error, 3, "", ""},
	})
}

func TestComplaintsAboutShape(t *testing.T) {
	runComplaints(t, []complaint{
		{"empty", "", Error, 0, "no domain", "domain \"*\""},
		{"syntax", base + "listen \"x\" {\n", Error, 3, "syntax", ""},
		{"unknown attribute", "data_dri = \"/x\"\n" + base, Error, 1, "unknown attribute data_dri", "did you mean data_dir?"},
		{"unknown attribute, no idea", "zzzzzz = \"/x\"\n" + base, Error, 1, "unknown attribute", "known here: data_dir, drain_timeout"},
		{"unknown block", "lisden \"x\" {}\n" + base, Error, 1, "unknown block lisden", "did you mean listen?"},
		{"attribute as block", "data_dir {}\n" + base, Error, 1, "is an attribute", "data_dir = ..."},
		{"block as attribute", "log = \"x\"\n" + base, Error, 1, "is a block", "log { ... }"},
		{"attribute twice", "data_dir = \"/a\"\ndata_dir = \"/b\"\n" + base, Error, 2, "syntax: attribute redefined", "data_dir"},
		{"labels missing", "backend \"users\" {}\n" + base, Error, 1, "2 label(s), not 1", `backend "KIND" "NAME"`},
		{"label too many", "log \"x\" {}\n" + base, Error, 1, "0 label(s), not 1", "log { ... }"},
		{"two logs", base + "log {}\nlog {}\n", Error, 4, "two log blocks", "join"},
		{"two caches", domain(okRefs + "cache {}\ncache {}"), Error, 5, "two cache blocks", "join"},
		{"two tokens", domain(okRefs + "token \"jsxc\" {\nsecrets = [\"a\"]\n}\ntoken \"jsxc\" {\nsecrets = [\"b\"]\n}"),
			Error, 7, `two token "jsxc"`, "join"},
		{"backend kind", "backend \"user\" \"x\" {}\n" + base, Error, 1, `backend kind "user" is unknown`, "did you mean users?"},
		{"token kind", domain(okRefs + "token \"jwt\" {}"), Error, 4, "token kind", "known here: jsxc, totp"},
		{"roster kind", domain(okRefs + "roster \"mongooseim\" {}"), Error, 4, "roster kind", "ejabberd"},
		{"number for text", "data_dir = 5\n" + base, Error, 1, "data_dir must be a string", "quotes"},
		{"text for number", listen(okAddr + `pipeline = "64"`), Error, 3, "pipeline must be a number", "without quotes"},
		{"text for flag", listen(okAddr + `binary_answers = "true"`), Error, 3, "binary_answers must be a bool", "without quotes"},
		{"null", "data_dir = null\n" + base, Error, 1, "must be a string", "quotes"},
		{"empty text", "data_dir = \"\"\n" + base, Error, 1, "data_dir is empty", "leave the line out"},
		{"line break", "data_dir = \"a\\nb\"\n" + base, Error, 1, "line break", "one line"},
		{"heredoc", "data_dir = <<E\n/x\nE\n" + base, Error, 1, "line break", "one line"},
		{"bare word", "data_dir = somewhere\n" + base, Error, 1, "without quotes", "in quotes"},
		{"expression", "data_dir = true ? \"a\" : \"b\"\n" + base, Error, 1, "not supported", "env"},
		{"negation", "data_dir = !true\n" + base, Error, 1, "not a value", "write"},
		{"fraction", listen(okAddr + `pipeline = 1.5`), Error, 3, "pipeline is out of range", "1 to 65536"},
		{"negative", listen(okAddr + `pipeline = -1`), Error, 3, "pipeline is out of range", "1 to 65536"},
		{"huge", listen(okAddr + `pipeline = 1e99`), Error, 3, "pipeline is out of range", "1 to 65536"},
		{"no unit", listen(okAddr + `deadline = "30"`), Error, 3, "no unit", `write "30s"`},
		{"number as duration", listen(okAddr + `deadline = 30`), Error, 3, "deadline must be a string", `"30s"`},
		{"too short", listen(okAddr + `deadline = "1ms"`), Error, 3, "deadline is too short", "100ms"},
		{"external duration", listen(okAddr + `deadline = env("NOT_A_DURATION")`), Error, 3, "not a duration", "30s"},
	})
}

func TestComplaintsAboutFunctions(t *testing.T) {
	call := func(expr string) string { return jsxc(okURL + "secret = " + expr) }
	runComplaints(t, []complaint{
		{"unset", call(`env("NOT_SET")`), Error, 3, "environment variable NOT_SET is not set", "systemd"},
		{"missing file", call(`file("/etc/postern/nothing")`), Error, 3, "cannot read file /etc/postern/nothing", "create the file"},
		{"forbidden file", call(`file("forbidden")`), Error, 3, "permission denied", "chown"},
		{"path from env", call(`file(env("SECRET_PATH"))`), Error, 3, "the file named here", "create"},
		{"empty file", call(`file("empty")`), Error, 3, "secret is empty", "put the secret"},
		{"empty variable", call(`env("EMPTY")`), Error, 3, "secret is empty", "put the secret"},
		{"two lines", call(`file("two-lines")`), Error, 3, "line break", "alone"},
		{"binary", call(`file("binary")`), Error, 3, "not UTF-8", "hexadecimal"},
		{"unknown function", call(`vault("x")`), Error, 3, "unknown function", "file"},
		{"no argument", call(`env()`), Error, 3, "takes one argument", `env("NAME")`},
		{"number", call(`env(5)`), Error, 3, "takes a text", `env("NAME")`},
		{"empty name", call(`env("")`), Error, 3, "takes a text", `env("NAME")`},
		{"number in text", call(`"x${5}"`), Error, 3, "only texts", "env"},
	})
}

func TestComplaintsAboutListeners(t *testing.T) {
	second := func(attrs string) string { return listen(okAddr) + "listen \"generic\" {\n" + attrs + "\n}\n" }
	runComplaints(t, []complaint{
		{"no address", listen(""), Error, 1, "no address", "host:port"},
		{"no port", listen(`address = "127.0.0.1"`), Error, 2, "is not host:port", "127.0.0.1:23662"},
		{"bad port", listen(`address = "127.0.0.1:65536"`), Error, 2, "no usable host or port", "65535"},
		{"bad host", listen(`address = "a b:1"`), Error, 2, "no usable host or port", "host:port"},
		{"systemd without name", listen(`address = "systemd:"`), Error, 2, "names no socket of systemd", "FileDescriptorName="},
		{"systemd and colon", listen(`address = "systemd:a:b"`), Error, 2, "names no socket of systemd", "FileDescriptorName="},
		{"systemd and space", listen(`address = "systemd:a b"`), Error, 2, "names no socket of systemd", "FileDescriptorName="},
		{"empty path", listen(`address = "unix:"`), Error, 2, "no path", "unix:/path"},
		{"long path", listen(`address = "unix:/` + strings.Repeat("x", 107) + `"`), Error, 2, "107 bytes", "shorter"},
		{"everywhere", listen(`address = "0.0.0.0:1"`), Warning, 2, "in clear", "127.0.0.1"},
		{"all", listen(`address = ":1"`), Warning, 2, "in clear", "127.0.0.1"},
		{"name", listen(`address = "mail.example.org:1"`), Warning, 2, "in clear", "127.0.0.1"},
		{"same address", second(`address = "127.0.0.1:01"`), Error, 8, `listener "ejabberd" has the same address`, "its own"},
		{"same name", listen(okAddr) + "listen \"ejabberd\" { address = \"127.0.0.1:2\" }\n", Error, 7, "two listeners are named", "change one"},
		{"same name, default domain", "listen \"ejabberd\" {\n" + okAddr + "}\nlisten \"ejabberd\" {\naddress = \"127.0.0.1:2\"\ndefault_domain = \"y.example\"\n}\n" +
			domain(okRefs), Error, 4, "two listeners are named", "change one"},
		{"same name, default domain first", "listen \"ejabberd\" {\n" + okAddr + "default_domain = \"y.example\"\n}\nlisten \"ejabberd\" { address = \"127.0.0.1:2\" }\n" +
			domain(okRefs), Error, 5, "two listeners are named", "change one"},
		{"metrics nowhere", "metrics {}\n" + base, Error, 1, "no address", "23669"},
		{"metrics on a socket file", "metrics { address = \"unix:/x\" }\n" + base, Error, 1, "host:port only", "23669"},
		{"metrics on a systemd socket", "metrics { address = \"systemd:x\" }\n" + base, Error, 1, "host:port only", "23669"},
		{"metrics without port", "metrics { address = \"localhost\" }\n" + base, Error, 1, "not host:port", "host:port"},
		{"mode of tcp", listen(okAddr + `mode = "0660"`), Error, 3, "Unix sockets only", "remove"},
		{"group of tcp", listen(okAddr + `group = "x"`), Error, 3, "Unix sockets only", "remove"},
		{"mode of systemd", listen("address = \"systemd:mux\"\nmode = \"0660\""), Error, 3, "Unix sockets only", "SocketMode="},
		{"same systemd", "listen \"ejabberd\" { address = \"systemd:mux\" }\n" +
			"listen \"generic\" { address = \"systemd:mux\" }\n" + base, Error, 2, `listener "ejabberd" has the same address`, "its own"},
		{"proxy protocol on a socket file", listen("address = \"unix:/x\"\nproxy_protocol = true"), Error, 3, "ports only", "host:port"},
		{"no place for the audit log", "audit {}\n" + base, Error, 1, "where the audit log is", "audit.log"},
		{"audit log in the log", "log { file = \"x\" }\naudit { file = \"x\" }\n" + base, Error, 2, "the log is in this file", "its own"},
		{"syslog by name", "audit { syslog = \"localhost\" }\n" + base, Error, 1, "not an absolute path", "/dev/log"},
		{"mode as number", listen("address = \"unix:/x\"\nmode = 0660"), Error, 3, "mode must be a string", `"0660": a number would be decimal`},
		{"mode not octal", listen("address = \"unix:/x\"\nmode = \"0888\""), Error, 3, "octal digits", `"0660"`},
		{"setuid mode", listen("address = \"unix:/x\"\nmode = \"4755\""), Error, 3, "octal digits", `"0660"`},
		{"no protocol", "listen \"mux\" { " + strings.TrimSpace(okAddr) + " }\n" + base, Error, 1, "protocol is not given", "ejabberd, generic, saslauthd, tcp_table"},
		{"listener named pipe", "listen \"pipe\" {\n" + `protocol = "generic"` + "\n" + okAddr + "}", Error, 1, "postern pipe", "another label"},
		{"relay over TCP", listen(okAddr + `protocol = "relay"`), Error, 2, "needs a Unix socket", "unix:"},
		{"impatient Postfix", second("address = \"127.0.0.1:2\"\nprotocol = \"dovecot\"\ndeadline = \"10s\""), Warning, 10, "give up after 10s", "8s"},
		{"prosody", listen(okAddr + `protocol = "prosody"`), Error, 3, "called generic", `"generic"`},
		{"postfix", listen(okAddr + `protocol = "postfix"`), Error, 3, "called tcp_table", `"tcp_table"`},
		{"slip", listen(okAddr + `protocol = "sasslauthd"`), Error, 3, "unknown", "did you mean saslauthd?"},
		{"label", "listen \"a b\" {\nprotocol = \"generic\"\naddress = \"127.0.0.1:1\"\n}\n" + base, Error, 1, "not usable as a name", "letters"},
		{"binary_answers", "listen \"generic\" {\n" + okAddr + "binary_answers = true\n}\n" + base, Error, 3, "ejabberd protocol only", "remove"},
		{"recipient_delimiter of others", listen(okAddr + `recipient_delimiter = "+"`), Error, 3, "lookup tables", "remove"},
		{"recipient_delimiter", "listen \"socketmap\" {\n" + okAddr + "recipient_delimiter = \"x\"\n}\n" + base, Error, 3, "address extension", "\"+\""},
		{"recipient_delimiter @", "listen \"tcp_table\" {\n" + okAddr + "recipient_delimiter = \"+@\"\n}\n" + base, Error, 3, "address extension", "\"+\""},
		{"impatient peer", second("address = \"127.0.0.1:2\"\ndeadline = \"5s\""), Warning, 9, "give up after 5s", "4s"},
		{"default domain", listen(okAddr + `default_domain = "a b"`), Error, 3, "not a domain", "example.org"},
		{"stray default domain", "listen \"ejabberd\" {\n" + okAddr + "default_domain = \"y.example\"\n}\n" + domain(okRefs),
			Warning, 3, "no domain block answers", "add one"},
	})
}

func TestComplaintsAboutBackends(t *testing.T) {
	runComplaints(t, []complaint{
		{"no url", jsxc(okSecret), Error, 1, "no url", "https://"},
		{"no secret", jsxc(okURL), Error, 1, "needs the API secret", "file"},
		{"secret for json", "backend \"json\" \"j\" {\n" + okURL + okSecret + "}\n" + base, Error, 3, "unknown attribute secret", "url"},
		{"relative url", jsxc(okSecret + `url = "/x"`), Error, 3, "absolute http", "https://"},
		{"scheme", jsxc(okSecret + `url = "ftp://h/"`), Error, 3, "absolute http", "https://"},
		{"garbled url", jsxc(okSecret + `url = "https://h:p%%/"`), Error, 3, "absolute http", "https://"},
		{"userinfo", jsxc(okSecret + `url = "https://joe:` + canary + `@h/"`), Error, 3, "user name or password", "remove"},
		{"fragment", jsxc(okSecret + `url = "https://h/#x"`), Error, 3, "fragment", "remove"},
		{"query", "backend \"json\" \"j\" { url = \"https://h/?x\" }\n" + base, Error, 1, "query", "appends a path"},
		{"clear", jsxc(okSecret + `url = "http://cloud.example.org/"`), Warning, 3, "in clear", "https"},
		{"proxy", jsxc(okSecret + okURL + `proxy = "socks5://joe:` + canary + `@h:1"`), Error, 4, "not the URL of a proxy", "environment"},
		{"proxy with a path", jsxc(okSecret + okURL + `proxy = "http://h/` + canary + `"`), Error, 4, "not the URL of a proxy", "environment"},
		{"ca missing", jsxc(okSecret + okURL + `ca_file = "nothing.pem"`), Error, 4, "cannot read the file", "path"},
		{"ca garbled", jsxc(okSecret + okURL + `ca_file = "no-ca.pem"`), Error, 4, "no certificate", "PEM"},
		{"name", "backend \"users\" \"1st\" {}\n" + base, Error, 1, "not usable as a name", "letter first"},
		{"twice", usersBlock + base, Error, 2, "two backends are named users.local", "rename"},
		{"unused", base + "backend \"users\" \"spare\" {}\n", Warning, 3, "no domain uses backend.users.spare", "remove"},
		{"cost", "backend \"users\" \"local\" {\nbcrypt_cost = 17\n}\n" + starBlock, Error, 2, "bcrypt_cost is out of range", "4 to 16"},
		{"admin without password", nextcloud(okURL + `admin_user = "boss"`), Error, 1, "only one of admin_user and admin_password", "file"},
		{"password without admin", nextcloud(okURL + `admin_password = env("TOKEN_SECRET")`), Error, 1, "only one of admin_user", "none"},
		{"admin with a colon", nextcloud(okURL + "admin_user = \"a:b\"\nadmin_password = env(\"TOKEN_SECRET\")"), Error, 3, "colon", "alone"},
		{"nextcloud without url", nextcloud(""), Error, 1, "no url", "https://"},
		{"nextcloud with a query", nextcloud(`url = "https://h/?x"`), Error, 2, "query", "appends a path"},
		{"impatient", nextcloud(okURL + `max_delay = "0s"`), Error, 3, "max_delay is too short", "100ms"},
		{"empty rosters", nextcloud(okURL + `max_members = 0`), Error, 3, "max_members is out of range", "1000000"},
		{"world-readable secret", jsxc(okURL + `secret = file("open.secret")`), Warning, 3, "/etc/postern/open.secret", "chmod o-rwx"},
	})
}

func TestComplaintsAboutDomains(t *testing.T) {
	runComplaints(t, []complaint{
		{"no backends", domain(""), Error, 2, "has no backends", "backend.KIND.NAME"},
		{"empty list", domain("backends = []"), Error, 3, "empty", "backend.KIND.NAME"},
		{"no list", domain("backends = backend.users.local"), Error, 3, "must be a list", "backends = [...]"},
		{"quoted", domain(`backends = ["backend.users.local"]`), Error, 3, "does not refer to a backend", "without quotes"},
		{"too short", domain("backends = [backend.users]"), Error, 3, "does not refer to a backend", "KIND.NAME"},
		{"other root", domain("backends = [backends.users.local]"), Error, 3, "does not refer to a backend", "backend.KIND"},
		{"slip", domain("backends = [backend.users.locla]"), Error, 3, "no backend.users.locla", "did you mean backend.users.local?"},
		{"unknown", domain("backends = [backend.jsxc.cloud]"), Error, 3, "no backend.jsxc.cloud", "known here: backend.users.local"},
		{"none", "domain \"x\" { backends = [backend.users.a] }\n", Error, 1, "no backend.users.a", `backend "users" "a"`},
		{"login without a user", logins(`["{user}", "{domain}"]`), Error, 4, "same login name for all", "{user}@{domain}"},
		{"login of something else", logins(`"{user}{mail}"`), Error, 4, "braces", "{domain}"},
		{"login with a colon", logins(`"x:{user}"`), Error, 4, "colon", "no login name"},
		{"login twice", logins(`["{user}", "{user}"]`), Error, 4, "listed twice", "remove"},
		{"many logins", logins(`["{user}", "a{user}", "b{user}", "c{user}", "d{user}"]`), Error, 4, "too many rules", "keep 4"},
		{"no login", logins(`[]`), Error, 4, "empty list", "leave the line out"},
		{"login for nobody", domain(okRefs + "login = [\"{user}\"]\n"), Warning, 4, "no effect", "nextcloud"},
		{"listed twice", domain("backends = [backend.users.local, backend.users.local]"), Error, 3, "listed twice", "remove"},
		{"twice", domain(okRefs) + "domain \"X.EXAMPLE\" { backends = [backend.users.local] }\n", Error, 6, "configured twice", "join"},
		{"fallback twice", base + starBlock, Error, 3, "configured twice", "join"},
		{"idn twice", usersBlock + "domain \"bücher.example\" { backends = [backend.users.local] }\n" +
			"domain \"xn--bcher-kva.example\" { backends = [backend.users.local] }\n", Error, 3, "configured twice", "xn--"},
		{"bad label", usersBlock + "domain \"a b\" { backends = [backend.users.local] }\n", Error, 2, "not a domain", "example.org"},
		{"wildcard", usersBlock + "domain \"*.example\" { backends = [backend.users.local] }\n", Error, 2, "not a domain", `"*" for every other`},
		{"auth_domain", domain(okRefs + `auth_domain = "a b"`), Error, 4, "auth_domain is not a domain", "cloud"},
		{"no auth_domain", domain(okRefs + `auth_domain = []`), Error, 4, "empty list", "leave the line out"},
		{"auth_domain numbers", domain(okRefs + `auth_domain = [5]`), Error, 4, "takes texts", "quotes"},
		{"jsxc without secret", domain(okRefs + `token "jsxc" {}`), Error, 4, "no secret", "secrets ="},
		{"totp without seed", domain(okRefs + "token \"totp\" {\nsecrets = [\"x\"]\n}"), Error, 4, "otp_seed", "seed ="},
		{"totp nonces", domain(okRefs + "token \"totp\" {\nsecrets = [\"x\"]\nseed = \"AAAAAAAA\"\nnonce_digits = 65\n}"), Error, 7, "nonce_digits", "64"},
		{"totp without secrets", domain(okRefs + "token \"totp\" {\nseed = \"AAAAAAAA\"\n}"), Error, 4, "token_secret", "secrets ="},
		{"seed", domain(okRefs + "token \"totp\" {\nsecrets = [\"x\"]\nseed = \"" + canary + "1\"\n}"), Error, 6, "not base32", "2 to 7"},
		{"storage", domain(okRefs + "cache {\nstorage = \"dsk\"\n}"), Error, 5, `storage "dsk" is unknown`, "did you mean disk?"},
		{"query over verify", domain(okRefs + "cache {\nquery_ttl = \"2d\"\n}"), Warning, 4, "query_ttl is longer", "shorter"},
		{"verify over outage", domain(okRefs + "cache {\noutage_ttl = \"2h\"\n}"), Warning, 4, "verify_ttl is longer", "longest"},
		{"secrets", domain(okRefs + "cache {\nsecrets = 17\n}"), Error, 5, "secrets is out of range", "1 to 16"},
		{"roster", domain(okRefs + `roster "ejabberd" {}`), Error, 4, "neither api nor ejabberdctl is given", "api ="},
		{"two rosters", domain(okRefs + "roster \"ejabberd\" { api = \"http://127.0.0.1/api\" }\nroster \"ejabberd\" {}"), Error, 5, "two roster blocks", "join"},
		{"roster both", domain(okRefs + "roster \"ejabberd\" {\napi = \"http://127.0.0.1/api\"\nejabberdctl = \"/x\"\n}"), Error, 6, "both ejabberdctl and api", "keep api"},
		{"roster token", domain(okRefs + "roster \"ejabberd\" {\nejabberdctl = \"/x\"\ntoken = file(\"/etc/postern/cloud.secret\")\n}"), Error, 6, "token is for the api", "remove"},
		{"roster url", domain(okRefs + "roster \"ejabberd\" {\napi = \"127.0.0.1/api\"\n}"), Error, 5, "not an absolute", "https://"},
		{"roster window", domain(okRefs + "roster \"ejabberd\" {\nejabberdctl = \"/x\"\nwindow = \"0s\"\n}"), Error, 6, "window is too short", "10ms"},
		{"roster pattern", domain(okRefs + "roster \"ejabberd\" {\nejabberdctl = \"/x\"\ninclude = [\"" + strings.Repeat("x", 300) + "\"]\n}"), Error, 6, "very long pattern", "*"},
		{"roster foreign", domain(okRefs + "roster \"ejabberd\" {\nejabberdctl = \"/x\"\nforeign = [\"a b\"]\n}"), Error, 6, "no domain", "every domain"},
		{"roster groups_file", domain(okRefs + `roster "prosody" {}`), Error, 4, "needs a groups_file", "groups_file ="},
		{"roster of all", strings.Replace(domain(okRefs+`roster "prosody" { groups_file = "g" }`), `"x.example"`, `"*"`, 1), Error, 4, "for one host", "of its own"},
		{"roster file twice", domain(okRefs+`roster "prosody" { groups_file = "g" }`) +
			"domain \"y.example\" {\nbackends = [backend.users.local]\nroster \"prosody\" { groups_file = \"/var/lib/postern/g\" }\n}\n", Error, 8, "writes the same groups_file", "of its own"},
		{"roster type", domain(okRefs + "roster \"ejabberd\" {\napi = 5\n}"), Error, 5, "api must be a string", "quotes"},
		{"min_slots", nextcloud(okURL + "slots = 2\nmin_slots = 3"), Error, 4, "min_slots is more than slots", "smaller number"},
		{"former queue", nextcloud(okURL + "queue = 64"), Warning, 3, "refuses a burst", "leave the line out"},
		{"level", base + "log {\nlevel = \"warning\"\n}\n", Error, 4, `level "warning" is unknown`, "debug, info, warn"},
	})
}

// TestComplaintsAboutOIDC: what would let in others than was meant is an error.
func TestComplaintsAboutOIDC(t *testing.T) {
	const issuer, claim = "issuer = \"https://id.example.org\"\n", "username_claim = \"preferred_username\"\n"
	idp := func(text string) string {
		return "backend \"oidc\" \"c\" {\n" + text + "\n}\ndomain \"x.example\" { backends = [backend.oidc.c] }\n"
	}
	aud := "audience = \"postern\"\n"
	ofDomain := func(accept, line string) string {
		return "backend \"oidc\" \"c\" {\n" + issuer + claim + aud + "client_id = \"x\"\naccept = \"" + accept + "\"\n}\ndomain \"x.example\" {\n" + line + "\nbackends = [backend.oidc.c]\n}\n"
	}
	if _, problems := parse(t, ofDomain("password_grant", "login = \"{user}@{domain}\"")); len(problems) > 0 {
		t.Errorf("login names of the password grant: %v", problems)
	}
	runComplaints(t, []complaint{
		{"no issuer", idp(claim + aud), Error, 1, "no issuer", "issuer ="},
		{"issuer", idp("issuer = \"id.example.org\"\n" + claim + aud), Error, 2, "issuer is not an absolute", "https://"},
		{"issuer with a query", idp("issuer = \"https://id.example.org/?x\"\n" + claim + aud), Error, 2, "issuer holds a query", "appends"},
		{"in clear text", idp("issuer = \"http://id.example.org\"\n" + claim + aud), Warning, 2, "clear text", "https"},
		{"no claim", idp(issuer + aud), Error, 1, "which claim names the user", "preferred_username"},
		{"e-mail without a domain", idp(issuer + aud + "username_claim = \"email\"\nusername_domain = false"), Error, 5, "has a domain", "remove the line"},
		{"change_admins", ofDomain("password_grant", "change_admins = true"), Warning, 9, "no effect", "nextcloud"},
		{"login for tokens", ofDomain("jwt", "login = \"{user}@{domain}\""), Warning, 9, "no effect", "password_grant"},
		{"no audience", idp(issuer + claim), Error, 1, "no audience", "audience mapper"},
		{"neither audience nor clients", idp(issuer + claim + "client_id = \"x\"\naccept = \"introspection\""), Error, 1, "neither audience nor clients", "clients ="},
		{"introspection without a client", idp(issuer + claim + aud + "accept = [\"jwt\", \"introspection\"]"), Error, 1, "no client_id", "client_secret"},
		{"password grant without a client", idp(issuer + claim + "accept = \"password_grant\""), Error, 1, "no client_id", "client_secret"},
		{"secret alone", idp(issuer + claim + aud + "client_secret = file(\"oidc.secret\")"), Error, 5, "without client_id", "add client_id"},
		{"accept", idp(issuer + claim + aud + "accept = [\"jwt\", \"pasword_grant\"]"), Error, 5, "accept \"pasword_grant\" is unknown", "did you mean password_grant?"},
		{"accept nothing", idp(issuer + claim + aud + "accept = []"), Error, 5, "empty list", "leave the line out"},
		{"symmetric algorithm", idp(issuer + claim + aud + "algorithms = [\"HS256\"]"), Error, 5, "algorithms \"HS256\" is unknown", "RS256"},
		{"no algorithm", idp(issuer + claim + aud + "algorithms = [\"none\"]"), Error, 5, "algorithms \"none\" is unknown", "RS256"},
		{"leeway", idp(issuer + claim + aud + "leeway = \"1h\""), Error, 5, "leeway is too long", "5m"},
		{"scopes in one text", idp(issuer + claim + aud + "required_scope = \"mail profile\""), Error, 5, "holds a space", "of its own"},
		{"url", idp(issuer + claim + aud + "url = \"https://id.example.org\""), Error, 5, "url", ""},
		{"two issuers", "backend \"oidc\" \"a\" {\n" + issuer + claim + aud + "}\nbackend \"oidc\" \"b\" {\nissuer = \"https://other.example.org\"\n" + claim + aud +
			"}\ndomain \"x.example\" {\nbackends = [backend.oidc.a, backend.oidc.b]\n}\n", Error, 12, "two issuers", "domain of its own"},
	})
}

// TestLiteralSecret warns about a literal in a file that others can read, and only
// then.
func TestLiteralSecret(t *testing.T) {
	src := []byte(jsxc(okURL+"secret = \""+canary+"\"") +
		"domain \"x.example\" {\nbackends = [backend.jsxc.c]\ntoken \"jsxc\" {\nsecrets = [\"" + canary + "\"]\n}\n}\n")
	for _, c := range []struct {
		file string
		want int
	}{{"/etc/postern/readable.hcl", 1}, {"/etc/postern/test.hcl", 0}} {
		cfg, problems := Parse(c.file, src, testEnv(t))
		if cfg == nil || problems.Count(Warning) != c.want {
			t.Errorf("%s: %d warnings, want %d: %s", c.file, problems.Count(Warning), c.want, render(problems))
		}
		if strings.Contains(render(problems), canary) {
			t.Errorf("%s: the warning shows the secret", c.file)
		}
	}
}

// TestManyProblems keeps the order of the file, errors and warnings together.
func TestManyProblems(t *testing.T) {
	_, problems := Parse("f", []byte("zz = 1\nlisten \"generic\" { address = \":1\" }\nyy = 2\n"+base+"xx = 3\n"), Env{})
	var lines []string
	for _, p := range problems {
		lines = append(lines, fmt.Sprintf("%d%s", p.Line, p.Severity))
	}
	if got := strings.Join(lines, " "); got != "1error 2warning 3error 6error" {
		t.Errorf("order: %s", got)
	}
}

// A binary file has an error for each byte: few of them are reported, and quickly.
func TestComplaintsAboutAnotherFile(t *testing.T) {
	binary := strings.Repeat("\x03", 50_000)
	_, problems := Parse("/bin/true", []byte(binary), testEnv(t))
	if n := len(problems); n != maxSyntax+1 || !strings.Contains(problems[n-1].Message, "49981 further errors") {
		t.Errorf("%d problems, the last is %s", n, problems[n-1])
	}
	list := "domain \"*\" {\n  backends = [" + strings.Repeat("x, ", 5_000) + "]\n}\n"
	_, problems = Parse("/etc/postern/config.hcl", []byte(list), testEnv(t))
	if n := len(problems); n < 5_000 || problems[0].Source == "" || problems[n-1].Source != "" {
		t.Errorf("%d problems, the last is %s", n, problems[n-1])
	}
}
