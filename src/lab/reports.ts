/** What traffic and downloads report, while they run and at their end. Pure. Times are in nanoseconds of CLOCK_MONOTONIC. */

/** What became of numbered packets. */
export interface Tally {
  readonly sent: number;
  /** Distinct packets that came back. `sent = received + lost` when no packet is under way. */
  readonly received: number;
  /** Sent and not come back, so far. */
  readonly lost: number;
  /** Copies beyond the first. */
  readonly duplicated: number;
  /** First copies that arrived after a packet of the same flow with a higher number. */
  readonly reordered: number;
  /** Packets that were never sent by this run, or were damaged. */
  readonly unknown: number;
}

/** A range of send times; `from` is included, `to` is not. */
export interface Window {
  /** The cause of losses that the report's `windows` names. */
  readonly name: string;
  readonly from: number;
  readonly to: number;
}

/** The name of losses that no window explains. */
export const UNEXPLAINED = 'unexplained';

export interface TrafficProgress {
  readonly sent: number;
  /** Distinct packets that came back. */
  readonly received: number;
  /** Sent in the last second and not come back yet. */
  readonly outstanding: number;
  readonly icmpSent: number;
  readonly icmpReceived: number;
  /** The longest time without a UDP arrival so far. */
  readonly longestGapMicros: number;
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
  /** The longest times without a UDP arrival, longest first: when they began, and how long they were. */
  readonly gaps: readonly { readonly atNanos: number; readonly micros: number }[];
  /** Lost UDP packets by the window in which they were sent; outside all windows they are `unexplained`. */
  readonly windows: Readonly<Record<string, number>>;
  /** The same for ICMP. */
  readonly icmpWindows: Readonly<Record<string, number>>;
  /** Send times of lost UDP packets, ascending. */
  readonly lostAt: Float64Array;
  /** The same for ICMP. */
  readonly icmpLostAt: Float64Array;
  /** Times that the stack refused a packet: its queue was full, or the port is closed at the other end. */
  readonly refused: number;
}

/**
 * Attributes each loss to the first window that contains its send time.
 *
 * @returns counts by window name (windows with the same name add up), and always `unexplained`
 */
export function attribute(lostAt: Float64Array, windows: readonly Window[]): Record<string, number> {
  const counts: Record<string, number> = { [UNEXPLAINED]: 0 };
  for (const { name } of windows) counts[name] ??= 0;
  for (const at of lostAt) {
    const window = windows.find(({ from, to }) => at >= from && at < to);
    counts[window?.name ?? UNEXPLAINED]!++;
  }
  return counts;
}

export interface DownloadProgress {
  /** Payload that has arrived. */
  readonly bytes: number;
  readonly longestStallMillis: number;
}

/** What the sender of a download reports. */
export interface SenderEnd {
  readonly bytes: number;
  /** Segments that the sender's namespace retransmitted during the connection. */
  readonly retransmits: number;
  readonly connections: number;
  /** What broke the connection. */
  readonly error: string | undefined;
}

/** What the receiver of a download reports. */
export interface ReceiverEnd {
  readonly bytes: number;
  /** From the first byte until the last. */
  readonly nanos: number;
  /** The longest time between two arrivals of data, and when it began. */
  readonly longestStall: { readonly atNanos: number; readonly nanos: number };
  /** Position of the first wrong byte, -1 if all were right. */
  readonly wrongAt: number;
  /** Whether the stream ended with the sender's FIN. */
  readonly ended: boolean;
  readonly error: string | undefined;
}

export interface DownloadReport {
  /** Payload that arrived. */
  readonly bytes: number;
  /** Between its first and its last byte. */
  readonly seconds: number;
  readonly gbitPerSecond: number;
  /** The longest time between two arrivals of data at the receiver, and when it began. */
  readonly longestStallMillis: number;
  readonly longestStallAtNanos: number;
  /** Segments that the sender retransmitted. */
  readonly retransmits: number;
  /** There was one connection, it lasted until the sender ended it, and every byte was right. */
  readonly survived: boolean;
  /** Why it did not survive. */
  readonly failure: string | undefined;
}

export function downloadReport(sent: SenderEnd, received: ReceiverEnd): DownloadReport {
  const { bytes, nanos, longestStall } = received;
  const failure = failureOf(sent, received);
  return {
    bytes,
    seconds: nanos / 1e9,
    gbitPerSecond: nanos > 0 ? (bytes * 8) / nanos : 0,
    longestStallMillis: longestStall.nanos / 1e6,
    longestStallAtNanos: longestStall.atNanos,
    retransmits: sent.retransmits,
    survived: failure === undefined,
    failure,
  };
}

function failureOf(sent: SenderEnd, received: ReceiverEnd): string | undefined {
  const { bytes, wrongAt, ended } = received;
  if (wrongAt >= 0) return `byte ${wrongAt} was not the one that was sent`;
  const error = received.error ?? sent.error;
  if (error !== undefined) return error;
  if (sent.connections !== 1) return `there were ${sent.connections} connections`;
  if (!ended) return 'the stream broke off';
  if (bytes !== sent.bytes) return `${bytes} of ${sent.bytes} bytes arrived`;
  return bytes === 0 ? 'nothing arrived' : undefined;
}
