package main

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// canaryWorld is a daemon with every protocol, every backend and every token.
type canaryWorld struct {
	t            *testing.T
	data, config string
	app, cloud   *webApp
	gate         chan struct{} // what hangs at a backend waits for it
}

func newCanaryWorld(t *testing.T) *canaryWorld {
	w := &canaryWorld{t: t, data: filepath.Join(t.TempDir(), "data"), gate: make(chan struct{})}
	secret := filepath.Join(t.TempDir(), "api.secret")
	write(t, secret, canarySecret+"\n")
	w.app, w.cloud = newWebApp(t, w.backend("good")), newWebApp(t, w.backend("good"))
	remote := func(url, more string) string {
		return "  url = \"" + url + "\"\n  breaker_failures = 1000\n" + more + "}\n"
	}
	const domain = "domain %q {\n  backends = [backend.%s]\n  cache {\n    bcrypt_cost = 4\n    %s\n  }\n%s}\n"
	totp := "  token \"totp\" {\n    seed    = file(\"" + secret + ".seed\")\n    secrets = [file(\"" + secret + ".totp\")]\n  }\n"
	write(t, secret+".seed", canarySeed)
	write(t, secret+".totp", canaryTOTP)
	w.config = configFile(t, w.data, metricsBlock+usersConfig+
		"listen \"hasty\" {\n  protocol = \"generic\"\n  address  = \"127.0.0.1:0\"\n  deadline = \"400ms\"\n}\n"+
		"backend \"json\" \"app\" {\n"+remote(w.app.URL, "")+
		"backend \"json\" \"narrow\" {\n"+remote(w.app.URL, "  slots = 1\n  queue = 0\n")+
		"backend \"jsxc\" \"cloud\" {\n"+remote(w.cloud.URL, "  secret = file(\""+secret+"\")\n")+
		"backend \"nextcloud\" \"files\" {\n"+remote(w.app.URL, "  admin_user = \"boss\"\n  admin_password = file(\""+secret+"\")\n")+
		"backend \"json\" \"dead\" {\n"+remote(deadURL(t), "")+
		fmt.Sprintf(domain, "json.example", "json.app", "query_ttl = \"0s\"", "")+
		fmt.Sprintf(domain, "jsxc.example", "jsxc.cloud", "query_ttl = \"0s\"", totp)+
		fmt.Sprintf(domain, "nc.example", "nextcloud.files", "query_ttl = \"0s\"", "")+
		fmt.Sprintf(domain, "narrow.example", "json.narrow", "", "")+
		fmt.Sprintf(domain, "dead.example", "json.dead", "", "")+
		"log { level = \"debug\" }\n")
	return w
}

// backend is a web application for all kinds of HTTP backends. In every state but good it
// sends back what it was sent, secrets and all.
func (w *canaryWorld) backend(state string) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, password, basic := r.BasicAuth()
		body = append(body, password...)
		code := http.StatusOK
		switch state {
		case "good":
			yes := strings.Contains(string(body), canaryRight) || !strings.Contains(string(body), "canary")
			reply := map[bool]string{true: jsonYes, false: jsonNo}[yes]
			if r.Header.Get("X-JSXC-SIGNATURE") != "" {
				reply = map[bool]string{true: `{"result":"success","data":{"uid":"joe","isUser":true,"sharedRoster":{}}}`, false: `{"result":"noauth"}`}[yes]
			}
			if basic {
				reply = `{"ocs":{"meta":{"statuscode":200},"data":{"id":"joe","groups":[]}}}`
			}
			_, _ = io.WriteString(rw, reply)
			return
		case "hangs":
			<-w.gate
		case "drops":
			panic(http.ErrAbortHandler)
		case "redirects":
			rw.Header().Set("Location", "/?"+string(body))
			code = http.StatusFound
		case "says error":
			body = fmt.Appendf(nil, `{"result":"error","success":%q,"data":{"msg":%[1]q},"message":%[1]q}`, body)
		case "talks too much":
			body = []byte(strings.Repeat(string(body), 1+(2<<20)/max(len(body), 1)))
		case "garbage":
		default:
			_, _ = fmt.Sscan(state, &code)
		}
		rw.Header().Set("X-Echo", strings.ToValidUTF8(string(body[:min(len(body), 200)]), "?"))
		rw.WriteHeader(code)
		_, _ = rw.Write(body)
	}
}

// backendStates ends with the one after which a backend is left alone for a while.
var backendStates = []string{"500", "502", "503", "401", "403", "404", "418", "redirects", "garbage", "says error",
	"talks too much", "drops", "429"}

// accounts makes accounts by the command line, which waits for the password on its input.
func (w *canaryWorld) accounts(s *spy) {
	p := s.startIdle("user", "add", "joe@dom.example")
	p.send(canaryRight + "\n")
	out, code := p.finish()
	if code != 0 {
		w.t.Fatalf("exit status %d\n%s", code, p.log.String())
	}
	s.saw("output of user add", out+p.log.String())
	for _, stdin := range []string{canaryRight + "\x00\n", strings.Repeat(canaryRight, 1000), canaryRight + "\xff\n", canaryRight + "\n"} {
		s.command(stdin, "user", "add", "joe@dom.example")
	}
	s.command(canaryNew+"\n", "user", "add", "ann@dom.example")
	s.command(canaryWrong, "user", "passwd", "nobody@dom.example")
}

// everyAnswer gets each protocol each of its answers.
func (w *canaryWorld) everyAnswer(s *spy, d *server) {
	jsxc, totp := s.token("joe@jsxc.example"), s.token("--kind", "totp", "joe@jsxc.example")
	for _, password := range []string{canaryRight, canaryRight, canaryWrong, canaryWrong, jsxc, totp, totp} {
		for _, domain := range []string{"dom.example", "json.example", "jsxc.example", "nc.example", "dead.example", "unknown.example"} {
			colon := ":joe:" + domain + ":" + password
			for _, op := range []string{"auth", "removeuser3", "setpass", "tryregister", "certauth"} {
				if op == "setpass" && password != canaryRight {
					continue // joe keeps the right one
				}
				if op == "removeuser3" && password == canaryRight {
					continue
				}
				s.send(d.address("ejabberd"), frame(op+colon))
				s.send(d.address("generic"), op+colon+"\n")
			}
			s.send(d.address("saslauthd"), fields("joe", password, "imap", domain)+frame("192.0.2.1;1234"))
			for minor := range 2 {
				s.send(d.address("dovecot"), dovecotLogins(minor, "joe@"+domain, password))
			}
		}
	}
	w.backendHangs(d)
}

// dovecotLogins is a login by each mechanism of the dovecot protocol.
func dovecotLogins(minor int, user, password string) string {
	return fmt.Sprintf("VERSION\t1\t%d\nCPID\t1\nAUTH\t1\tPLAIN\tservice=smtp\tresp=%s\nAUTH\t2\tLOGIN\tservice=smtp\tresp=%s\nCONT\t2\t%s\n",
		minor, b64("\x00"+user+"\x00"+password), b64(user), b64(password))
}

// backendHangs gets the answers that are given while a backend takes its time.
func (w *canaryWorld) backendHangs(d *server) {
	w.app.becomes(w.backend("hangs"))
	patient, one, two := connect(w.t, d.address("generic")), connect(w.t, d.address("generic")), connect(w.t, d.address("generic"))
	crowd := "auth:crowd:json.example:" + canaryRight + "\n" // identical requests are joined
	say(w.t, connect(w.t, d.address("hasty")), "auth:hasty:json.example:"+canaryRight+"\nisuser:hasty:json.example\n", "0\n0\n")
	say(w.t, patient, crowd+crowd, "")
	say(w.t, one, "auth:one:narrow.example:"+canaryRight+"\n", "") // one of these two finds no room
	say(w.t, two, "auth:two:narrow.example:"+canaryWrong+"\n", "")
	d.eventually("overload", func() bool { return strings.Contains(d.log.String(), "source=overload") })
	close(w.gate)
	say(w.t, patient, "", "0\n0\n") // for it hung, and then talked garbage
	say(w.t, one, "", "0\n")
	say(w.t, two, "", "0\n")
	w.app.becomes(w.backend("good"))
}

// everyMalformedFrame sends what no protocol takes, with a canary in it.
func (w *canaryWorld) everyMalformedFrame(s *spy, d *server) {
	for _, text := range []string{
		canaryRight, "auth:" + canaryRight, "auth:joe:" + canaryRight, "auth:jo\x01e:dom.example:" + canaryRight,
		"auth:joe:do main:" + canaryRight, "auth:joe:a..b:" + canaryRight, "AUTH:joe:dom.example:" + canaryRight, "bogus:joe:dom.example:" + canaryRight,
		"auth:joe:dom.example:" + canaryRight + "\x00", "auth:joe:dom.example:" + canaryRight + "\xff", "auth::dom.example:" + canaryRight,
		"auth:joe::" + canaryRight, "isuser:joe:dom.example:" + canaryRight, "removeuser:joe:dom.example:" + canaryRight,
		"roster:joe:dom.example:" + canaryRight, "auth:joe:dom.example:" + strings.Repeat(canaryRight, 1000),
		"auth:" + strings.Repeat(canaryRight, 2000), "get " + canaryRight, "get joe@dom.example " + canaryRight,
		"put joe@dom.example " + canaryRight, "get %zz" + canaryRight + "@dom.example", "get \"" + canaryRight + "@dom.example",
	} {
		for _, listener := range []string{"generic", "tcp_table"} {
			s.send(d.address(listener), text+"\n")
			s.send(d.address(listener), text) // and the end in the middle of it
		}
		s.send(d.address("ejabberd"), frame(text))
		s.send(d.address("ejabberd"), frame(text + "more")[:len(text)])
	}
	for _, input := range []string{
		fields("joe", canaryRight, "imap\x00", "dom.example"), fields("joe@dom.example", canaryRight, "imap", "dom.example"),
		fields("", canaryRight, "imap", "dom.example"), fields("joe", canaryRight+"\x00", "imap", "dom.example"), fields("joe", canaryRight),
		"\xff\xff" + canaryRight, fields("joe", canaryRight, "imap", "dom.example") + strings.Repeat(canaryRight, 100),
	} {
		s.send(d.address("saslauthd"), input)
	}
	for _, input := range []string{
		canaryRight, netstring(canaryRight), netstring("mailbox " + canaryRight), netstring("domain " + canaryRight + "\x00"),
		netstring("mailbox " + canaryRight + "@dom.example")[:20], netstring("mailbox " + strings.Repeat(canaryRight, 1000)), "99:" + canaryRight,
	} {
		s.send(d.address("socketmap"), input)
	}
	const hello = "VERSION\t1\t1\nCPID\t1\n"
	for _, input := range []string{
		dovecotLogins(1, "joe", canaryRight+"\x00"), dovecotLogins(1, "", canaryRight), dovecotLogins(1, "joe", canaryRight+"\xff"),
		hello + canaryRight + "\n", hello + "AUTH\t1\tPLAIN\tresp=" + b64(canaryRight) + "\n", b64(canaryRight) + "\n",
		hello + "AUTH\t1\t" + canaryRight + "\tservice=smtp\n", hello + "AUTH\t1\tPLAIN\tservice=smtp\tresp=!" + b64(canaryRight) + "\n",
		hello + "CONT\t9\t" + b64(canaryRight) + "\n", hello + "AUTH\t1\tLOGIN\tservice=smtp\tresp=" + b64("joe") + "\nCONT\t1\t" + b64(canaryRight),
	} {
		s.send(d.address("dovecot"), input)
	}
	for _, socket := range []string{"control.sock", "relay.sock"} {
		path := filepath.Join(w.data, socket)
		s.send(path, canaryRight+"\r\n\r\n")
		s.send(path, "\x00\x00\x00\x20"+canaryRight+canaryRight)
		s.send(path, "POST /v1/ask HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n{\"password\": \""+canaryRight+"\", ]")
		s.send(path, "GET /"+canaryRight+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	}
}

// everyBackendState asks backends that return the question in every form.
func (w *canaryWorld) everyBackendState(s *spy, d *server) {
	for i, state := range backendStates {
		w.app.becomes(w.backend(state))
		w.cloud.becomes(w.backend(state))
		asked := w.app.asked.Load() + w.cloud.asked.Load()
		for _, domain := range []string{"json.example", "jsxc.example", "nc.example"} {
			who := fmt.Sprintf(":user%d:%s", i, domain)
			s.send(d.address("generic"), "auth"+who+":"+canaryRight+"\nauth"+who+":"+canaryWrong+"\nisuser"+who+"\nroster"+who+"\n"+
				"auth:joe:"+domain+":"+canaryRight+"\n") // whom the cache knows
			s.command(canaryRight, "test", "auth", fmt.Sprintf("tester%d@%s", i, domain))
		}
		least := int64(8)
		if state == "429" {
			least = 3 // one each
		}
		if n := w.app.asked.Load() + w.cloud.asked.Load() - asked; n < least {
			w.t.Errorf("in the state %q the backends were asked %d times only", state, n)
		}
	}
	w.app.becomes(w.backend("good"))
	w.cloud.becomes(w.backend("good"))
}

// everyCommand runs the commands that meet secrets.
func (w *canaryWorld) everyCommand(s *spy) {
	token := s.token("joe@jsxc.example")
	for _, domain := range []string{"dom.example", "json.example", "jsxc.example", "nc.example", "dead.example", "unknown.example"} {
		for _, password := range []string{canaryRight, canaryWrong, token, canaryRight + "\x00"} {
			s.command(password, "test", "auth", "joe@"+domain)
		}
		s.command("", "test", "isuser", "joe@"+domain)
		s.command("", "cache", "show", "joe@"+domain)
	}
	s.command(token, "token", "inspect")
	s.command(canaryRight, "token", "inspect")
	s.command(canaryNew, "user", "passwd", "ann@dom.example")
	s.command("", "user", "list")
	s.command("", "cache", "stats")
	s.command("", "cache", "forget", "joe@json.example")
	s.command("", "config", "check")
	p := s.startIdle("test", "auth", "joe@dom.example")
	p.send(canaryRight + "\n")
	rest, _ := p.finish()
	s.saw("output of test auth", rest+p.log.String())
}

// pipes asks through `postern pipe`, with a daemon and without, and with its log in a file.
func (w *canaryWorld) pipes(s *spy, daemon bool) {
	questions := "auth:joe:dom.example:" + canaryRight + "\nauth:joe:dom.example:" + canaryWrong + "\nauth:" + canaryRight + "\n" +
		"auth:joe:dead.example:" + canaryRight + "\nauth:joe:jsxc.example:" + s.token("joe@jsxc.example") + "\n"
	p := s.startIdle("pipe", "--protocol", "generic")
	p.send(questions)
	p.expect("1\n0\n0\n0\n1\n")
	s.process("a pipe that works", p.cmd.Process.Pid)
	p.finish()
	s.saw("log of a pipe", p.log.String())
	if daemon {
		return // in whose log the rest is
	}
	owner := ownerOf(w.t, w.data)
	waitFor(w.t, "the end of the broker for pipes", func() bool { return !alive(owner) })
	p = startOnTerminal(w.t, "pipe", "--protocol", "generic", "--config", w.config)
	p.send("auth:joe:dom.example:" + canaryRight + "\n")
	p.expect("1\n")
	_ = p.in.Close()
	p.exit()
	fileSays(w.t, filepath.Join(w.data, "pipe.log"), "user=joe")
}
