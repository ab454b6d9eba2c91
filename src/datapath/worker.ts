/**
 * A queue worker: polls queue i of every port until it is told to stop.
 *
 * `runWorker` is a plain function over its context: the thread entry (workers/queue.ts) calls it, and so may
 * a test or a profiler on its own thread. Everything it needs to go on after another worker's death is in
 * the shared memory; see takeover.ts for what it does first.
 */
import type { Shim } from '../kernel/shim.ts';
import { FramePool } from '../memory/frames.ts';
import { Control, LEDGER_FIELDS, WorkerBlock } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import { Burst } from './burst.ts';
import type { HandlerFailure } from './dispatch.ts';
import type { Handler } from './handler.ts';
import { Idle, type IdleMode } from './idle.ts';
import { PortQueue } from './port-queue.ts';
import { takeOver } from './takeover.ts';

export interface WorkerContext {
  readonly shim: Shim;
  readonly memory: Memory;
  readonly queue: number;
  readonly mode: IdleMode;
  readonly handler: Handler;
  readonly failed: HandlerFailure;
}

/** Rounds between looks at the words that change rarely: a few microseconds when busy. */
const HOUSEKEEPING = 16;

export function runWorker({ shim, memory, queue, mode, handler, failed }: WorkerContext): void {
  const { words, layout } = memory;
  const block = layout.worker(queue);
  const ring = new Uint8Array(new BigUint64Array([1n]).buffer);
  const attentionFd = words[(block + WorkerBlock.attentionFd) >> 2]!;
  const attention = (): void => void shim.write(attentionFd, ring, 8);

  const pool = new FramePool(memory, queue);
  const burst = new Burst(memory, queue);
  const ports = Array.from(
    { length: layout.geometry.ports },
    (_, port) => new PortQueue({ shim, memory, pool, burst, handler, failed, attention, port, queue }),
  );
  takeOver({ shim, memory, pool, burst, queue }, ports);

  const idle = new Idle(shim, memory, queue, mode);
  const stop = Control.stop >> 2;
  const quiet = (): boolean => round(ports) === 0 && Atomics.load(words, stop) === 0 && !audited();
  const audited = (): boolean => audit(memory, queue, pool, ports);
  for (let beat = 0; ; beat = (beat + 1) | 0) {
    const handled = round(ports);
    const tired = idle.tired(handled);
    if (!tired && beat % HOUSEKEEPING !== 0) continue;
    if (Atomics.load(words, stop) !== 0) return;
    audited();
    if (!tired) continue;
    let restless = false;
    for (const port of ports) {
      memory.doubles[port.sleeps]!++;
      if (port.restless) restless = true;
      // NB: poll(2) on an AF_XDP socket sends what waits in its ring and keeps the error to itself.
      for (const path of port.paths) if (!path.backlog) idle.watch(path.fd);
    }
    idle.sleep(restless, quiet);
  }
}

function round(ports: readonly PortQueue[]): number {
  let handled = 0;
  for (const port of ports) handled += port.poll();
  return handled;
}

/** Answers a wanted audit: where every frame is. True if there was one to answer. Asked at every sleep. */
function audit(memory: Memory, queue: number, pool: FramePool, ports: readonly PortQueue[]): boolean {
  const { words, layout } = memory;
  const block = layout.worker(queue);
  const wanted = Atomics.load(words, (block + WorkerBlock.auditWanted) >> 2);
  if (words[(block + WorkerBlock.auditDone) >> 2] === wanted) return false;
  // NB: a function of its own: the closures in it would cost this one a context at every call.
  answer(memory, queue, pool, ports);
  Atomics.store(words, (block + WorkerBlock.auditDone) >> 2, wanted);
  return true;
}

function answer(memory: Memory, queue: number, pool: FramePool, ports: readonly PortQueue[]): void {
  const { words, layout } = memory;
  const block = layout.worker(queue);
  const paths = ports.flatMap((port) => port.paths);
  const ledger = {
    total: pool.total,
    accounted: 0,
    free: pool.count,
    ...pool.leaving(paths),
    rx: 0,
    completing: 0,
    inHand: 0,
    duplicates: 0,
  };
  for (const path of paths) {
    const share = path.ledger();
    ledger.fill += share.fill;
    ledger.rx += share.rx;
    ledger.tx += share.tx;
    ledger.completing += share.completing;
  }
  ledger.accounted = ledger.free + ledger.fill + ledger.rx + ledger.tx + ledger.completing + ledger.inHand;
  ledger.duplicates = pool.duplicates(paths);
  LEDGER_FIELDS.forEach((field, i) => {
    words[((block + WorkerBlock.ledger) >> 2) + i] = ledger[field];
  });
}
