/**
 * The traffic thread: sends numbered UDP and ICMP from the outside host's kernel stack to the guest.
 *
 * It sleeps in poll(2) while rate or window forbid sending, because the port under test needs the CPUs. It runs until its
 * owner sets the stop word, then waits for stragglers and posts one result.
 */
import { inNamespace } from '../kernel/namespace.ts';
import { loadShim } from '../kernel/shim.ts';
import { nowNanos } from '../memory/shared.ts';
import { Generator, type Wire } from './generator.ts';
import { IcmpWire } from './icmp.ts';
import type { Gap } from './measurement.ts';
import type { Tally, TrafficProgress } from './reports.ts';
import { type UdpOptions, UdpWire } from './udp.ts';

const ICMP_WINDOW = 16;
/** How often the thread reads the stop word if nothing else wakes it. */
const MAX_WAIT_MILLIS = 20;

const FIELDS = ['sent', 'received', 'outstanding', 'icmpSent', 'icmpReceived', 'longestGapMicros'] as const;
const STOP = 0;
const SETTLE = 1;
/** Control words and counts are on different cache lines. */
const COUNTS_OFFSET = 64;
const BYTES = COUNTS_OFFSET + FIELDS.length * 8;

/** What to send. */
export interface TrafficConfig {
  readonly udp: UdpOptions;
  readonly rate: number;
  readonly window: number;
  readonly writeOffMillis: number;
  /** ICMP echo requests a second; 0 for none. */
  readonly icmpRate: number;
  /** {@link Progress.buffer} */
  readonly progress: SharedArrayBuffer;
}

/** The thread's `workerData`. */
export interface SenderConfig extends TrafficConfig {
  readonly namespace: string;
}

/** Times are in nanoseconds of CLOCK_MONOTONIC. */
export interface SenderResult {
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
  | { readonly kind: 'result'; readonly result: SenderResult };

/**
 * The words that the traffic thread shares with its owner: counts to the owner, the stop word to the thread. Counts are
 * plain, may be a few microseconds old, and have one writer. Messages would not do: the traffic thread does not return to
 * its event loop while it runs.
 */
export class Progress {
  readonly buffer: SharedArrayBuffer;
  readonly #control: Int32Array;
  readonly #counts: Float64Array;

  constructor(buffer = new SharedArrayBuffer(BYTES)) {
    this.buffer = buffer;
    this.#control = new Int32Array(buffer, 0, 2);
    this.#counts = new Float64Array(buffer, COUNTS_OFFSET, FIELDS.length);
  }

  write(progress: TrafficProgress): void {
    for (let i = 0; i < FIELDS.length; i++) this.#counts[i] = progress[FIELDS[i]!];
  }

  read(): TrafficProgress {
    const [sent, received, outstanding, icmpSent, icmpReceived, longestGapMicros] = this.#counts;
    return {
      sent: sent!,
      received: received!,
      outstanding: outstanding!,
      icmpSent: icmpSent!,
      icmpReceived: icmpReceived!,
      longestGapMicros: longestGapMicros!,
    };
  }

  stop(settleMillis: number): void {
    Atomics.store(this.#control, SETTLE, settleMillis);
    Atomics.store(this.#control, STOP, 1);
  }

  /** How long to wait for stragglers, or -1 before {@link stop}. */
  stopping(): number {
    return Atomics.load(this.#control, STOP) === 0 ? -1 : Atomics.load(this.#control, SETTLE);
  }
}

export function send(config: SenderConfig, post: (message: SenderMessage) => void): void {
  const shim = loadShim();
  shim.threadName('tp-traffic');
  const { icmp, udp } = inNamespace(shim, config.namespace, () => {
    const icmp = new IcmpWire(shim, config.udp.address);
    return { icmp, udp: new UdpWire(shim, config.udp, [icmp.fd]) };
  });
  const messages: SenderMessage[] = [];
  try {
    generate({ udp, icmp }, config, (message) => {
      if (message.kind === 'result') messages.push(message);
      else post(message);
    });
  } finally {
    udp.close();
    icmp.close();
  }
  // The result last: its receiver terminates this thread, and the sockets must be closed before.
  for (const message of messages) post(message);
}

/** Runs the thread over two wires. `udp.wait` wakes for packets of both. */
export function generate(
  { udp, icmp }: { readonly udp: Wire & { readonly refused: number }; readonly icmp: Wire },
  config: TrafficConfig,
  post: (message: SenderMessage) => void,
): void {
  const { rate, window, writeOffMillis, icmpRate } = config;
  const pace = { flows: config.udp.flows, rate, window, writeOffMillis };
  const packets = new Generator(udp, pace, nowNanos);
  const pings = new Generator(icmp, { flows: 1, rate: icmpRate, window: ICMP_WINDOW }, nowNanos);
  const progress = new Progress(config.progress);
  const publish = (): void => {
    progress.write({
      sent: packets.ledger.sentTotal,
      received: packets.ledger.receivedTotal,
      outstanding: packets.outstanding,
      icmpSent: pings.ledger.sentTotal,
      icmpReceived: pings.ledger.receivedTotal,
      longestGapMicros: (packets.gaps.longest[0]?.nanos ?? 0) / 1000,
    });
  };

  const startedAt = nowNanos();
  post({ kind: 'ready' });
  while (progress.stopping() < 0) {
    packets.receive();
    pings.receive();
    packets.send();
    if (icmpRate > 0) pings.send();
    publish();
    udp.wait(Math.min(packets.pauseMillis(), pings.pauseMillis(), MAX_WAIT_MILLIS));
  }
  const stoppedAt = nowNanos();
  packets.receive();
  packets.gaps.arrived(stoppedAt);
  const gaps = [...packets.gaps.longest]; // gaps after the stop do not count
  settle(progress.stopping(), [packets, pings], udp, publish);

  const { latency, ledger } = packets;
  post({
    kind: 'result',
    result: {
      startedAt,
      stoppedAt,
      packets: ledger.tally(),
      flows: Array.from({ length: config.udp.flows }, (_, flow) => ledger.tally(flow)),
      icmp: pings.ledger.tally(),
      lostAt: ledger.lostAt(),
      icmpLostAt: pings.ledger.lostAt(),
      gaps,
      refused: udp.refused,
      latency: { p50: latency.quantile(0.5), p99: latency.quantile(0.99), max: latency.max },
    },
  });
}

/** Returns when all packets have come back, or when none has come back for so long. */
function settle(millis: number, generators: readonly Generator[], udp: Wire, publish: () => void): void {
  let quietSince = nowNanos();
  while (generators.some(({ ledger }) => ledger.receivedTotal < ledger.sentTotal)) {
    udp.wait(Math.min(millis, MAX_WAIT_MILLIS));
    let progressed = 0;
    for (const generator of generators) progressed += generator.receive();
    publish();
    const now = nowNanos();
    if (progressed > 0) quietSince = now;
    else if (now - quietSince >= millis * 1e6) return;
  }
}
