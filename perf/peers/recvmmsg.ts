/**
 * Counts the packets of an AF_PACKET socket, 64 a system call, in a loop in JavaScript over koffi, as a process in the namespace
 * of the device: `recvmmsg.js IFNAME SECONDS`. Reads each packet's EtherType. Prints what it received. It is the least that a
 * program for Node can do without new native code; see packet(7), recvmmsg(2).
 */
import { readFileSync } from 'node:fs';
import { check, Errno } from '../../src/errors.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { Batch } from '../../src/lab/udp.ts';
import { counting, WARM_MILLIS } from '../rigs/flood.ts';
import { FIRST_CPU } from './program.ts';

const AF_PACKET = 17;
const SOCK_RAW = 3;
const ETH_P_ALL = 0x0300; // in network order
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const SOL_PACKET = 263;
const PACKET_STATISTICS = 6;
const MSG_DONTWAIT = 0x40;
const BATCH = 64;
const FRAME = 2048;

const [device = '', seconds = '1'] = process.argv.slice(2);
const shim = loadShim();
shim.affinity(FIRST_CPU);
const fd = check(shim.socket(AF_PACKET, SOCK_RAW, ETH_P_ALL), 'socket(AF_PACKET)');
const address = new DataView(new ArrayBuffer(20));
address.setUint16(0, AF_PACKET, true);
address.setUint16(2, ETH_P_ALL, true);
address.setInt32(4, Number(readFileSync(`/sys/class/net/${device}/ifindex`, 'utf8')), true);
check(shim.bind(fd, address, 20), 'bind(AF_PACKET)', { device });
check(shim.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, Int32Array.of(64 * 2 ** 20), 4), 'SO_RCVBUFFORCE');

const batch = new Batch(FRAME, BATCH);
const types = new Float64Array(65_536);

/** Packets received until then. */
function receiveUntil(deadline: number): number {
  const { view } = batch;
  let packets = 0;
  while (performance.now() < deadline) {
    const count = shim.recvmmsg(fd, view, BATCH, MSG_DONTWAIT);
    if (count < 0 && count !== Errno.EAGAIN) check(count, 'recvmmsg');
    for (let i = 0; i < count; i++) types[view.getUint16(batch.payload(i) + 12)]!++;
    packets += Math.max(count, 0);
  }
  return packets;
}

/** Packets that the socket had no room for, since the last call. See packet(7). */
function dropped(): number {
  const statistics = new Uint32Array(2);
  check(shim.getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, statistics, 8), 'PACKET_STATISTICS');
  return statistics[1]!;
}

receiveUntil(performance.now() + WARM_MILLIS);
dropped();
const received = counting([0, 0]);
const packets = receiveUntil(performance.now() + Number(seconds) * 1000);
process.stdout.write(`${JSON.stringify(received([packets, dropped()]))}\n`, () => process.exit(0));
