/**
 * Which cache lines two workers write. Workers take turns on this thread, each through `runWorker` as it is, and
 * what each changes is noted: by comparing the whole memory before and after each turn and at every call of the
 * handler, and by watching the Atomics. Lines are as the layout has them, two of the processor's.
 */
import { expect, it } from 'vitest';
import { IdleCode } from '../../../src/datapath/idle.ts';
import { runWorker } from '../../../src/datapath/worker.ts';
import { Burst } from '../../../src/handler/burst.ts';
import { DELIVER, DROP, TX } from '../../../src/handler/handler.ts';
import type { Shim } from '../../../src/kernel/shim.ts';
import { ownerWord, pathBit } from '../../../src/memory/bit-fields.ts';
import { QUEUE_BYTES, WORKER_BYTES, WORKER_WORDS } from '../../../src/memory/blocks.ts';
import { RETA_ENTRIES } from '../../../src/memory/geometry.ts';
import { LINE, Path } from '../../../src/memory/layout.ts';
import { writeRss } from '../../../src/memory/rss-block.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { MemoryDevice } from '../../../src/paths/memory/device.ts';
import { MemoryPeer } from '../../../src/paths/memory/peer.ts';
import { ALL_HASHED } from '../../../src/rss/configuration.ts';
import { DEFAULT_KEY } from '../../../src/rss/key.ts';
import { retaIndex, spread } from '../../../src/rss/redirection.ts';
import { RssHash } from '../../../src/rss/toeplitz.ts';

const QUEUES = 3;
const FRAMES = 256;
const BYTES = 60;

class Workshop {
  readonly memory = Memory.create({
    ...{
      pageSize: 4096,
      ports: 1,
      queues: QUEUES,
      frameSize: 2048,
      framesPerWorker: FRAMES,
      ringEntries: 256,
    },
  });
  /** Lines that each worker wrote. */
  readonly written = Array.from({ length: QUEUES }, () => new Set<number>());
  readonly #table = spread([0, 1, 2]);
  readonly #last: Int32Array;
  handed = 0;

  constructor() {
    const { memory } = this;
    const { words } = memory;
    const device = new MemoryDevice(memory, 0, Path.SYNTHETIC, 'memory0');
    device.open();
    device.arm();
    writeRss(memory, 0, { key: DEFAULT_KEY, hashTypes: ALL_HASHED, table: this.#table }, false);
    for (let queue = 0; queue < QUEUES; queue++) {
      const order = ownerWord(1, Path.SYNTHETIC, pathBit(Path.SYNTHETIC));
      Atomics.store(words, memory.queue(0, queue).at('owner'), order);
      memory.workers[queue]!.idleMode = IdleCode.adaptive;
    }
    this.#last = words.slice();
  }

  /** Packets for a worker, of flows that queue `owner(i)` owns; what it sent before is taken. */
  supply(queue: number, count: number, owner: (i: number) => number): void {
    const { memory } = this;
    const hash = new RssHash(memory.view, DEFAULT_KEY);
    const peer = MemoryPeer.attach(memory, 0, queue, Path.SYNTHETIC)!;
    peer.collect(FRAMES, () => {});
    let i = 0;
    let port = 1024;
    peer.deliver(count, (at) => {
      const { view } = memory;
      view.setUint32(at + 12, 0x0800_4500);
      view.setUint32(at + 16, (BYTES - 14) << 16);
      view.setUint32(at + 20, 0x4011);
      view.setUint32(at + 26, 0x0a00_0001);
      view.setUint32(at + 30, 0x0a00_0002);
      do view.setUint16(at + 34, port++);
      while (this.#table[retaIndex(hash.of(at, BYTES))] !== owner(i));
      i++;
      return BYTES;
    });
  }

  /** A turn of a worker: until it has nothing to do, twice. */
  turn(queue: number): void {
    const { memory } = this;
    const { words } = memory;
    const mine = this.written[queue]!;
    let sleeps = 0;
    let ours = false;
    const own = <T>(work: () => T): T => {
      ours = true;
      const result = work();
      ours = false;
      return result;
    };
    const stop = memory.control.at('stop');
    const note = (): void => own(() => this.#difference(mine));
    const asleep = (): number => {
      note();
      if (++sleeps === 2) own(() => Atomics.store(words, stop, 1));
      return 0;
    };
    const { store, add, exchange, compareExchange, wait } = Atomics;
    const real = { store, add, exchange, compareExchange, wait };
    const watched = (name: 'store' | 'add' | 'exchange' | 'compareExchange') => {
      const original = real[name] as (array: Int32Array, index: number, ...values: number[]) => number;
      return (array: Int32Array, index: number, ...values: number[]): number => {
        if (!ours && array === words) mine.add(Math.floor((index * 4) / LINE));
        return original(array, index, ...values);
      };
    };
    const patched: Record<string, unknown> = {
      ...{ store: watched('store'), add: watched('add') },
      ...{ exchange: watched('exchange'), compareExchange: watched('compareExchange') },
      wait: () => {
        asleep();
        return 'timed-out';
      },
    };
    words[stop] = 0;
    this.#last.set(words);
    const verdicts = [TX, DROP, DELIVER];
    const handle = (burst: Burst): void => {
      for (let i = 0; i < burst.length; i++) {
        burst.packet(i).swapMacs();
        burst.verdict[i] = verdicts[i % verdicts.length]!;
      }
      note();
    };
    const shim = { write: () => 8, poll: asleep, millis: () => 0, read: () => 8 } as unknown as Shim;
    Object.assign(Atomics, patched);
    try {
      runWorker({
        ...{
          shim,
          memory,
          queue,
          burst: new Burst(memory, queue),
          hashes: true,
          routes: [],
        },
        handlers: [{ handle, tick: undefined, tickMillis: 10 }],
        failed: (error) => {
          throw error;
        },
      });
    } finally {
      Object.assign(Atomics, real);
    }
    words[stop] = 0;
    this.#difference(mine);
  }

  #difference(lines: Set<number>): void {
    const { words } = this.memory;
    const last = this.#last;
    for (let i = 0; i < words.length; i++) {
      if (words[i] === last[i]) continue;
      if (i !== this.memory.control.at('stop')) lines.add(Math.floor((i * 4) / LINE));
      last[i] = words[i]!;
    }
  }

  /** What lies in the lines that more than one worker wrote, each once. */
  shared(): string[] {
    const all = this.written.flatMap((lines) => [...lines]);
    const twice = all.filter((line, i) => all.indexOf(line) !== i);
    return [...new Set(twice.map((line) => this.#name(line * LINE)))].sort();
  }

  #name(at: number): string {
    const { layout } = this.memory;
    const queues = Array.from({ length: QUEUES }, (_, queue) => queue);
    const regions: [string, number, number][] = [
      ['owners', layout.owners, QUEUES * FRAMES * 2],
      ['delivery bell', layout.deliveryBell(0), LINE],
      ['redirection', layout.redirection(0), RETA_ENTRIES],
      ['frames', layout.frames, layout.framesBytes],
      ...queues.flatMap((queue): [string, number, number][] => [
        ['inbox', layout.worker(queue) + WORKER_WORDS.inbox, LINE],
        ['worker block', layout.worker(queue), WORKER_BYTES],
        ['queue block', layout.queue(0, queue), QUEUE_BYTES],
      ]),
    ];
    const found = regions.find(([, from, bytes]) => at >= from && at < from + bytes);
    return found?.[0] ?? `byte ${at}`;
  }
}

/** Rounds of turns of all workers, with packets for each before every turn. */
function play(owner: (queue: number, i: number) => number): Workshop {
  const workshop = new Workshop();
  for (let queue = 0; queue < QUEUES; queue++) workshop.turn(queue); // the fill rings get their frames
  for (let round = 0; round < 4; round++) {
    for (let queue = 0; queue < QUEUES; queue++) {
      workshop.supply(queue, 40, (i) => owner(queue, i));
      workshop.turn(queue);
    }
  }
  return workshop;
}

const counted = ({ memory }: Workshop, queue: number): number => memory.workers[queue]!.heartbeat;

it('workers that keep their packets write no common cache line, except the doorbell of the delivery', () => {
  const workshop = play((queue) => queue);
  for (let queue = 0; queue < QUEUES; queue++) expect(counted(workshop, queue)).toBeGreaterThan(0);
  expect(workshop.shared()).toEqual(['delivery bell']);
});

// What holds a frame is written by whoever has it; the frames of one worker have their words side by side.
it('workers that hand packets over also share the frame owners and the inbox', () => {
  const workshop = play((_, i) => i % QUEUES);
  expect(workshop.shared()).toEqual(['delivery bell', 'inbox', 'owners']);
});
