#!/bin/sh
# build.sh deb|tarball|image SYSTEM...: builds packages for systems such as linux/arm64 in $OUT. The same
# commit yields the same bytes; an image also has this machine's certificate authorities, or those of
# the file $CERTIFICATES. The programs use no C library: they are compiled for any system on any machine.
# $REBUILD is -a to compile them anew.
set -eu
cd "$(dirname "$0")/../.."

kind="$1"
shift
VERSION="$(scripts/package/version.sh)"
MAINTAINER="${DEBFULLNAME:-postern maintainers} <${DEBEMAIL:-postern@users.noreply.github.com}>"
SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date -r CHANGELOG.md +%s)}"
export VERSION MAINTAINER SOURCE_DATE_EPOCH
umask 022
mkdir -p "$OUT"
stage="$(mktemp -d)"
trap 'rm -rf "$stage"' EXIT

here="$(go env GOHOSTOS)/$(go env GOHOSTARCH)"

# compile SYSTEM PACKAGE... builds programs in bin/.
compile() {
	pie=""
	[ "$kind" != deb ] || pie=-buildmode=pie
	BIN="bin/$kind-${1%/*}-${1#*/}"
	export BIN
	# shellcheck disable=SC2086
	(
		export CGO_ENABLED=0 GOOS="${1%/*}" GOARCH="${1#*/}"
		shift
		go build -trimpath -buildvcs=false $pie ${REBUILD:-} -ldflags "$LDFLAGS" -o "$BIN/" "$@"
	)
}

programs() { compile "$system" ./cmd/postern ./cmd/postern-relay; }

# docs has a program that runs here write the documentation, once.
docs() {
	DOCS="$stage/docs"
	export DOCS
	[ -d "$DOCS" ] || (
		[ "$system" = "$here" ] || compile "$here" ./cmd/postern
		scripts/package/docs.sh "$BIN/postern"
	)
}

deb() {
	programs
	docs
	PREFIX=/usr UNITDIR=/usr/lib/systemd/system scripts/package/install.sh install
	doc="$DESTDIR/usr/share/doc/postern"
	changelog | gzip -9n >"$doc/changelog.Debian.gz"
	{
		cat scripts/package/nfpm.yaml
		PREFIX=/usr UNITDIR=/usr/lib/systemd/system scripts/package/install.sh contents
		echo "- {dst: /usr/share/doc/postern/changelog.Debian.gz, src: \"$doc/changelog.Debian.gz\", file_info: {mode: 0644}}"
	} >"$DESTDIR.yaml"
	go tool -modfile=scripts/package/tools.mod nfpm package --packager deb \
		--config "$DESTDIR.yaml" --target "$OUT/postern_${VERSION}_$ARCH.deb"
}

# changelog is Debian's, with an entry for this version and for each one before it.
changelog() {
	entry() { printf 'postern (%s) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n\n' "$1" "$MAINTAINER" "$(LC_ALL=C date -u -R -d "$2")"; }
	entry "$VERSION" "@$SOURCE_DATE_EPOCH"
	sed -n 's/^## \[\([0-9][^]]*\)\] - \(.*\)/\1 \2/p' CHANGELOG.md | while read -r version date; do
		[ "$version-1" = "$VERSION" ] || entry "$version-1" "$date 00:00 UTC"
	done
}

# A tarball is unpacked in /.
tarball() {
	programs
	docs
	PREFIX=/usr/local UNITDIR=/usr/local/lib/systemd/system scripts/package/install.sh install
	file="$OUT/postern-${VERSION%-1}-$SYSTEM-$ARCH.tar.gz"
	tar -C "$DESTDIR" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -cf - . |
		gzip -9n >"$file"
	echo "created $file"
}

image() {
	programs
	go run ./scripts/package/image -arch "$ARCH" -version "${VERSION%-1}" -programs "$BIN" ${CERTIFICATES:+-certificates "$CERTIFICATES"} \
		-out "$OUT/postern-${VERSION%-1}-$SYSTEM-$ARCH.oci.tar"
}

for system in "$@"; do
	SYSTEM="${system%/*}"
	ARCH="${system#*/}"
	DESTDIR="$stage/$SYSTEM-$ARCH"
	export SYSTEM ARCH DESTDIR
	"$kind"
done
