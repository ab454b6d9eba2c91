/**
 * What the server of the live page sends to it: the JSON of its two kinds of event. A browser compiles this file too, so it imports
 * nothing. Times are CLOCK_MONOTONIC, in nanoseconds, as everywhere; rates are per second.
 */

/** A path with counters; 'host' is the machine's own stack. */
export type PathKey = 'vf' | 'synthetic' | 'host';

/** Which path a queue transmits on. */
export type Owner = PathKey | 'none';

/** What a path carried: packets and bits in, packets and bits out. */
export type Flow = readonly [rxPackets: number, rxBits: number, txPackets: number, txBits: number];

/** What a port did between a sample and the one before it. */
export interface PortSample {
  readonly vf: Flow;
  readonly synthetic: Flow;
  readonly host: Flow;
  /** Packets, for all reasons together. */
  readonly dropped: number;
}

export interface Sample {
  /** Counts up from 1. */
  readonly sequence: number;
  readonly nanos: number;
  /** In the order of the ports. */
  readonly ports: readonly PortSample[];
}

/** One queue's change of path, as the journal has it. */
export interface QueueSwitch {
  /** Counts up from 1, over all ports of the page. */
  readonly number: number;
  /** Which of the page's ports. */
  readonly port: number;
  readonly queue: number;
  readonly from: Owner;
  readonly to: Owner;
  readonly reason: string;
  readonly detectedNanos: number;
  readonly orderedNanos: number;
  readonly beganNanos: number;
  readonly endedNanos: number;
  readonly drained: number;
  readonly rescued: number;
}

/** As `QueueRates` of control/rates.ts. */
export interface QueueState {
  readonly queue: number;
  readonly owner: string;
  readonly packets: number;
  readonly burst: number;
  readonly nanosPerPacket: number;
  readonly idle: number;
  readonly sleeps: number;
  readonly kicks: number;
  readonly handedOver: number;
}

/** An open path. */
export interface PathState {
  readonly device: string;
  readonly driver: string;
  readonly mode: string;
  /** Packets since the port was opened. */
  readonly rxPackets: number;
  readonly txPackets: number;
}

/** A reason why packets were dropped, which has occurred. */
export interface DropState {
  readonly reason: string;
  readonly rate: number;
  /** Since the port was opened. */
  readonly total: number;
}

/** A port as it is now. */
export interface PortState {
  readonly device: string;
  readonly mac: string;
  /** Its idle mode. */
  readonly mode: string;
  readonly linkUp: boolean;
  readonly speedMbps: number | null;
  readonly mtu: number | null;
  readonly paths: Readonly<Partial<Record<PathKey, PathState>>>;
  readonly queues: readonly QueueState[];
  readonly drops: readonly DropState[];
  /** Exceptions of the handler: a second, and since the port was opened. */
  readonly handlerErrors: { readonly rate: number; readonly total: number };
  /** What is wrong, in sentences without a full stop, as `/health` has it. */
  readonly problems: readonly string[];
}

/** Event `hello`: the first of each connection. */
export interface Hello {
  /** Version of the package. */
  readonly twinpath: string;
  readonly pid: number;
  /** Milliseconds since 1970 at which the server's CLOCK_MONOTONIC was 0. */
  readonly epochMillis: number;
  /** Between two samples. */
  readonly sampleMillis: number;
  /** How many samples, and how many switches, the server keeps: the page needs no more. */
  readonly keptSamples: number;
  readonly keptSwitches: number;
  /** What follows continues what this client already has: it came back in time. */
  readonly resumed: boolean;
}

/** Event `update`: all that is new since the last one of this connection. */
export interface Update {
  /** Oldest first. */
  readonly samples: readonly Sample[];
  readonly switches: readonly QueueSwitch[];
  /** As of the last sample, in the order of the ports. */
  readonly ports: readonly PortState[];
}
