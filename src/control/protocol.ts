/**
 * The protocol of a control socket: one JSON document per line, in both directions, over a stream socket of the Unix domain.
 * docs/control.md describes it for people.
 *
 * The server speaks first: a {@link Hello}. Then a client sends requests, each with an `id` of its choice, and gets one answer
 * to each, in their order. A request `watch` also gets samples, with its `id`, until the client closes the connection. All of
 * this is stable within a version; fields and requests may be added.
 */
import type { ConfigurationChange, PortConfiguration } from '../configuration.ts';
import type { LinkState } from '../kernel/device-information.ts';
import type { OpenPaths } from '../port-events.ts';
import type { PortStatistics } from '../statistics.ts';

/** Version of the protocol. */
export const PROTOCOL = 1;

/** The default of `snapLength`, and its most. */
export const SNAP_LENGTH = 262_144;

/** Bytes of the longest line: a list of 10,000 rules fits. */
export const MAX_LINE = 1 << 20;

/** The server's first line. */
export interface Hello {
  /** Version of the package. */
  readonly twinpath: string;
  readonly protocol: typeof PROTOCOL;
  /** The process that holds the ports. */
  readonly pid: number;
}

/** Everything that can be asked. `port` is a port's number, from 0. */
export type Request =
  /** Answered by a {@link PortRow} of each port. */
  | { readonly request: 'ports' }
  /** Answered by a {@link StatisticsSample}. */
  | { readonly request: 'stats' }
  /** Answered by the changes of path from that sequence number on, as `port.failovers()`. */
  | { readonly request: 'failovers'; readonly since?: number }
  /** Answered as `port.information()`. */
  | { readonly request: 'information'; readonly port: number }
  /** Answered as `port.extendedStats()`; its history begins with the first such request. */
  | { readonly request: 'extended'; readonly port: number }
  /** Answered as `port.rules.counters()`, or null without rules. */
  | { readonly request: 'rules'; readonly port: number }
  /** Answered by the configuration then, as `port.configure()`. */
  | { readonly request: 'configure'; readonly port: number; readonly change: ConfigurationChange }
  /** Changes options of the port's handler. Answered by null once all workers have them, as `port.setHandlerOptions()`. */
  | {
      readonly request: 'configureHandler';
      readonly port: number;
      readonly change: Readonly<Record<string, unknown>>;
    }
  /** A {@link StatisticsSample} at once, and again every so many milliseconds, 100 to 3600000. */
  | { readonly request: 'watch'; readonly millis: number }
  /**
   * Copies of the packets that the filter takes. Answered by null; behind that line the connection carries a pcapng file, until
   * the client sends another byte, the ports close, or the connection ends.
   */
  | {
      readonly request: 'capture';
      readonly port: number;
      /** In the language of pcap-filter(7), of which docs/capture.md has the part that is taken. Default: all packets. */
      readonly filter?: string;
      /** The most bytes of each packet, 1 to 262144, which is the default. */
      readonly snapLength?: number;
    }
  /** Closes the ports of the socket. Answered by null when that begins. */
  | { readonly request: 'stop' };

export type RequestName = Request['request'];

/** The answer to a request: one of the two. */
export interface Answer {
  /** That of the request; null if it had none. */
  readonly id: unknown;
  readonly result?: unknown;
  readonly error?: { readonly code: string; readonly message: string };
}

/** A port, for `ports`. */
export interface PortRow {
  readonly port: number;
  /** Name of the NetVSC when the port was opened. */
  readonly device: string;
  readonly mac: string;
  /** Network namespace, as the option `netns`; null: the process's. */
  readonly netns: string | null;
  readonly handler: string;
  readonly queues: number;
  readonly mode: string;
  readonly paths: OpenPaths;
  readonly link: LinkState;
  readonly configuration: PortConfiguration;
}

/** The counters of all ports of a socket at one time. */
export interface StatisticsSample {
  /** CLOCK_MONOTONIC, in nanoseconds. */
  readonly nanos: number;
  /** In the order of their numbers. */
  readonly ports: readonly PortStatistics[];
  /** By queue: nanoseconds of CPU time of its worker's thread. It is of all ports together, and begins at 0 with another worker. */
  readonly cpuNanos: readonly number[];
  /** Samples of this watch that were left out because the client had not read the last one. */
  readonly missed?: number;
}

/** Parts of a line that are kept before they are put together. */
const MAX_PARTS = 64;

/** Cuts a stream of bytes into lines. */
export class LineReader {
  #chunks: Buffer[] = [];
  #bytes = 0;

  /** Adds bytes that have arrived. Returns the whole lines. @throws RangeError if a line is longer than {@link MAX_LINE} */
  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let from = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
      this.#keep(chunk.subarray(from, end));
      lines.push(Buffer.concat(this.#chunks).toString('utf8'));
      this.#chunks = [];
      this.#bytes = 0;
      from = end + 1;
    }
    this.#keep(chunk.subarray(from));
    return lines;
  }

  #keep(part: Buffer): void {
    this.#bytes += part.length;
    if (this.#bytes > MAX_LINE) throw new RangeError(`a line is longer than ${MAX_LINE} bytes`);
    if (part.length > 0) this.#chunks.push(part);
    // A client may write byte by byte, and each part costs hundreds.
    if (this.#chunks.length > MAX_PARTS) this.#chunks = [Buffer.concat(this.#chunks)];
  }
}
