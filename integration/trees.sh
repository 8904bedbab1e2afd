#!/bin/bash
# Makes the root file systems that tests and benchmarks run in, once: integration/trees.sh DIR [TREE...]
#   DIR/debian    bookworm minbase by debootstrap, with xz-utils and procps
#   DIR/busybox   busybox-static with a link for each applet
#   DIR/programs  as debian, with the programs that `make bench` runs
# Without names, the first two, which are the tests'.
set -eu
dir=$1
shift
wanted=" ${*:-debian busybox} "
mkdir -p "$dir"
exec 9>"$dir/.lock"
flock 9

# bootstrap TREE PACKAGES
bootstrap() {
    mirror=$(awk '/^URIs/ { print $2; exit }' /etc/apt/sources.list.d/debian.sources 2>/dev/null || true)
    [ -n "$mirror" ] || mirror=$(awk '$1 == "deb" { print $2; exit }' /etc/apt/sources.list 2>/dev/null || true)
    rm -rf "${dir:?}/$1"
    debootstrap --variant=minbase --include="$2" bookworm "$dir/$1" "${mirror:-http://deb.debian.org/debian}" \
        >"$dir/debootstrap.log" 2>&1 || { tail -20 "$dir/debootstrap.log" >&2; exit 1; }
    touch "$dir/$1/.complete"
}

wants() {
    case $wanted in *" $1 "*) [ ! -e "$dir/$1/.complete" ] ;; *) false ;; esac
}

! wants debian || bootstrap debian xz-utils,procps
! wants programs || bootstrap programs xz-utils,procps,python3,gcc,libc6-dev,make,git,fio

if wants busybox; then
    rm -rf "$dir/busybox"
    mkdir -p "$dir"/busybox/{bin,dev,etc,proc,root,sys,tmp,usr,var/log}
    chmod 1777 "$dir/busybox/tmp"
    cp "$(command -v busybox)" "$dir/busybox/bin/busybox"
    for applet in $("$dir/busybox/bin/busybox" --list); do
        [ "$applet" = busybox ] || ln -s busybox "$dir/busybox/bin/$applet"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$dir/busybox/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$dir/busybox/etc/group"
    touch "$dir/busybox/.complete"
fi
