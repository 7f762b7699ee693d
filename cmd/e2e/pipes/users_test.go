package pipes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// besideScript runs in mounts of its own: a daemon of the user daemon with the configuration at the default
// place, and pipes of other users, which cannot read that. Arguments: the program, a directory.
const besideScript = `set -eu
postern=$0 dir=$1
mount -t tmpfs none /run
mkdir -m 755 /run/postern "$dir/upper" "$dir/work" "$dir/data"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$dir/upper,workdir=$dir/work" /etc
mkdir -p /etc/postern
cp "$dir/config.hcl" /etc/postern/config.hcl
chmod 600 /etc/postern/config.hcl
chown -R daemon: /etc/postern /run/postern "$dir/data"
as() { user=$1; shift; exec setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups env TMPDIR="$dir/tmp" "$@"; }
mkdir -m 1777 "$dir/tmp"
echo secret | (as daemon "$postern" user add joe@dom.example >&2)
as daemon "$postern" serve >/dev/null 2>"$dir/log" &
trap 'kill $! || true' EXIT
n=0
until grep -q msg=ready "$dir/log"; do n=$((n+1)); [ $n -lt 6000 ] || exit 9; sleep 0.02; done
for user in games news mail root; do
	printf 'auth:joe:dom.example:secret\nsetpass:joe:dom.example:secret\n' | (as $user "$postern" pipe --protocol generic 2>"$dir/$user.log") | tr '\n' ' '
	echo "$user"
done
printf 'joe@dom.example\0secret\0\0' >"$dir/tmp/login"
(as games "$postern" checkpassword /bin/echo checked 3<"$dir/tmp/login" 2>&1)
(as news "$postern" checkpassword /bin/echo checked 3<"$dir/tmp/login" >/dev/null 2>&1) || echo "not checked: $?"
trap - EXIT
kill $!
wait
echo "left: $(ls "$dir/tmp" | grep -c postern- || true)"
`

// TestUsersBesideTheDaemon: with listen "relay" {users = ...}, pipes of other users find the daemon without an
// option and without its configuration. The kernel says which user connects: those that are not named are
// closed, and changes are for some. None of them makes a broker of its own.
func TestUsersBesideTheDaemon(t *testing.T) {
	unshare := harness.Program(t, "unshare")
	dir, err := os.MkdirTemp("", "pt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, filepath.Join(dir, "config.hcl"), fmt.Sprintf(`data_dir = %q
listen "relay" {
  users   = ["games", "mail", "nosuchuser"]
  changes = ["games"]
}
log { level = "debug" }
`, filepath.Join(dir, "data"))+harness.UsersBase)
	r := harness.RunCommand(t, "", unshare, "--mount", "--", "sh", "-c", besideScript, harness.Binary, dir)
	log := harness.ReadText(filepath.Join(dir, "log"))
	want := "1 1 games\n0 0 news\n1 0 mail\n1 1 root\nchecked\nnot checked: 111\nleft: 0\n"
	if r.Code != 0 || r.Out != want {
		t.Errorf("exit status %d, %q, want %q\n%s\n%s", r.Code, r.Out, want, r.Err, log)
	}
	if !strings.Contains(log, "its connection is closed") || !strings.Contains(log, "user=news") {
		t.Errorf("no line about a stranger:\n%s", log)
	}
	if !strings.Contains(log, "level=DEBUG") || !strings.Contains(log, "user=nosuchuser") || strings.Contains(log, "level=ERROR") {
		t.Errorf("a user that does not exist:\n%s", log)
	}
	if said := harness.ReadText(filepath.Join(dir, "news.log")); !strings.Contains(said, "waiting for it") || !strings.Contains(said, "in users") {
		t.Errorf("the pipe that is closed says %q", said)
	}
}
