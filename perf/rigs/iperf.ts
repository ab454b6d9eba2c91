/** One TCP stream of iperf3 between two namespaces, and how steadily it arrived. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../../src/lab/wait.ts';
import { missing, Peer } from '../peers/program.ts';

export interface Stream {
  readonly gigabits: number;
  readonly retransmissions: number;
  /** The longest time without a segment at the receiver's kernel, in ms; as fine as {@link LOOK_MILLIS}. */
  readonly stallMillis: number;
  /** Gbit/s of each tenth of a second, as the receiver saw it. */
  readonly tenths: readonly number[];
}

export interface StreamRequest {
  /** Names of namespaces. */
  readonly from: string;
  readonly to: string;
  /** Of the receiver. */
  readonly address: string;
  /** iperf3 takes whole ones: this is rounded, to 1 at least. */
  readonly seconds: number;
  /** Called when bytes flow; its end is not waited for. */
  readonly onFlow?: (() => void) | undefined;
}

/** The parts of iperf3's JSON that are used. */
export interface Report {
  readonly error?: string;
  readonly intervals: readonly { readonly sum: { readonly bits_per_second: number } }[];
  readonly end: {
    readonly sum_sent: { readonly retransmits?: number };
    readonly sum_received: { readonly bits_per_second: number };
  };
}

const LOOK_MILLIS = 2;
/** Segments of the control connection are not yet a stream. */
const FLOWING_SEGMENTS = 100;
const LISTEN_MILLIS = 5000;

/** @throws Error with iperf3's complaint, or saying how to install it when it is missing */
export async function stream({ from, to, address, seconds, onFlow }: StreamRequest): Promise<Stream> {
  if (spawnSync('iperf3', ['--version']).error !== undefined) throw missing('iperf3');
  const iperf = (namespace: string, ...args: (string | number)[]): Peer =>
    Peer.inNamespace(namespace, 'iperf3', ...args, '--json', '--interval', 0.1);
  const server = iperf(to, '--server', '--one-off');
  const folder = `/proc/${server.child.pid}/net`; // of the network namespace that process is in
  await until('iperf3 server that listens', LISTEN_MILLIS, () => isListening(folder));
  const client = iperf(from, '--client', address, '--time', Math.max(1, Math.round(seconds)));
  const stallMillis = await watch(`${folder}/snmp`, client, onFlow);
  await Promise.all([server.closed, client.closed]);
  return { ...figures(parse(server.printed), parse(client.printed)), stallMillis };
}

/** Figures from the reports of a stream's server and client. */
export function figures(received: Report, sent: Report): Omit<Stream, 'stallMillis'> {
  return {
    gigabits: received.end.sum_received.bits_per_second / 1e9,
    retransmissions: sent.end.sum_sent.retransmits ?? 0,
    tenths: received.intervals.map(({ sum }) => sum.bits_per_second / 1e9),
  };
}

/** @throws Error with iperf3's complaint */
export function parse(text: string): Report {
  let report: Report;
  try {
    report = JSON.parse(text);
  } catch {
    throw new Error(`iperf3 printed no report: ${JSON.stringify(text.slice(0, 200))}`);
  }
  if (report.error !== undefined) throw new Error(`iperf3: ${report.error}`);
  return report;
}

/** Whether the server's socket is there: port 5201 in the namespace's table, state 0A. */
const isListening = (folder: string): boolean =>
  ['tcp', 'tcp6'].some((table) => /:1451 \S+ 0A/.test(readFileSync(`${folder}/${table}`, 'latin1')));

/** Watches the receiver's segment counter until the sender has ended. Returns the longest standstill in ms. */
async function watch(snmp: string, client: Peer, onFlow?: () => void): Promise<number> {
  const first = segments(snmp);
  let last = first;
  let changedAt = 0;
  let longest = 0;
  while (client.running) {
    await sleep(LOOK_MILLIS);
    const now = segments(snmp);
    if (now === last) continue;
    const at = performance.now();
    if (last - first >= FLOWING_SEGMENTS) longest = Math.max(longest, at - changedAt);
    else if (now - first >= FLOWING_SEGMENTS) onFlow?.();
    last = now;
    changedAt = at;
  }
  return longest;
}

/** Tcp: InSegs, the tenth value of its line. */
function segments(snmp: string): number {
  try {
    const [line] = readFileSync(snmp, 'latin1').match(/^Tcp: [-\d ]+$/m)!;
    return Number(line.split(' ')[10]);
  } catch {
    return 0; // the server has just ended
  }
}
