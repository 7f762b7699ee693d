package web

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// dovecotCommon takes a folder and the port of IMAP.
const dovecotCommon = `
base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = %[1]s/log
protocols = imap
listen = 127.0.0.1
ssl = no
auth_mechanisms = plain
auth_failure_delay = 0
auth_username_chars =
auth_cache_size = 0
first_valid_uid = 1
first_valid_gid = 1
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service imap-login {
  chroot =
  inet_listener imap {
    port = %[2]d
  }
  inet_listener imaps {
    port = 0
  }
}
`

// dovecot23 and dovecot24 take the script.
const dovecot23 = `
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
passdb {
  driver = lua
  args = file=%[1]s blocking=yes
}
userdb {
  driver = lua
  args = file=%[1]s blocking=yes
}
`

const dovecot24 = `
auth_allow_cleartext = yes
mail_driver = maildir
mail_path = ~/Maildir
passdb lua {
  lua_file = %[1]s
}
userdb lua {
  lua_file = %[1]s
}
`

// Dovecot asks by the Lua script about passwords and users.
func TestWebDovecot(t *testing.T) { harness.EachRelease(t, dovecot) }

func dovecot(t *testing.T, r harness.Release) {
	s, port := newSite(t, 1, 1), harness.FreePort(t)
	s.odd = "jo é+" // a path has no %
	settings := s.write(t, "settings.lua", fmt.Sprintf("return { url = \"http://%s\", secret = %q }\n", s.http, secret))
	script := s.write(t, "postern.lua", strings.Replace(harness.ReadText("../../../scripts/dovecot/postern.lua"), "/etc/dovecot/postern.lua\"", settings+"\"", 1))
	text, own := fmt.Sprintf(dovecotCommon, s.dir, port), dovecot23
	if r.Trixie() {
		text, own = "dovecot_config_version = 2.4.1\ndovecot_storage_version = 2.4.1\n"+text, dovecot24
	}
	conf := s.write(t, "dovecot.conf", text+fmt.Sprintf(own, script))
	s.start(t, r, port, filepath.Join(s.dir, "log"), "dovecot", "-F", "-c", conf)
	s.scene(t, func(user, password string) string { return imap(t, port, user, password) }, "a OK", "a NO [AUTHENTICATIONFAILED]", "a NO [UNAVAILABLE]")
	if got := imap(t, port, "joe", password); !strings.Contains(got, "a OK") {
		t.Errorf("of the default domain: %s", got)
	}
	if got := r.Run(t, "", r.Program(t, "doveadm"), "-c", conf, "user", "*"); got.Code != 0 || !strings.Contains(got.Out, "joe@dom.example\n") {
		t.Errorf("doveadm user '*': status %d, %s%s", got.Code, got.Out, got.Err)
	}
	log := harness.ReadText(filepath.Join(s.dir, "log"))
	if !strings.Contains(log, "joe@dom.example") || strings.Contains(log, password) {
		t.Error("Dovecot does not go by the account's name, or logs a password")
	}
	s.Eventually("the address is in the log", func() bool { return strings.Contains(s.Log.String(), "client=127.0.0.1") })
}
