#!/bin/sh
# Runs COMMAND on a machine between two hosts, in a private network that ends with it:
#
#     left 10.77.0.1 ──── eth0 10.77.0.2  COMMAND  eth1 ──── right 10.77.0.3
#
# The generator example sends pings from left, and prints the round trips after COMMAND has ended.
# Needs root and iproute2.
set -eu

usage() {
  echo 'Usage: two-hosts.sh here|right COMMAND [ARGUMENT]...'
  echo
  echo 'Runs COMMAND between two hosts. The left one pings 10.77.0.2 (here) or 10.77.0.3 (right).'
  exit "$1"
}

case "${1-}" in
  --help) usage 0 ;;
  here) address=10.77.0.2 mac=02:00:00:00:00:02 ;;
  right) address=10.77.0.3 mac=02:00:00:00:00:03 ;;
  *) usage 2 >&2 ;;
esac
[ $# -gt 1 ] || usage 2 >&2

# Start again in new namespaces. They need no clean-up: the kernel deletes them with their last process.
if [ -z "${TWO_HOSTS-}" ]; then
  TWO_HOSTS=inside exec unshare --net --mount sh "$0" "$@"
fi
shift

mkdir -p /run/netns
mount -t tmpfs none /run/netns # ip keeps the names of namespaces here: hide these from the machine
ip netns add left
ip netns add right
# One queue each: a veth takes no XDP program while its other end has more transmit queues than it has receive queues.
one='numtxqueues 1 numrxqueues 1'
ip link add eth0 address 02:00:00:00:00:02 $one type veth peer name eth0 address 02:00:00:00:00:01 $one netns left
ip link add eth1 $one type veth peer name eth0 address 02:00:00:00:00:03 $one netns right
ip -n left address add 10.77.0.1/24 dev eth0
ip address add 10.77.0.2/24 dev eth0
ip -n right address add 10.77.0.3/24 dev eth0
for at in '-n left' '' '-n right'; do ip $at link set lo up && ip $at link set eth0 up; done
ip link set eth1 up

generator=$(dirname "$0")/generator/generator.mjs
ip netns exec left node "$generator" eth0 "$address" --mac "$mac" --rate 100 &
trap : INT # Ctrl-C ends COMMAND, but not this script
status=0
"$@" || status=$?
kill "$!" 2>/dev/null || true # Ctrl-C may have ended it already
wait "$!" || true
exit "$status"
