/** One TCP stream of iperf3 between two namespaces, and how steadily it arrived. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

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
  readonly seconds: number;
  /** Called when bytes flow; its end is not waited for. */
  readonly flowing?: () => void;
}

/** What iperf3 --json says, as far as it is used. */
interface Report {
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

/** @throws Error with what iperf3 complains of */
export async function stream({ from, to, address, seconds, flowing }: StreamRequest): Promise<Stream> {
  const server = iperf(to, '--server', '--one-off');
  const received = report(server);
  const snmp = `/proc/${server.pid}/net/snmp`; // the network namespace that process is in
  await listening(server.pid!);
  const client = iperf(from, '--client', address, '--time', `${seconds}`);
  const sent = report(client);
  const stallMillis = await watch(snmp, client, flowing);
  const [{ intervals, end }, { end: sentEnd }] = await Promise.all([received, sent]);
  return {
    gigabits: end.sum_received.bits_per_second / 1e9,
    retransmissions: sentEnd.sum_sent.retransmits ?? 0,
    stallMillis,
    tenths: intervals.map(({ sum }) => sum.bits_per_second / 1e9),
  };
}

async function report(child: ChildProcess): Promise<Report> {
  let text = '';
  child.stdout!.on('data', (data) => {
    text += data;
  });
  await once(child, 'close');
  const said: Report = JSON.parse(text);
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
