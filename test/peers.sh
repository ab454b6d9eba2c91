#!/bin/sh
# Installs the programs that some tests compare Twinpath with, and checks that they are there: libpcap and tcpdump for the
# filters of captures, tshark and capinfos for their files, tmux as a terminal, and clang-tidy for the shim (16 MB to load). Debian
# and Ubuntu; as root. Without them those tests are skipped with the reason. What is there stays as it is.
set -eu

has_tcpdump() { command -v tcpdump; }
has_tshark() { command -v tshark && command -v capinfos; }
has_clang_tidy() { clang-tidy --version; }
has_tmux() { command -v tmux; }
holds() { "has_$(echo "$1" | tr - _)" >/dev/null 2>&1; }

packages=''
for program in tcpdump tshark tmux clang-tidy; do
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
# shellcheck disable=SC2086
apt-get install --yes --no-install-recommends $packages

for program in tcpdump tshark tmux clang-tidy; do
  holds "$program" || { echo "Installed, and yet not usable here: $program." >&2; exit 1; }
done
