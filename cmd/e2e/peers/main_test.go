// Package peers tests the daemon and its pipes under the real servers that use them: ejabberd, Prosody,
// Postfix, Exim, Dovecot and systemd; the servers are those of the machine and those of Debian 13.
// scripts/setup.sh installs them.
package peers

import (
	"testing"

	"postern/cmd/e2e/harness"
)

func TestMain(m *testing.M) { harness.ServersMain(m) }
