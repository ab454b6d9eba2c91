/**
 * What operators attach to a running port, each in a process of its own as they start it: captures, `twinpath top`, and a program
 * that reads its metrics.
 *
 * All of them have the last CPU, and so have the threads of the port's process that are no workers. The first CPU is left to the
 * worker, and its packets are counted by its CPU time: what it does less while they are attached is their cost to the datapath.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { until } from '../../src/lab/wait.ts';
import { serve, urlOf } from '../../src/metrics/server.ts';
import { PortMetrics } from '../../src/metrics.ts';
import { packageRoot } from '../../src/package-root.ts';
import type { Port } from '../../src/port.ts';
import { LAST_CPU, Peer } from '../peers/program.ts';

const START_MILLIS = 10_000;
/** As `twinpath top` and Prometheus read at most by default. */
const EVERY_MILLIS = 1000;

type Start = (url: string) => Peer;

const COMMAND = join(packageRoot, 'dist/src/cli/main.js');
const node = (...words: readonly string[]): Peer =>
  Peer.inNamespace(undefined, 'taskset', '--cpu-list', LAST_CPU, process.execPath, ...words);
const twinpath = (...words: readonly string[]): Peer => node(COMMAND, ...words);
const capture = (...filter: readonly string[]): Peer =>
  twinpath('capture', String(process.pid), '-w', '/dev/null', ...filter);
const reading = (url: string, pauseMillis: number): Peer =>
  node(fileURLToPath(new URL('./metrics-reader.js', import.meta.url)), url, String(pauseMillis));

const captureNone: Start = () => capture('tcp', 'port', '80');
const captureAll: Start = () => capture();
const top: Start = () => twinpath('top', String(process.pid));
const metrics: Start = (url) => reading(url, EVERY_MILLIS);

/** By name; `all` is what a machine that is watched has on: a capture that waits, `top`, and metrics. */
export const ATTACHMENTS = {
  captureNone: [captureNone],
  captureAll: [captureAll],
  top: [top],
  metrics: [metrics],
  metricsConstantly: [(url) => reading(url, 0)],
  all: [captureNone, top, metrics],
} satisfies Readonly<Record<string, readonly Start[]>>;

export type Attachment = keyof typeof ATTACHMENTS;

/** Keeps something attached to a port while `work` runs. */
type Attaching = <T>(name: Attachment, work: () => Promise<T>) => Promise<T>;

/** Runs `work` on a port of this process, which has a control socket and pinned workers. `seconds`: CPU time of its workers. */
export async function withAttaching<T>(
  port: Port,
  work: (attached: Attaching, seconds: () => number) => Promise<T>,
): Promise<T> {
  await until('control socket', START_MILLIS, () => port.controlSocket !== undefined);
  const server = await serve('metrics', { host: '127.0.0.1', port: 0 }, { metrics: [new PortMetrics(port)] });
  const workers = leaveToWorkers();
  const attached: Attaching = async (name, work) => {
    const peers: Peer[] = [];
    try {
      for (const start of ATTACHMENTS[name]) peers.push(start(`${urlOf(server)}/metrics`));
      await until(`start of ${name}`, START_MILLIS, () => peers.every(({ words }) => words !== ''));
      const result = await work();
      for (const peer of peers) if (!peer.running) throw new Error(`${name} ended: ${peer.words.trim()}`);
      return result;
    } finally {
      await Promise.all(peers.map((peer) => peer.kill()));
    }
  };
  try {
    return await work(attached, () => secondsOf(workers));
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

/** Gives the last CPU to the threads of this process that may run on any. The others are the workers: their numbers. */
function leaveToWorkers(): string[] {
  return readdirSync('/proc/self/task').filter((thread) => {
    if (!/^Cpus_allowed_list:\s*\d+[-,]/m.test(ofThread(thread, 'status'))) return true;
    const { status, stderr } = spawnSync('taskset', ['-cp', String(LAST_CPU), thread], { encoding: 'utf8' });
    if (status !== 0 && !/No such process/.test(stderr)) throw new Error(`taskset: ${stderr.trim()}`);
    return false;
  });
}

/** A file of /proc about a thread of this process; empty of one that has ended. */
function ofThread(thread: string, file: 'status' | 'schedstat'): string {
  try {
    return readFileSync(`/proc/self/task/${thread}/${file}`, 'utf8');
  } catch {
    return '';
  }
}

/** Seconds for which threads have had a CPU: the first field of schedstat, see Documentation/scheduler/sched-stats.rst. */
const secondsOf = (threads: readonly string[]): number =>
  threads.reduce((sum, thread) => sum + Number(ofThread(thread, 'schedstat').split(' ')[0]) / 1e9, 0);
