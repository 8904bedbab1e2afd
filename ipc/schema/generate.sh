#!/bin/sh
# Generates ipc/src/schema/*_capnp.rs from ipc/schema/*.capnp. The result is committed, so that building needs no capnp.
#
#   generate.sh           writes the generated code into the tree
#   generate.sh --check   fails if what is committed is not what the schemas generate
#
# Needs capnp (Debian and Ubuntu: the package "capnproto") and capnpc-rust; both are installed when they are missing, the latter
# into target/tools.
set -eu

plugin_version=0.27.0
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
committed=$root/ipc/src/schema
tools=${CARGO_TARGET_DIR:-$root/target}/tools
PATH=$tools/bin:$PATH

if ! command -v capnp >/dev/null; then
    as_root=$([ "$(id -u)" = 0 ] || echo sudo)
    $as_root apt-get install -y --no-install-recommends capnproto
fi
if ! command -v capnpc-rust >/dev/null; then
    cargo install capnpc --version "$plugin_version" --locked --root "$tools"
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
capnp compile --src-prefix="$here" -orust:"$scratch" "$here"/*.capnp
# The same code whatever capnp's own version.
sed -i '/^\/\/ capnp binary version:/d' "$scratch"/*_capnp.rs

case "${1:-}" in
    --check)
        for schema in "$here"/*.capnp; do
            file=$(basename "$schema" .capnp)_capnp.rs
            diff -u "$committed/$file" "$scratch/$file" || { echo "$file is out of date: run 'make schema'" >&2; exit 1; }
        done ;;
    "") cp "$scratch"/*_capnp.rs "$committed/" ;;
    *) echo "usage: generate.sh [--check]" >&2; exit 2 ;;
esac
