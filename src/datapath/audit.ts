/** The audit of a worker's frames, which the coordinator asks for. Worker only. */

import { LEDGER_FIELDS } from '../memory/blocks.ts';
import type { FramePool } from '../memory/frames.ts';
import type { Memory } from '../memory/shared.ts';
import type { PortQueue } from './port-queue.ts';

/** Makes an audit if one is wanted: returns whether. Called before every sleep. */
export function answerAudit(
  memory: Memory,
  queue: number,
  pool: FramePool,
  ports: readonly PortQueue[],
): boolean {
  const { words, workers } = memory;
  const worker = workers[queue]!;
  const wanted = Atomics.load(words, worker.at('auditWanted'));
  if (worker.auditDone === wanted) return false;
  // NB: a function of its own, because its closures would make every call of this one allocate a context.
  answer(memory, queue, pool, ports);
  Atomics.store(words, worker.at('auditDone'), wanted);
  return true;
}

function answer(memory: Memory, queue: number, pool: FramePool, ports: readonly PortQueue[]): void {
  const { words, workers } = memory;
  const paths = ports.flatMap((port) => port.paths);
  const ledger = {
    total: pool.total,
    accounted: 0,
    free: pool.count,
    ...pool.owners.leaving(paths),
    rx: 0,
    completing: 0,
    inHand: 0,
    ...pool.owners.exchanged(),
    duplicates: 0,
  };
  for (const path of paths) {
    const share = path.ledger();
    ledger.fill += share.fill;
    ledger.rx += share.rx;
    ledger.tx += share.tx;
    ledger.completing += share.completing;
  }
  const { free, fill, rx, tx, completing, inHand, lent, borrowed } = ledger;
  ledger.accounted = free + fill + rx + tx + completing + inHand + lent - borrowed;
  ledger.duplicates = pool.owners.duplicates(paths);
  const at = workers[queue]!.at('ledger');
  LEDGER_FIELDS.forEach((field, i) => {
    words[at + i] = ledger[field];
  });
}
