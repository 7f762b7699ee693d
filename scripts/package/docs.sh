#!/bin/sh
# docs.sh PROGRAM: has postern write its man pages and the completions of shells into $DOCS (bin/docs),
# and packs them and the changelog as packages have them.
set -eu
DOCS="${DOCS:-bin/docs}"
rm -rf "$DOCS"
"$1" gen-docs "$DOCS"
gzip -9n "$DOCS"/man*/*
gzip -9nc CHANGELOG.md >"$DOCS/changelog.gz"
