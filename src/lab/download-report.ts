/** What the two ends of a download have to say, and what it comes to. Pure. */

export interface SenderEnd {
  readonly bytes: number;
  /** Segments that the sender's namespace sent again while the connection lived. */
  readonly retransmits: number;
  readonly connections: number;
  /** What broke the connection, if something did. */
  readonly error: string | undefined;
}

export interface ReceiverEnd {
  readonly bytes: number;
  /** From the first byte until the last. */
  readonly nanos: number;
  /** Between two arrivals of data; when it began, CLOCK_MONOTONIC. */
  readonly longestStall: { readonly atNanos: number; readonly nanos: number };
  /** Position of the first byte that was not the sender's, -1 if all were right. */
  readonly wrongAt: number;
  /** Whether the sender ended the stream, in good order. */
  readonly ended: boolean;
  readonly error: string | undefined;
}

export interface DownloadReport {
  /** Payload that arrived. */
  readonly bytes: number;
  /** Between its first and its last byte. */
  readonly seconds: number;
  readonly gbitPerSecond: number;
  /** The longest time between two arrivals of data at the receiver; when it began, CLOCK_MONOTONIC. */
  readonly longestStallMillis: number;
  readonly longestStallAtNanos: number;
  /** Segments that the sender sent again. */
  readonly retransmits: number;
  /** The one connection lived until the sender ended it, and every byte was right. */
  readonly survived: boolean;
  /** Why it did not survive. */
  readonly failure: string | undefined;
}

export function downloadReport(sent: SenderEnd, received: ReceiverEnd): DownloadReport {
  const { bytes, nanos, longestStall } = received;
  const failure = failureOf(sent, received);
  return {
    ...{ bytes, seconds: nanos / 1e9, gbitPerSecond: nanos > 0 ? (bytes * 8) / nanos : 0 },
    longestStallMillis: longestStall.nanos / 1e6,
    longestStallAtNanos: longestStall.atNanos,
    retransmits: sent.retransmits,
    ...{ survived: failure === undefined, failure },
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
