#!/bin/sh
# Builds the Debian packages of the last commit twice, in folders of different names and with nothing
# compiled before, and fails if the results differ. ARCH is as in the Makefile.
set -eu
cd "$(dirname "$0")/../.."
work="$(mktemp -d)"
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

for tree in one another/place; do
	mkdir -p "$work/$tree" "$work/out/$tree"
	git clone -q . "$work/$tree"
	GOCACHE="$work/cache/$tree" make -s -C "$work/$tree" deb ARCH="$ARCH" OUT="$work/out/$tree"
	rm -rf "$work/cache"
done
for deb in "$work"/out/one/*.deb; do
	cmp "$deb" "$work/out/another/place/${deb##*/}"
	sha256sum "$deb" | sed "s|$work/out/one/||"
done
