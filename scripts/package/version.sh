#!/bin/sh
# Prints the version of the Debian package. It comes from the tag, as in v0.2.0, with the number of
# commits since then, as in 0.2.0+5.g0123456. A tree without tags has the newest version in
# CHANGELOG.md and the date of the last commit.
set -eu
cd "$(dirname "$0")/../.."
described="$(git describe --tags --dirty 2>/dev/null || true)"
case "$described" in
v[0-9]*) version="$(echo "${described#v}" | sed -e 's/-\(alpha\|beta\|rc\)/~\1/' -e 's/-/+/' -e 's/-/./g')" ;;
*)
	version="$(sed -n 's/^## \[\([0-9][^]]*\)\].*/\1/p' CHANGELOG.md | head -n 1)"
	commit="$(git log -1 --date=format:%Y%m%d --format=+git%cd.%h 2>/dev/null || true)"
	version="$version$commit"
	;;
esac
echo "$version-1"
