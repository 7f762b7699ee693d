#!/bin/sh
# Installs the programs that the tests need, where apt-get and the right to use it are there,
# and fails with the name of what is missing otherwise.
set -eu
PATH="$PATH:/usr/sbin:/sbin"

programs="gcc:gcc postmap:postfix testsaslauthd:sasl2-bin ejabberdctl:ejabberd prosody:prosody
	lua5.2:lua5.2 luacheck:lua-check php:php-cli
	systemd-analyze:systemd systemd-socket-activate:systemd pkill:procps"

missing=""
for pair in $programs; do
	command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
[ -f /usr/include/stdlib.h ] || missing="$missing libc6-dev"
lua5.2 -e 'require "lpty"' >/dev/null 2>&1 || missing="$missing lua-lpty"

if [ -n "$missing" ]; then
	echo "installing:$missing"
	if ! command -v apt-get >/dev/null 2>&1; then
		echo "setup: apt-get is not here; install by hand:$missing" >&2
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
	# shellcheck disable=SC2086
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

for pair in $programs go:golang; do
	if ! command -v "${pair%%:*}" >/dev/null 2>&1; then
		echo "setup: ${pair%%:*} is missing and could not be installed" >&2
		exit 1
	fi
done
