/** What commands print of a port: its events while it is open, its statistics after it is closed. */
import { setTimeout as sleep } from 'node:timers/promises';
import { TwinpathError } from '../errors.ts';
import type { FrameLedger } from '../group.ts';
import type { Failover } from '../memory/journal.ts';
import { nowNanos } from '../memory/shared.ts';
import type { Port } from '../port.ts';
import type { PortStatistics } from '../statistics.ts';
import { type FailoverEntry, failoverLine, mergeFailovers } from './failovers.ts';
import type { Terminal } from './terminal.ts';

/** The ledgers of a port that had closed before it was asked. */
const NOT_ASKED: readonly FrameLedger[] = [];

/** How long workers may take to answer. */
const AUDIT_MILLIS = 3000;

/** What `--json` prints of a port. */
export interface PortReport {
  readonly ok: boolean;
  readonly problems: readonly string[];
  readonly device: string;
  readonly mac: string;
  /** As they were just before the port was closed. */
  readonly paths: Port['paths'];
  readonly seconds: number;
  readonly statistics: PortStatistics;
  readonly failovers: readonly FailoverEntry[];
  readonly frames: readonly FrameLedger[];
}

/** Where lines about a port go. */
type Log = Pick<Terminal, 'log'>;

/**
 * As {@link reportOn}, for ports that were opened together. With several ports each line begins with the port's device.
 *
 * @returns a report for each
 */
export async function reportOnAll(
  ports: readonly Port[],
  terminal: Terminal,
  use: () => Promise<void>,
): Promise<PortReport[]> {
  let over: Promise<void> | undefined;
  let [left, allRead] = [ports.length, (): void => {}];
  const read = new Promise<void>((resolve) => {
    allRead = resolve;
  });
  return await Promise.all(
    ports.map((port) => {
      const log: Log =
        ports.length === 1 ? terminal : { log: (line) => terminal.log(`${port.device}: ${line}`) };
      return reportOn(
        port,
        log,
        () => (over ??= use()),
        'all',
        async () => {
          if (--left === 0) allRead();
          await read;
        },
      );
    }),
  );
}

/**
 * Prints the events of a port while `use` runs, then closes the port.
 *
 * @param use gets a function that adds a problem to the report
 * @param events 'all', or 'few': without those of opening and closing
 * @param beforeClosing waits until the ports that close with this one may be closed
 */
export async function reportOn(
  port: Port,
  terminal: Log,
  use: (addProblem: (problem: string) => void) => Promise<void>,
  events: 'all' | 'few' = 'all',
  beforeClosing: () => Promise<void> = async () => {},
): Promise<PortReport> {
  const started = nowNanos();
  const problems: string[] = [];
  let frames: FrameLedger[] = [];
  let paths = port.paths;
  let closed = false;
  port.once('close', () => {
    closed = true;
  });
  let ended = false;
  try {
    watch(port, terminal, problems);
    if (events === 'all') watchDevices(port, terminal);
    await use((problem) => problems.push(problem));
    ended = closed; // by another process, or because it failed, which was an error
    if (!ended) frames = await auditFrames(port);
    paths = port.paths;
    const idle = port.stats().queues.filter(({ owner }) => owner === 'none').length;
    if (idle > 0 && !ended && port.configuration.started)
      problems.push(`at the end ${idle} of ${frames.length} queues had no path to send by`);
  } finally {
    await beforeClosing();
    await port.close();
  }

  const statistics = port.stats();
  const failovers = mergeFailovers(port.failovers());
  problems.push(...problemsOf(statistics, ended ? undefined : frames));
  const { device, mac } = port;
  return {
    ok: problems.length === 0,
    problems,
    device,
    mac,
    paths,
    seconds: Math.round((nowNanos() - started) / 1e7) / 100,
    statistics,
    failovers,
    frames,
  };
}

/**
 * The frame ledger of each queue. Empty if a worker does not answer (its handler may never return) or if the port has
 * closed by itself.
 */
export async function auditFrames(port: Port): Promise<FrameLedger[]> {
  const answered = new AbortController();
  const late = sleep(AUDIT_MILLIS, [], { signal: answered.signal }).catch(() => []);
  const ledgers = port.audit().catch((error: unknown) => {
    if (error instanceof TwinpathError && error.code === 'ERR_PORT_CLOSED') return [];
    throw error;
  });
  const frames = await Promise.race([ledgers, late]);
  answered.abort();
  return frames;
}

/** Prints failovers and errors when they happen. */
function watch(port: Port, terminal: Log, problems: string[]): void {
  port.on('path', (failover) => {
    if (failover.reason === 'start' || failover.reason === 'close') return;
    logFailover(terminal, failover);
  });
  port.on('worker', ({ queue, state, detail }) => {
    if (state === 'started') return;
    const reported = state === 'fallback' ? 'is a fallback without the handler' : state;
    terminal.log(`worker of queue ${queue} ${reported}${detail === undefined ? '' : `: ${detail}`}`);
    if (state === 'died') problems.push(`the worker of queue ${queue} died: ${detail}`);
  });
  port.on('maintenance', ({ kind, state, notBefore, description }) => {
    const time = notBefore === undefined ? '' : `, not before ${new Date(notBefore).toISOString()}`;
    terminal.log(`maintenance: ${kind} ${state}${time}${description === '' ? '' : ` (${description})`}`);
  });
  port.on('error', ({ message }) => {
    terminal.log(message);
    problems.push(message);
  });
}

/** Prints the port's paths, and when a path or a worker starts, ends or changes. */
function watchDevices(port: Port, terminal: Log): void {
  for (const [path, { device, driver, mode, redirect, protects }] of Object.entries(port.paths)) {
    const kept = protects === undefined ? '' : '; the platform’s packets stay with the machine';
    terminal.log(`${path}: ${device} through ${driver}, ${mode}, ${redirect}${kept}`);
  }
  port.on('path', (failover) => {
    if (failover.reason === 'start' || failover.reason === 'close') logFailover(terminal, failover);
  });
  port.on('link', ({ path, device, state, detail }) => {
    terminal.log(
      `${path}: ${device} ${state === 'failed' ? '' : 'is '}${state}${detail === undefined ? '' : ` (${detail})`}`,
    );
  });
  port.on('carrier', ({ device, up, speedMbps }) => {
    const speed = speedMbps === undefined ? '' : `, ${speedMbps} Mbit/s`;
    terminal.log(up ? `link up through ${device}${speed}` : 'link down');
  });
  port.on('worker', ({ queue, state }) => {
    if (state === 'started') terminal.log(`worker of queue ${queue} started`);
  });
}

function logFailover(terminal: Log, failover: Failover): void {
  terminal.log(`queue ${failover.queue}: ${failoverLine(mergeFailovers([failover])[0]!)}`);
}

/** @param frames undefined: nobody could be asked */
function problemsOf({ handlerErrors }: PortStatistics, frames: readonly FrameLedger[] = NOT_ASKED): string[] {
  const found = handlerErrors === 0 ? [] : [`the handler threw ${count(handlerErrors)} times`];
  if (frames.length === 0 && frames !== NOT_ASKED) found.push('a worker did not say where its frames are');
  frames.forEach(({ total, accounted, duplicates }, queue) => {
    if (accounted !== total) found.push(`queue ${queue} accounts for ${accounted} of its ${total} frames`);
    if (duplicates !== 0) found.push(`queue ${queue} has ${duplicates} frames in two places`);
  });
  return found;
}

/** The statistics of a closed port as text. */
export function summary({ statistics, frames }: PortReport): string {
  const whole = frames.filter(({ total, accounted, duplicates }) => total === accounted && duplicates === 0);
  return [
    ...statisticsLines(statistics),
    ...(frames.length === 0
      ? []
      : [`frames: every one accounted for in ${whole.length} of ${statistics.queues.length} queues`]),
  ].join('\n');
}

/** What was counted, as text. */
export function statisticsLines(statistics: PortStatistics): string[] {
  const { received, transmitted, sent, dropped, paths } = statistics;
  const { passed, fromHost, delivered, teed, teeFull, forwarded, handedOver } = statistics;
  const elsewhere = [
    [
      delivered,
      `${count(delivered)} delivered to the application${teed > 0 ? `, ${count(teed)} of them copies` : ''}`,
    ],
    [teeFull, `${count(teeFull)} copies that the application had no room for`],
    [forwarded, `${count(forwarded)} forwarded to other ports`],
    [handedOver, `${count(handedOver)} handed from worker to worker`],
  ] as const;
  const drops = Object.entries(dropped).filter(([, packets]) => packets > 0);
  return [
    `${count(received)} packets in, ${count(transmitted)} out, ${count(sent)} of them the handler's own`,
    ...(['vf', 'synthetic'] as const).map((name) => {
      const { rxPackets, txPackets, kernel } = paths[name];
      const lost = Object.entries(kernel).filter(([, packets]) => packets > 0);
      const missed = lost.map(([counter, packets]) => `, ${counter} ${count(packets)}`).join('');
      return `  ${name.padEnd(9)} ${count(rxPackets)} in, ${count(txPackets)} out${missed}`;
    }),
    ...(passed + fromHost > 0
      ? [`  machine   ${count(passed)} passed to it, ${count(fromHost)} from it`]
      : []),
    ...elsewhere.filter(([packets]) => packets > 0).map(([, line]) => `  ${line}`),
    `dropped: ${drops.map(([reason, packets]) => `${reason} ${count(packets)}`).join(', ') || 'none'}`,
  ];
}

/** A whole number with separators. */
export function count(value: number): string {
  return Math.round(value).toLocaleString('en');
}
