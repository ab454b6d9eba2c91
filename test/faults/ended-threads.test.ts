/**
 * Worker threads that end between any two statements take no frame and no packet along.
 *
 * @module-tag unprivileged
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { expect, it, onTestFinished } from 'vitest';
import { loadShim } from '../../src/kernel/shim.ts';
import { ownerWord, pathBit } from '../../src/memory/bit-fields.ts';
import { LEDGER_FIELDS } from '../../src/memory/blocks.ts';
import { queueCounters } from '../../src/memory/counters.ts';
import { BURST, Path } from '../../src/memory/layout.ts';
import { writeRss } from '../../src/memory/rss-block.ts';
import { Memory } from '../../src/memory/shared.ts';
import { MemoryDevice } from '../../src/paths/memory/device.ts';
import { ALL_HASHED } from '../../src/rss/configuration.ts';
import { keyOf } from '../../src/rss/key.ts';
import { spread } from '../../src/rss/redirection.ts';
import { until } from '../support/harness.ts';
import { NumberedTraffic } from '../support/memory-network.ts';
import { VerdictNetwork } from '../support/verdict-network.ts';

const unharmed = { missing: 0, repeated: 0, reordered: 0 };

/** Worker threads without a coordinator: the test may end any of them between any two statements. */
class BareWorkers {
  readonly memory: Memory;
  readonly #hashes: boolean;
  readonly #threads: Worker[] = [];

  constructor(queues: number, framesPerWorker: number, hashes = false) {
    this.#hashes = hashes;
    this.memory = Memory.create({
      ...{ pageSize: 4096, ports: 1, queues, frameSize: 2048, framesPerWorker, ringEntries: 256 },
    });
    const shim = loadShim();
    for (let queue = 0; queue < queues; queue++) {
      const fds = [shim.eventfd(), shim.eventfd()];
      this.memory.workers[queue]!.supervisorFd = fds[0]!;
      this.memory.workers[queue]!.doorbellFd = fds[1]!;
      onTestFinished(async () => {
        await this.#threads[queue]?.terminate();
        for (const fd of fds) shim.close(fd);
      });
    }
  }

  /** Opens the synthetic path and has it polled by a worker for each queue. */
  async open(): Promise<void> {
    const { words, layout } = this.memory;
    const device = new MemoryDevice(this.memory, 0, Path.SYNTHETIC, 'memory');
    device.open();
    const order = ownerWord(1, Path.SYNTHETIC, pathBit(Path.SYNTHETIC));
    for (let queue = 0; queue < layout.geometry.queues; queue++) {
      Atomics.store(words, this.memory.queue(0, queue).at('owner'), order);
      await this.start(queue);
      const ack = this.memory.queue(0, queue).at('ack');
      await until('attached', () => Atomics.load(words, ack) === order);
    }
    device.arm();
  }

  async start(queue: number): Promise<void> {
    const worker = new Worker(new URL('../fixtures/bare-worker.mjs', import.meta.url), {
      workerData: { shared: this.memory.shared, queue, hashes: this.#hashes },
    });
    this.#threads[queue] = worker;
    await once(worker, 'message');
  }

  end(queue: number): Promise<number> {
    return this.#threads[queue]!.terminate();
  }

  async audit(queue: number): Promise<Record<string, number>> {
    const { words } = this.memory;
    const worker = this.memory.workers[queue]!;
    const number = Atomics.add(words, worker.at('auditWanted'), 1) + 1;
    await until('the audit', () => Atomics.load(words, worker.at('auditDone')) === number);
    const first = worker.at('ledger');
    return Object.fromEntries(LEDGER_FIELDS.map((field, i) => [field, words[first + i]!]));
  }
}

it('a thread that is ended between any two statements takes no frame and no packet along', async () => {
  const workers = new BareWorkers(1, 1024);
  await workers.open();
  const traffic = new NumberedTraffic(workers.memory);
  for (let death = 0; death < 25; death++) {
    const enough = traffic.received + Math.floor(Math.random() * 3_000);
    await traffic.until(() => traffic.received > enough);
    let over = false;
    const ended = workers.end(0).then(() => {
      over = true;
    });
    await traffic.until(() => over);
    await ended;
    await workers.start(0);
    expect(await workers.audit(0)).toMatchObject({ total: 1024, accounted: 1024, duplicates: 0 });
  }
  await traffic.settle();
  expect(traffic.summary).toMatchObject(unharmed);
  expect(await workers.audit(0)).toMatchObject({ total: 1024, accounted: 1024, duplicates: 0, rx: 0, tx: 0 });
});

it('threads that hand packets to each other may be ended at any point as well', async () => {
  const workers = new BareWorkers(2, 1024, true);
  const { memory } = workers;
  const values = { key: keyOf('default'), hashTypes: ALL_HASHED, table: spread([0, 1]) };
  writeRss(memory, 0, values, false);
  await workers.open();
  const network = new VerdictNetwork([[workers.memory]]);
  let back = 0;
  const turn = (): void => {
    for (const queue of [0, 1]) network.give(32, 1, { queue, flows: 32 });
    back += network.collect();
  };
  const handed = (queue: number): number => memory.doubles[queueCounters(memory, 0, queue).handedOver]!;
  const DEATHS = 16;
  for (let death = 0; death < DEATHS; death++) {
    const enough = back + Math.floor(Math.random() * 3_000);
    const before = [0, 1].map(handed);
    await network.until('traffic', () => back > enough && [0, 1].every((q) => handed(q) > before[q]!), turn);
    const queue = death % 3 === 2 ? Math.round(Math.random()) : death & 1;
    let over = false;
    const ended = workers.end(queue).then(() => {
      over = true;
    });
    await network.until('the end', () => over, turn);
    await ended;
    await workers.start(queue);
    for (const each of [0, 1]) {
      expect(await workers.audit(each)).toMatchObject({ total: 1024, accounted: 1024, duplicates: 0 });
    }
  }
  const home = { total: 1024, accounted: 1024, duplicates: 0, rx: 0, tx: 0, lent: 0, borrowed: 0 };
  let found: Record<string, number>[] = [];
  await until('everything out, and every frame at home', async () => {
    network.collect();
    found = [await workers.audit(0), await workers.audit(1)];
    return found.every((one) => [one.rx, one.tx, one.lent, one.borrowed].every((frames) => frames === 0));
  });
  for (const ledger of found) expect(ledger).toMatchObject(home);
  const lost = network.out.filter((places) => places.length === 0).length;
  const again = network.out.reduce((all, places) => all + Math.max(0, places.length - 1), 0);
  expect(lost).toBeLessThanOrEqual(DEATHS * BURST);
  expect(again).toBeLessThanOrEqual(DEATHS * BURST);
});
