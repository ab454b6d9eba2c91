#!/bin/bash
# Gets a kernel of a newer suite ready, for what Debian 12's lack (igb has AF_XDP zero-copy from 6.14, virtio-net for receive 6.11, transmit 6.13).
# usage: prepare-kernel.sh [PATTERN [SUITE]]     PATTERN: of the version, e.g. '7\.3' (default: the newest); SUITE: trixie-backports, sid, bookworm-backports
# Prints the name for boot.sh. No source is added to the machine. Newer Debian kernels come in parts (linux-base-, linux-binary-, linux-modules-): joined into one .deb.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
rig=${TWINPATH_MACHINES:-$HOME/.cache/twinpath-machines}; pattern=${1:-.}; suite=${2:-trixie-backports}; a=$rig/suites/$suite
. "$here/packages.sh"
alone
mkdir -p "$a"/{lists/partial,cache/archives/partial,debs}
mirror=$(mirror); [ -n "$mirror" ] || lacks 'apt has no sources'
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$a/sources.list"
apt=(-o "Dir::Etc::SourceList=$a/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$a/lists" -o "Dir::Cache=$a/cache")
refresh "${apt[@]}" || lacks "apt-get cannot reach $mirror: $(complaint)"
release=$(apt-cache "${apt[@]}" pkgnames linux-image- | sed -n 's/^linux-image-\([0-9].*-amd64\)$/\1/p' | grep -Ev -- '-(rt|cloud)-|unsigned|dbg' | grep -E "$pattern" | sort -V | tail -1) || true
[ -n "$release" ] || lacks "$suite of $mirror has no kernel that fits $pattern"
joined=$rig/suites/linux-$release.deb
if [ ! -e "$joined" ]; then
  want=()
  for p in image base binary modules; do ! apt-cache "${apt[@]}" show "linux-$p-$release" >/dev/null 2>&1 || want+=("linux-$p-$release"); done
  fetch "$a/debs" "${apt[@]}" -- "${want[@]}" || lacks "apt-get cannot download ${want[*]}: $(complaint)"
  t=$rig/joined.tmp; mkdir "$t"; for p in "${want[@]}"; do dpkg-deb -x "$(ls -t "$a/debs/$p"_*.deb | head -1)" "$t"; done
  [ -d "$t/boot" ] || mkdir "$t/boot"
  # In parts the kernel and its configuration lie beside the modules.
  m=$t/usr/lib/modules/$release; [ -d "$m" ] || m=$t/lib/modules/$release
  [ -e "$t/boot/vmlinuz-$release" ] || cp "$m/vmlinuz" "$t/boot/vmlinuz-$release"
  [ -e "$t/boot/config-$release" ] || cp "$m/config" "$t/boot/config-$release" 2>/dev/null || : >"$t/boot/config-$release"
  mkdir -p "$t/DEBIAN"; printf 'Package: linux-%s\nVersion: 0\nArchitecture: amd64\nMaintainer: rig\nDescription: joined\n' "$(tr -c 'a-z0-9.+-' - <<<"$release" | sed 's/-*$//')" >"$t/DEBIAN/control"
  dpkg-deb -Znone -b "$t" "$joined.new" >/dev/null; mv "$joined.new" "$joined"; rm -rf "$t"
fi
exec 8>&- # the lock is prepare.sh's now
bash "$here/prepare.sh" "$joined" >&2
echo "linux-$release"
