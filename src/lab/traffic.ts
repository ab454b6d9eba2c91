/**
 * Numbered UDP packets and pings from outside, which the guest is to answer.
 *
 * A Traffic is the owner's handle of the thread that sends them and records what comes back. Any thread may own one; its
 * speed does not matter.
 */
import type { Worker } from 'node:worker_threads';
import { TwinpathError } from '../errors.ts';
import type { MemorySenderConfig } from './memory-outside.ts';
import { attribute, type TrafficProgress, type TrafficReport, type Window } from './reports.ts';
import {
  Progress,
  type SenderConfig,
  type SenderMessage,
  type SenderResult,
  type TrafficConfig,
} from './sender.ts';
import { firstMessage, startThread, within } from './threads.ts';
import { UDP_PAYLOAD_MIN } from './udp.ts';

export interface TrafficOptions {
  /** UDP flows, one source port each, 1 to 256. Default 8. */
  readonly flows?: number;
  /** UDP packets a second, of all flows. Default 20,000. */
  readonly rate?: number;
  /**
   * UDP packets that may be outstanding. Default 240: with the pings at most 256, the capacity of one queue of a veth, so
   * that the network alone never drops one.
   */
  readonly window?: number;
  /**
   * How long a UDP packet is outstanding if no later one of its flow comes back, 1 to 600,000 ms. Default 1000. For a guest
   * that is slower than that, more packets than `window` are under way.
   */
  readonly writeOffMillis?: number;
  /** UDP payload, 24 to 8972 bytes. Default 64. */
  readonly bytes?: number;
  /** UDP port of the echo. Default 7. */
  readonly port?: number;
  /** Source port of the first flow; the next flows have the next ports. Default 0: the kernel chooses. */
  readonly firstPort?: number;
  /** ICMP echo requests a second, 0 for none. Default 100. */
  readonly icmpRate?: number;
}

export interface StopOptions {
  /** Waits for stragglers until none has arrived for so long. Default 2000. */
  readonly settleMillis?: number;
  /** Causes of losses, by when a lost packet was sent. Default: none. */
  readonly windows?: readonly Window[];
}

/** A thread that has not answered so long after the settling time counts as dead. */
const STOP_MILLIS = 10_000;

/** Traffic that a thread sends to the guest, from {@link Traffic.start} to {@link Traffic.stop}. `await using` stops it. */
export class Traffic {
  readonly #worker: Worker;
  readonly #progress: Progress;
  readonly #ready: Promise<void>;
  readonly #result: Promise<SenderResult>;
  #report: Promise<TrafficReport> | undefined;

  private constructor(worker: Worker, progress: Progress) {
    this.#worker = worker;
    this.#progress = progress;
    this.#ready = firstMessage<SenderMessage, 'ready'>(worker, 'ready').then(() => {});
    this.#result = firstMessage<SenderMessage, 'result'>(worker, 'result').then(({ result }) => result);
    // It may fail while no caller waits. `stop` rejects with the error anyway.
    this.#result.catch(() => {});
  }

  /**
   * Starts sending from the lab's outside host to a NIC of its guest. Resolves when the sockets are open.
   *
   * @throws ERR_OPTION_INVALID, ERR_KERNEL, ERR_PERMISSION, ERR_WORKER
   */
  static async start(
    lab: { readonly outside: string },
    nic: { readonly guestAddress: string },
    options: TrafficOptions = {},
  ): Promise<Traffic> {
    const config = (progress: Progress): SenderConfig => ({
      ...trafficConfig(nic.guestAddress, options, progress),
      namespace: lab.outside,
    });
    return Traffic.#start('traffic', config);
  }

  /**
   * The same over the memory path. The thread is also the switch and the outside host.
   *
   * @throws ERR_OPTION_INVALID, ERR_WORKER
   */
  static async startInMemory(
    network: Pick<MemorySenderConfig, 'shared' | 'guestMac' | 'dataPathSwitch'>,
    nic: { readonly guestAddress: string },
    options: TrafficOptions = {},
  ): Promise<Traffic> {
    const { shared, guestMac, dataPathSwitch } = network;
    const config = (progress: Progress): MemorySenderConfig => ({
      ...trafficConfig(nic.guestAddress, options, progress),
      shared,
      guestMac,
      dataPathSwitch,
    });
    return Traffic.#start('memory-traffic', config);
  }

  static async #start(name: string, config: (progress: Progress) => TrafficConfig): Promise<Traffic> {
    const progress = new Progress();
    const traffic = new Traffic(startThread(name, config(progress)), progress);
    await traffic.#ready;
    return traffic;
  }

  /** A few microseconds old; costs the traffic thread nothing. */
  progress(): TrafficProgress {
    return this.#progress.read();
  }

  /**
   * Stops sending, waits for stragglers, and reports. Further calls return the same report.
   *
   * @throws ERR_TIMEOUT, or the error that ended the thread
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
    try {
      const result = await within(STOP_MILLIS + settleMillis, 'report of the traffic thread', this.#result);
      return report(result, windows);
    } finally {
      await this.#worker.terminate();
    }
  }
}

function report(result: SenderResult, windows: readonly Window[]): TrafficReport {
  const { startedAt, stoppedAt, packets, icmp, flows, latency, gaps, lostAt, icmpLostAt, refused } = result;
  return {
    seconds: (stoppedAt - startedAt) / 1e9,
    packets,
    icmp,
    flows,
    latency: { p50: latency.p50 / 1000, p99: latency.p99 / 1000, max: latency.max / 1000 },
    gaps: gaps.map(({ atNanos, nanos }) => ({ atNanos, micros: nanos / 1000 })),
    windows: attribute(lostAt, windows),
    icmpWindows: attribute(icmpLostAt, windows),
    lostAt,
    icmpLostAt,
    refused,
  };
}

function trafficConfig(address: string, options: TrafficOptions, progress: Progress): TrafficConfig {
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
