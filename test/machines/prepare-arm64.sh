#!/bin/bash
# Unpacks what builds and runs arm64 programs on x86-64, into ${TWINPATH_MACHINES:-$HOME/.cache/twinpath-machines}/arm64:
# the cross compiler, qemu-user and arm64's C library, to be seen at /usr. Nothing is installed. Prints that folder.
# exit status: 69 where the packages are not to be had, see packages.sh
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
rig=${TWINPATH_MACHINES:-$HOME/.cache/twinpath-machines}
. "$here/packages.sh"
alone
want=(binutils-aarch64-linux-gnu cpp-12-aarch64-linux-gnu gcc-12-aarch64-linux-gnu gcc-aarch64-linux-gnu
  libc6-arm64-cross libc6-dev-arm64-cross linux-libc-dev-arm64-cross libgcc-12-dev-arm64-cross libgcc-s1-arm64-cross
  libstdc++6-arm64-cross libatomic1-arm64-cross qemu-user-static)
if [ "$(cat "$rig/arm64/stamp" 2>/dev/null)" != "${want[*]}" ]; then
  debs=$rig/debs.tmp; t=$rig/arm64.tmp; mkdir "$debs" "$t"
  fetch "$debs" -- "${want[@]}" || { refresh || true; fetch "$debs" -- "${want[@]}"; } \
    || lacks "apt-get cannot download ${want[0]} and what goes with it: $(complaint)"
  for d in "$debs"/*.deb; do dpkg-deb -x "$d" "$t"; done
  find "$t/usr/bin" -name 'qemu-*' ! -name qemu-aarch64-static -delete
  "$t/usr/bin/aarch64-linux-gnu-gcc" --version >&2; "$t/usr/bin/qemu-aarch64-static" --version >&2
  echo "${want[*]}" >"$t/stamp"; rm -rf "$rig/arm64" "$debs"; mv "$t" "$rig/arm64"
fi
echo "$rig/arm64"
