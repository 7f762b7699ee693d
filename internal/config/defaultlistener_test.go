package config

import (
	"reflect"
	"testing"

	"postern/internal/protocol"
)

// A socket that is named after a protocol gets what an empty block of that name would have.
func TestDefaultListener(t *testing.T) {
	for _, name := range protocol.Names() {
		cfg, problems := Parse("test", []byte("listen \""+name+"\" { address = \"systemd:"+name+"\" }\n"+base), testEnv(t))
		if cfg == nil {
			t.Fatalf("%s:\n%s", name, render(problems))
		}
		want := cfg.Listeners[0]
		if want.Network != "systemd" || want.Address != name {
			t.Errorf("%s: address %q of %q", name, want.Address, want.Network)
		}
		want.Network, want.Address = "", ""
		if got, ok := DefaultListener(name); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	for name, want := range map[string]string{"prosody": "generic", "postfix": "tcp_table"} {
		if got, ok := DefaultListener(name); !ok || got.Protocol != want || got.Name != name {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, name := range []string{"", "unknown", "postern-ejabberd.socket", "Ejabberd"} {
		if got, ok := DefaultListener(name); ok {
			t.Errorf("%q: %+v", name, got)
		}
	}
}
