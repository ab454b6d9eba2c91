/**
 * Statistics of a port, summed from the shared memory. Reading them asks no other thread; numbers may be a burst behind.
 * Counters never decrease, over any number of failovers, and include paths that are closed.
 */

import { ownerPath } from './memory/bit-fields.ts';
import {
  type KernelCounter,
  kernelCounters,
  type PathCounter,
  pathCounters,
  type QueueCounter,
  queueCounters,
  readCounters,
} from './memory/counters.ts';
import { PATH_NAMES, type PathName, SLOT_PATHS } from './memory/layout.ts';
import type { Memory } from './memory/shared.ts';

/** One path of a queue, or of the whole port. */
export type PathStatistics = Record<PathCounter, number> & {
  /** Packets that the kernel dropped before the port received them, or refused to transmit. */
  readonly kernel: Record<KernelCounter, number>;
};

/** One queue of a port: its counters, and those of its paths. docs/statistics.md explains each counter. */
export type QueueStatistics = Record<QueueCounter, number> & {
  /** Number of the queue, from 0. */
  readonly queue: number;
  /** The path that transmits now. */
  readonly owner: PathName;
  /** Counters of each path of the queue. */
  readonly paths: Record<PathKey, PathStatistics>;
};

/** The paths that a queue has counters for; 'host' is the machine's own stack. */
export type PathKey = Exclude<PathName, 'none'>;

/** A whole port: sums over its queues, in packets. */
export interface PortStatistics {
  /** Packets received from the network, on either path. */
  readonly received: number;
  /** Packets transmitted to the network on either path, as far as the paths reported it. */
  readonly transmitted: number;
  /** Packets given to the machine's own stack. */
  readonly passed: number;
  /** Packets received from the machine's own stack; 0 unless `host` is 'inline'. */
  readonly fromHost: number;
  /** Packets delivered to the application. */
  readonly delivered: number;
  /** Those of them that are copies of packets which went on, by {@link TEE}. */
  readonly teed: number;
  /** Copies of such packets that the application did not get: it does not read fast enough. The packets went on. */
  readonly teeFull: number;
  /** Packets forwarded to another port. */
  readonly forwarded: number;
  /** Those of them that were copied, because the other port has another memory. */
  readonly forwardedCopies: number;
  /** Packets that one worker handed to another, whose queue has the flow. */
  readonly handedOver: number;
  /** Packets that handlers made with `send()`. */
  readonly sent: number;
  /** Dropped packets, by reason. */
  readonly dropped: Record<DropReason, number>;
  /** Exceptions that handlers threw. */
  readonly handlerErrors: number;
  /** Messages that handlers could not send: the application had not read those before. Not packets. */
  readonly messagesRefused: number;
  /** Counters of each path, summed over the queues. */
  readonly paths: Record<PathKey, PathStatistics>;
  /** The queues, in their order. */
  readonly queues: readonly QueueStatistics[];
}

/** Reasons why a packet was dropped: the counter's name without its prefix. */
export const DROP_REASONS = {
  verdict: 'dropVerdict',
  handlerError: 'dropHandlerError',
  noPath: 'dropNoPath',
  txFull: 'dropTxFull',
  badLength: 'dropBadLength',
  tooLong: 'dropTooLong',
  stuck: 'dropStuck',
  workerDied: 'dropWorkerDied',
  handoffFull: 'dropHandoffFull',
  hostFull: 'dropHostFull',
  noHost: 'dropNoHost',
  deliverFull: 'dropDeliverFull',
  noPort: 'dropNoPort',
  noFrame: 'dropNoFrame',
  uncut: 'dropUncut',
  badOffload: 'dropBadOffload',
} as const satisfies Record<string, QueueCounter>;
export type DropReason = keyof typeof DROP_REASONS;

/**
 * Every packet that a port has lost, by reason: the port's own reasons, and with the path's name before it what was lost there.
 * Copies that the application had no room for, of packets that went on, are `teeFull`. docs/statistics.md describes each.
 */
export function losses({ dropped, teeFull, paths }: PortStatistics): Record<string, number> {
  const all: Record<string, number> = { ...dropped, teeFull };
  for (const [path, { kernel, txErrors, txUnknown, rxErrors, rxTooLong }] of Object.entries(paths)) {
    for (const [reason, packets] of Object.entries({ ...kernel, txErrors, txUnknown, rxErrors, rxTooLong }))
      all[`${path}.${reason}`] = packets;
  }
  return all;
}

export function portStatistics(memory: Memory, port: number): PortStatistics {
  const { queues } = memory.layout.geometry;
  const each = Array.from({ length: queues }, (_, queue) => queueStatistics(memory, port, queue));
  const sum = (value: (queue: QueueStatistics) => number): number =>
    each.reduce((all, one) => all + value(one), 0);
  const paths = Object.fromEntries(
    SLOT_PATHS.map((path) => {
      const name = PATH_NAMES[path] as PathKey;
      return [name, each.map((queue) => queue.paths[name]).reduce(add)];
    }),
  ) as Record<PathKey, PathStatistics>;
  const dropped = Object.fromEntries(
    Object.entries(DROP_REASONS).map(([reason, counter]) => [reason, sum((queue) => queue[counter])]),
  ) as Record<DropReason, number>;
  return {
    received: paths.synthetic.rxPackets + paths.vf.rxPackets,
    transmitted: paths.synthetic.txPackets + paths.vf.txPackets,
    passed: paths.host.txPackets,
    fromHost: paths.host.rxPackets,
    delivered: sum((queue) => queue.delivered),
    teed: sum((queue) => queue.teed),
    teeFull: sum((queue) => queue.teeFull),
    forwarded: sum((queue) => queue.forwarded),
    forwardedCopies: sum((queue) => queue.forwardedCopies),
    handedOver: sum((queue) => queue.handedOver),
    sent: sum((queue) => queue.sent),
    dropped,
    handlerErrors: sum((queue) => queue.handlerErrors),
    messagesRefused: sum((queue) => queue.messagesRefused),
    paths,
    queues: each,
  };
}

/**
 * What was counted between two results of the same port. The owner of a queue is the present one.
 *
 * @param before the earlier of the two
 */
export function statisticsSince(now: PortStatistics, before: PortStatistics): PortStatistics {
  return subtract(now, before) as PortStatistics;
}

/** Both have the same shape: a counter is a number, all else has counters in it. */
function subtract(now: unknown, before: unknown, name = ''): unknown {
  if (typeof now === 'number') return name === 'queue' ? now : now - (before as number); // that one is a name
  if (Array.isArray(now)) return now.map((one, i) => subtract(one, (before as unknown[])[i]));
  if (typeof now !== 'object' || now === null) return now;
  const earlier = before as Record<string, unknown>;
  return Object.fromEntries(
    Object.entries(now).map(([key, value]) => [key, subtract(value, earlier[key], key)]),
  );
}

function queueStatistics(memory: Memory, port: number, queue: number): QueueStatistics {
  const word = Atomics.load(memory.words, memory.queue(port, queue).at('ack'));
  const paths = Object.fromEntries(
    SLOT_PATHS.map((path) => [
      PATH_NAMES[path],
      {
        ...readCounters(memory, pathCounters(memory, port, queue, path)),
        kernel: readCounters(memory, kernelCounters(memory, port, queue, path)),
      },
    ]),
  ) as Record<PathKey, PathStatistics>;
  return {
    queue,
    owner: PATH_NAMES[ownerPath(word)],
    ...readCounters(memory, queueCounters(memory, port, queue)),
    paths,
  };
}

function add(a: PathStatistics, b: PathStatistics): PathStatistics {
  const { kernel: ka, ...pa } = a;
  const { kernel: kb, ...pb } = b;
  const plus = <Name extends string>(
    x: Record<Name, number>,
    y: Record<Name, number>,
  ): Record<Name, number> =>
    Object.fromEntries(Object.keys(x).map((name) => [name, x[name as Name] + y[name as Name]])) as Record<
      Name,
      number
    >;
  return { ...plus<PathCounter>(pa, pb), kernel: plus<KernelCounter>(ka, kb) };
}
