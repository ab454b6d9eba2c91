/** One packet that kills each worker that is given it: what it costs, by each way it may come. */
import { setFlagsFromString } from 'node:v8';
import { describe, expect, it, onTestFinished } from 'vitest';
// Built, not source: Node 20 starts no worker from a .ts file.
import { type OpenPortOptions, openPort, type Port } from '../../dist/src/index.js';
import { BURST } from '../../src/memory/layout.ts';
import { MemoryPeer } from '../../src/paths/memory/peer.ts';
import { addsUp, buildLab, passed, Scene, until } from '../support/harness.ts';
import { NumberedTraffic } from '../support/memory-network.ts';

const handler = new URL('../fixtures/handlers/deadly.mjs', import.meta.url);

/** See the fixture. */
const unarmed = (): Int32Array => new Int32Array(new SharedArrayBuffer(12));

/** Of threads that start from now on until the test is over; from Node 24 on also of this one, which must have room. */
function limitHeaps(mebibytes: number): void {
  setFlagsFromString(`--max-old-space-size=${mebibytes}`);
  onTestFinished(() => setFlagsFromString('--max-old-space-size=0'));
}

function deathsOf(port: Port): string[] {
  const deaths: string[] = [];
  port.on('worker', ({ state, detail = '' }) => {
    if (state === 'died') deaths.push(detail);
  });
  return deaths;
}

async function openMemory(options: Partial<OpenPortOptions>): Promise<{ port: Port; deaths: string[] }> {
  const port = await openPort({ network: 'memory', queues: 1, handler, ...options });
  onTestFinished(() => port.close());
  return { port, deaths: deathsOf(port) };
}

async function whole(port: Port): Promise<void> {
  for (const { total, accounted, duplicates } of await port.audit()) {
    expect({ accounted, duplicates }).toEqual({ accounted: total, duplicates: 0 });
  }
  await addsUp(port);
}

describe('a packet that kills its worker, on the memory network', { tags: 'unprivileged' }, () => {
  it.each([
    { way: 'exit', path: 1 },
    { way: 'exit', path: 2 },
    { way: 'heap', path: 1 },
  ] as const)(
    'kills two by $way on path $path and is dropped alone, and so is the next',
    async ({ way, path }) => {
      if (way === 'heap') limitHeaps(256);
      const orders = unarmed();
      // A heap is full only after seconds, and the watchdog would be sooner on a slow machine.
      const { port, deaths } = await openMemory({ handlerOptions: { orders, way }, stuckMillis: 60_000 });
      const traffic = new NumberedTraffic(port);
      if (path === 2) port.plug('vf');
      for (let packet = 1; packet <= 2; packet++) {
        const enough = traffic.received + 2_000;
        await traffic.until(() => traffic.received > enough, { path });
        Atomics.store(orders, 0, 1);
        await traffic.until(() => port.stats().dropped.workerDied === packet, { path });
        const more = traffic.received + 2_000;
        await traffic.until(() => traffic.received > more, { path });
        await traffic.settle();
        expect(traffic.summary).toMatchObject({ missing: packet, repeated: 0, reordered: 0 });
        await whole(port);
        expect(orders[2]).toBe(2 * packet);
        expect(deaths).toHaveLength(2 * packet);
      }
      if (way === 'heap') expect(deaths[0]).toMatch(/memory limit/);
    },
  );

  it('is dropped alone also when another worker had polled it', async () => {
    const orders = unarmed();
    const { port, deaths } = await openMemory({ queues: 2, rss: 'software', handlerOptions: { orders } });
    // What is no IP packet is queue 0's: worker 1 polls it and hands it over, and it is sent by queue 0.
    const { memory } = new NumberedTraffic(port);
    const [out, into] = [0, 1].map((queue) => MemoryPeer.attach(memory, 0, queue, 1)!);
    const seen: number[] = [];
    const spin = (): void => {
      out!.collect(256, (offset) => seen[memory.view.getUint32(offset + 16)]!++);
      into!.deliver(32, (offset) => {
        memory.bytes.fill(0xee, offset, offset + 60);
        memory.view.setUint32(offset + 16, seen.push(0) - 1);
        return 60;
      });
    };
    const received = (): number => seen.filter((times) => times > 0).length;
    const drive = (what: string, enough: () => boolean): Promise<void> =>
      until(what, () => {
        spin();
        return enough();
      });
    await drive('traffic', () => received() > 1_000);
    Atomics.store(orders, 0, 1);
    await drive('the packet dropped', () => port.stats().dropped.workerDied === 1);
    const more = received() + 1_000;
    await drive('traffic again', () => received() > more);
    const lost = (): number => port.stats().dropped.workerDied + port.stats().dropped.handoffFull;
    await until('all back', () => {
      out!.collect(256, (offset) => seen[memory.view.getUint32(offset + 16)]!++);
      return received() + lost() === seen.length;
    });
    expect(seen.every((times) => times <= 1)).toBe(true);
    expect(port.stats()).toMatchObject({ dropped: { workerDied: 1 } });
    expect(port.stats().handedOver).toBeGreaterThan(1_000);
    expect(deaths).toHaveLength(2);
    await whole(port);
  });
});

describe('a packet that kills its worker, in a lab', () => {
  it.each([
    { tap: 'io_uring', path: 'synthetic' },
    { tap: 'io_uring', path: 'synthetic', metadata: ['time', 'rule', 'tag', 'offload'] },
    { tap: 'io_uring', path: 'vf' },
    { tap: 'read/write', path: 'vf' },
  ] as const)(
    'kills two and is dropped alone on the $path path, the tap driven by $tap',
    async ({ path, ...options }) => {
      const lab = await buildLab();
      const orders = unarmed();
      const handlerOptions = { orders, base: 'echo', address: lab.nic.guestAddress };
      const scene = await Scene.openIn(lab, { ...options, handler, handlerOptions });
      const deaths = deathsOf(scene.port);
      if (path === 'vf') await scene.plug();
      const traffic = await scene.drive({ rate: 2_000 });
      Atomics.store(orders, 0, 1);
      await until('the packet dropped', () => scene.port.stats().dropped.workerDied === 1);
      await passed(traffic);
      const [report] = await scene.finish();
      expect(orders[2]).toBe(2);
      expect(deaths).toHaveLength(2);
      expect(scene.port.stats().dropped).toMatchObject({ workerDied: 1, stuck: 0 });
      expect(report!.packets.lost + report!.icmp.lost).toBeGreaterThanOrEqual(1);
    },
  );

  it.each(['ingress', 'inline'] as const)(
    'is counted with what lay in the buffers of the worker, on a tap by read/write, host %s',
    async (host) => {
      const lab = await buildLab({ queues: 1 });
      const orders = unarmed();
      const handlerOptions = { orders, base: 'echo', address: lab.nic.guestAddress };
      const scene = await Scene.openIn(lab, { tap: 'read/write', host, handler, handlerOptions });
      const deaths = deathsOf(scene.port);
      const traffic = await scene.drive({ rate: 2_000 });
      Atomics.store(orders, 0, 1);
      await until('a death', () => deaths.length === 1);
      await passed(traffic);
      await scene.finish();
      // It was lost with its buffer when the first worker died, and so no second one was given it.
      expect({ deaths, killed: orders[2] }).toEqual({ deaths: [expect.any(String)], killed: 1 });
      const { workerDied } = scene.port.stats().dropped;
      expect(workerDied).toBeGreaterThanOrEqual(1);
      expect(workerDied).toBeLessThanOrEqual(2 * BURST);
    },
  );
});
