/** A queue that gets no worker any more: the port goes on without it, and takes it back. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
// Built, not source: Node 20 starts no worker from a .ts file.
import { type OpenPortOptions, openPort, type Port, type TwinpathError } from '../../dist/src/index.js';
import { Path } from '../../src/memory/layout.ts';
import { Memory } from '../../src/memory/shared.ts';
import { MemoryPeer } from '../../src/paths/memory/peer.ts';
import { addsUp, buildLab, owners, passed, Scene, until } from '../support/harness.ts';

const handler = (name: string): URL => new URL(`../fixtures/handlers/${name}.mjs`, import.meta.url);

/** What `orders[1]` says: see the fixture. */
const CREATE = { throws: 1, spins: 2, waits: 3, exits: 4 } as const;

/** Back-off is up to 5 s, and the machine may be busy. */
const LONG = 40_000;

function orders(): Int32Array {
  return new Int32Array(new SharedArrayBuffer(12));
}

/** What a module does when it is imported: see fixtures/handlers/fragile-import.mjs. */
function importMood(): (mood: '' | 'throw' | 'never' | 'timer') => void {
  const folder = mkdtempSync(join(tmpdir(), 'twinpath-'));
  const file = join(folder, 'mood');
  const before = process.env.FRAGILE_MOOD;
  process.env.FRAGILE_MOOD = file;
  onTestFinished(() => {
    if (before === undefined) delete process.env.FRAGILE_MOOD;
    else process.env.FRAGILE_MOOD = before;
    rmSync(folder, { recursive: true });
  });
  const set = (mood: string): void => writeFileSync(file, mood);
  set('');
  return set;
}

/** What a port has told of its workers. */
class Told {
  readonly errors: TwinpathError[] = [];
  readonly states: string[] = [];

  constructor(port: Port) {
    port.on('error', (error) => this.errors.push(error));
    port.on('worker', ({ queue, state }) => this.states.push(`${queue} ${state}`));
  }

  count(state: string): number {
    return this.states.filter((one) => one === state).length;
  }

  last(queue: number): string | undefined {
    return this.states.findLast((state) => state.startsWith(`${queue} `));
  }
}

async function open(options: Partial<OpenPortOptions>): Promise<{ port: Port; told: Told }> {
  const port = await openPort({
    network: 'memory',
    queues: 2,
    rss: 'software',
    ...options,
  } as OpenPortOptions);
  onTestFinished(() => port.close());
  return { port, told: new Told(port) };
}

/** Packets into one queue of a path, and out of whichever: they are no IP packets, whose flow is queue 0's. */
class Crossing {
  sent = 0;
  readonly back: number[];
  readonly #memory: Memory;
  readonly #queues: number;

  constructor(port: Port) {
    this.#memory = Memory.attach(port.shared);
    this.#queues = this.#memory.layout.geometry.queues;
    this.back = Array(this.#queues).fill(0);
  }

  give(queue: number, count: number, path: 1 | 2 = Path.SYNTHETIC): void {
    const write = (at: number): number => {
      this.#memory.bytes.fill(0xee, at, at + 60);
      return 60;
    };
    this.sent += this.#peer(queue, path)?.deliver(count, write) ?? 0;
  }

  collect(): void {
    for (let queue = 0; queue < this.#queues; queue++) {
      for (const path of [Path.SYNTHETIC, Path.VF]) {
        this.back[queue]! += this.#peer(queue, path)?.collect(256, () => {}) ?? 0;
      }
    }
  }

  readonly #peers = new Map<string, MemoryPeer>();
  #peer(queue: number, path: 1 | 2): MemoryPeer | undefined {
    const key = `${queue} ${path}`;
    const known = this.#peers.get(key);
    if (known?.alive) return known;
    const peer = MemoryPeer.attach(this.#memory, 0, queue, path);
    if (peer === undefined) this.#peers.delete(key);
    else this.#peers.set(key, peer);
    return peer;
  }

  /** Every packet that was given is back or counted. */
  async accounted(port: Port): Promise<void> {
    const dropped = (): number => Object.values(port.stats().dropped).reduce((a, b) => a + b, 0);
    await until('every packet back or counted', () => {
      this.collect();
      return this.back.reduce((a, b) => a + b, 0) + dropped() === this.sent;
    });
    await addsUp(port);
    for (const { total, accounted, duplicates } of await port.audit()) {
      expect({ accounted, duplicates }).toEqual({ accounted: total, duplicates: 0 });
    }
  }
}

function table(port: Port): number[] {
  const { bytes, layout } = Memory.attach(port.shared);
  const at = layout.redirection(0);
  return [...new Set(bytes.slice(at, at + 128))].sort();
}

describe('a queue whose worker died and is not replaced', { tags: 'unprivileged' }, () => {
  it.each([
    { how: 'create() throws', create: CREATE.throws, code: 'ERR_HANDLER' },
    { how: 'create() is an endless loop', create: CREATE.spins, code: 'ERR_HANDLER' },
    { how: 'create() waits for ever', create: CREATE.waits, code: 'ERR_HANDLER' },
    { how: 'create() ends its thread', create: CREATE.exits, code: 'ERR_WORKER' },
    { how: 'its module throws', mood: 'throw', code: 'ERR_HANDLER' },
    { how: 'its module never ends', mood: 'never', code: 'ERR_HANDLER' },
    { how: 'a timer throws while its module loads', mood: 'timer', code: 'ERR_WORKER' },
  ] as const)(
    'is given up, its flows go to the others, a VF is opened, and it is taken back: $how',
    async ({ code, ...what }) => {
      const words = orders();
      const setMood = 'mood' in what ? importMood() : undefined;
      const { port, told } = await open({
        handler: handler(setMood ? 'fragile-import' : 'fragile'),
        handlerOptions: { orders: words },
        loadMillis: 10_000,
      });
      const traffic = new Crossing(port);
      traffic.give(0, 32);
      await traffic.accounted(port);
      expect(table(port)).toEqual([0, 1]);

      if ('create' in what && what.create !== undefined) Atomics.store(words, 1, what.create);
      else setMood!(what.mood!);
      Atomics.store(words, 0, 1);
      traffic.give(0, 64);
      await until('the queue given up', () => told.last(0) === '0 fallback', LONG);
      await until('the reason', () => told.errors.length > 0, LONG);
      expect(told.errors.map((error) => error.code)).toEqual([code]);
      expect(table(port)).toEqual([1]);
      await traffic.accounted(port);

      // Reconciliation goes on, by all queues; and what comes to this one is handled by the other.
      port.plug('vf');
      await until('the VF owns', () => owners(port).every((owner) => owner === 'vf'));
      const handled = traffic.back[1]!;
      for (const path of [Path.SYNTHETIC, Path.VF] as const) traffic.give(0, 64, path);
      await traffic.accounted(port);
      expect(traffic.back[1]).toBe(handled + 128);
      port.unplug('vf');
      await until('the synthetic path owns', () => owners(port).every((owner) => owner === 'synthetic'));
      await port.setQueues(1); // the one that is given up: the other serves all the same
      expect(table(port)).toEqual([1]);
      await port.setQueues(2);

      // It is told of once for each reason, however often it is tried.
      expect(new Set(told.errors.map(({ message }) => message)).size).toBe(told.errors.length);
      Atomics.store(words, 1, 0);
      setMood?.('');
      await until('the queue taken back', () => told.last(0) === '0 started', LONG);
      expect(table(port)).toEqual([0, 1]);
      const own = traffic.back[0]!;
      traffic.give(0, 64);
      await traffic.accounted(port);
      expect(traffic.back[0]).toBe(own + 64);
      expect(told.last(1)).toBe('1 started');
    },
    120_000,
  );

  it('hands all of its packets to one other queue where no hash is computed', async () => {
    const words = orders();
    const { port, told } = await open({
      ...{ queues: 3, rss: 'device', handler: handler('fragile'), handlerOptions: { orders: words } },
    });
    const traffic = new Crossing(port);
    Atomics.store(words, 1, CREATE.throws);
    Atomics.store(words, 0, 2);
    traffic.give(1, 64);
    await until('the queue given up', () => told.last(1) === '1 fallback', LONG);
    await traffic.accounted(port);
    const before = [...traffic.back];
    traffic.give(1, 64);
    await traffic.accounted(port);
    expect(traffic.back.map((packets, queue) => packets - before[queue]!).sort()).toEqual([0, 0, 64]);
    expect(traffic.back[1]).toBe(before[1]);
  });

  it('gives its packets to the machine when it is the only one, and counts them where there is none', async () => {
    const words = orders();
    const { port, told } = await open({
      queues: 1,
      handler: handler('fragile'),
      handlerOptions: { orders: words },
    });
    const traffic = new Crossing(port);
    Atomics.store(words, 1, CREATE.throws);
    Atomics.store(words, 0, 1);
    traffic.give(0, 64);
    await until('the queue given up', () => told.last(0) === '0 fallback', LONG);
    await traffic.accounted(port);
    const { noHost } = port.stats().dropped;
    traffic.give(0, 64);
    await traffic.accounted(port);
    expect(port.stats().dropped.noHost).toBe(noHost + 64);
    port.plug('vf');
    await until('the VF owns', () => owners(port)[0] === 'vf');
    await port.audit();
  });

  it('does not keep the port from closing, given up or still loading', async () => {
    for (const wait of [true, false]) {
      const words = orders();
      const { port, told } = await open({ handler: handler('fragile'), handlerOptions: { orders: words } });
      Atomics.store(words, 1, CREATE.waits);
      Atomics.store(words, 0, 1);
      new Crossing(port).give(0, 8);
      await until('the death', () => told.count('0 died') === 1);
      if (wait) await until('the queue given up', () => told.last(0) === '0 fallback', LONG);
      await port.close();
      expect(told.errors).toEqual([]); // not that a handler did not return
    }
  });
});

describe('a handler that never loads', { tags: 'unprivileged' }, () => {
  it.each(['never', 'timer'] as const)(
    'keeps a port from opening with an error that says so: %s',
    async (mood) => {
      importMood()(mood);
      // An endless one waits for it in vain; the other one is over before.
      const loadMillis = mood === 'never' ? 6_000 : 60_000;
      const options = { handlerOptions: { orders: orders() }, loadMillis };
      const opened = openPort({
        network: 'memory',
        queues: 2,
        handler: handler('fragile-import'),
        ...options,
      });
      const code = mood === 'never' ? 'ERR_HANDLER' : 'ERR_WORKER';
      await expect(opened).rejects.toMatchObject({ code });
      await expect(opened).rejects.toThrow(mood === 'never' ? /within 6000 ms/ : /in a timer/);
    },
  );

  it.each([CREATE.spins, CREATE.waits])('also when its create() is what never ends: %i', async (what) => {
    const words = orders();
    words[1] = what;
    const options = { handlerOptions: { orders: words }, loadMillis: 600 };
    const opened = openPort({ network: 'memory', queues: 2, handler: handler('fragile'), ...options });
    await expect(opened).rejects.toMatchObject({ code: 'ERR_HANDLER' });
  });
});

describe('workers that die again and again', { tags: 'unprivileged' }, () => {
  it('are started and reported after ever longer pauses', async () => {
    const words = orders();
    const { port, told } = await open({
      queues: 1,
      handler: handler('fragile'),
      handlerOptions: { orders: words },
    });
    const traffic = new Crossing(port);
    for (let death = 1; death <= 7; death++) {
      await until('a worker', () => told.count('0 started') === death, LONG);
      Atomics.store(words, 0, 1);
      await until('a death', () => {
        traffic.give(0, 1);
        return told.count('0 died') === death;
      });
    }
    // The seventh in a row is followed by a pause in which the queue is not without a worker.
    await until('a fallback worker', () => told.last(0) === '0 fallback', LONG);
    expect(told.errors).toMatchObject([{ code: 'ERR_WORKER' }]);
    await until('a worker', () => told.last(0) === '0 started', LONG);
    await traffic.accounted(port);
  });
});

describe('a queue that is given up, in a lab', () => {
  it.each([
    { tap: 'io_uring', path: 'synthetic' },
    { tap: 'io_uring', path: 'vf' },
    { tap: 'read/write', path: 'synthetic' },
  ] as const)('has its flows served by the other on the $path path, tap by $tap', async ({ tap, path }) => {
    const lab = await buildLab();
    const words = orders();
    const handlerOptions = { orders: words, address: lab.nic.guestAddress };
    const scene = await Scene.openIn(lab, { tap, handler: handler('fragile-echo'), handlerOptions });
    const told = new Told(scene.port);
    if (path === 'vf') await scene.plug();
    const traffic = await scene.drive({ rate: 2_000 });
    Atomics.store(words, 1, CREATE.waits);
    Atomics.store(words, 0, 1);
    await until('the queue given up', () => told.last(0) === '0 fallback', LONG);
    await passed(traffic);
    // A failover there and back, with the fallback worker in its place.
    if (path === 'vf') await scene.unplug();
    await scene.plug('returned');
    await passed(traffic);
    await scene.whole();
    expect(scene.port.stats().handedOver).toBeGreaterThan(0);
    // Its thread waits for ever: a new one only once loadMillis is over, which is not needed to close.
    await scene.finish();
    expect(told.last(1)).toBe('1 started');
  });
});
