#!/bin/sh
# Builds the Debian packages of the last commit twice, in folders of different names, the second time
# with everything compiled anew, and fails if the results differ. ARCH is as in the Makefile.
set -eu
cd "$(dirname "$0")/../.."
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

build() {
	mkdir -p "$work/$1" "$work/out/$1"
	git clone -q . "$work/$1"
	REBUILD="$2" make -s -C "$work/$1" deb ARCH="$ARCH" OUT="$work/out/$1"
}
build one ""
build another/place -a
for deb in "$work"/out/one/*.deb; do
	cmp "$deb" "$work/out/another/place/${deb##*/}"
	sha256sum "$deb" | sed "s|$work/out/one/||"
done
