#!/bin/sh
# Gets the programs that some tests compare Twinpath with or run it under, and checks that they are there: libpcap and tcpdump for the
# filters of captures, tshark and capinfos for their files, tmux as a terminal, Chromium for the live page; systemd with udev and D-Bus,
# which the tests of deploy/ start in namespaces, so that it does not become this machine's own; crun as a container runtime; spin and a
# C compiler for the models, clang-tidy for the shim. Debian and Ubuntu; as root. Without them those tests are skipped with the reason.
# What is there stays as it is. Ubuntu has Chromium as a snap alone, which is not used.
set -eu

has_tcpdump() { command -v tcpdump; }
has_tshark() { command -v tshark && command -v capinfos; }
has_tmux() { command -v tmux; }
has_systemd() { command -v systemctl && [ -x /lib/systemd/systemd ] && [ -x /lib/systemd/systemd-networkd ]; }
has_udev() { command -v udevadm; }
has_dbus() { command -v dbus-daemon; }
has_crun() { command -v crun; }
has_spin() { command -v spin; }
has_gcc() { command -v cc; }
has_clang_tidy() { clang-tidy --version; }
has_chromium() { /usr/bin/chromium --version --no-sandbox; }
holds() { "has_$(echo "$1" | tr - _)" >/dev/null 2>&1; }

programs='tcpdump tshark tmux systemd udev dbus crun spin gcc clang-tidy chromium'
packages=''
for program in $programs; do
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
# One after the other: a system that lacks one has the others all the same.
for package in $packages; do
  apt-get install --yes --no-install-recommends "$package" || echo "Not installed: $package." >&2
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

missing=''
for program in $programs; do holds "$program" || missing="$missing $program"; done
[ -z "$missing" ] || { echo "Not usable here:$missing." >&2; exit 1; }
