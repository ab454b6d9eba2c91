#!/bin/bash
# Fetches the QEMU of bookworm-backports (10.0: has igb, a NIC with a PCI parent and native XDP) beside the installed one; boot.sh prefers it
# unless RIG_OLD_QEMU is set. Nothing is installed and no source is added to the machine.
set -euo pipefail
rig=${TWINPATH_MACHINES:-$HOME/.cache/twinpath-machines}; a=$rig/backports; mkdir -p "$a"/{lists/partial,cache/archives/partial,debs}
# The mirror is the one this machine's own sources name.
mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -v security | head -1)
for suite in bookworm-backports bookworm; do echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"; done >"$a/sources.list"
apt=(-q -o "Dir::Etc::SourceList=$a/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$a/lists" -o "Dir::Cache=$a/cache")
apt-get "${apt[@]}" update >/dev/null
version=$(apt-cache "${apt[@]}" show qemu-system-x86 | awk '/^Version: .*bpo/{print $2; exit}')
cd "$a/debs"; rm -f ./*.deb
apt-get "${apt[@]}" download "qemu-system-x86=$version" "qemu-system-common=$version" "qemu-system-data=$version" seabios >/dev/null 2>&1
rm -rf "$rig/qemu"; mkdir -p "$rig/qemu"; for d in ./*.deb; do dpkg-deb -x "$d" "$rig/qemu"; done
lib=$rig/qemu/usr/lib/x86_64-linux-gnu
for so in $(LD_LIBRARY_PATH=$lib ldd "$rig/qemu/usr/bin/qemu-system-x86_64" | awk '/not found/{print $1}'); do echo "prepare-qemu: lacks $so" >&2; done
LD_LIBRARY_PATH=$lib "$rig/qemu/usr/bin/qemu-system-x86_64" --version | head -1
