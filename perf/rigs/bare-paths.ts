/**
 * AF_XDP path queues without a port: what a worker does for a path that carries the traffic, on the calling thread, with the
 * reflect handler. The difference to a port is what the port costs.
 */
import { setImmediate as eventLoop } from 'node:timers/promises';
import { Burst } from '../../src/handler/burst.ts';
import { Clock } from '../../src/handler/clock.ts';
import type { Handler } from '../../src/handler/handler.ts';
import { bound } from '../../src/handler/jit.ts';
import { create } from '../../src/handlers/reflect.ts';
import { EthtoolNetlink } from '../../src/kernel/ethtool-netlink.ts';
import type { Link } from '../../src/kernel/rtnetlink.ts';
import { SettingsStore } from '../../src/kernel/settings-store.ts';
import type { Shim } from '../../src/kernel/shim.ts';
import { FramePool } from '../../src/memory/frames.ts';
import { BURST, HEADROOM, Path } from '../../src/memory/layout.ts';
import { Memory } from '../../src/memory/shared.ts';
import { AfXdpDevice } from '../../src/paths/af-xdp/device.ts';
import { attach } from '../../src/paths/attach.ts';
import type { PathQueue } from '../../src/paths/path.ts';

const BYTES = 60;
const MAX_LENGTH = 2048 - HEADROOM;
const PATHS = [Path.VF, Path.SYNTHETIC] as const;
const GEOMETRY = { pageSize: 4096, ports: 1, queues: 1, frameSize: 2048 };
const RSS = { rss: 'device', rssKey: new Uint8Array(40) } as const;
/** Rounds between looks at the clock. */
const ROUNDS = 256;
/** For so long at most the thread's callbacks wait. */
const SLICE_MILLIS = 50;

export class BarePaths {
  readonly #memory: Memory;
  readonly #ethtool: EthtoolNetlink;
  readonly #pool: FramePool;
  readonly #burst: Burst;
  readonly #reflect: Handler;
  readonly #devices: AfXdpDevice[];
  readonly #queues: PathQueue[];

  /** One or two links, in whose namespace the calling thread is. Rings and frames are as large as a port's. */
  constructor(shim: Shim, links: readonly Link[]) {
    const memory = Memory.create({ ...GEOMETRY, framesPerWorker: 8192, ringEntries: 2048 });
    this.#memory = memory;
    this.#ethtool = EthtoolNetlink.open(shim);
    this.#devices = links.map((link, i) => {
      const options = { ...RSS, ethtool: this.#ethtool, store: SettingsStore.open(shim) };
      return new AfXdpDevice(shim, memory, 0, PATHS[i]!, link, options);
    });
    for (const device of this.#devices) device.open();
    this.#pool = new FramePool(memory, 0);
    this.#pool.owners.recover([]);
    this.#burst = new Burst(memory, 0);
    const shared = (bytes: number) => new SharedArrayBuffer(bytes);
    const own = { burst: this.#burst, clock: new Clock(), shared, postMessage: () => false };
    const context = { queue: 0, queues: 1, macs: [], ...own };
    this.#reflect = bound(create({}, context), this.#burst);
    this.#queues = links.map(
      (_, i) => attach({ shim, memory, pool: this.#pool }, { port: 0, queue: 0, path: PATHS[i]! })!,
    );
    for (const queue of this.#queues) queue.refill();
    for (const device of this.#devices) device.arm();
  }

  /** Sends so many frames through each path. */
  inject(packets: number): void {
    const { bytes, view, layout } = this.#memory;
    for (const queue of this.#queues) {
      for (let i = 0; i < packets; i++) {
        const at = layout.frames + this.#pool.peek(0) + HEADROOM;
        bytes.fill(0, at, at + BYTES);
        bytes.set([2, 0x15, 0x5d, 0x77, 0, 2, 2, 0x15, 0x5d, 0x77, 0, 1], at);
        view.setUint16(at + 12, 0x88b5);
        queue.tx.push(at, BYTES);
        this.#pool.remove(1);
      }
      queue.tx.flush();
    }
  }

  /** Runs until `stop` says so, which is called every 50 ms. Returns million packets handled a second. */
  async run(stop: (millis: number) => boolean): Promise<number> {
    const began = performance.now();
    let handled = 0;
    for (let now = began; !stop(now - began); ) {
      const next = now + SLICE_MILLIS;
      while (now < next) {
        for (let rounds = 0; rounds < ROUNDS; rounds++) handled += this.#round();
        now = performance.now();
      }
      await eventLoop();
    }
    return handled / (performance.now() - began) / 1000;
  }

  close(): void {
    for (const device of this.#devices) device.close();
    this.#ethtool.close();
  }

  #round(): number {
    let handled = 0;
    for (const queue of this.#queues) {
      if (queue.tx.room(BURST) === BURST && queue.rx.ready(BURST) > 0) handled += this.#pollPath(queue);
      queue.tx.complete();
      queue.refill();
      const result = queue.tx.flush();
      if (result < 0) throw new Error(`the kernel refused to send: errno ${-result}`);
    }
    return handled;
  }

  #pollPath(queue: PathQueue): number {
    const burst = this.#burst;
    const count = queue.rx.receive(burst, BURST);
    burst.begin(count);
    this.#reflect(burst);
    const pushed = queue.tx.pushBurst!(burst.at, 0, count, MAX_LENGTH);
    if (pushed !== count) throw new Error(`${count - pushed} of ${count} packets could not be sent`);
    queue.rx.release();
    return count;
  }
}
