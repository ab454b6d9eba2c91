#!/bin/bash
# Runs this machine's own systemd as the first process of new namespaces, over a writable layer in memory: nothing of the machine
# changes, and it has no other devices than the network namespace in which this script is started.
# usage: boot.sh NAME PACKAGE [ADDITION…]     until SIGTERM, or the death of its parent
#   NAME      of its control group, twinpath-test.PID of the parent
#   PACKAGE   folder of the installed package, seen at /usr/lib/node_modules/twinpath
#   ADDITION  folders whose files are copied into the root
# Its first line says which process has the first one as its only child.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

groups() { find "$1" -depth -mindepth 1 -type d -exec rmdir {} + 2>/dev/null || true; rmdir "$1" 2>/dev/null || true; }

if [ "$1" != --inside ]; then
  top=$(mktemp -dt twinpath-systemd.XXXXXX)
  # The script itself has a mount namespace that ends with it.
  exec setpriv --pdeathsig TERM unshare --mount --propagation private bash "$0" --inside "$top" "$@"
fi
if [ "$3" != --first ]; then
  top=$2; name=$3; shift 3
  trap 'rmdir "$top"' EXIT
  mount -t tmpfs -o mode=755 tmpfs "$top"
  trap 'umount -l "$top"; rmdir "$top"' EXIT
  mkdir "$top/groups"; mount -t cgroup2 cgroup2 "$top/groups"
  for old in "$top/groups"/twinpath-test.*; do [ -e "/proc/${old##*.}" ] || groups "$old"; done   # of killed runs
  mkdir "$top/groups/$name"
  (
    echo 0 >"$top/groups/$name/cgroup.procs"
    exec unshare --mount --pid --cgroup --ipc --uts --fork --kill-child bash "$0" --inside "$top" --first "$@"
  ) </dev/null &
  child=$!
  trap 'kill -KILL $child 2>/dev/null || true' TERM INT
  echo "$child"
  wait $child || wait $child || true    # the first is ended by the signal
  trap 'umount -l "$top"; rmdir "$top"' EXIT
  while grep -q 'populated 1' "$top/groups/$name/cgroup.events" 2>/dev/null; do sleep 0.02; done
  groups "$top/groups/$name"
  exit 0
fi
top=$2; package=$4; shift 4

# The root: the machine's own below, and above it memory.
mkdir "$top"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$top/upper,workdir=$top/work" "$top/root"
root=$top/root
for addition in "$@"; do tar -c -C "$addition" . | tar -x --keep-directory-symlink -C "$root"; done
mount -t proc proc "$root/proc"
# As containers have it: of the kernel's settings those of this network alone can be changed.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount --bind "$root/proc/sys/net" "$root/proc/sys/net"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t bpf bpf "$root/sys/fs/bpf"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root"/dev/{pts,shm,net}
for node in null zero full random urandom tty net/tun; do : >"$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; done
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"; ln -s /proc/self/fd "$root/dev/fd"
for folder in run tmp; do mount -t tmpfs -o mode=755 tmpfs "$root/$folder"; done
chmod 1777 "$root/tmp"
# systemd listens to udevd only if /dev is a devtmpfs, or this file is there when it starts (sd-device's device-monitor.c).
mkdir "$root/run/udev"; : >"$root/run/udev/control"

# What this machine runs, mounts and names at its own boot is not done here.
rm -rf "$root"/etc/systemd/{system,network,system.conf.d} "$root"/etc/udev/rules.d "$root"/etc/{fstab,crypttab} "$root/var/log/journal"
mkdir -p "$root"/etc/systemd/{system,network} "$root/etc/udev/rules.d"
mount -t tmpfs tmpfs "$root/usr/lib/systemd/system-generators"
for unit in sysctl.service modules-load.service udev-trigger.service remount-fs.service update-utmp.service random-seed.service binfmt.service \
  firstboot.service hwdb-update.service; do ln -s /dev/null "$root/etc/systemd/system/systemd-$unit"; done
for unit in kmod-static-nodes.service dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
  sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount; do ln -s /dev/null "$root/etc/systemd/system/$unit"; done
printf '[Unit]\nRequires=basic.target systemd-udevd.service systemd-journald.service\nAfter=basic.target systemd-udevd.service systemd-journald.service\n' \
  >"$root/etc/systemd/system/test.target"

# npm's folder of global packages, and node, are where the unit of deploy/ has them.
mkdir -p "$root/usr/lib/node_modules/twinpath"
mount --bind "$package" "$root/usr/lib/node_modules/twinpath"
[ "$NODE" = /usr/bin/node ] || { rm -f "$root/usr/bin/node"; install -m 755 "$NODE" "$root/usr/bin/node"; }

cd "$root"
pivot_root . mnt
umount -l /mnt
exec env -i container=twinpath PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=test.target --show-status=no
