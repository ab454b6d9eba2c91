#!/bin/sh
# Installs the programs that some tests compare Twinpath with, and checks that they are there: libpcap and tcpdump for the
# filters of captures, tshark and capinfos for their files, and tmux as a terminal; and systemd with udev, which the tests of deploy/ start in
# namespaces: it does not become this machine's own. Debian and Ubuntu; as root. Without them those tests are skipped
# with the reason. What is there stays as it is.
set -eu

has_tcpdump() { command -v tcpdump; }
has_tshark() { command -v tshark && command -v capinfos; }
has_tmux() { command -v tmux; }
has_systemd() { command -v systemctl && [ -x /lib/systemd/systemd ] && [ -x /lib/systemd/systemd-networkd ]; }
has_udev() { command -v udevadm; }
holds() { "has_$1" >/dev/null 2>&1; }

packages=''
for program in tcpdump tshark tmux systemd udev; do
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

for program in tcpdump tshark tmux systemd udev; do
  holds "$program" || { echo "Installed, and yet not usable here: $program." >&2; exit 1; }
done
