package pipes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// besideScript begins a script in mounts of its own: a daemon of the user daemon with the configuration at the
// default place, for pipes of other users. Arguments: the program, a directory, and the configuration's mode.
const besideScript = `set -eu
postern=$0 dir=$1
mount -t tmpfs none /run
mkdir -m 755 /run/postern "$dir/upper" "$dir/work"
mkdir -m 711 "$dir/data"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$dir/upper,workdir=$dir/work" /etc
mkdir -p /etc/postern
cp "$dir/config.hcl" /etc/postern/config.hcl
chmod $2 /etc/postern/config.hcl
chown -R daemon: /etc/postern /run/postern "$dir/data"
as() { user=$1; shift; exec setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups env TMPDIR="$dir/tmp" "$@"; }
mkdir -m 1777 "$dir/tmp"
echo secret | (as daemon "$postern" user add joe@dom.example >&2)
as daemon "$postern" serve >/dev/null 2>"$dir/log" &
daemon=$!
trap 'kill $daemon || true' EXIT
n=0
again() { n=$((n+1)); [ $n -lt 6000 ] || exit 9; sleep 0.02; }
until grep -q msg=ready "$dir/log"; do again; done
`

// besideEnd ends the script, and says whether a pipe has made a broker of its own.
const besideEnd = `trap - EXIT
kill $daemon
wait
echo "left: $(ls "$dir/tmp" | grep -c postern- || true)"
`

// usersScript has pipes of several users, which cannot read the configuration.
const usersScript = besideScript + `for user in games news mail root; do
	printf 'auth:joe:dom.example:secret\nsetpass:joe:dom.example:secret\n' | (as $user "$postern" pipe --protocol generic 2>"$dir/$user.log") | tr '\n' ' '
	echo "$user"
done
printf 'joe@dom.example\0secret\0\0' >"$dir/tmp/login"
(as games "$postern" checkpassword /bin/echo checked 3<"$dir/tmp/login" 2>&1)
(as news "$postern" checkpassword /bin/echo checked 3<"$dir/tmp/login" >/dev/null 2>&1) || echo "not checked: $?"
` + besideEnd

// TestUsersBesideTheDaemon: with listen "relay" {users = ...}, pipes of other users find the daemon without an
// option and without its configuration. The kernel says which user connects: those that are not named are
// closed, and changes are for some. None of them makes a broker of its own.
func TestUsersBesideTheDaemon(t *testing.T) {
	r, dir := besideDaemon(t, usersScript, "600", `listen "relay" {
  users   = ["games", "mail", "nosuchuser"]
  changes = ["games"]
}
`)
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

// besideDaemon runs a script that begins with besideScript; more is of the configuration.
func besideDaemon(t *testing.T, script, mode, more string) (r harness.Result, dir string) {
	t.Helper()
	unshare := harness.Program(t, "unshare")
	dir, err := os.MkdirTemp("", "pt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, filepath.Join(dir, "config.hcl"), fmt.Sprintf("data_dir = %q\nlog { level = \"debug\" }\n", filepath.Join(dir, "data"))+more+harness.UsersBase)
	return harness.RunCommand(t, "", unshare, "--mount", "--", "sh", "-c", script, harness.Binary, dir, mode), dir
}

// lateScript has a pipe beside a daemon that lacks a listener for it until the pipe has said so, and commands of
// a user who may not give them.
const lateScript = besideScript + `
mkfifo "$dir/tmp/in"
(as games "$postern" pipe --protocol generic <"$dir/tmp/in" >"$dir/tmp/out" 2>"$dir/games.log") &
exec 3>"$dir/tmp/in"
echo auth:joe:dom.example:secret >&3
until [ -s "$dir/tmp/out" ]; do again; done
head -n 1 "$dir/tmp/out"
echo 'listen "relay" { users = ["games"] }' >>/etc/postern/config.hcl
as daemon "$postern" reload >&2 &
wait $!
until [ "$(tail -n 1 "$dir/tmp/out")" = 1 ]; do echo auth:joe:dom.example:secret >&3; again; done
exec 3>&-
(as games "$postern" cache show joe@dom.example 2>&1) || true
kill $daemon
wait $daemon || true
(as games "$postern" cache show joe@dom.example 2>&1) || true
(as games "$postern" serve 2>&1) || true
trap - EXIT
wait
echo "left: $(ls "$dir/tmp" | grep -c postern- || true)"
`

// TestPipeWithoutAListener: a pipe beside another user's daemon that has no listener for it says which line the
// daemon needs, makes no broker, and works from then on. A command that this user may not give has one cure,
// with a daemon and without.
func TestPipeWithoutAListener(t *testing.T) {
	r, dir := besideDaemon(t, lateScript, "644", "")
	said := harness.ReadText(filepath.Join(dir, "games.log"))
	if !strings.Contains(said, `listen \"relay\" { users = [\"games\"] }`) || strings.Count(said, "level=ERROR") != 1 {
		t.Errorf("the pipe says\n%s", said)
	}
	const cure = ": permission denied: run it as root or as daemon (sudo -u daemon postern ...)\n"
	lines := strings.SplitAfter(r.Out, "\n")
	if r.Code != 0 || len(lines) != 6 || lines[0] != "0\n" || !strings.HasSuffix(lines[1], cure) || !strings.HasSuffix(lines[2], cure) ||
		!strings.Contains(lines[2], "data directory: ") || !strings.Contains(lines[3], "permission denied: it belongs to daemon: start postern as that user") || lines[4] != "left: 0\n" {
		t.Errorf("exit status %d, %q\n%s\n%s", r.Code, r.Out, r.Err, harness.ReadText(filepath.Join(dir, "log")))
	}
}
