#!/bin/bash
# Fetches the QEMU of bookworm-backports (10.0: has igb, a NIC with a PCI parent and native XDP) beside the installed one; boot.sh prefers it
# unless RIG_OLD_QEMU is set. Nothing is installed and no source is added to the machine.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
rig=${TWINPATH_MACHINES:-$HOME/.cache/twinpath-machines}; a=$rig/backports
. "$here/packages.sh"
alone
mkdir -p "$a"/{lists/partial,cache/archives/partial,debs}
mirror=$(mirror); [ -n "$mirror" ] || lacks 'apt has no sources'
for suite in bookworm-backports bookworm; do echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"; done >"$a/sources.list"
apt=(-o "Dir::Etc::SourceList=$a/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$a/lists" -o "Dir::Cache=$a/cache")
refresh "${apt[@]}" || lacks "apt-get cannot reach $mirror: $(complaint)"
version=$(apt-cache "${apt[@]}" show qemu-system-x86 | awk '/^Version: .*bpo/{print $2; exit}') || true
[ -n "$version" ] || lacks "bookworm-backports of $mirror has no qemu-system-x86"
rm -f "$a"/debs/*.deb
fetch "$a/debs" "${apt[@]}" -- "qemu-system-x86=$version" "qemu-system-common=$version" "qemu-system-data=$version" seabios \
  || lacks "apt-get cannot download qemu-system-x86 $version: $(complaint)"
t=$rig/qemu.tmp; mkdir "$t"; for d in "$a"/debs/*.deb; do dpkg-deb -x "$d" "$t"; done
lib=$t/usr/lib/x86_64-linux-gnu
for so in $(LD_LIBRARY_PATH=$lib ldd "$t/usr/bin/qemu-system-x86_64" | awk '/not found/{print $1}'); do echo "prepare-qemu: lacks $so" >&2; done
LD_LIBRARY_PATH=$lib "$t/usr/bin/qemu-system-x86_64" --version | head -1
rm -rf "$rig/qemu"; mv "$t" "$rig/qemu"
