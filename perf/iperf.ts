/** One TCP stream of iperf3 between two namespaces, and how steadily it arrived. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { missing } from './peers/missing.ts';

export interface Stream {
  readonly gigabits: number;
  readonly retransmissions: number;
  /** The longest time in which the receiver's kernel got no segment, in ms; as fine as {@link LOOK_MILLIS}. */
  readonly stallMillis: number;
  /** Gbit/s of each tenth of a second, as the receiver saw it. */
  readonly tenths: readonly number[];
}

export interface StreamRequest {
  readonly from: string;
  readonly to: string;
  /** Of the receiver. */
  readonly address: string;
  /** iperf3 takes whole ones: this is rounded, to 1 at least. */
  readonly seconds: number;
  /** Called when bytes flow; its end is not waited for. */
  readonly flowing?: () => void;
}

/** What iperf3 --json says, as far as it is used. */
export interface Report {
  readonly error?: string;
  readonly intervals: readonly { readonly sum: { readonly bits_per_second: number } }[];
  readonly end: {
    readonly sum_sent: { readonly retransmits?: number };
    readonly sum_received: { readonly bits_per_second: number };
  };
}

const LOOK_MILLIS = 2;
/** Segments of the control connection do not count as a stream. */
const FLOWING_SEGMENTS = 100;

const iperf = (namespace: string, ...parameters: string[]): ChildProcess =>
  spawn('ip', ['netns', 'exec', namespace, 'iperf3', ...parameters, '--json', '--interval', '0.1'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });

/** @throws Error with what it complains of, or saying how to install it when it is missing */
export async function stream({ from, to, address, seconds, flowing }: StreamRequest): Promise<Stream> {
  if (spawnSync('iperf3', ['--version']).error !== undefined) throw missing('iperf3');
  const server = iperf(to, '--server', '--one-off');
  const received = report(server);
  const snmp = `/proc/${server.pid}/net/snmp`; // the network namespace that process is in
  await listening(server.pid!);
  const client = iperf(from, '--client', address, '--time', `${Math.max(1, Math.round(seconds))}`);
  const sent = report(client);
  const stallMillis = await watch(snmp, client, flowing);
  return { ...figures(await received, await sent), stallMillis };
}

/** What the server and the client of a stream say. */
export function figures(received: Report, sent: Report): Omit<Stream, 'stallMillis'> {
  return {
    gigabits: received.end.sum_received.bits_per_second / 1e9,
    retransmissions: sent.end.sum_sent.retransmits ?? 0,
    tenths: received.intervals.map(({ sum }) => sum.bits_per_second / 1e9),
  };
}

async function report(child: ChildProcess): Promise<Report> {
  let text = '';
  child.stdout!.on('data', (data) => {
    text += data;
  });
  await once(child, 'close');
  return parse(text);
}

/** @throws Error with what iperf3 complains of */
export function parse(text: string): Report {
  let said: Report;
  try {
    said = JSON.parse(text);
  } catch {
    throw new Error(`iperf3 printed no report: ${JSON.stringify(text.slice(0, 200))}`);
  }
  if (said.error !== undefined) throw new Error(`iperf3: ${said.error}`);
  return said;
}

/** Until the server's socket is there: port 5201 in the namespace's table, state 0A. */
async function listening(pid: number): Promise<void> {
  for (let tries = 0; tries < 1000; tries++) {
    const tables = ['tcp', 'tcp6'].map((table) => readFileSync(`/proc/${pid}/net/${table}`, 'latin1'));
    if (tables.some((table) => /:1451 \S+ 0A/.test(table))) return;
    await sleep(5);
  }
  throw new Error('the iperf3 server does not listen');
}

/** Looks at the receiver's segment counter until the sender is done. Returns the longest standstill in ms. */
async function watch(snmp: string, client: ChildProcess, flowing?: () => void): Promise<number> {
  let over = false;
  client.once('exit', () => {
    over = true;
  });
  const first = segments(snmp);
  let last = first;
  let changedAt = 0;
  let longest = 0;
  while (!over) {
    await sleep(LOOK_MILLIS);
    const now = segments(snmp);
    if (now === last) continue;
    const at = performance.now();
    if (last - first >= FLOWING_SEGMENTS) longest = Math.max(longest, at - changedAt);
    else if (now - first >= FLOWING_SEGMENTS) flowing?.();
    last = now;
    changedAt = at;
  }
  return longest;
}

/** Tcp: InSegs, the tenth value of its line. */
function segments(snmp: string): number {
  try {
    const values = readFileSync(snmp, 'latin1')
      .match(/^Tcp: [-\d ]+$/m)![0]
      .split(' ');
    return Number(values[10]);
  } catch {
    return 0; // the server has just ended
  }
}
