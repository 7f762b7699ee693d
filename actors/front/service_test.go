package front

import (
	"testing"

	"postern/internal/config"
	"postern/wire"
)

// TestService: what speaks a protocol of XMPP servers is one, unless it says otherwise. What is relayed, such as a
// login by checkpassword, is for no service unless the other end says for which.
func TestService(t *testing.T) {
	for protocol, want := range map[wire.Protocol]string{wire.Ejabberd: "xmpp", wire.Generic: "xmpp", wire.Relay: "", wire.Dovecot: ""} {
		p := &params{Listener: config.Listener{Protocol: string(protocol)}}
		if got := p.service(""); got != want {
			t.Errorf("%s: %q, want %q", protocol, got, want)
		}
		if got := p.service("imaps"); got != "imap" {
			t.Errorf("%s: %q for imaps", protocol, got)
		}
	}
}
