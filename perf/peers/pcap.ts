/**
 * Counts the packets that node_pcap delivers, as a process in the namespace of the device: `pcap.js IFNAME SECONDS`.
 *
 * Reads each packet's EtherType, as the count handler does. Prints what it received.
 */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadShim } from '../../src/kernel/shim.ts';
import { packageRoot } from '../../src/package-root.ts';
import { type Counts, counting, WARM_MILLIS } from '../rigs/flood.ts';
import { FIRST_CPU, missing } from './program.ts';

interface Session {
  on(event: 'packet', listener: (packet: { buf: Buffer }) => void): void;
  /** Since the session was opened; libpcap adds up what the kernel counts. */
  stats(): { ps_drop: number };
}

const [device = '', seconds = '1'] = process.argv.slice(2);
const require = createRequire(join(packageRoot, 'perf', 'package.json'));
let pcap: { createSession(device: string, options: object): Session };
try {
  pcap = require('pcap');
} catch {
  process.stderr.write(`${missing('The package pcap', ', then npm ci --prefix perf').message}\n`);
  process.exit(1);
}
loadShim().affinity(FIRST_CPU);
const session = pcap.createSession(device, { promiscuous: true, buffer_size: 64 * 2 ** 20 });
const types = new Float64Array(65_536);
let packets = 0;
session.on('packet', ({ buf }) => {
  types[buf.readUInt16BE(12)]!++;
  packets++;
});
const counts = (): Counts => [packets, session.stats().ps_drop];
await sleep(WARM_MILLIS);
const received = counting(counts());
await sleep(Number(seconds) * 1000);
process.stdout.write(`${JSON.stringify(received(counts()))}\n`, () => process.exit(0));
