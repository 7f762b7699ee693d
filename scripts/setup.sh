#!/bin/sh
# Installs the programs that the tests need, where apt-get and the right to use it are there,
# and fails with the name of what is missing otherwise.
set -eu

missing=""
need() { # need PROGRAM PACKAGE
	PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

need gcc gcc
need postmap postfix
need testsaslauthd sasl2-bin
[ -f /usr/include/stdlib.h ] || missing="$missing libc6-dev"

if [ -n "$missing" ]; then
	echo "installing:$missing"
	if ! command -v apt-get >/dev/null 2>&1; then
		echo "setup: apt-get is not here; install by hand:$missing" >&2
		exit 1
	fi
	sudo=""
	[ "$(id -u)" = 0 ] || sudo=sudo
	export DEBIAN_FRONTEND=noninteractive
	$sudo apt-get update -qq
	# No service is to be started by its package: the tests start their own.
	# shellcheck disable=SC2086
	$sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

for program in gcc postmap testsaslauthd go; do
	if ! PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null 2>&1; then
		echo "setup: $program is missing and could not be installed" >&2
		exit 1
	fi
done
