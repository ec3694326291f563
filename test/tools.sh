#!/bin/sh
# Installs what the end-to-end tests call and this machine lacks (Debian, root).
set -eu

missing=""
need() { # command package
	if ! command -v "$1" >/dev/null 2>&1 && [ ! -x "/usr/sbin/$1" ] && [ ! -x "/sbin/$1" ] && [ ! -x "$1" ]; then
		missing="$missing $2"
	fi
}
need fusermount3 fuse3
need mkfs.xfs xfsprogs
need mkfs.ext4 e2fsprogs
need losetup mount
need unshare util-linux
need setfattr attr
need /lib/systemd/systemd systemd
need dbus-daemon dbus
need git git
need python3 python3
need redis-cli redis-tools

[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
	echo "missing packages:$missing; install them as root: apt-get install$missing" >&2
	exit 1
fi
echo "installing:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >&2
# shellcheck disable=SC2086 # the list is meant to be split
apt-get install -y -q --no-install-recommends $missing >&2
