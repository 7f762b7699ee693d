package peers

import (
	"testing"

	"postern/cmd/e2e/harness"
)

// TestDropInBehindEjabberd: the real ejabberd starts its copies of xcauth, all at once and each
// with a database to take over, and logs joe in while the server is down.
func TestDropInBehindEjabberd(t *testing.T) { harness.EachRelease(t, dropInBehindEjabberd) }

func dropInBehindEjabberd(t *testing.T, r harness.Release) {
	w := harness.XcauthDown(t, "type=ejabberd\n")
	t.Cleanup(func() { w.OwnerEnds(t) })
	e := startEjabberd(t, r, `
hosts: [dom.example, other.example]
extauth_program: "`+harness.CalledAs(t, "xcauth")+` -c `+w.Conf+`"
extauth_pool_size: 4
auth_use_cache: false
`)
	for range 4 {
		e.want(t, "joe", "dom.example", "secret", "success")
	}
	for _, c := range [][2]string{{"dom.example", "Secret"}, {"other.example", "secret"}} {
		if got, err := xmppLogin(e.port, "joe", c[0], c[1]); err != nil || got == "success" {
			t.Errorf("joe@%s with %s: %s, %v", c[0], c[1], got, err)
		}
	}
	if lost, _ := e.complaints(); lost > 0 {
		t.Errorf("ejabberd lost %d programs", lost)
	}
	e.ended() // the copies end with it
}
