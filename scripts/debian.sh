#!/bin/sh
# debian.sh RELEASE ROOT PACKAGES [UNPACKED]: installs a release of Debian with packages in the folder
# ROOT, for setup.sh: as root or with sudo. Each of UNPACKED is FOLDER:PACKAGE, and unpacked in
# /opt/FOLDER without being installed. Does nothing if the folder already has all of them.
set -eu
PATH="$PATH:/usr/sbin:/sbin"

release="$1"
root="$2"
installed="$3"
unpacked="${4:-}"

[ "$(cat "$root/complete" 2>/dev/null)" != "$installed $unpacked" ] || exit 0

if [ "${5:-}" != mounts ]; then # start again with mounts that end with this script
	sudo=""
	[ "$(id -u)" = 0 ] || sudo=sudo
	if [ -n "$sudo" ] && ! command -v sudo >/dev/null 2>&1; then
		echo "setup: installing Debian $release in $root needs root or sudo" >&2
		exit 1
	fi
	exec $sudo unshare --mount sh "$0" "$release" "$root" "$installed" "$unpacked" mounts
fi

# The machine's own mirror and proxy, if apt-get has them.
mirror="$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' |
	sed -n 's|^Debian Debian \(https\{0,1\}://.*\)|\1|p' | head -n 1)"
eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
[ -z "${http_proxy:-}" ] || export http_proxy
[ -z "${https_proxy:-}" ] || export https_proxy

echo "setup: installing Debian $release in $root; this takes a while"
new="$root.new"
rm -rf "$new"
mkdir -p "$new"
if ! debootstrap --variant=minbase --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
	"$release" "$new" "${mirror:-http://deb.debian.org/debian}" >"$new.log" 2>&1; then
	echo "setup: debootstrap failed:" >&2
	tail "$new.log" >&2
	exit 1
fi

printf '#!/bin/sh\nexit 101\n' >"$new/usr/sbin/policy-rc.d" # no service starts
chmod +x "$new/usr/sbin/policy-rc.d"
echo force-unsafe-io >"$new/etc/dpkg/dpkg.cfg.d/postern"
echo 'Acquire::Languages "none";' >"$new/etc/apt/apt.conf.d/99postern"
echo '127.0.0.1 localhost' >"$new/etc/hosts"
if [ -f /etc/ssl/certs/ca-certificates.crt ]; then # for a mirror or proxy with TLS
	mkdir -p "$new/etc/ssl/certs"
	cp /etc/ssl/certs/ca-certificates.crt "$new/etc/ssl/certs/"
fi
mount -t proc proc "$new/proc"
mount --rbind /dev "$new/dev"

inside() { chroot "$new" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@" >>"$new.log" 2>&1; }
install() {
	inside apt-get install -y -q --no-install-recommends "$@" && return
	echo "setup: cannot install $* in $new:" >&2
	tail "$new.log" >&2
	exit 1
}
libraries="" # of the unpacked programs
for pair in $unpacked; do
	mkdir -p "$new/opt/${pair%%:*}"
	inside sh -c 'cd "/opt/$0" && apt-get download -q "$1" && dpkg-deb -x ./*.deb .' "${pair%%:*}" "${pair##*:}"
done
if [ -d "$new/opt/exim4" ]; then
	chmod 0755 "$new/opt/exim4/usr/sbin/exim4" # not setuid
	libraries="$(dpkg-deb -f "$new"/opt/exim4/*.deb Depends | tr ',' '\n' | sed -n 's/^ *\(lib[^ ]*\).*/\1/p')"
fi
# shellcheck disable=SC2086
install $installed $libraries
[ -z "$libraries" ] || inside useradd --system --user-group --no-create-home --shell /usr/sbin/nologin Debian-exim
inside apt-get clean
rm -f "$new.log"
echo "$installed $unpacked" >"$new/complete"
umount "$new/proc"
umount --recursive "$new/dev"
rm -rf "$root"
mv "$new" "$root"
