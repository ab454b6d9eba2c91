/**
 * The traffic thread: the outside host's own kernel stack sends numbered UDP and ICMP to the guest.
 *
 * Sleeps in poll(2) whenever rate or window forbid to send: the port under test needs the cores more.
 * Runs until the owner's stop word is set, then waits for stragglers and reports once.
 */
import { inNamespace } from '../kernel/namespace.ts';
import { loadShim } from '../kernel/shim.ts';
import type { Gap } from './arrivals.ts';
import { monotonicNanos } from './clock.ts';
import { Generator } from './generator.ts';
import { IcmpWire } from './icmp.ts';
import { Progress } from './progress.ts';
import type { Tally } from './sequence.ts';
import { type UdpOptions, UdpWire } from './udp.ts';
import type { Wire } from './wire.ts';

/** What is to be sent, and where progress is told. */
export interface TrafficOrder {
  readonly udp: UdpOptions;
  readonly rate: number;
  readonly window: number;
  readonly writeOffMillis: number;
  /** ICMP echo requests a second; 0 for none. */
  readonly icmpRate: number;
  readonly progress: SharedArrayBuffer;
}

/** What the thread is started with. */
export interface SenderOrder extends TrafficOrder {
  readonly namespace: string;
}

/** What it answers with, all times in nanoseconds of CLOCK_MONOTONIC. */
export interface SenderAccount {
  readonly startedAt: number;
  readonly stoppedAt: number;
  readonly packets: Tally;
  readonly flows: Tally[];
  readonly icmp: Tally;
  readonly lostAt: Float64Array;
  readonly icmpLostAt: Float64Array;
  readonly gaps: readonly Gap[];
  readonly latency: { readonly p50: number; readonly p99: number; readonly max: number };
  readonly refused: number;
}

export type SenderMessage =
  | { readonly kind: 'ready' }
  | { readonly kind: 'account'; readonly account: SenderAccount };

const ICMP_WINDOW = 16;
/** The stop word is looked at this often when nothing else wakes the thread. */
const MAX_WAIT_MILLIS = 20;

export function send(order: SenderOrder, tell: (message: SenderMessage) => void): void {
  const shim = loadShim();
  shim.threadName('tp-traffic');
  const { icmp, udp } = inNamespace(shim, order.namespace, () => {
    const icmp = new IcmpWire(shim, order.udp.address);
    return { icmp, udp: new UdpWire(shim, order.udp, [icmp.fd]) };
  });
  const messages: SenderMessage[] = [];
  try {
    generate({ udp, icmp }, order, (message) => {
      if (message.kind === 'account') messages.push(message);
      else tell(message);
    });
  } finally {
    udp.close();
    icmp.close();
  }
  // The account last: whoever reads it ends this thread, and what is open then stays open.
  for (const message of messages) tell(message);
}

/** The thread's whole life over two wires; waiting is the UDP wire's, which wakes for both. */
export function generate(
  { udp, icmp }: { readonly udp: Wire & { readonly refused: number }; readonly icmp: Wire },
  order: TrafficOrder,
  tell: (message: SenderMessage) => void,
): void {
  const { rate, window, writeOffMillis, icmpRate } = order;
  const pace = { flows: order.udp.flows, rate, window, writeOffMillis };
  const packets = new Generator(udp, pace, monotonicNanos);
  const pings = new Generator(icmp, { flows: 1, rate: icmpRate, window: ICMP_WINDOW }, monotonicNanos);
  const progress = new Progress(order.progress);
  const publish = (): void => {
    progress.write({
      ...{ sent: packets.ledger.sentTotal, received: packets.ledger.receivedTotal },
      ...{ icmpSent: pings.ledger.sentTotal, icmpReceived: pings.ledger.receivedTotal },
      ...{
        outstanding: packets.outstanding,
        longestGapMicros: (packets.gaps.longest[0]?.nanos ?? 0) / 1000,
      },
    });
  };

  const startedAt = monotonicNanos();
  tell({ kind: 'ready' });
  while (progress.stopping() < 0) {
    packets.receive();
    pings.receive();
    packets.send();
    if (icmpRate > 0) pings.send();
    publish();
    udp.wait(Math.min(packets.pauseMillis(), pings.pauseMillis(), MAX_WAIT_MILLIS));
  }
  const stoppedAt = monotonicNanos();
  packets.receive();
  packets.gaps.arrived(stoppedAt);
  const gaps = [...packets.gaps.longest]; // what comes while nothing is sent any more is no gap
  settle(progress.stopping(), [packets, pings], udp, publish);

  const { latency, ledger } = packets;
  tell({
    kind: 'account',
    account: {
      ...{ startedAt, stoppedAt, gaps, refused: udp.refused },
      ...{ packets: ledger.tally(), icmp: pings.ledger.tally() },
      flows: Array.from({ length: order.udp.flows }, (_, flow) => ledger.tally(flow)),
      ...{ lostAt: ledger.lostAt(), icmpLostAt: pings.ledger.lostAt() },
      latency: { p50: latency.quantile(0.5), p99: latency.quantile(0.99), max: latency.max },
    },
  });
}

/** Until everything is back, or nothing has come for so long. */
function settle(millis: number, generators: readonly Generator[], udp: Wire, publish: () => void): void {
  let quietSince = monotonicNanos();
  while (generators.some(({ ledger }) => ledger.receivedTotal < ledger.sentTotal)) {
    udp.wait(Math.min(millis, MAX_WAIT_MILLIS));
    let progressed = 0;
    for (const generator of generators) progressed += generator.receive();
    publish();
    const now = monotonicNanos();
    if (progressed > 0) quietSince = now;
    else if (now - quietSince >= millis * 1e6) return;
  }
}
