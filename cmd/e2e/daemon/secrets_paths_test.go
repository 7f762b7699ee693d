package daemon

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// canaryWorld is a daemon with every protocol, every backend and every token.
type canaryWorld struct {
	t            *testing.T
	data, config string
	app, cloud   *harness.WebApp
	gate         chan struct{} // what hangs at a backend waits for it
}

func newCanaryWorld(t *testing.T) *canaryWorld {
	w := &canaryWorld{t: t, data: filepath.Join(t.TempDir(), "data"), gate: make(chan struct{})}
	secret := filepath.Join(t.TempDir(), "api.secret")
	harness.WriteFile(t, secret, harness.CanarySecret+"\n")
	w.app, w.cloud = harness.NewWebApp(t, w.backend("good")), harness.NewWebApp(t, w.backend("good"))
	remote := func(url, more string) string {
		return "  url = \"" + url + "\"\n  breaker_failures = 1000\n" + more + "}\n"
	}
	const domain = "domain %q {\n  backends = [backend.%s]\n  cache {\n    bcrypt_cost = 4\n    %s\n  }\n%s}\n"
	totp := "  token \"totp\" {\n    seed    = file(\"" + secret + ".seed\")\n    secrets = [file(\"" + secret + ".totp\")]\n  }\n"
	harness.WriteFile(t, secret+".seed", harness.CanarySeed)
	harness.WriteFile(t, secret+".totp", harness.CanaryTOTP)
	w.config = harness.ConfigFile(t, w.data, harness.MetricsBlock+harness.UsersConfig+
		"listen \"hasty\" {\n  protocol = \"generic\"\n  address  = \"127.0.0.1:0\"\n  deadline = \"400ms\"\n}\n"+
		"backend \"json\" \"app\" {\n"+remote(w.app.URL, "")+
		"backend \"json\" \"narrow\" {\n"+remote(w.app.URL, "  slots = 1\n  queue = 0\n")+
		"backend \"jsxc\" \"cloud\" {\n"+remote(w.cloud.URL, "  secret = file(\""+secret+"\")\n")+
		"backend \"nextcloud\" \"files\" {\n"+remote(w.app.URL, "  admin_user = \"boss\"\n  admin_password = file(\""+secret+"\")\n")+
		"backend \"json\" \"dead\" {\n"+remote(harness.DeadURL(t), "")+
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
			yes := strings.Contains(string(body), harness.CanaryRight) || !strings.Contains(string(body), "canary")
			reply := map[bool]string{true: harness.JSONYes, false: harness.JSONNo}[yes]
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

// backendStates ends with the answer that makes the breaker stop asking for a while.
var backendStates = []string{"500", "502", "503", "401", "403", "404", "418", "redirects", "garbage", "says error",
	"talks too much", "drops", "429"}

// accounts makes accounts by the command line, which waits for the password on its input.
func (w *canaryWorld) accounts(s *harness.Spy) {
	p := s.StartIdle("user", "add", "joe@dom.example")
	p.Send(harness.CanaryRight + "\n")
	out, code := p.Finish()
	if code != 0 {
		w.t.Fatalf("exit status %d\n%s", code, p.Log.String())
	}
	s.Saw("output of user add", out+p.Log.String())
	for _, stdin := range []string{harness.CanaryRight + "\x00\n", strings.Repeat(harness.CanaryRight, 1000), harness.CanaryRight + "\xff\n", harness.CanaryRight + "\n"} {
		s.Command(stdin, "user", "add", "joe@dom.example")
	}
	s.Command(harness.CanaryNew+"\n", "user", "add", "ann@dom.example")
	s.Command(harness.CanaryWrong, "user", "passwd", "nobody@dom.example")
}

// everyAnswer gets each protocol each of its answers.
func (w *canaryWorld) everyAnswer(s *harness.Spy, d *harness.Server) {
	jsxc, totp := s.Token("joe@jsxc.example"), s.Token("--kind", "totp", "joe@jsxc.example")
	for _, password := range []string{harness.CanaryRight, harness.CanaryRight, harness.CanaryWrong, harness.CanaryWrong, jsxc, totp, totp} {
		for _, domain := range []string{"dom.example", "json.example", "jsxc.example", "nc.example", "dead.example", "unknown.example"} {
			colon := ":joe:" + domain + ":" + password
			for _, op := range []string{"auth", "removeuser3", "setpass", "tryregister", "certauth"} {
				if op == "setpass" && password != harness.CanaryRight {
					continue // joe keeps the right one
				}
				if op == "removeuser3" && password == harness.CanaryRight {
					continue
				}
				s.Send(d.Address("ejabberd"), harness.Frame(op+colon))
				s.Send(d.Address("generic"), op+colon+"\n")
			}
			s.Send(d.Address("saslauthd"), harness.Fields("joe", password, "imap", domain)+harness.Frame("192.0.2.1;1234"))
			for minor := range 2 {
				s.Send(d.Address("dovecot"), dovecotLogins(minor, "joe@"+domain, password))
			}
		}
	}
	w.backendHangs(d)
}

// dovecotLogins is a login by each mechanism of the dovecot protocol.
func dovecotLogins(minor int, user, password string) string {
	return fmt.Sprintf("VERSION\t1\t%d\nCPID\t1\nAUTH\t1\tPLAIN\tservice=smtp\tresp=%s\nAUTH\t2\tLOGIN\tservice=smtp\tresp=%s\nCONT\t2\t%s\n",
		minor, harness.Base64("\x00"+user+"\x00"+password), harness.Base64(user), harness.Base64(password))
}

// backendHangs gets the answers that are given while a backend takes its time.
func (w *canaryWorld) backendHangs(d *harness.Server) {
	w.app.Becomes(w.backend("hangs"))
	patient, one, two := harness.Connect(w.t, d.Address("generic")), harness.Connect(w.t, d.Address("generic")), harness.Connect(w.t, d.Address("generic"))
	crowd := "auth:crowd:json.example:" + harness.CanaryRight + "\n" // identical requests are joined
	harness.Say(w.t, harness.Connect(w.t, d.Address("hasty")), "auth:hasty:json.example:"+harness.CanaryRight+"\nisuser:hasty:json.example\n", "0\n0\n")
	harness.Say(w.t, patient, crowd+crowd, "")
	harness.Say(w.t, one, "auth:one:narrow.example:"+harness.CanaryRight+"\n", "") // one of these two finds no room
	harness.Say(w.t, two, "auth:two:narrow.example:"+harness.CanaryWrong+"\n", "")
	d.Eventually("overload", func() bool { return strings.Contains(d.Log.String(), "source=overload") })
	close(w.gate)
	harness.Say(w.t, patient, "", "0\n0\n") // for it hung, and then talked garbage
	harness.Say(w.t, one, "", "0\n")
	harness.Say(w.t, two, "", "0\n")
	w.app.Becomes(w.backend("good"))
}

// everyMalformedFrame sends what no protocol takes, with a canary in it.
func (w *canaryWorld) everyMalformedFrame(s *harness.Spy, d *harness.Server) {
	for _, text := range []string{
		harness.CanaryRight, "auth:" + harness.CanaryRight, "auth:joe:" + harness.CanaryRight, "auth:jo\x01e:dom.example:" + harness.CanaryRight,
		"auth:joe:do main:" + harness.CanaryRight, "auth:joe:a..b:" + harness.CanaryRight, "AUTH:joe:dom.example:" + harness.CanaryRight, "bogus:joe:dom.example:" + harness.CanaryRight,
		"auth:joe:dom.example:" + harness.CanaryRight + "\x00", "auth:joe:dom.example:" + harness.CanaryRight + "\xff", "auth::dom.example:" + harness.CanaryRight,
		"auth:joe::" + harness.CanaryRight, "isuser:joe:dom.example:" + harness.CanaryRight, "removeuser:joe:dom.example:" + harness.CanaryRight,
		"roster:joe:dom.example:" + harness.CanaryRight, "auth:joe:dom.example:" + strings.Repeat(harness.CanaryRight, 1000),
		"auth:" + strings.Repeat(harness.CanaryRight, 2000), "get " + harness.CanaryRight, "get joe@dom.example " + harness.CanaryRight,
		"put joe@dom.example " + harness.CanaryRight, "get %zz" + harness.CanaryRight + "@dom.example", "get \"" + harness.CanaryRight + "@dom.example",
	} {
		for _, listener := range []string{"generic", "tcp_table"} {
			s.Send(d.Address(listener), text+"\n")
			s.Send(d.Address(listener), text) // and the end in the middle of it
		}
		s.Send(d.Address("ejabberd"), harness.Frame(text))
		s.Send(d.Address("ejabberd"), harness.Frame(text + "more")[:len(text)])
	}
	for _, input := range []string{
		harness.Fields("joe", harness.CanaryRight, "imap\x00", "dom.example"), harness.Fields("joe@dom.example", harness.CanaryRight, "imap", "dom.example"),
		harness.Fields("", harness.CanaryRight, "imap", "dom.example"), harness.Fields("joe", harness.CanaryRight+"\x00", "imap", "dom.example"), harness.Fields("joe", harness.CanaryRight),
		"\xff\xff" + harness.CanaryRight, harness.Fields("joe", harness.CanaryRight, "imap", "dom.example") + strings.Repeat(harness.CanaryRight, 100),
	} {
		s.Send(d.Address("saslauthd"), input)
	}
	for _, input := range []string{
		harness.CanaryRight, harness.Netstring(harness.CanaryRight), harness.Netstring("mailbox " + harness.CanaryRight), harness.Netstring("domain " + harness.CanaryRight + "\x00"),
		harness.Netstring("mailbox " + harness.CanaryRight + "@dom.example")[:20], harness.Netstring("mailbox " + strings.Repeat(harness.CanaryRight, 1000)), "99:" + harness.CanaryRight,
	} {
		s.Send(d.Address("socketmap"), input)
	}
	const hello = "VERSION\t1\t1\nCPID\t1\n"
	for _, input := range []string{
		dovecotLogins(1, "joe", harness.CanaryRight+"\x00"), dovecotLogins(1, "", harness.CanaryRight), dovecotLogins(1, "joe", harness.CanaryRight+"\xff"),
		hello + harness.CanaryRight + "\n", hello + "AUTH\t1\tPLAIN\tresp=" + harness.Base64(harness.CanaryRight) + "\n", harness.Base64(harness.CanaryRight) + "\n",
		hello + "AUTH\t1\t" + harness.CanaryRight + "\tservice=smtp\n", hello + "AUTH\t1\tPLAIN\tservice=smtp\tresp=!" + harness.Base64(harness.CanaryRight) + "\n",
		hello + "CONT\t9\t" + harness.Base64(harness.CanaryRight) + "\n", hello + "AUTH\t1\tLOGIN\tservice=smtp\tresp=" + harness.Base64("joe") + "\nCONT\t1\t" + harness.Base64(harness.CanaryRight),
	} {
		s.Send(d.Address("dovecot"), input)
	}
	for _, socket := range []string{"control.sock", "relay.sock"} {
		path := filepath.Join(w.data, socket)
		s.Send(path, harness.CanaryRight+"\r\n\r\n")
		s.Send(path, "\x00\x00\x00\x20"+harness.CanaryRight+harness.CanaryRight)
		s.Send(path, "POST /v1/ask HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n{\"password\": \""+harness.CanaryRight+"\", ]")
		s.Send(path, "GET /"+harness.CanaryRight+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	}
}

// everyBackendState asks backends that return the question in every form.
func (w *canaryWorld) everyBackendState(s *harness.Spy, d *harness.Server) {
	for i, state := range backendStates {
		w.app.Becomes(w.backend(state))
		w.cloud.Becomes(w.backend(state))
		asked := w.app.Asked.Load() + w.cloud.Asked.Load()
		for _, domain := range []string{"json.example", "jsxc.example", "nc.example"} {
			who := fmt.Sprintf(":user%d:%s", i, domain)
			s.Send(d.Address("generic"), "auth"+who+":"+harness.CanaryRight+"\nauth"+who+":"+harness.CanaryWrong+"\nisuser"+who+"\nroster"+who+"\n"+
				"auth:joe:"+domain+":"+harness.CanaryRight+"\n") // which the cache has
			s.Command(harness.CanaryRight, "test", "auth", fmt.Sprintf("tester%d@%s", i, domain))
		}
		least := int64(8)
		if state == "429" {
			least = 3 // one each
		}
		if n := w.app.Asked.Load() + w.cloud.Asked.Load() - asked; n < least {
			w.t.Errorf("in the state %q the backends were asked %d times only", state, n)
		}
	}
	w.app.Becomes(w.backend("good"))
	w.cloud.Becomes(w.backend("good"))
}

// everyCommand runs the commands that meet secrets.
func (w *canaryWorld) everyCommand(s *harness.Spy) {
	token := s.Token("joe@jsxc.example")
	for _, domain := range []string{"dom.example", "json.example", "jsxc.example", "nc.example", "dead.example", "unknown.example"} {
		for _, password := range []string{harness.CanaryRight, harness.CanaryWrong, token, harness.CanaryRight + "\x00"} {
			s.Command(password, "test", "auth", "joe@"+domain)
		}
		s.Command("", "test", "isuser", "joe@"+domain)
		s.Command("", "cache", "show", "joe@"+domain)
	}
	s.Command(token, "token", "inspect")
	s.Command(harness.CanaryRight, "token", "inspect")
	s.Command(harness.CanaryNew, "user", "passwd", "ann@dom.example")
	s.Command("", "user", "list")
	s.Command("", "cache", "stats")
	s.Command("", "cache", "forget", "joe@json.example")
	s.Command("", "config", "check")
	p := s.StartIdle("test", "auth", "joe@dom.example")
	p.Send(harness.CanaryRight + "\n")
	rest, _ := p.Finish()
	s.Saw("output of test auth", rest+p.Log.String())
}

// pipes asks through `postern pipe`, with a daemon and without, and with its log in a file.
func (w *canaryWorld) pipes(s *harness.Spy, daemon bool) {
	questions := "auth:joe:dom.example:" + harness.CanaryRight + "\nauth:joe:dom.example:" + harness.CanaryWrong + "\nauth:" + harness.CanaryRight + "\n" +
		"auth:joe:dead.example:" + harness.CanaryRight + "\nauth:joe:jsxc.example:" + s.Token("joe@jsxc.example") + "\n"
	p := s.StartIdle("pipe", "--protocol", "generic")
	p.Send(questions)
	p.Expect("1\n0\n0\n0\n1\n")
	s.Process("a pipe that works", p.Cmd.Process.Pid)
	p.Finish()
	s.Saw("log of a pipe", p.Log.String())
	if daemon {
		return // the rest goes to the daemon's log
	}
	owner := harness.OwnerOf(w.t, w.data)
	harness.WaitFor(w.t, "the end of the broker for pipes", func() bool { return !harness.Alive(owner) })
	p = harness.StartOnTerminal(w.t, "pipe", "--protocol", "generic", "--config", w.config)
	p.Send("auth:joe:dom.example:" + harness.CanaryRight + "\n")
	p.Expect("1\n")
	_ = p.In.Close()
	p.Exit()
	harness.FileSays(w.t, filepath.Join(w.data, "pipe.log"), "user=joe")
}
