#!/bin/sh
# install.sh install|uninstall|contents: installs or removes the files of the list beside it, or
# prints them as the contents of nfpm's configuration. PREFIX, UNITDIR and DESTDIR are as in the
# Makefile; BIN and DOCS are the folders of the programs and their documentation, and SYSTEM is the
# system that they are for.
set -eu
cd "$(dirname "$0")/../.."
PREFIX="${PREFIX:-/usr}"
UNITDIR="${UNITDIR:-/usr/lib/systemd/system}"
DESTDIR="${DESTDIR:-}"
BIN="${BIN:-bin}"
DOCS="${DOCS:-bin/docs}"
SYSTEM="${SYSTEM:-$(uname | tr '[:upper:]' '[:lower:]')}"
ZSH=site-functions
[ "$PREFIX" != /usr ] || ZSH=vendor-completions # Debian's, for packages

# each calls a function with the mode, the source and the destination of each file.
each() {
	sed -e '/^#/d' -e "s|@PREFIX@|$PREFIX|" -e "s|@UNITDIR@|$UNITDIR|" -e "s|@BIN@|$BIN|" -e "s|@DOCS@|$DOCS|" -e "s|@ZSH@|$ZSH|" scripts/package/files |
		while read -r mode sources to only; do
			[ "${only:-$SYSTEM}" = "$SYSTEM" ] || continue
			case "$1:$sources:$to" in
			"take:$DOCS"/*:*/) sources="$DESTDIR$to${sources##*/}" ;; # there may be no build any more
			esac
			for from in $sources; do
				if [ "$1" != take ] && [ "$from" != - ] && [ ! -e "$from" ]; then
					echo "install: $from is missing: run make build" >&2
					exit 1
				fi
				case "$from:$to" in
				-:*) "$1" "$mode" "$from" "${to%/}" ;;
				*/) "$1" "$mode" "$from" "$to${from##*/}" ;;
				*) "$1" "$mode" "$from" "$to" ;;
				esac
			done
		done
}

put() {
	if [ "$2" = - ]; then
		install -d -m "$1" "$DESTDIR$3"
		return
	fi
	install -d "$DESTDIR${3%/*}"
	case "$2" in
	*.service | *.socket)
		sed -e "s|/usr/bin/postern|$PREFIX/bin/postern|" -e "s|/usr/share/doc/postern|$PREFIX/share/doc/postern|" "$2" >"$DESTDIR$3"
		chmod "$1" "$DESTDIR$3"
		;;
	*) install -m "$1" "$2" "$DESTDIR$3" ;;
	esac
}

# take removes a file, and the directories of postern that are empty without it.
take() {
	dir="$3"
	if [ "$2" != - ]; then
		rm -f "$DESTDIR$3"
		dir="${3%/*}"
	fi
	while case "$dir" in */postern | */postern/*) true ;; *) false ;; esac do
		rmdir "$DESTDIR$dir" 2>/dev/null || break
		dir="${dir%/*}"
	done
}

content() {
	kind=file
	case "$2:$3" in
	-:*) kind=dir ;;
	*:/etc/*) kind=config ;;
	esac
	printf -- '- {dst: "%s", type: %s, file_info: {mode: 0%s}' "$3" "$kind" "$1"
	[ "$kind" = dir ] || printf ', src: "%s"' "$DESTDIR$3"
	echo '}'
}

case "${1:-}" in
install) each put ;;
uninstall) each take ;;
contents) each content ;;
*)
	echo "usage: install.sh install|uninstall|contents" >&2
	exit 2
	;;
esac
