/**
 * The owner's handle of the traffic thread: start it, watch it, stop it, read its report.
 *
 * Any thread may own one. Nothing here touches a packet, so the owner may be as slow as it likes.
 */
import type { Worker } from 'node:worker_threads';
import { TwinpathError } from '../errors.ts';
import type { Gap } from './arrivals.ts';
import type { MemorySenderOrder } from './memory-sender.ts';
import { Progress, type TrafficProgress } from './progress.ts';
import type { SenderAccount, SenderMessage, SenderOrder, TrafficOrder } from './sender.ts';
import { attribute, type Tally, type Window } from './sequence.ts';
import { startThread, told } from './thread.ts';
import { UDP_PAYLOAD_MIN } from './udp.ts';

export interface TrafficOptions {
  /** UDP flows, one source port each, 1 to 256. Default 8. */
  readonly flows?: number;
  /** UDP packets a second, of all flows. Default 20,000. */
  readonly rate?: number;
  /**
   * UDP packets that may be unanswered. Default 240: with the pings' share not more than the 256 that one
   * queue of a veth holds before it drops, so the network alone never loses one.
   */
  readonly window?: number;
  /**
   * How long an unanswered UDP packet fills its place in the window if no later one of its flow comes back, 1 to 600,000 ms.
   * Default 1000: of a guest that is slower than that, more wait than the window says.
   */
  readonly writeOffMillis?: number;
  /** UDP payload, 24 to 8972 bytes. Default 64. */
  readonly bytes?: number;
  /** UDP port of the echo. Default 7. */
  readonly port?: number;
  /** Source port of the first flow, the others follow. Default 0: the kernel chooses. */
  readonly firstPort?: number;
  /** ICMP echo requests a second, 0 for none. Default 100. */
  readonly icmpRate?: number;
}

export interface TrafficReport {
  /** From the first packet to the stop. */
  readonly seconds: number;
  /** UDP, all flows together. */
  readonly packets: Tally;
  /** ICMP echo requests. */
  readonly icmp: Tally;
  /** UDP, by flow. */
  readonly flows: readonly Tally[];
  /** UDP round trips, in microseconds; p50 and p99 at most 1/32 too high. */
  readonly latency: { readonly p50: number; readonly p99: number; readonly max: number };
  /** The longest stretches without a UDP arrival, longest first: when they began, and how long they were. */
  readonly gaps: readonly { readonly atNanos: number; readonly micros: number }[];
  /** Lost UDP packets by what happened when they were sent; what no window explains is `unexplained`. */
  readonly windows: Readonly<Record<string, number>>;
  /** The same of ICMP. */
  readonly icmpWindows: Readonly<Record<string, number>>;
  /** Send times of lost packets, ascending, in ns of CLOCK_MONOTONIC: for other questions than `windows` answers. */
  readonly lostAt: Float64Array;
  /** The same of ICMP. */
  readonly icmpLostAt: Float64Array;
  /** Packets that the stack did not take when offered: its queue was full, or nobody listens. */
  readonly refused: number;
}

export interface StopOptions {
  /** Stragglers are waited for until this long nothing has come. Default 2000. */
  readonly settleMillis?: number;
  /** What may explain losses, by when a lost packet was sent. Default: nothing. */
  readonly windows?: readonly Window[];
}

/** A thread that does not answer in this time beyond the settling is taken for dead. */
const STOP_MILLIS = 10_000;

/**
 * Numbered UDP packets and pings from outside, which the guest is to answer: a thread sends them and keeps the ledger of what
 * comes back. Any thread may own it; `await using` stops it.
 */
export class Traffic {
  readonly #worker: Worker;
  readonly #progress: Progress;
  readonly #ready: Promise<void>;
  readonly #account: Promise<SenderAccount>;
  #report: Promise<TrafficReport> | undefined;

  private constructor(worker: Worker, progress: Progress) {
    this.#worker = worker;
    this.#progress = progress;
    this.#ready = told<SenderMessage, 'ready'>(worker, 'ready').then(() => {});
    this.#account = told<SenderMessage, 'account'>(worker, 'account').then(({ account }) => account);
    // Nobody may be waiting when it fails; whoever stops it later meets the error all the same.
    this.#account.catch(() => {});
  }

  /**
   * Starts sending from the lab's outside host to a NIC of its guest. Resolves when sockets are open.
   *
   * @throws ERR_OPTION_INVALID, ERR_KERNEL, ERR_PERMISSION, ERR_WORKER
   */
  static async start(
    lab: { readonly outside: string },
    nic: { readonly guestAddress: string },
    options: TrafficOptions = {},
  ): Promise<Traffic> {
    const order = (progress: Progress): SenderOrder => ({
      ...trafficOrder(nic.guestAddress, options, progress),
      namespace: lab.outside,
    });
    return Traffic.#start('traffic', order);
  }

  /**
   * The same over the memory path: the thread is the switch and the outside host as well.
   *
   * @throws ERR_OPTION_INVALID, ERR_WORKER
   */
  static async startInMemory(
    network: Pick<MemorySenderOrder, 'shared' | 'guestMac' | 'dataPathSwitch'>,
    nic: { readonly guestAddress: string },
    options: TrafficOptions = {},
  ): Promise<Traffic> {
    const { shared, guestMac, dataPathSwitch } = network;
    const order = (progress: Progress): MemorySenderOrder => ({
      ...trafficOrder(nic.guestAddress, options, progress),
      ...{ shared, guestMac, dataPathSwitch: dataPathSwitch },
    });
    return Traffic.#start('memory-traffic', order);
  }

  static async #start(name: string, order: (progress: Progress) => TrafficOrder): Promise<Traffic> {
    const progress = new Progress();
    const traffic = new Traffic(startThread(name, order(progress)), progress);
    await traffic.#ready;
    return traffic;
  }

  /** Live, a few microseconds old; costs nothing to the traffic thread. */
  progress(): TrafficProgress {
    return this.#progress.read();
  }

  /**
   * Stops sending, waits for stragglers, reports. May be called again; the first call's report stands.
   *
   * @throws ERR_TIMEOUT, or what ended the thread
   */
  stop(options: StopOptions = {}): Promise<TrafficReport> {
    this.#report ??= this.#stop(options);
    return this.#report;
  }

  /** For `await using`: {@link stop} without waiting for stragglers. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop({ settleMillis: 0 }).catch(() => {});
  }

  async #stop({ settleMillis = 2000, windows = [] }: StopOptions): Promise<TrafficReport> {
    this.#progress.stop(settleMillis);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(new TwinpathError('ERR_TIMEOUT', { detail: 'the traffic thread did not stop' }));
      }, STOP_MILLIS + settleMillis);
    });
    try {
      return report(await Promise.race([this.#account, late]), windows);
    } finally {
      clearTimeout(timer);
      await this.#worker.terminate();
    }
  }
}

function report(account: SenderAccount, windows: readonly Window[]): TrafficReport {
  const { startedAt, stoppedAt, packets, icmp, flows, latency, gaps, lostAt, icmpLostAt, refused } = account;
  return {
    ...{ packets, icmp, flows, lostAt, icmpLostAt, refused },
    seconds: (stoppedAt - startedAt) / 1e9,
    latency: { p50: latency.p50 / 1000, p99: latency.p99 / 1000, max: latency.max / 1000 },
    gaps: gaps.map(({ atNanos, nanos }: Gap) => ({ atNanos, micros: nanos / 1000 })),
    windows: attribute(lostAt, windows),
    icmpWindows: attribute(icmpLostAt, windows),
  };
}

function trafficOrder(address: string, options: TrafficOptions, progress: Progress): TrafficOrder {
  const { flows = 8, rate = 20_000, window = 240, writeOffMillis = 1000, bytes = 64 } = options;
  const { port = 7, firstPort = 0, icmpRate = 100 } = options;
  inRange({ flows }, 1, 256);
  inRange({ rate }, 1, 10_000_000);
  inRange({ window }, 1, 1_000_000);
  inRange({ writeOffMillis }, 1, 600_000);
  inRange({ bytes }, UDP_PAYLOAD_MIN, 8972);
  inRange({ port }, 1, 65_535);
  inRange({ firstPort }, 0, 65_536 - flows);
  inRange({ icmpRate }, 0, 10_000);
  const udp = { address, port, flows, bytes, firstPort };
  return { udp, rate, window, writeOffMillis, icmpRate, progress: progress.buffer };
}

function inRange(option: Readonly<Record<string, number>>, least: number, most: number): void {
  for (const [name, value] of Object.entries(option)) {
    if (Number.isInteger(value) && value >= least && value <= most) continue;
    const detail = `it takes a whole number from ${least} to ${most}, not ${value}`;
    throw new TwinpathError('ERR_OPTION_INVALID', { device: name, detail });
  }
}
