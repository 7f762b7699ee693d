package manual

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"postern/cmd/e2e/harness"
	"postern/internal/manual"
)

// configFile is where postern looks for its configuration.
const configFile = "/etc/postern/config.hcl"

// runningConfig is a configuration with own users.
const runningConfig = `listen "dovecot" { address = "127.0.0.1:23668" }
backend "users" "local" {}
domain "example.org" { backends = [backend.users.local] }
`

// reader carries out a page of the manual on a machine, block by block.
type reader struct {
	*machine
	page      *manual.Page
	authority *authority
	input     string // for the next block of commands
	status    int    // of the next block of commands
	skip      bool   // the next block
	here      bool   // the next commands are for the test's own machine
	demo      bool   // the same, and they run until they are stopped
	clone     string // folder of a clone of the repository; empty: there is none yet
	printed   bool   // the next block of commands was printed by an earlier one
	said      string // by the commands so far
	use       bool   // the next configuration
	other     bool   // the next block is for another release
	ran       int    // blocks of commands
	typed     int    // commands in them
	logins    int
	idp       *provider // nil: there is none
	last      string    // what the last commands printed
}

// follow carries out a page. The instructions in its comments are:
//
//	test: nextcloud HOST users NAME=PASSWORD...  an imitation of Nextcloud answers there
//	test: provider HOST USER                     an OpenID Connect provider answers at /realms/staff there
//	test: certificate NAME                       as Let's Encrypt has issued it
//	test: here                                   the next commands are typed in a clone of the repository, where Go is
//	test: demo                                   the same; they start a server, and print commands that log in
//	test: installed                              postern's package is
//	test: running                                the same, with a configuration and alice@example.org, "secret"
//	test: xcauth ADDRESS PASSWORD                an xcauth that knows the password, with Nextcloud down
//	test: ejabberd DOMAIN xcauth                 an ejabberd that starts xcauth
//	test: prosody DOMAIN                         the reader's Prosody has a certificate for it
//	test: docker FOLDER                          there is a container engine, and postern's image in the folder
//	test: command TEXT                           what the reader does for the next commands
//	test: file PATH TEXT                         a file that the reader has
//	test: input TEXT                             is typed in the next commands
//	test: input token USER                       the same with a token of the provider
//	test: status N                               the next commands may end with it
//	test: elsewhere TEST                         carries out the next block
//	test: unavailable WHAT                       would read the next block
//	test: printed                                commands so far have printed the next ones
//	test: use                                    the next configuration, as the whole of it
//	test: login KIND ADDRESS PASSWORD            by a client: xmpp, scram (the same, by that), imap or smtp
//	                                             The password "token" is one of the provider, and "printed" the first
//	                                             line that the last commands printed
//	test: mail ADDRESS PASSWORD                  sent by a client to the same address arrives there
//	test: login token ADDRESS KIND               by xmpp, with a token that postern issues
//	test: release NAME                           the only one whose servers can do this
//	test: only NAME                              the next file is for this release
func (r *reader) follow() {
	r.T.Helper()
	for _, b := range r.page.Blocks {
		switch b.Kind {
		case manual.Comment:
			if text, ours := strings.CutPrefix(b.Text, "test: "); ours {
				r.instruction(b, strings.Fields(text))
			}
		case manual.Code:
			r.code(b)
		}
		if r.T.Failed() {
			return
		}
	}
}

// at is the place of a block in the sources.
func (r *reader) at(b manual.Block) string { return fmt.Sprintf("%s.md:%d", r.page.Topic, b.Line) }

func (r *reader) instruction(b manual.Block, words []string) {
	r.T.Helper()
	switch what, rest := words[0], words[1:]; {
	case what == "nextcloud" && len(rest) > 2:
		r.authority.nextcloud(r.machine, rest[0], rest[2:])
	case what == "provider" && len(rest) == 2:
		r.idp = r.authority.provider(r.machine, rest[0])
	case what == "certificate" && len(rest) == 1:
		r.certificate(rest[0])
	case what == "prosody" && len(rest) == 1:
		r.certificate(rest[0])
		r.Must("prosodyctl --root cert import " + rest[0] + " /etc/letsencrypt/live")
	case what == "ejabberd" && len(rest) == 2:
		r.ejabberd(rest[0], rest[1])
	case what == "docker" && len(rest) == 1:
		r.docker(rest[0])
	case what == "command" && len(rest) > 0:
		r.Must(strings.Join(rest, " "))
	case what == "file" && len(rest) > 0:
		r.Write(rest[0], strings.Join(rest[1:], " ")+"\n", 0o644)
	case what == "input" && len(rest) == 2 && rest[0] == "token":
		r.input = r.idp.token(rest[1]) + "\n"
	case what == "input" && len(rest) == 1:
		r.input = rest[0] + "\n"
	case what == "elsewhere" && len(rest) == 1, what == "unavailable" && len(rest) > 0:
		r.skip = true
	case what == "here" && len(rest) == 0, what == "demo" && len(rest) == 0:
		r.skip, r.here, r.demo = !full(), full(), what == "demo" // make test has tests of their own for them
	case what == "status" && len(rest) == 1:
		r.status, _ = strconv.Atoi(rest[0])
	case what == "printed" && len(rest) == 0:
		r.printed = true
	case what == "login" && len(rest) == 3:
		r.login(b, rest[0], rest[1], r.secret(rest[1], rest[2]))
	case what == "mail" && len(rest) == 2:
		r.deliver(b, rest[0], rest[1])
	case what == "use" && len(rest) == 0:
		r.use = true
	case what == "installed" && len(rest) == 0:
		r.Must("apt install ./postern_*.deb")
	case what == "running" && len(rest) == 0:
		r.Must("apt install ./postern_*.deb")
		r.Write(configFile, runningConfig, 0o644)
		r.Must("echo secret | postern user add alice@example.org; systemctl enable --now postern")
	case what == "xcauth" && len(rest) == 2:
		r.xcauth(rest[0], rest[1])
	case what == "only" && len(rest) == 1:
		r.other = !strings.Contains(harness.ReadText(r.Path("/etc/os-release")), "VERSION_CODENAME="+rest[0]+"\n")
	case what == "release":
	default:
		r.T.Fatalf("%s: unknown instruction %q", r.at(b), words)
	}
}

func (r *reader) code(b manual.Block) {
	r.T.Helper()
	language, file, _ := strings.Cut(b.Info, " ")
	text := strings.Join(b.Lines, "\n") + "\n"
	if r.other {
		r.other = false
		return
	}
	if file != "" && file[0] != '+' && file[0] != '/' {
		file = filepath.Join("/root", file) // where commands run
	}
	switch {
	case r.skip:
		r.skip = false
	case language == "sh" && r.here:
		r.build(b, text)
		r.here = false
	case language == "sh":
		r.commands(b, text)
		r.printed, r.input, r.status = false, "", 0
	case strings.HasPrefix(file, "+"):
		if _, err := os.Stat(r.Path(file[1:])); err != nil {
			r.T.Fatalf("%s: lines are added to a file that is not there: %v", r.at(b), err)
		}
		r.Add(file[1:], text)
	case file != "":
		r.Write(file, text, 0o644)
	case language == "hcl" && r.use:
		r.Write(configFile, text, 0o644)
		r.use = false
	}
}

// commands carries out a block. On a failure it prints what a reader would look at next.
func (r *reader) commands(b manual.Block, text string) {
	r.T.Helper()
	r.ran++
	r.typed += strings.Count(text, "\n") - strings.Count(text, "\\\n")
	for line := range strings.Lines(text) {
		if r.printed && !strings.Contains(r.said, ": "+line) {
			r.T.Fatalf("%s: not printed so far: %s", r.at(b), line)
		}
	}
	started := time.Now()
	out, status := r.Run(r.input, text)
	r.said, r.last = r.said+out, out
	r.T.Logf("%s: exit status %d after %v\n%s%s", r.at(b), status, time.Since(started).Round(time.Millisecond), text, out)
	if status != 0 && status != r.status {
		logs, _ := r.Run("", "systemctl --no-pager --failed || true; journalctl --no-pager -n 300 | grep -v ' systemd' | tail -n 60; ls -la /etc/postern /run/postern || true")
		r.T.Fatalf("%s: these commands fail with status %d\n%s", r.at(b), status, logs)
	}
}

// secret is what a password stands for.
func (r *reader) secret(address, password string) string {
	switch password {
	case "token":
		user, _, _ := strings.Cut(address, "@")
		return r.idp.token(user)
	case "printed":
		line, _, _ := strings.Cut(r.last, "\n")
		return strings.TrimSpace(line)
	}
	return password
}

// login logs in by a real client, which a wrong password must not do. Servers that have just been
// restarted may not listen yet.
func (r *reader) login(b manual.Block, kind, address, password string) {
	r.T.Helper()
	r.logins++
	try := func(password string) (string, bool) {
		switch kind {
		case "xmpp":
			return r.xmpp(address, "sasl1", password)
		case "scram":
			return r.xmpp(address, "SCRAM-SHA-256", password)
		case "token":
			return r.token(address, password)
		case "imap", "smtp":
			return r.mail(kind, address, password)
		}
		r.T.Fatalf("%s: there is no client for %q", r.at(b), kind)
		return "", false
	}
	end, out, ok := time.Now().Add(harness.Timeout), "", false
	for !ok && time.Now().Before(end) {
		if out, ok = try(password); !ok {
			time.Sleep(200 * time.Millisecond)
		}
	}
	if !ok {
		logs, _ := r.Run("", "journalctl --no-pager -n 300 | grep -v ' systemd' | tail -n 60; tail -n 40 /var/log/prosody/* /var/log/ejabberd/* /var/log/mail.log /var/log/exim4/* 2>/dev/null || true")
		r.T.Fatalf("%s: %s login of %s: %s\n%s", r.at(b), kind, address, out, logs)
	}
	if out, ok := try(password + "x"); ok {
		r.T.Errorf("%s: a wrong password logs in: %s", r.at(b), out)
	}
}

// xmpp logs in by slixmpp of Debian 13, over TLS, in one of its ways.
func (r *reader) xmpp(address, way, password string) (string, bool) {
	got := r.Client(trixie(r.T), "/usr/bin/python3", "-c", harness.ReadText("../peers/testdata/slixmpp/login.py"), "5222", address, way, password)
	return got.Out + got.Err, got.Code == 0 && strings.TrimSpace(got.Out) == "success"
}

// token logs in by slixmpp, with a new token of a kind; a kind with an x behind it has one behind the token.
func (r *reader) token(address, kind string) (string, bool) {
	kind, wrong := strings.CutSuffix(kind, "x")
	token := strings.TrimSpace(r.Must("sudo -u postern postern token issue --kind " + kind + " " + address))
	if wrong {
		token += "x"
	}
	return r.xmpp(address, "sasl1", token)
}

// mail logs in by curl, over TLS.
func (r *reader) mail(kind, address, password string) (string, bool) {
	request := "NOOP"
	if kind == "imap" {
		request = "CAPABILITY"
	}
	return r.curl(kind, address, password, "--request", request)
}

// deliver sends a mail, which must arrive; one to a user that does not exist is refused.
func (r *reader) deliver(b manual.Block, address, password string) {
	r.T.Helper()
	letter := filepath.Join(r.T.TempDir(), "letter")
	harness.WriteFile(r.T, letter, "From: "+address+"\r\nTo: "+address+"\r\nSubject: test\r\n\r\nHello\r\n")
	send := func(to string) (string, bool) {
		return r.curl("smtp", address, password, "--mail-from", address, "--mail-rcpt", to, "--upload-file", letter)
	}
	if out, ok := send(address); !ok {
		r.T.Fatalf("%s: %s", r.at(b), out)
	}
	if out, ok := send("nosuch-" + address); ok || !strings.Contains(out, "550") {
		r.T.Errorf("%s: mail to a user that does not exist: %s", r.at(b), out)
	}
	end, out := time.Now().Add(harness.Timeout), ""
	for !strings.Contains(out, "MESSAGES 1") {
		if time.Now().After(end) {
			logs, _ := r.Run("", "postqueue -p; journalctl --no-pager -n 300 | grep -v ' systemd' | tail -n 60")
			r.T.Fatalf("%s: no mail arrives: %s\n%s", r.at(b), out, logs)
		}
		time.Sleep(200 * time.Millisecond)
		out, _ = r.curl("imap", address, password, "--request", "STATUS INBOX (MESSAGES)")
	}
}

// curl makes a request of a mail server over TLS.
func (r *reader) curl(kind, address, password string, request ...string) (string, bool) {
	r.T.Helper()
	_, domain, _ := strings.Cut(address, "@")
	ca := r.T.TempDir() + "/ca.pem"
	harness.WriteFile(r.T, ca, r.authority.pem)
	host, port := "mail."+domain, "587"
	if kind == "imap" {
		port = "143"
	}
	args := append([]string{"curl", "--silent", "--show-error", "--max-time", "60", "--cacert", ca, "--ssl-reqd",
		"--connect-to", host + "::127.0.0.1:", "--user", address + ":" + password, kind + "://" + host + ":" + port + "/"}, request...)
	got := r.Client("/", args...)
	return got.Out + got.Err, got.Code == 0
}

// certificate makes a certificate where Let's Encrypt's program puts it.
func (r *reader) certificate(name string) {
	r.T.Helper()
	chain, key := r.authority.certificate(name)
	r.Write("/etc/letsencrypt/live/"+name+"/fullchain.pem", chain, 0o644)
	r.Write("/etc/letsencrypt/live/"+name+"/privkey.pem", key, 0o600)
	r.Add("/etc/hosts", "127.0.0.1 "+name+"\n")
}

// ejabberd installs an ejabberd that starts a program for its passwords.
func (r *reader) ejabberd(domain, program string) {
	r.T.Helper()
	r.Write("/usr/sbin/"+program, "#!/bin/sh\nexec sleep infinity\n", 0o755)
	r.Must("apt install ejabberd; sed -i 's/^  - localhost$/  - " + domain + "/' /etc/ejabberd/ejabberd.yml")
	r.Add("/etc/ejabberd/ejabberd.yml", "auth_method: external\nextauth_program: \"/usr/sbin/"+program+" -t ejabberd\"\nauth_use_cache: false\n")
	r.Must("systemctl restart ejabberd; ejabberdctl started")
}

// xcauth installs what is left of an xcauth: its files, its units and its interpreter.
func (r *reader) xcauth(address, password string) {
	r.T.Helper()
	x := harness.NewXcauth(r.T, "https://cloud.example.org/index.php/apps/ojsxc/ajax/externalApi.php", "a-secret", "")
	x.Knows(r.T, address, password, time.Minute)
	r.Copy(x.DB, "/var/lib/xcauth/xcauth.sqlite3", 0o644)
	r.Write("/etc/xcauth.conf", strings.NewReplacer(x.DB, "/var/lib/xcauth/xcauth.sqlite3", x.Dir+"/log", "/var/log/xcauth").Replace(harness.ReadText(x.Conf)), 0o644)
	r.Write("/etc/systemd/system/xcauth.service", "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n", 0o644)
	r.Write("/etc/systemd/system/xcejabberd.socket", "[Socket]\nListenStream=23662\nService=xcauth.service\n[Install]\nWantedBy=sockets.target\n", 0o644)
	r.Must("apt install python3; mkdir -p /var/log/xcauth; systemctl daemon-reload; systemctl enable --now xcejabberd.socket; systemctl enable xcauth.service")
}
