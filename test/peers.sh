#!/bin/sh
# Installs the programs that some tests compare Twinpath with, and checks that they are there: libpcap and tcpdump for the
# filters of captures, tshark and capinfos for their files, tmux as a terminal, and Chromium for the live page. Debian and Ubuntu; as root. Without
# them those tests are skipped with the reason. What is there stays as it is. Ubuntu has Chromium as a snap alone, which is not used.
set -eu

has_tcpdump() { command -v tcpdump; }
has_tshark() { command -v tshark && command -v capinfos; }
has_tmux() { command -v tmux; }
has_chromium() { /usr/bin/chromium --version --no-sandbox; }
holds() { "has_$1" >/dev/null 2>&1; }

programs='tcpdump tshark tmux chromium'
packages=''
for program in $programs; do
  if holds "$program"; then echo "$program is installed"; else packages="$packages $program"; fi
done
[ -n "$packages" ] || exit 0

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

for program in $programs; do
  holds "$program" || { echo "Not usable here: $program." >&2; exit 1; }
done
