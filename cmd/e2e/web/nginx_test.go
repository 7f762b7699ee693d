package web

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// nginxConf takes a folder, the ports of HTTP, IMAP and SMTP, and the three blocks of the manual.
const nginxConf = `
load_module /usr/lib/nginx/modules/ngx_mail_module.so;
daemon off;
user root;
worker_processes 1;
error_log %[1]s/error.log info;
pid %[1]s/pid;
events {}
http {
  access_log off;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  server {
    listen 127.0.0.1:%[2]d;
%[5]s    location / {
%[6]s      add_header X-Account $account always;
      add_header X-Groups $groups always;
      root %[1]s/www;
    }
  }
}
mail {
  server_name mail.dom.example;
%[7]s  proxy_pass_error_message on;
  server {
    listen 127.0.0.1:%[3]d;
    protocol imap;
  }
  server {
    listen 127.0.0.1:%[4]d;
    protocol smtp;
    smtp_auth plain login;
    xclient off;
  }
}
`

// nginx asks for its visitors, by auth_request, and for the users of the mail servers behind it.
func TestWebNginx(t *testing.T) {
	t.Parallel()
	s := newSite(t,
		upstream(t, "* OK ready\r\n", [][2]string{{"LOGIN {", "+ go on\r\n"}, {" {", "+ go on\r\n"}, {"", "a OK in\r\n"}}),
		upstream(t, "220 ready\r\n", [][2]string{{"", "250 yes\r\n"}}))
	web, mail, smtp := harness.FreePort(t), harness.FreePort(t), harness.FreePort(t)
	s.write(t, "www/page", "the page")
	page := harness.PageBlocks(t, "http", "TestWebNginx", "127.0.0.1:23670", s.http, "the secret", secret)
	if len(page) != 3 {
		t.Fatalf("%d blocks of the manual: %q", len(page), page)
	}
	conf := s.write(t, "nginx.conf", fmt.Sprintf(nginxConf, s.dir, web, mail, smtp, page[0], page[1], page[2]))
	s.start(t, harness.Machine(), web, s.dir+"/error.log", "nginx", "-c", conf, "-e", s.dir+"/error.log")

	// The visitor sees 500 in an outage.
	s.scene(t, func(user, password string) string { return visit(t, web, user, password) }, "200 account=", `401 account="" challenge="Basic realm=`, "500")
	if got := visit(t, web, "joe", password); !strings.Contains(got, `200 account="joe"`) || !strings.Contains(got, "the page") {
		t.Errorf("without a domain: %s", got)
	}
	if got := visit(t, web, "ann@shop.example", "secret"); !strings.Contains(got, `account="ann@shop.example"`) {
		t.Errorf("of another domain: %s", got)
	}
	groups(t, web, `groups="%s"`)
	if got := visit(t, web, "", ""); !strings.Contains(got, "401") {
		t.Errorf("without a password: %s", got)
	}
	s.Eventually("the address is in the log", func() bool { return strings.Contains(s.Log.String(), "client=127.0.0.1") })

	s.scene(t, func(user, password string) string { return imap(t, mail, user, password) },
		"a OK", "a NO Invalid login or password", "a NO Temporary authentication failure")
	s.scene(t, func(user, password string) string {
		plain := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
		return dialogue(t, smtp, []string{"220 ", "250 ", "235 ", "535 ", "451 "}, "EHLO x", "AUTH PLAIN "+plain)
	}, "235 ", "535 5.7.8", "451 4.3.0")
}
