#!/bin/bash
# original.sh SUITE [PIPELINE [ZDB]]: runs the test suite of the original 0-db, built elsewhere, and its pipeline program
# against our server in every mode that it knows. SUITE and PIPELINE are its programs, ZDB is ours, bin/zdb unless told.
#
# It needs root (a network and a mount namespace of its own, since the suite's port and socket are fixed). It ends
# with 1 when a test fails that should not. With an admin password, lowlevel_mirror has to fail: the suite asks for MIRROR
# on a connection that has lost its rights.
set -euo pipefail

if [ "${1:-}" = --one ]; then # in namespaces of its own: --one DIRECTORY EXPECTED NAME FLAGS…
    work=$2 expected=$3 name=$4
    shift 4
    mount -t tmpfs none /tmp
    ip link set lo up
    "$work/zdb" serve --data /tmp/data --index /tmp/index "$@" >"$work/$name.log" 2>&1 &
    pid=$!
    for _ in $(seq 100); do
        if [ -S /tmp/zdb.sock ] || (: </dev/tcp/127.0.0.1/9900) 2>/dev/null; then break; fi
        sleep 0.1
    done
    if [ "$name" = pipeline ]; then
        timeout 60 "$work/pipeline" >"$work/$name.out" 2>&1 || echo "failed: pipeline" >>"$work/$name.out"
        echo "$name: $(grep -c 'response okay' "$work/$name.out") replies"
    else
        timeout 300 "$work/suite" >"$work/$name.out" 2>&1 || echo "failed: the suite did not end" >>"$work/$name.out"
        sed -i 's/\x1b\[[0-9;]*m//g' "$work/$name.out"
        grep -q 'failed *: [0-9]' "$work/$name.out" || echo "failed: no summary" >>"$work/$name.out"
        echo "$name: $(grep -oE '(success|failed|warning|skipped) *: [0-9]+' "$work/$name.out" | tr -s ' ' | tr '\n' ' ')"
    fi
    kill "$pid" 2>/dev/null || true # the suite's STOP may have been heard
    wait "$pid" || { echo "  the server ended with $?"; exit 1; }
    bad=$(grep -i 'failed' "$work/$name.out" | grep -v 'failed *: [0-9]' | grep -v "$expected" || true)
    [ -z "$bad" ] || { echo "$bad"; exit 1; }
    exit 0
fi

suite=${1:?the test program of 0-db, built}
pipeline=${2:-}
zdb=${3:-bin/zdb}
work=$(mktemp -d /var/tmp/original.XXXXXX)
trap 'rm -rf "$work"' EXIT
cp "$suite" "$work/suite"
[ -z "$pipeline" ] || cp "$pipeline" "$work/pipeline"
cp "$zdb" "$work/zdb"
cp "$0" "$work/original.sh"

status=0
one() { unshare -nm "$work/original.sh" --one "$work" "$@" || status=1; }
one nothing user
one nothing seq --mode seq
one nothing unix --socket /tmp/zdb.sock
one nothing unix-seq --socket /tmp/zdb.sock --mode seq
one nothing unix-hook --socket /tmp/zdb.sock --hook /bin/true --datasize 530432
one lowlevel_mirror admin --admin root
one lowlevel_mirror admin-seq --admin root --mode seq
[ -z "$pipeline" ] || one nothing pipeline
exit $status
