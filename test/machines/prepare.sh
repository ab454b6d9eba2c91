#!/bin/bash
# Gets a Debian kernel and a small root for it ready under ${TWINPATH_MACHINES:-$HOME/.cache/twinpath-machines}.
# usage: prepare.sh KERNEL [--force]
#   KERNEL  6.1 | 6.12 | 6.1-cloud (the newest of that line on the mirror), a package name linux-image-…, or a .deb file
# leaves  root.img (Debian tools and this machine's node), kernels/KERNEL/{kernel,initramfs,modules.img,config,release}
# exit status: 69 where the packages are not to be had, see packages.sh
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
rig=${TWINPATH_MACHINES:-$HOME/.cache/twinpath-machines}
kernel=${1:?usage: prepare.sh KERNEL [--force]}; force=${2:-}
say() { echo "prepare: $*" >&2; }
export PATH=$PATH:/usr/sbin:/sbin
. "$here/packages.sh"
alone
mkdir -p "$rig/debs" "$rig/kernels"

# What the host itself needs.
want=()
command -v qemu-system-x86_64 >/dev/null || want+=(qemu-system-x86)
command -v depmod  >/dev/null || want+=(kmod)
command -v cpio    >/dev/null || want+=(cpio)
command -v mke2fs  >/dev/null || want+=(e2fsprogs)
command -v ip      >/dev/null || want+=(iproute2)
command -v xz      >/dev/null || want+=(xz-utils)
command -v zstd    >/dev/null || want+=(zstd)
if [ ${#want[@]} -gt 0 ]; then
  say "installing ${want[*]}"
  refresh || true      # a source that does not answer is no reason to stop
  DEBIAN_FRONTEND=noninteractive bounded apt-get install -q -y --no-install-recommends "${want[@]}" >"$rig/apt.log" 2>&1 || lacks "apt-get cannot install ${want[*]}: $(complaint)"
fi
apt-cache show busybox-static >/dev/null 2>&1 || refresh || true

get() { # PACKAGE…: downloads those that are not there yet, quietly; old versions are replaced
  local missing=() p; for p in "$@"; do compgen -G "$rig/debs/${p}_*.deb" >/dev/null || missing+=("$p"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  fetch "$rig/debs" -- "${missing[@]}" && return
  refresh || true   # the lists may be older than the mirror
  fetch "$rig/debs" -- "${missing[@]}" || lacks "apt-get cannot download ${#missing[@]} packages, ${missing[0]} the first: $(complaint)"
}
unpack() { # PACKAGE DIR: through tar, so that bin -> usr/bin stays a link
  dpkg-deb --fsys-tarfile "$(ls -t "$rig/debs/$1"_*.deb | head -1)" | tar -x --keep-directory-symlink -C "$2"
}
image() { # DIR FILE: a read-only ext4 without a journal, just large enough
  local mb; mb=$(( $(du -sm --apparent-size "$1" | cut -f1) * 115 / 100 + 24 ))
  rm -f "$2.new"; mke2fs -q -F -t ext4 -O ^has_journal,^metadata_csum,^resize_inode -m 0 -N $(( $(find "$1" | wc -l) + 512 )) -d "$1" "$2.new" "${mb}M" >/dev/null
  mv "$2.new" "$2"
}

bare() { # VMLINUZ FILE: the ELF kernel inside; QEMU starts it by PVH, which spares the guest seconds of unpacking in TCG
  local magic tool at
  while read -r magic tool; do
    for at in $(LC_ALL=C grep -aboP "$magic" "$1" | cut -d: -f1 | head -4); do
      tail -c +$((at+1)) "$1" | $tool 2>/dev/null >"$2.new" || true
      if [ "$(head -c 4 "$2.new")" = $'\x7fELF' ]; then mv "$2.new" "$2"; return; fi
    done
  done <<<'\xfd7zXZ\x00 xz -dc
\x28\xb5\x2f\xfd zstd -dc
\x1f\x8b\x08 gzip -dc
\x02\x21\x4c\x18 lz4 -dc'
  rm -f "$2.new"; cp "$1" "$2"
}

# The root: packages and their dependencies, unpacked and not installed, with this machine's node.
tools="bash mount hostname coreutils findutils grep sed mawk diffutils util-linux procps iproute2 iputils-ping ethtool kmod udev tcpdump iperf3 strace libstdc++6 busybox-static ca-certificates"
node=$(readlink -f "$(command -v node)")
stamp="$tools $(stat -c '%s %Y' "$node") 2"
if [ "$force" = --force ] || [ ! -e "$rig/root.img" ] || [ "$(cat "$rig/root.stamp" 2>/dev/null)" != "$stamp" ]; then
  rm -f "$rig/root.stamp"
  say "root: $(node --version) and: $tools"
  # shellcheck disable=SC2086
  all=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances $tools \
    | grep '^[a-z0-9]' | grep -v ':i386' | sort -u \
    | grep -Ev '^(perl|libperl|cdebconf|debconf|adduser|passwd|dpkg|tar|install-info|usrmerge|usr-is-merged|original-awk|gawk|libdebian|libtext|libfile|libnumber|libnewt|libslang|libelogind|libgdbm|libdb5|libsemanage|libsepol|gcc-12|util-linux-extra|libpam|init-system|libtextwrap|libmpfr|libgmp|libsigsegv|libreadline|readline|sysvinit|openssl|lsb-base|mime|debianutils)') \
    || lacks "apt does not know: $tools"
  # shellcheck disable=SC2086
  get $all
  r=$rig/root.tmp; rm -rf "$r"; mkdir -p "$r/usr/bin" "$r/usr/sbin" "$r/usr/lib" "$r/usr/lib64"
  for d in bin sbin lib lib64; do ln -s "usr/$d" "$r/$d"; done
  for p in $all; do unpack "$p" "$r"; done
  rm -rf "$r"/usr/share/{doc,man,locale,info,lintian,bash-completion,zoneinfo,i18n} "$r"/usr/lib/udev/hwdb.d "$r"/usr/lib/x86_64-linux-gnu/gconv
  [ -e "$r/usr/bin/sh" ] || ln -s bash "$r/usr/bin/sh"
  [ -e "$r/usr/bin/awk" ] || ln -s mawk "$r/usr/bin/awk"
  mkdir -p "$r"/{proc,sys,dev,run,tmp,root,share,results,rig,mnt} "$r/usr/lib/modules"
  printf 'root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/bin/false\n' >"$r/etc/passwd"
  printf 'root:x:0:\ntty:x:5:\ndisk:x:6:\nkmem:x:15:\ninput:x:101:\nsgx:x:102:\nkvm:x:103:\nrender:x:104:\ndialout:x:20:\ncdrom:x:24:\ntape:x:26:\naudio:x:29:\nvideo:x:44:\nlp:x:7:\nnogroup:x:65534:\n' >"$r/etc/group"
  echo '127.0.0.1 localhost guest' >"$r/etc/hosts"; echo guest >"$r/etc/hostname"
  install -m 755 "$node" "$r/usr/bin/node"
  ldd "$node" | grep -o '/[^ ]*' | while read -r lib; do install -D -m 755 "$(readlink -f "$lib")" "$r/$lib"; done
  chroot "$r" /sbin/ldconfig 2>/dev/null || true
  image "$r" "$rig/root.img"; rm -rf "$r"; echo "$stamp" >"$rig/root.stamp"
fi

# The kernel.
k=$rig/kernels/$(basename "$kernel" .deb)
case $kernel in
  *.deb) deb=$kernel ;;
  linux-image-*) get "$kernel"; deb=$(ls -t "$rig/debs/${kernel}"_*.deb | head -1) ;;
  *) line=${kernel%-*}; flavour=${kernel#"$line"}
     p=$(apt-cache pkgnames "linux-image-$line." | grep -E "^linux-image-[0-9.]+(-[0-9]+|\+deb[0-9]+|\+[a-z0-9.]+)*$flavour-amd64$" | sort -V | tail -1) || true
     [ -n "$p" ] || { say "$(apt-cache pkgnames linux-image- | grep -E -- '-amd64$' | sort -V)"; lacks "apt knows no linux-image-$line.*$flavour-amd64"; }
     get "$p"; deb=$(ls -t "$rig/debs/$p"_*.deb | head -1) ;;
esac
if [ "$force" = --force ] || [ "$(cat "$k/stamp" 2>/dev/null)" != "$(basename "$deb") 5" ]; then
  say "kernel: $(basename "$deb")"
  rm -f "$k/stamp"
  t=$rig/kernel.tmp; rm -rf "$t"; mkdir -p "$t" "$k"
  dpkg-deb -x "$deb" "$t"
  release=$(basename "$(ls -d "$t"/boot/vmlinuz-*)"); release=${release#vmlinuz-}
  [ -d "$t/lib/modules" ] || { mkdir -p "$t/lib"; ln -s ../usr/lib/modules "$t/lib/modules"; }
  m=$t/lib/modules/$release/kernel
  rm -rf "$m"/sound "$m"/drivers/{gpu,media,staging,iio,bluetooth,isdn,scsi,ata,mtd,md,hwmon,input,leds,usb,mmc,nvme,target,video,firewire,message,accel,power,rtc,mfd,memstick,pcmcia,parport,watchdog,spi,soundwire,thunderbolt,edac,comedi,android,block/drbd} \
    "$m"/drivers/net/{wireless,wwan,can,hamradio,usb,fddi,arcnet,ieee802154} "$m"/drivers/infiniband \
    "$m"/fs/{btrfs,xfs,ocfs2,gfs2,ceph,nfs,nfsd,smb,cifs,jfs,f2fs,reiserfs,bcachefs,afs,ubifs,ntfs3,nilfs2,dlm,orangefs,coda,udf,hfs,hfsplus,ksmbd} \
    "$m"/net/{bluetooth,wireless,mac80211,ieee802154,mac802154,can,ceph,sunrpc,nfc,batman-adv,sctp,tipc,dccp,rxrpc,ax25,netrom,rose,atm,decnet,hsr}
  find "$m" -name '*.ko.xz' -print0 | xargs -0 -r -P "$(nproc)" -n 64 xz -d
  find "$m" -name '*.ko.zst' -print0 | xargs -0 -r zstd -q -d --rm
  depmod -b "$t" "$release"
  # The initramfs: busybox and the modules that reach the root.
  i=$rig/initramfs.tmp; rm -rf "$i"; mkdir -p "$i"/{bin,mod,proc,sys,dev,ro,rw,new}
  get busybox-static; mkdir "$i/bb"; unpack busybox-static "$i/bb"; mv "$i"/bb/bin/busybox "$i/bin/busybox" 2>/dev/null || mv "$i"/bb/usr/bin/busybox "$i/bin/busybox"; rm -rf "$i/bb"
  for mod in crc32c_generic virtio_pci virtio_blk ext4 overlay 9pnet_virtio 9p; do
    { modprobe -d "$t" -S "$release" --show-depends "$mod" 2>/dev/null || true; } | awk '$1=="insmod"{print $2}'   # some kernels have one built in
  done | awk '!seen[$0]++' | while read -r ko; do cp "$ko" "$i/mod/"; basename "$ko" >>"$i/mod/order"; done
  install -m 755 "$here/guest/initramfs-init" "$i/init"
  (cd "$i" && find . | cpio -o -H newc --quiet) >"$k/initramfs.new"; mv "$k/initramfs.new" "$k/initramfs"
  image "$t/lib/modules/$release" "$k/modules.img"
  bare "$t/boot/vmlinuz-$release" "$k/kernel"; cp "$t/boot/config-$release" "$k/config"; echo "$release" >"$k/release"
  rm -rf "$t" "$i"; echo "$(basename "$deb") 5" >"$k/stamp"
fi
say "ready: $(cat "$k/release") in \$TWINPATH_MACHINES/kernels/$(basename "$k") ($(du -shc "$rig/root.img" "$k" | tail -1 | cut -f1))"
