#!/bin/bash
# Boots a prepared kernel and runs one script in it, on a network that exists only while it runs.
# usage: boot.sh KERNEL --run SCRIPT [options] [-- ARG…]       exit status: the script's; 124 timed out; 125 the guest died
#   --run SCRIPT     .sh (bash) or .mjs/.js/.cjs (node), started in /share in the guest
#   --share DIR      seen read-only at /share (default: the folder of SCRIPT)
#   --results DIR    seen read-write at /results; also gets console.log, rig.log (default: a new folder under $TWINPATH_MACHINES/results)
#   --timeout S      for all, boot included (300)
#   --vf MODEL       virtio | e1000e | vmxnet3 | igb | none: the VF that is there at boot, in slot 1 (virtio); igb needs prepare-qemu.sh
#   --syn MODEL      the same choice: the synthetic NIC (virtio)
#   --queues N       queue pairs of each virtio NIC (2)     --cpus N (2)     --mem SIZE (3G)
#   --mac MAC        the one address of both (00:0d:3a:11:22:33)
#   --vf-options K=V,…  more device properties of each VF, e.g. rss=on,hash=on (virtio)
#   --failover       the synthetic NIC (virtio) stands by, and each VF is its primary: the guest's kernel makes net_failover of them
#   --udev           run systemd-udevd in the guest (predictable names, renames)
#   --native-hotplug PCIe hot-plug instead of ACPI's (removal takes the 5 s of an attention button)
#   --append ARGS    more on the kernel's command line
# The remote control, `rig …` in the guest: see rig.mjs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
rig=${TWINPATH_MACHINES:-$HOME/.cache/twinpath-machines}
export PATH=$PATH:/usr/sbin:/sbin

if [ "${1:-}" != --inside ]; then
  [ $# -gt 0 ] && [ "${1#-}" = "$1" ] || { sed -n '2,19s/^# \{0,1\}//p' "$0" >&2; exit 2; }
  export KERNEL=$1; shift
  export RUN='' SHARE='' RESULTS='' TIMEOUT=300 VF=virtio SYN=virtio QUEUES=2 CPUS=2 MEM=3G MAC=00:0d:3a:11:22:33 VF_OPTIONS='' FAILOVER='' UDEV='' HOTPLUG=acpi APPEND=''
  while [ $# -gt 0 ]; do case $1 in
    --run) RUN=$2; shift ;; --share) SHARE=$2; shift ;; --results) RESULTS=$2; shift ;;
    --timeout) TIMEOUT=$2; shift ;; --vf) VF=$2; shift ;; --syn) SYN=$2; shift ;; --queues) QUEUES=$2; shift ;;
    --cpus) CPUS=$2; shift ;; --mem) MEM=$2; shift ;; --mac) MAC=$2; shift ;; --vf-options) VF_OPTIONS=$2; shift ;; --failover) FAILOVER=1 ;; --udev) UDEV=1 ;;
    --native-hotplug) HOTPLUG=native ;; --append) APPEND=$2; shift ;; --) shift; break ;;
    *) echo "boot: unknown option $1" >&2; exit 2 ;; esac; shift; done
  [ -f "$RUN" ] || { echo 'boot: --run SCRIPT is missing or no file' >&2; exit 2; }
  RUN=$(realpath "$RUN"); SHARE=$(realpath "${SHARE:-$(dirname "$RUN")}")
  [ -e "$rig/kernels/$KERNEL/stamp" ] && [ -e "$rig/root.stamp" ] || bash "$here/prepare.sh" "$KERNEL"
  : "${RESULTS:=$rig/results/$KERNEL.$(date +%Y%m%d-%H%M%S).$$}"; mkdir -p "$RESULTS"; RESULTS=$(realpath "$RESULTS")
  for d in "${TMPDIR:-/tmp}"/rig.*/pid; do [ ! -e "$d" ] || kill -0 "$(cat "$d")" 2>/dev/null || rm -rf "${d%/pid}"; done   # left by a killed run
  T=$(mktemp -dt rig.XXXXXX); export T; echo $$ >"$T/pid"
  trap 'rm -rf "$T"' EXIT
  # Everything below lives in its own process, mount and network namespaces and dies with this process.
  setpriv --pdeathsig KILL unshare --net --mount --pid --fork --kill-child --mount-proc bash "$0" --inside "$@" &
  child=$!; trap 'kill -KILL $child 2>/dev/null' INT TERM     # unshare itself ignores the gentler signals
  rc=0; wait $child || rc=$?
  exit $rc
fi
shift

# The wire: a bridge that floods only to the synthetic leg; which leg gets the guest's unicast is one static entry (rig path).
# A leg of several queues has the host's tap spread flows as it last saw them sent (tun_automq_select_queue): a flow may then
# overtake itself. A real card spreads by a hash: only where the card does that here is there one queue.
queues() { if [ "$1" = virtio ] && [ "$2" = vf ]; then echo "$QUEUES"; else echo 1; fi; } # MODEL ID
quiet() { echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6; }
quiet; ip link set lo up
unshare --net sleep infinity & OUT=$!          # the outside host; every process here dies with this shell, the first of its pid namespace
until [ "$(readlink /proc/$OUT/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done
out() { nsenter -t $OUT -n "$@"; }
ip link add br0 type bridge ageing_time 0 mcast_snooping 0; ip link set br0 up
for leg in syn vf; do
  [ $leg = syn ] && model=$SYN || model=$VF
  # shellcheck disable=SC2046
  ip tuntap add dev $leg-leg mode tap vnet_hdr $([ "$(queues "$model" $leg)" = 1 ] || echo multi_queue); ip link set $leg-leg txqueuelen 4000 master br0 up
  bridge link set dev $leg-leg learning off isolated on
done
bridge link set dev vf-leg flood off mcast_flood off bcast_flood off
ip link add outp type veth peer name out0; ip link set out0 netns $OUT; ip link set outp master br0 up; bridge link set dev outp learning off
out bash -c "$(declare -f quiet); quiet; ip link set lo up; ip link set out0 address 02:00:00:00:00:99 up; ip addr add 10.77.0.1/24 dev out0; ip neigh replace 10.77.0.2 lladdr $MAC dev out0 nud permanent"
out ethtool -K out0 tx off gro off >/dev/null 2>&1 || true
bridge fdb replace 02:00:00:00:00:99 dev outp master static
bridge fdb replace "$MAC" dev syn-leg master static

# What the guest reads at /rig.
mkdir -p "$T/rig/run"; cp -r "$here/guest" "$T/rig/guest"; cp "$RUN" "$T/rig/run/"
case $RUN in "$SHARE"/*) inside=/share/${RUN#"$SHARE"/} ;; *) inside=/rig/run/$(basename "$RUN") ;; esac     # from /share its imports resolve
{ printf 'RUN=%q\n' "$inside"; printf 'ARGS=('; [ $# -eq 0 ] || printf '%q ' "$@"; printf ')\n'
  printf 'UDEV=%q\nexport RIG_MAC=%q RIG_QUEUES=%q RIG_KERNEL=%q RIG_FAILOVER=%q\n' "$UDEV" "$MAC" "$QUEUES" "$KERNEL" "$FAILOVER"
  printf 'export RIG_SYN_PCI=0000:00:08.0 RIG_VF_PCI1=0000:01:00.0 RIG_VF_PCI2=0000:02:00.0 RIG_VF_PCI3=0000:03:00.0\n'; } >"$T/rig/env"

nic() { # MODEL ID BUS: a -device value
  local n; n=$(queues "$1" "$2")
  case $1 in
    virtio) echo "virtio-net-pci,id=$2,netdev=$2-leg,mac=$MAC,bus=$3,romfile=,mq=$([ "$n" -gt 1 ] && echo on || echo off),vectors=$((2*n+2)),rx_queue_size=1024" ;;
    e1000e|igb|vmxnet3) echo "$1,id=$2,netdev=$2-leg,mac=$MAC,bus=$3,romfile=" ;;
    *) echo "boot: no such NIC model: $1" >&2; exit 2 ;; esac; }
netdev() { echo "tap,id=$2-leg,ifname=$2-leg,script=no,downscript=no,queues=$(queues "$1" "$2")"; } # MODEL ID
qemu=(qemu-system-x86_64)
if [ -z "${RIG_OLD_QEMU:-}" ] && [ -x "$rig/qemu/usr/bin/qemu-system-x86_64" ]; then qemu=(env "LD_LIBRARY_PATH=$rig/qemu/usr/lib/x86_64-linux-gnu" "QEMU_MODULE_DIR=$rig/qemu/usr/lib/x86_64-linux-gnu/qemu" "$rig/qemu/usr/bin/qemu-system-x86_64" -L "$rig/qemu/usr/share/qemu" -L "$rig/qemu/usr/share/seabios"); fi
q=("${qemu[@]}" -nodefaults -no-user-config -no-reboot -display none -name rig
  -machine q35 -accel tcg,thread=multi,tb-size=1024 -cpu max,la57=off -smp "$CPUS" -m "$MEM"
  -kernel "$rig/kernels/$KERNEL/kernel" -initrd "$rig/kernels/$KERNEL/initramfs"
  -append "console=ttyS0 panic=-1 loglevel=6 mitigations=off nokaslr tsc=reliable net.ifnames=$([ -n "$UDEV" ] && echo 1 || echo 0) $APPEND"
  -serial "file:$RESULTS/console.log"
  -chardev "socket,id=qmp,path=$T/qmp" -mon chardev=qmp,mode=control
  -device virtio-serial-pci,addr=4 -chardev "socket,id=ctl,path=$T/ctl" -device virtserialport,chardev=ctl,name=rig.ctl
  -chardev "socket,id=out,path=$T/out" -device virtserialport,chardev=out,name=rig.out
  -drive "file=$rig/root.img,format=raw,if=none,id=root,readonly=on" -device virtio-blk-pci,drive=root,addr=5
  -drive "file=$rig/kernels/$KERNEL/modules.img,format=raw,if=none,id=mods,readonly=on" -device virtio-blk-pci,drive=mods,addr=6
  -fsdev "local,id=rig,path=$T/rig,security_model=none,readonly=on" -device virtio-9p-pci,fsdev=rig,mount_tag=rig
  -fsdev "local,id=share,path=$SHARE,security_model=none,readonly=on,multidevs=remap" -device virtio-9p-pci,fsdev=share,mount_tag=share
  -fsdev "local,id=results,path=$RESULTS,security_model=none" -device virtio-9p-pci,fsdev=results,mount_tag=results
  -object rng-random,filename=/dev/urandom,id=rng -device virtio-rng-pci,rng=rng
  -netdev "$(netdev "$SYN" syn)" -device "$(nic "$SYN" syn pcie.0),addr=8${FAILOVER:+,failover=on}" -netdev "$(netdev "$VF" vf)")
[ $HOTPLUG = acpi ] || q+=(-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off)
for s in 1 2 3; do q+=(-device "pcie-root-port,id=slot$s,bus=pcie.0,chassis=$s,slot=$s,addr=$((0x10+s))"); done
[ "$VF" = none ] || q+=(-device "$(nic "$VF" vf slot1)${VF_OPTIONS:+,$VF_OPTIONS}${FAILOVER:+,failover_pair_id=syn}")
export OUT RESULTS TIMEOUT VF VF_OPTIONS FAILOVER QUEUES MAC
node "$here/rig.mjs" "${q[@]}"
