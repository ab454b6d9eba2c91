/** Handlers that misbehave, and threads that end: what it costs, and that everything goes on. */
import { describe, expect, it, onTestFinished } from 'vitest';
// Built, not source: Node 20 starts no worker from a .ts file.
import { type OpenPortOptions, openPort, type Port, type TwinpathError } from '../../dist/src/index.js';
import { BURST, Path } from '../../src/memory/layout.ts';
import { buildLab, owners, passed, Scene, until } from '../support/harness.ts';
import { NumberedTraffic } from '../support/memory-network.ts';

const handler = (name: string): URL => new URL(`../fixtures/handlers/${name}.mjs`, import.meta.url);

class Watched {
  readonly port: Port;
  readonly errors: TwinpathError[] = [];
  died = 0;
  /** Workers that started after the port was open. */
  replaced = 0;

  constructor(port: Port) {
    this.port = port;
    port.on('error', (error) => this.errors.push(error));
    port.on('worker', ({ state }) => {
      if (state === 'died') this.died++;
      else if (state === 'started' && this.died > 0) this.replaced++;
    });
  }

  static async open(options: Partial<OpenPortOptions>): Promise<Watched> {
    const port = await openPort({ network: 'memory', queues: 1, handler: handler('mortal'), ...options });
    onTestFinished(() => port.close());
    return new Watched(port);
  }

  async whole(): Promise<void> {
    for (const { total, accounted, duplicates } of await this.port.audit()) {
      expect({ accounted, duplicates }).toEqual({ accounted: total, duplicates: 0 });
    }
  }
}

/** Words shared with a handler: see the fixtures. */
const orders = (...values: number[]): Int32Array => {
  const words = new Int32Array(new SharedArrayBuffer(8));
  words.set(values);
  return words;
};

describe('a handler that throws', { tags: 'unprivileged' }, () => {
  it('loses the packet it was looking at, and no other', async () => {
    const watched = await Watched.open({ handler: handler('throwing'), handlerOptions: { every: 10 } });
    const { port, errors } = watched;
    const traffic = new NumberedTraffic(port);
    await traffic.until(() => traffic.sent >= 10_000);
    await traffic.settle();
    const culprits = traffic.seen.filter((_, number) => number % 10 === 0);
    expect(culprits.every((times) => times === 0)).toBe(true);
    expect(traffic.missing).toBe(culprits.length);
    await watched.whole();
    const { dropped, handlerErrors } = port.stats();
    expect({ ...dropped, handlerErrors }).toMatchObject({
      handlerError: culprits.length,
      handlerErrors: culprits.length,
      verdict: 0,
    });
    // Told at the first, the second, the fourth…: a handful of events for a thousand exceptions.
    expect(errors.length).toBeGreaterThan(0);
    expect(errors.length).toBeLessThanOrEqual(Math.log2(culprits.length) + 1);
    expect(errors[0]).toMatchObject({ code: 'ERR_HANDLER_THREW' });
    expect(errors[0]!.message).toMatch(/queue 0: no \d+ \(1 so far\)/);
  });

  it('loses the burst when it has not looked at a packet', async () => {
    const watched = await Watched.open({ handler: handler('blind') });
    const traffic = new NumberedTraffic(watched.port);
    await traffic.until(() => traffic.sent >= 5_000);
    await traffic.settle();
    await watched.whole();
    const { dropped, handlerErrors } = watched.port.stats();
    expect(handlerErrors).toBeGreaterThan(10);
    expect(dropped.handlerError).toBe(traffic.missing);
    expect(dropped.handlerError).toBeLessThanOrEqual(handlerErrors * BURST);
    expect(traffic.repeated + traffic.reordered).toBe(0);
  });
});

describe('a handler that ends its thread, on the memory network', { tags: 'unprivileged' }, () => {
  it('costs at most a burst each time: the queue goes on in a new worker, with every frame', async () => {
    const deaths = orders();
    const watched = await Watched.open({ handlerOptions: { orders: deaths } });
    const traffic = new NumberedTraffic(watched.port);
    await traffic.until(() => traffic.received > 2_000);
    for (let death = 1; death <= 5; death++) {
      const before = watched.port.stats();
      Atomics.store(deaths, 0, 1);
      await traffic.until(() => watched.replaced === death);
      const enough = traffic.received + 2_000;
      await traffic.until(() => traffic.received > enough);
      await traffic.settle();
      await watched.whole();
      const after = watched.port.stats();
      expect(after.received).toBeGreaterThan(before.received);
      expect(after.transmitted).toBeGreaterThan(before.transmitted);
    }
    expect(watched.died).toBe(5);
    expect(traffic.missing).toBeLessThanOrEqual(5 * BURST);
    expect(traffic.repeated).toBeLessThanOrEqual(5 * BURST);
    expect(traffic.reordered).toBeLessThanOrEqual(5 * BURST);
  });

  it('loses no frame if it ends while it makes a packet', async () => {
    const deaths = orders();
    const watched = await Watched.open({ handlerOptions: { orders: deaths, send: true } });
    const traffic = new NumberedTraffic(watched.port);
    for (let death = 1; death <= 3; death++) {
      const made = traffic.made;
      await traffic.until(() => traffic.made > made + 10);
      Atomics.store(deaths, 0, 1);
      await traffic.until(() => watched.replaced === death);
      await traffic.settle();
      await watched.whole();
    }
    expect(traffic.missing).toBeLessThanOrEqual(3 * BURST);
  });

  it('changes nothing about a failover that meets it', async () => {
    const deaths = orders();
    const watched = await Watched.open({ handlerOptions: { orders: deaths } });
    const { port } = watched;
    const traffic = new NumberedTraffic(port);
    for (let cycle = 1; cycle <= 5; cycle++) {
      port.plug('vf');
      await traffic.until(() => owners(port)[0] === 'vf');
      await traffic.until(() => traffic.received > traffic.sent - 500, { path: 2 });
      Atomics.store(deaths, 0, 1);
      traffic.spin(BURST, 2);
      port.unplug('vf');
      await traffic.until(() => watched.replaced === cycle && owners(port)[0] === 'synthetic');
    }
    await traffic.settle();
    await watched.whole();
    expect(port.failovers().filter(({ to }) => to === 'vf')).toHaveLength(5);
    // What lay in the receive ring of a VF that went while nobody polled is drained by the new worker.
    expect(traffic.missing).toBeLessThanOrEqual(5 * BURST);
    expect(traffic.repeated).toBeLessThanOrEqual(5 * BURST);
  });

  it('has what a VF did not send rescued once, when it comes after the rescue', async () => {
    const deaths = orders();
    const watched = await Watched.open({ handlerOptions: { orders: deaths } });
    const { port } = watched;
    const traffic = new NumberedTraffic(port);
    port.plug('vf');
    await until('the VF owns', () => owners(port)[0] === 'vf');
    // Nobody collects: the transmit ring fills up, until less than a burst of room is left; the rest waits.
    const posted = (): number => port.stats().paths.vf.txPosted;
    await until('a full ring', () => {
      traffic.give(BURST, Path.VF);
      return traffic.sent > posted() + 4 * BURST;
    });
    Atomics.store(deaths, 0, 1);
    port.unplug('vf');
    await until('a new worker, and the VF gone', () => {
      traffic.take(Path.SYNTHETIC);
      return watched.replaced === 1 && owners(port)[0] === 'synthetic';
    });
    await traffic.settle();
    await watched.whole();
    expect(port.stats().paths.vf.txRescued).toBeGreaterThan(BURST);
    expect(traffic.missing).toBeLessThanOrEqual(BURST);
    expect(traffic.repeated).toBeLessThanOrEqual(BURST);
  });

  it('leaves the other queues alone', async () => {
    const deaths = orders();
    const watched = await Watched.open({ queues: 2, rss: 'device', handlerOptions: { orders: deaths } });
    const [first, second] = [0, 1].map((queue) => new NumberedTraffic(watched.port, queue));
    await first!.until(() => first!.received > 500);
    Atomics.store(deaths, 0, 1);
    await first!.until(() => watched.replaced === 1);
    await second!.until(() => second!.received > 500);
    // Both: what nobody takes of the first queue would stand in its rings for ever.
    await Promise.all([first!.settle(), second!.settle()]);
    expect(second!.missing + second!.repeated).toBe(0);
    await watched.whole();
  });
});

describe('a handler that ends its thread, in a lab', () => {
  it.each([
    { tap: 'io_uring', path: 'synthetic' },
    { tap: 'io_uring', path: 'vf' },
    { tap: 'read/write', path: 'synthetic' },
    { tap: 'read/write', path: 'vf' },
  ] as const)(
    'costs at most a burst each time on the $path path, the tap driven by $tap',
    async ({ tap, path }) => {
      const lab = await buildLab();
      const deaths = orders();
      const options = { orders: deaths, address: lab.nic.guestAddress };
      const scene = await Scene.openIn(lab, {
        tap,
        handler: handler('mortal-echo'),
        handlerOptions: options,
      });
      const watched = new Watched(scene.port);
      if (path === 'vf') await scene.plug();
      const traffic = await scene.drive();
      for (let death = 1; death <= 3; death++) {
        const before = scene.port.stats().paths[path];
        Atomics.store(deaths, 0, 1);
        await until('a new worker', () => watched.replaced === death);
        await passed(traffic);
        const after = scene.port.stats().paths[path];
        expect(after.rxPackets).toBeGreaterThan(before.rxPackets);
        expect(after.txPackets).toBeGreaterThan(before.txPackets);
        await scene.whole();
      }
      expect(watched.died).toBe(3);
      const { packets, icmp } = await traffic.stop({ settleMillis: 400 });
      await scene.whole();
      expect(packets.lost + icmp.lost).toBeLessThanOrEqual(3 * BURST);
      expect(packets.duplicated).toBeLessThanOrEqual(3 * BURST);
      expect(watched.errors).toEqual([]);
      await scene.close();
    },
  );

  it('changes nothing about failovers that go on around it', async () => {
    const lab = await buildLab();
    const deaths = orders();
    const options = { orders: deaths, address: lab.nic.guestAddress };
    const scene = await Scene.openIn(lab, { handler: handler('mortal-echo'), handlerOptions: options });
    const watched = new Watched(scene.port);
    const traffic = await scene.drive();
    for (let cycle = 1; cycle <= 3; cycle++) {
      Atomics.store(deaths, 0, 1);
      await scene.plug();
      await passed(traffic);
      Atomics.store(deaths, 0, 1);
      await scene.unplug();
      await until('new workers', () => watched.replaced === 2 * cycle);
      await passed(traffic);
      await scene.whole();
    }
    const { packets } = await traffic.stop({ settleMillis: 400 });
    await scene.whole();
    expect(packets.lost).toBeLessThanOrEqual(6 * BURST);
    await scene.close();
  });
});

describe('a queue that cannot be served', { tags: 'unprivileged' }, () => {
  it('is reported once, and closes, if the handler does not load again', async () => {
    const moods = orders(0, 1);
    const watched = await Watched.open({ handler: handler('moody'), handlerOptions: { orders: moods } });
    const traffic = new NumberedTraffic(watched.port);
    Atomics.store(moods, 0, 2);
    await traffic.until(() => watched.errors.length > 0);
    expect(watched.errors).toMatchObject([{ code: 'ERR_HANDLER' }]);
    expect(watched.errors[0]!.message).toContain('not again');
    await watched.port.close();
  });

  it('is served again as soon as the handler loads', async () => {
    const moods = orders(0, 1);
    const watched = await Watched.open({ handler: handler('moody'), handlerOptions: { orders: moods } });
    const traffic = new NumberedTraffic(watched.port);
    Atomics.store(moods, 0, 2);
    await traffic.until(() => watched.errors.length > 0);
    moods.set([0, 1]);
    await traffic.until(() => watched.replaced === 1 && traffic.received > 500);
    await traffic.settle();
    await watched.whole();
    // What came while the only queue was given up was for the machine, which has no path here: see given-up.test.ts.
    expect(traffic.missing).toBe(watched.port.stats().dropped.noHost);
    expect(traffic.repeated).toBe(0);
  });

  it('closes although the handler never returns', async () => {
    const moods = orders(0, 1);
    const watched = await Watched.open({ handler: handler('moody'), handlerOptions: { orders: moods } });
    const traffic = new NumberedTraffic(watched.port);
    Atomics.store(moods, 0, 1);
    traffic.spin(1);
    await watched.port.close();
    expect(watched.died).toBe(1);
  });
});
