#!/bin/sh
# Gets the programs that some tests compare Twinpath with or run it under, and checks that they are there: libpcap and tcpdump for the
# filters of captures, tshark and capinfos for their files, and tmux as a terminal; systemd with udev and D-Bus, which the tests of deploy/
# start in namespaces, so that it does not become this machine's own; crun as a container runtime. Debian and Ubuntu; as root. Without
# them those tests are skipped with the reason. What is there stays as it is.
set -eu

has_tcpdump() { command -v tcpdump; }
has_tshark() { command -v tshark && command -v capinfos; }
has_tmux() { command -v tmux; }
has_systemd() { command -v systemctl && [ -x /lib/systemd/systemd ] && [ -x /lib/systemd/systemd-networkd ]; }
has_udev() { command -v udevadm; }
has_dbus() { command -v dbus-daemon; }
has_crun() { command -v crun; }
holds() { "has_$1" >/dev/null 2>&1; }

packages=''
for program in tcpdump tshark tmux systemd udev dbus crun; do
  if holds "$program"; then echo "$program is installed"; else packages="$packages $program"; fi
done
# NetworkManager is not installed, because it would take this machine's network: its packages are unpacked, for tests that lay them
# over a root of their own.
manager=$(cd "$(dirname "$0")/.." && pwd)/build/peers/network-manager
if PATH=$PATH:/usr/sbin command -v NetworkManager >/dev/null || [ -x "$manager/usr/sbin/NetworkManager" ]; then
  echo "NetworkManager is there"
  manager=''
fi
[ -n "$packages$manager" ] || exit 0

if ! command -v apt-get >/dev/null; then
  echo "There is no apt-get here: install$packages with the package manager of this system." >&2
  exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "Packages are installed by root: sudo $0" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update
# shellcheck disable=SC2086
[ -z "$packages" ] || apt-get install --yes --no-install-recommends $packages

for program in tcpdump tshark tmux systemd udev dbus crun; do
  holds "$program" || { echo "Installed, and yet not usable here: $program." >&2; exit 1; }
done

if [ -n "$manager" ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/packages/partial" "$work/root/usr"
  apt-get install --yes --no-install-recommends --download-only -o Dir::Cache::archives="$work/packages" network-manager
  # /lib is a link to usr/lib, also in what is laid over a root.
  for folder in bin sbin lib lib64; do
    mkdir "$work/root/usr/$folder"
    ln -s "usr/$folder" "$work/root/$folder"
  done
  for package in "$work"/packages/*.deb; do dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$work/root"; done
  [ -x "$work/root/usr/sbin/NetworkManager" ] || { echo "Downloaded, and yet there is no NetworkManager." >&2; exit 1; }
  rm -rf "$manager"
  mkdir -p "$(dirname "$manager")"
  cp -a "$work/root" "$manager"
  echo "NetworkManager is unpacked"
fi
