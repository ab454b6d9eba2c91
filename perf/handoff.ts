/**
 * What handing a packet to another worker costs: software RSS over the memory path, no kernel in it.
 *
 *     node dist/perf/handoff.js [--packets 20000000] [--runs 5] [--json]
 *
 * Two measures. `lane`: one thread pushes descriptors into a lane, publishes them by so many at a time, takes
 * them out at the other end and sends the frames home: nanoseconds a packet for the whole way, at a batch of 1
 * and of 32, without waiting for anybody. `port`: one receiving queue and two working ones; what a packet costs
 * when every second one is handed over, against the same traffic that is not (all flows owned by the receiving
 * queue), in nanoseconds of CPU time of the process; and that none is lost.
 */
import { parseArgs } from 'node:util';
import { openPort } from '../src/index.ts';
import { FramePool } from '../src/memory/frames.ts';
import { LaneReceiver, LaneSender } from '../src/memory/lane.ts';
import { HEADROOM, LaneKind, Path } from '../src/memory/layout.ts';
import { Memory } from '../src/memory/shared.ts';
import { MemoryPeer } from '../src/paths/memory/device.ts';
import { machine, median } from './measure.ts';

const { values } = parseArgs({
  options: {
    packets: { type: 'string', default: '20000000' },
    runs: { type: 'string', default: '5' },
    json: { type: 'boolean', default: false },
  },
});
const packets = Number(values.packets);
const runs = Number(values.runs);

/** Both ends on one thread: the work, without the wait. */
function laneNanos(batch: number): number {
  const memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 2, frameSize: 2048, framesPerWorker: 4096, ringEntries: 64 },
  });
  const [from, to] = [0, 1].map((queue) => {
    const pool = new FramePool(memory, queue);
    pool.recover([]);
    return pool;
  }) as [FramePool, FramePool];
  const sender = new LaneSender(memory, from, 0, 0, 1);
  const receiver = new LaneReceiver(memory, to, 0, 0, 1);
  const offset = new Int32Array(64);
  const bytes = new Int32Array(64);
  const hash = new Int32Array(64);
  const { frames } = memory.layout;
  const pass = (count: number): void => {
    for (let done = 0; done < count; done += batch) {
      for (let i = 0; i < batch; i++) {
        sender.push(frames + from.peek(i) + HEADROOM, 60, LaneKind.PACKET, Path.VF, i);
      }
      sender.commit();
      from.remove(batch);
      const came = receiver.receive(offset, bytes, hash, 64);
      for (let i = 0; i < came; i++) to.put(offset[i]! - frames);
      receiver.release(came);
      to.flush();
      from.collect();
    }
  };
  pass(1_000_000);
  const began = process.hrtime.bigint();
  pass(packets);
  return Number(process.hrtime.bigint() - began) / packets;
}

interface PortRun {
  readonly cpuNanosPerPacket: number;
  readonly packetsPerSecond: number;
  readonly handedOver: number;
  readonly lost: number;
}

/** UDP over IPv4 to one queue; with `both`, flows of both queues in turn. */
async function portRun(both: boolean, count: number): Promise<PortRun> {
  const handler = new URL('../src/handlers/reflect.js', import.meta.url);
  const port = await openPort({ network: 'memory', queues: 2, mode: 'adaptive', handler });
  if (!both) await port.stopQueue(1);
  const memory = Memory.attach(port.shared);
  const peers = [0, 1].map((queue) => MemoryPeer.attach(memory, 0, queue, Path.SYNTHETIC)!);
  let flow = 0;
  const write = (at: number): number => {
    const { view } = memory;
    view.setUint32(at + 12, 0x0800_4500);
    view.setUint16(at + 20, 0);
    view.setUint8(at + 23, 17);
    view.setUint32(at + 26, 0x0a00_0001);
    view.setUint32(at + 30, 0x0a00_0002);
    view.setUint16(at + 34, 1024 + (flow++ & 255));
    view.setUint16(at + 36, 7);
    return 60;
  };
  const discard = (): void => {};
  const run = (wanted: number): number => {
    let delivered = 0;
    let collected = 0;
    const deadline = Date.now() + 60_000;
    while (collected < wanted && Date.now() < deadline) {
      delivered += peers[0]!.deliver(Math.min(64, wanted - delivered, 2048 - (delivered - collected)), write);
      for (const peer of peers) collected += peer.collect(64, discard);
    }
    return wanted - collected;
  };
  run(1_000_000);
  const before = port.stats();
  const cpu = process.cpuUsage();
  const began = process.hrtime.bigint();
  const lost = run(count);
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  const used = process.cpuUsage(cpu);
  const after = port.stats();
  await port.close();
  return {
    cpuNanosPerPacket: ((used.user + used.system) * 1000) / count,
    packetsPerSecond: count / seconds,
    handedOver: after.handedOver - before.handedOver,
    lost,
  };
}

const lane = [1, 32].map((batch) => {
  const nanos = Array.from({ length: runs }, () => laneNanos(batch));
  return { batch, nanosPerPacket: median(nanos), spread: [Math.min(...nanos), Math.max(...nanos)] };
});
const port: Record<'kept' | 'handed', PortRun[]> = { kept: [], handed: [] };
for (let i = 0; i < runs; i++) {
  port.kept.push(await portRun(false, packets / 4));
  port.handed.push(await portRun(true, packets / 4));
}
const shown = Object.entries(port).map(([way, all]) => ({
  way,
  cpuNanosPerPacket: median(all.map((one) => one.cpuNanosPerPacket)),
  packetsPerSecond: median(all.map((one) => one.packetsPerSecond)),
  handedOver: all.reduce((sum, one) => sum + one.handedOver, 0),
  lost: all.reduce((sum, one) => sum + one.lost, 0),
}));
const result = { machine: machine(), packets, runs, lane, port: shown };
if (values.json) console.log(JSON.stringify(result));
else {
  console.log(result.machine);
  for (const { batch, nanosPerPacket, spread } of lane) {
    const range = spread.map((nanos) => nanos.toFixed(1)).join(' to ');
    console.log(`lane, batch ${batch}: ${nanosPerPacket.toFixed(1)} ns a packet (${range})`);
  }
  for (const { way, cpuNanosPerPacket, packetsPerSecond, handedOver, lost } of shown) {
    const rate = (packetsPerSecond / 1e6).toFixed(2);
    const cpu = cpuNanosPerPacket.toFixed(0);
    console.log(
      `port, ${way}: ${rate} Mpps, ${cpu} ns of CPU a packet, ${handedOver} handed over, ${lost} lost`,
    );
  }
}
