/**
 * What the datapath itself costs: packets a second through a port on the memory path, no kernel in it.
 *
 *     node dist/perf/memory.js [--packets 5000000] [--handler reflect] [--json]
 *
 * One worker runs the handler; this thread plays the network on the other core, and is the slower of the two
 * as long as it fills each frame. Prints packets a second and the CPU time the process spent per packet.
 */
import { parseArgs } from 'node:util';
import { openPort } from '../src/index.ts';
import { Path } from '../src/memory/layout.ts';
import { Memory } from '../src/memory/shared.ts';
import { MemoryPeer } from '../src/paths/memory/device.ts';
import { machine } from './measure.ts';

const { values } = parseArgs({
  options: {
    packets: { type: 'string', default: '5000000' },
    handler: { type: 'string', default: 'reflect' },
    json: { type: 'boolean', default: false },
  },
});

const BYTES = 60;
const wanted = Number(values.packets);
const handler = new URL(`../src/handlers/${values.handler}.js`, import.meta.url);
const port = await openPort({ network: 'memory', queues: 1, mode: 'poll', handler });
const peer = MemoryPeer.attach(Memory.attach(port.shared), 0, 0, Path.SYNTHETIC)!;
const discard = (): void => {};
const length = (): number => BYTES;

const run = (packets: number): void => {
  let delivered = 0;
  let collected = 0;
  while (collected < packets) {
    delivered += peer.deliver(Math.min(64, packets - delivered), length);
    collected += peer.collect(64, discard);
  }
};
run(Math.min(wanted, 1_000_000)); // V8 has compiled everything after this
const cpu = process.cpuUsage();
const began = process.hrtime.bigint();
run(wanted);
const seconds = Number(process.hrtime.bigint() - began) / 1e9;
const used = process.cpuUsage(cpu);
const result = {
  machine: machine(),
  handler: values.handler,
  packets: wanted,
  packetsPerSecond: Math.round(wanted / seconds),
  cpuNanosPerPacket: Math.round(((used.user + used.system) * 1000) / wanted),
};
await port.close();
process.stdout.write(`${JSON.stringify(result, null, values.json ? undefined : 2)}\n`);
