/** What a port did between two samples of its counters, per second. Pure. */

import { losses, statisticsSince } from '../statistics.ts';
import type { StatisticsSample } from './protocol.ts';

/** Packets and bits a second, each way. */
export interface Flow {
  readonly rxPackets: number;
  readonly rxBits: number;
  readonly txPackets: number;
  readonly txBits: number;
}

export interface QueueRates {
  readonly queue: number;
  readonly owner: string;
  /** Packets that it received from any path and from other workers. */
  readonly packets: number;
  /** Mean packets of a call of the handler; 0 without a call. */
  readonly burst: number;
  /** CPU time of its worker for each packet, with what the worker does meanwhile; 0 without packets. */
  readonly nanosPerPacket: number;
  /** Share of the time in which the worker used no CPU. */
  readonly idle: number;
  readonly sleeps: number;
  readonly kicks: number;
  readonly handedOver: number;
}

export interface PortRates {
  readonly paths: Readonly<Record<'vf' | 'synthetic' | 'host', Flow>>;
  readonly queues: readonly QueueRates[];
  /** Dropped packets by reason, those of the kernel too; without reasons that did not occur. */
  readonly drops: Readonly<Record<string, number>>;
  readonly handlerErrors: number;
}

const PATHS = ['vf', 'synthetic', 'host'] as const;

/** @param port number of the port in the samples */
export function ratesBetween(before: StatisticsSample, now: StatisticsSample, port: number): PortRates {
  const nanos = Math.max(1, now.nanos - before.nanos);
  const change = statisticsSince(now.ports[port]!, before.ports[port]!);
  const each = (packets: number): number => (packets / nanos) * 1e9;
  const flow = (path: (typeof PATHS)[number]): Flow => {
    const { rxPackets, rxBytes, txPosted, txBytes } = change.paths[path];
    return {
      rxPackets: each(rxPackets),
      rxBits: each(8 * rxBytes),
      txPackets: each(txPosted),
      txBits: each(8 * txBytes),
    };
  };
  const lost = Object.entries(losses(change)).filter(([, packets]) => packets > 0);
  const drops = Object.fromEntries(lost.map(([reason, packets]) => [reason, each(packets)]));
  return {
    paths: { vf: flow('vf'), synthetic: flow('synthetic'), host: flow('host') },
    queues: change.queues.map((queue) => {
      const packets = PATHS.reduce((all, path) => all + queue.paths[path].rxPackets, queue.takenOver);
      const kicks = PATHS.reduce((all, path) => all + queue.paths[path].kicks, 0);
      const cpu = Math.max(0, now.cpuNanos[queue.queue]! - before.cpuNanos[queue.queue]!);
      return {
        queue: queue.queue,
        owner: queue.owner,
        packets: each(packets),
        burst: queue.bursts === 0 ? 0 : (packets - queue.handedOver) / queue.bursts,
        nanosPerPacket: packets === 0 ? 0 : cpu / packets,
        idle: Math.max(0, 1 - cpu / nanos),
        sleeps: each(queue.sleeps),
        kicks: each(kicks),
        handedOver: each(queue.handedOver),
      };
    }),
    drops,
    handlerErrors: each(change.handlerErrors),
  };
}

/** A number for people: three digits and a unit of thousands. */
export function short(value: number): string {
  for (const [unit, size] of [
    ['G', 1e9],
    ['M', 1e6],
    ['k', 1e3],
  ] as const) {
    // What rounds to a thousand of a unit is one of the next.
    if (value >= 0.9995 * size) return `${(value / size).toPrecision(3)} ${unit}`;
  }
  return value >= 99.5 || Number.isInteger(value) ? value.toFixed(0) : value.toPrecision(2);
}

/** The rates of a port in one line, for people. */
export function rateLine({ paths, queues, drops }: PortRates): string {
  const owners = [...new Set(queues.map(({ owner }) => owner))].join(' and ');
  const sum = (of: 'rxPackets' | 'txPackets'): number => paths.vf[of] + paths.synthetic[of];
  const dropped = Object.values(drops).reduce((all, packets) => all + packets, 0);
  return `${owners.padEnd(9)} ${short(sum('rxPackets')).padStart(8)} packets/s in, ${short(sum('txPackets')).padStart(8)} out, ${short(dropped)} dropped`;
}
