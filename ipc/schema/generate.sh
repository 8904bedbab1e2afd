#!/bin/sh
# Regenerates ipc/src/schema from the schemas beside this script; with --check only says whether that would change anything.
# Needs capnp, and capnpc-rust in PATH (cargo install capnpc --version 0.27.0).
set -eu
cd "$(dirname "$0")"
out=../src/schema
[ "${1:-}" != --check ] || out=$(mktemp -d)
capnp compile -o "rust:$out" --src-prefix=. ./*.capnp
[ "${1:-}" != --check ] || { diff -r -x mod.rs "$out" ../src/schema && rm -r "$out"; }
