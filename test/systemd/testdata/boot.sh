#!/bin/bash
# Becomes PID 1 of a private PID and mount namespace: systemd with the units of this project and nothing else.
# $1 is the image: root/ (what `make install` wrote), units/, upper/, work/, log/.
set -eu
image=$1
mount --make-rprivate /
# What other tests have mounted is theirs: held here, it could not end there.
while read -r _ _ _ _ dir _; do
	case $dir in /tmp/* | /var/tmp/*) umount -l "$dir" 2>/dev/null || true ;; esac
done </proc/self/mountinfo
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -p /run/image
mount --bind "$image" /run/image
mount -t overlay overlay -o "lowerdir=$image/root/usr:/usr" /usr
mkdir -p "$image/upper/etc" "$image/work/etc" "$image/upper/var" "$image/work/var"
mount -t overlay overlay -o "lowerdir=$image/root/etc:/etc,upperdir=$image/upper/etc,workdir=$image/work/etc" /etc
mount -t overlay overlay -o "lowerdir=/var,upperdir=$image/upper/var,workdir=$image/work/var" /var
# Only these units exist: nothing of the host's is started a second time.
mount --bind "$image/units" /usr/lib/systemd/system
mount -t tmpfs tmpfs /etc/systemd
mount -t tmpfs tmpfs /mnt
mount -t tmpfs tmpfs /tmp
mkdir -p /mnt/qsfs
# As on a booted host: a service with a mount namespace of its own follows the mounts that come and go.
mount --make-rshared /
export container=qsfs-test
exec /lib/systemd/systemd --system --unit=idle.target --log-target=console --show-status=no
