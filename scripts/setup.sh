#!/bin/sh
# Installs the programs that the tests need by apt-get, and roots of Debian in the cache folder (with
# sudo unless run as root). Exits with status 1 and lists what is missing if it cannot. "setup.sh all"
# also installs what only `make manual-test` and `make package-test` need.
set -eu
PATH="$PATH:/usr/sbin:/sbin"

programs="gcc:gcc postmap:postfix testsaslauthd:sasl2-bin ejabberdctl:ejabberd prosody:prosody
	lua5.2:lua5.2 luacheck:lua-check php:php-cli
	systemd-analyze:systemd systemd-socket-activate:systemd pkill:procps
	db_dump:db-util db_load:db-util sqlite3:sqlite3 unshare:util-linux mount:mount
	mkfs.ext4:e2fsprogs e2fsck:e2fsprogs debootstrap:debootstrap dovecot:dovecot-core groff:groff-base curl:curl nginx:nginx-light caddy:caddy haproxy:haproxy apache2:apache2
	lintian:lintian fail2ban-regex:fail2ban logrotate:logrotate apparmor_parser:apparmor node:nodejs npm:npm
	zbarimg:zbar-tools redis-server:redis-server chromium:chromium"

# Packages that are unpacked here instead of installed; the tests look for them here. Exim conflicts
# with Postfix (exim4-daemon-light lacks the dovecot authenticator), and of Prosody's community modules
# and of Prometheus the tests use one file.
cache="${XDG_CACHE_HOME:-$HOME/.cache}/postern"
unpacked="exim4:exim4-daemon-heavy prosody-modules:prosody-modules prometheus:prometheus"

# What is there already needs no more room.
set -- "${1:-}" "1500:${TMPDIR:-/tmp}" # programs with the race detector, and what tests write
[ -f "$cache/trixie/complete" ] || set -- "$@" "1200:$cache"
[ "$1" != all ] || [ -f "$cache/fresh-trixie/complete" ] || set -- "$@" "1000:$cache"
compiled="$(go env GOCACHE 2>/dev/null || true)"
if [ -n "$compiled" ]; then
	# With the race detector and without; another commit has objects of its own.
	used="$(du -sm "$compiled" 2>/dev/null | cut -f1)"
	room=$((4000 - ${used:-0}))
	[ "$room" -gt 2500 ] || room=2500
	set -- "$@" "$room:$compiled"
fi
what="$1"
shift
sh "$(dirname "$0")/space.sh" "$@"

missing=""
for pair in $programs; do
	command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
[ -f /usr/include/stdlib.h ] || missing="$missing libc6-dev"
lua5.2 -e 'require "lpty"' >/dev/null 2>&1 || missing="$missing lua-lpty"
lua5.2 -e 'require "luaevent"' >/dev/null 2>&1 || missing="$missing lua-event"
[ -f /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
[ -f /usr/share/keyrings/debian-archive-keyring.gpg ] || missing="$missing debian-archive-keyring"
[ -f /usr/lib/apache2/modules/mod_authn_sasl.so ] || missing="$missing libapache2-mod-authn-sasl"
[ -f /usr/lib/nginx/modules/ngx_mail_module.so ] || missing="$missing libnginx-mod-mail"
ls /usr/lib/dovecot/modules/auth/*authdb_lua.so >/dev/null 2>&1 || missing="$missing dovecot-auth-lua"
[ -x /usr/lib/dovecot/imap ] || missing="$missing dovecot-imapd"
[ -x /usr/lib/dovecot/lmtp ] || missing="$missing dovecot-lmtpd"
/usr/bin/python3 -c 'import systemd.journal' 2>/dev/null || missing="$missing python3-systemd" # fail2ban reads the journal by it
ls /usr/lib/*/sasl2/libplain.so >/dev/null 2>&1 || missing="$missing libsasl2-modules"
packed=""
for pair in $unpacked; do
	[ -d "$cache/${pair%%:*}" ] || packed="$packed $pair"
done

# Exim does not start without the user that its package creates.
exim_user() { id Debian-exim >/dev/null 2>&1 || echo " Debian-exim"; }

# The shared libraries that Exim needs and that are not installed.
exim="$cache/exim4/usr/sbin/exim4"
exim_libraries() {
	[ -f "$exim" ] && ldd "$exim" | grep -q 'not found' || return 0
	dpkg-deb -f "$cache"/exim4/*.deb Depends | tr ',' '\n' | sed -n 's/^ *\(lib[^ ]*\).*/ \1/p' | tr -d '\n'
}

if [ -n "$missing$packed$(exim_libraries)$(exim_user)" ]; then
	if ! command -v apt-get >/dev/null 2>&1; then
		echo "setup: apt-get not found; install:$missing$(exim_libraries); unpack in $cache:$packed; create the user:$(exim_user)" >&2
		exit 1
	fi
	sudo=""
	[ "$(id -u)" = 0 ] || sudo=sudo
	# Keep packages from starting their services: the tests start their own servers.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e "$policy" ]; then
		printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
		$sudo chmod +x "$policy"
		trap '$sudo rm -f "$policy"' EXIT
	fi
	$sudo apt-get update -qq
	for pair in $packed; do
		echo "setup: unpacking ${pair##*:} in $cache/${pair%%:*}"
		new="$cache/${pair%%:*}.new"
		rm -rf "$new"
		mkdir -p "$new"
		if ! (cd "$new" && apt-get download -qq "${pair##*:}" && dpkg-deb -x ./*.deb .); then
			echo "setup: cannot download and unpack ${pair##*:}" >&2
			exit 1
		fi
		mv "$new" "$cache/${pair%%:*}"
	done
	chmod 0755 "$exim" # not setuid
	[ -z "$(exim_user)" ] || $sudo useradd --system --user-group --no-create-home --shell /usr/sbin/nologin Debian-exim
	missing="$missing$(exim_libraries)"
	[ -z "$missing" ] || echo "setup: installing$missing"
	# shellcheck disable=SC2086
	[ -z "$missing" ] || $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

for pair in $programs go:golang; do
	if ! command -v "${pair%%:*}" >/dev/null 2>&1; then
		echo "setup: ${pair%%:*} is still missing (package ${pair##*:})" >&2
		exit 1
	fi
done
for file in exim4/usr/sbin/exim4 prosody-modules/usr/lib/prosody/modules prometheus/usr/bin/promtool; do
	if [ ! -e "$cache/$file" ]; then
		echo "setup: $cache/$file is still missing" >&2
		exit 1
	fi
done
# What tests have of npm, in the versions of their lock files: an OpenID Connect provider, and what drives a browser.
for pair in idp/node:idp browser:browser; do
	from="$(dirname "$0")/${pair%%:*}" to="$cache/${pair##*:}"
	cmp -s "$from/package-lock.json" "$to/package-lock.json" && continue
	echo "setup: installing what $from/package.json names in $to"
	rm -rf "$to" "$to.new"
	mkdir -p "$to.new"
	cp "$from/package.json" "$from/package-lock.json" "$to.new"
	if ! (cd "$to.new" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null); then
		echo "setup: npm cannot install what $from/package.json names" >&2
		exit 1
	fi
	mv "$to.new" "$to"
done
debian="$(dirname "$0")/debian.sh"
# Debian 13's servers, and tools that read what the package has, with a systemd to boot. Exim is unpacked in /opt, as above.
servers="prosody lua-event lua-unbound ejabberd postfix sasl2-bin libsasl2-modules dovecot-imapd dovecot-auth-lua python3-slixmpp valkey-server"
tools="lintian fail2ban python3-systemd logrotate apparmor systemd systemd-sysv dbus"
sh "$debian" trixie "$cache/trixie" "$servers $tools" "exim4:exim4-daemon-heavy prosody-modules:prosody-modules"
# Fresh roots, in which `make manual-test` and `make package-test` install postern's package.
fresh="systemd systemd-sysv dbus"
[ "$what" != all ] || sh "$debian" bookworm "$cache/fresh-bookworm" "$fresh"
[ "$what" != all ] || sh "$debian" trixie "$cache/fresh-trixie" "$fresh"
