/**
 * A queue worker: polls queue i of every port until the ports close.
 *
 * `runWorker` is a plain function of its context: the thread entry (workers/queue.ts) calls it, and so may a test or a
 * profiler on its own thread. The shared memory has all it needs to continue after another worker's death: see
 * takeover.ts for its first steps.
 */
import type { Burst } from '../handler/burst.ts';
import type { LoadedHandler } from '../handler/load-handler.ts';
import { announce, callSupervisor } from '../kernel/doorbell.ts';
import type { Shim } from '../kernel/shim.ts';
import type { CallBetween, WorkerMail } from '../mailbox/worker-mail.ts';
import { DeliverySender } from '../memory/delivery-ring.ts';
import { FramePool } from '../memory/frames.ts';
import type { Memory } from '../memory/shared.ts';
import type { RelayRoute } from '../options.ts';
import { HashTables } from '../rss/toeplitz.ts';
import { answerAudit } from './audit.ts';
import { CaptureTaps } from './capture-taps.ts';
import type { ForwardTable } from './forward.ts';
import type { HandlerFailure } from './handler-call.ts';
import { Idle } from './idle.ts';
import { hasLease } from './lease.ts';
import { PortQueue } from './port-queue.ts';
import { RelayReceivers, relaysTo } from './relay.ts';
import { takeOver } from './takeover.ts';
import { Ticks } from './ticks.ts';

export interface WorkerContext {
  readonly shim: Shim;
  readonly memory: Memory;
  readonly queue: number;
  /** The burst that the handlers were loaded with. */
  readonly burst: Burst;
  /** One for each port; ports may have the same. */
  readonly handlers: readonly LoadedHandler[];
  readonly failed: HandlerFailure;
  /** Whether packets are hashed, and go to the queues that the tables name; else they stay where the devices put them. */
  readonly hashes: boolean;
  /** Ports of other memories that packets may be forwarded to. */
  readonly routes: readonly RelayRoute[];
  /** Number of the worker that has the lease of the queue; absent: no other worker asks for it. */
  readonly worker?: number;
  /** Whether the handler is not the port's: then all packets go to the queues that the table names. */
  readonly fallback?: boolean;
  /** What other threads tell the handlers; absent: nothing. */
  readonly mail?: WorkerMail | undefined;
}

/** Rounds between two reads of the words that change rarely: a few microseconds when busy. */
const HOUSEKEEPING = 16;

/**
 * @returns whether the ports close; false: the lease of the queue has ended
 * @throws ERR_HANDLER if a handler cannot take options that the others have taken
 */
export function runWorker(context: WorkerContext): boolean {
  const { shim, memory, queue, burst, handlers, failed, hashes, routes, worker = 0, mail } = context;
  const { words, layout } = memory;
  const notifySupervisor = (): void => callSupervisor(shim, memory);

  const pool = new FramePool(memory, queue);
  const hashTables = hashes ? new HashTables(layout.geometry.ports) : undefined;
  const forwardTable: { -readonly [K in keyof ForwardTable]: ForwardTable[K] } = { ports: [], relays: [] };
  const deliveries = Array.from(
    { length: layout.geometry.ports },
    (_, port) => new DeliverySender(memory, pool, burst, port, queue),
  );
  const ports = deliveries.map(
    (delivery, port) =>
      new PortQueue({
        shim,
        memory,
        pool,
        burst,
        port,
        queue,
        forwardTable,
        delivery,
        hashTables,
        failed,
        notifySupervisor,
        handler: handlers[port]!.handle,
        inPlace: handlers[port]!.inPlace,
        metadata: burst.metadata,
        fallback: context.fallback ?? false,
      }),
  );
  forwardTable.ports = ports.map(({ dispatch }) => dispatch.forwardPort);
  forwardTable.relays = relaysTo(shim, memory, queue, routes);
  takeOver({ shim, memory, pool, burst, queue }, ports);

  const captures = new CaptureTaps(
    memory,
    queue,
    ports.map(({ dispatch }) => dispatch),
  );
  const relays = new RelayReceivers(memory, queue, forwardTable.ports);
  const idle = new Idle(shim, memory, queue);
  const stop = memory.control.at('stop');
  const lowOnFrames = memory.workers.map((worker) => worker.at('lowOnFrames'));
  const turns = memory.workers[queue]!.at('turns');
  const audited = (): boolean => answerAudit(memory, queue, pool, ports);
  const ticks = new Ticks(shim, handlers, ports);
  const between: CallBetween = (port, call) => ports[port]!.dispatch.between(call);
  mail?.receive(between); // also what came while the handlers were loading: before the first packet

  const round = (): number => {
    captures.follow(); // before any packet: relays and ports give packets to other ports
    pool.collect();
    for (const delivery of deliveries) delivery.collect();
    let handled = relays.poll();
    for (const port of ports) handled += port.poll();
    announceDeliveries(false);
    for (const relay of forwardTable.relays) relay.flush();
    const served = pool.flush();
    for (let i = 0; i < served; i++) wakeIfLowOnFrames(pool.served![i]!);
    return handled;
  };
  const announceDeliveries = (sleeps: boolean): void => {
    for (let port = 0; port < deliveries.length; port++) {
      if (!deliveries[port]!.announces(sleeps)) continue;
      const bell = layout.deliveryBell(port) >> 2;
      Atomics.add(words, bell, 1);
      Atomics.notify(words, bell);
    }
  };
  const wakeIfLowOnFrames = (other: number): void => {
    if (words[lowOnFrames[other]!] === 1) announce(shim, memory, other);
  };
  const quiet = (): boolean => {
    const handled = round();
    announceDeliveries(true);
    idle.also(handled);
    const stays = Atomics.load(words, stop) === 0 && hasLease(memory, queue, worker);
    return handled === 0 && stays && !audited() && mail?.waits !== true;
  };

  for (let rounds = 0; ; rounds = (rounds + 1) | 0) {
    const handled = round();
    const shouldSleep = idle.shouldSleep(handled);
    if (!shouldSleep && rounds % HOUSEKEEPING !== 0) continue;
    words[turns] = (words[turns]! + 1) | 0;
    if (shouldSleep) announceDeliveries(true);
    if (Atomics.load(words, stop) !== 0) {
      announceDeliveries(true);
      for (const relay of forwardTable.relays) relay.close();
      return true;
    }
    // What is published and not announced now, the application finds by itself within a second.
    if (!hasLease(memory, queue, worker)) return false; // relays stay claimed for the next worker
    audited();
    ticks.run();
    if (mail?.waits) mail.receive(between);
    if (!shouldSleep) continue;
    let hasUnpolledWork = false;
    for (const port of ports) {
      memory.doubles[port.sleeps]!++;
      if (port.hasUnpolledWork) hasUnpolledWork = true;
      // NB: poll(2) on an AF_XDP socket sends what waits in its ring and keeps the error to itself.
      for (const { tx, fd } of port.paths) if (!tx.backlog) idle.watch(fd);
    }
    pool.announce();
    idle.sleep(hasUnpolledWork, ticks.mostSleep, quiet);
  }
}
