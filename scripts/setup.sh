#!/bin/sh
# Installs the programs that the tests need, where apt-get and the right to use it are there,
# and fails with the name of what is missing otherwise.
set -eu
PATH="$PATH:/usr/sbin:/sbin"

programs="gcc:gcc postmap:postfix testsaslauthd:sasl2-bin ejabberdctl:ejabberd prosody:prosody
	lua5.2:lua5.2 luacheck:lua-check php:php-cli
	systemd-analyze:systemd systemd-socket-activate:systemd pkill:procps
	db_dump:db-util db_load:db-util sqlite3:sqlite3 unshare:util-linux mount:mount
	mkfs.ext4:e2fsprogs e2fsck:e2fsprogs"

# Packages that are not installed but unpacked here, where the tests find them: Exim's conflicts
# with Postfix's, and only the heavy one has the dovecot authenticator; of Prosody's community
# modules one is needed.
cache="${XDG_CACHE_HOME:-$HOME/.cache}/postern"
unpacked="exim4:exim4-daemon-heavy prosody-modules:prosody-modules"

missing=""
for pair in $programs; do
	command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
[ -f /usr/include/stdlib.h ] || missing="$missing libc6-dev"
lua5.2 -e 'require "lpty"' >/dev/null 2>&1 || missing="$missing lua-lpty"
lua5.2 -e 'require "luaevent"' >/dev/null 2>&1 || missing="$missing lua-event"
ls /usr/lib/*/sasl2/libplain.so >/dev/null 2>&1 || missing="$missing libsasl2-modules"
packed=""
for pair in $unpacked; do
	[ -d "$cache/${pair%%:*}" ] || packed="$packed $pair"
done

# Exim does not start without the user that its package makes.
exim_user() { id Debian-exim >/dev/null 2>&1 || echo " Debian-exim"; }

# The libraries that Exim lacks here.
exim="$cache/exim4/usr/sbin/exim4"
exim_libraries() {
	[ -f "$exim" ] && ldd "$exim" | grep -q 'not found' || return 0
	dpkg-deb -f "$cache"/exim4/*.deb Depends | tr ',' '\n' | sed -n 's/^ *\(lib[^ ]*\).*/ \1/p' | tr -d '\n'
}

if [ -n "$missing$packed$(exim_libraries)$(exim_user)" ]; then
	if ! command -v apt-get >/dev/null 2>&1; then
		echo "setup: apt-get is not here; install by hand:$missing$(exim_libraries); unpack in $cache:$packed; user to make:$(exim_user)" >&2
		exit 1
	fi
	sudo=""
	[ "$(id -u)" = 0 ] || sudo=sudo
	# No package is to start its service: the tests start servers of their own.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e "$policy" ]; then
		printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
		$sudo chmod +x "$policy"
		trap '$sudo rm -f "$policy"' EXIT
	fi
	$sudo apt-get update -qq
	for pair in $packed; do
		echo "unpacking: ${pair##*:} in $cache/${pair%%:*}"
		new="$cache/${pair%%:*}.new"
		rm -rf "$new"
		mkdir -p "$new"
		if ! (cd "$new" && apt-get download -qq "${pair##*:}" && dpkg-deb -x ./*.deb .); then
			echo "setup: ${pair##*:} could not be downloaded and unpacked" >&2
			exit 1
		fi
		mv "$new" "$cache/${pair%%:*}"
	done
	chmod 0755 "$exim" # not setuid
	[ -z "$(exim_user)" ] || $sudo useradd --system --user-group --no-create-home --shell /usr/sbin/nologin Debian-exim
	missing="$missing$(exim_libraries)"
	[ -z "$missing" ] || echo "installing:$missing"
	# shellcheck disable=SC2086
	[ -z "$missing" ] || $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

for pair in $programs go:golang; do
	if ! command -v "${pair%%:*}" >/dev/null 2>&1; then
		echo "setup: ${pair%%:*} is missing and could not be installed" >&2
		exit 1
	fi
done
for file in exim4/usr/sbin/exim4 prosody-modules/usr/lib/prosody/modules; do
	if [ ! -e "$cache/$file" ]; then
		echo "setup: $cache/$file is missing and could not be unpacked" >&2
		exit 1
	fi
done
