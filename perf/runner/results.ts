/** One measurement as a JSON file in perf/results/: every sample, the machine and the versions. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { cpus, release, totalmem } from 'node:os';
import { join, relative } from 'node:path';
import { TwinpathError } from '../../src/errors.ts';
import { packageRoot } from '../../src/package-root.ts';
import type { Line, Run } from './verdict.ts';

export interface Results {
  /** ISO 8601. */
  readonly began: string;
  readonly seconds: number;
  readonly quick: boolean;
  readonly machine: Machine;
  readonly rows: readonly Line[];
  /** By the names of the benchmarks. */
  readonly runs: Readonly<Record<string, readonly Run[]>>;
}

export interface Machine {
  readonly cpus: string;
  readonly memoryGiB: number;
  readonly kernel: string;
  readonly node: string;
  readonly v8: string;
  /** Of the working copy; empty outside of one. */
  readonly commit: string;
  /** Versions; empty if the program is not installed. */
  readonly dpdk: string;
  readonly iperf3: string;
}

export function describeMachine(): Machine {
  return {
    cpus: `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}`,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    v8: process.versions.v8,
    commit: firstLine('git', '-C', packageRoot, 'describe', '--always', '--dirty'),
    dpdk: firstLine('dpkg-query', '--show', 'dpdk').split('\t')[1] ?? '',
    iperf3: firstLine('iperf3', '--version'),
  };
}

export function inWords({ cpus, memoryGiB, kernel, node, dpdk, iperf3 }: Machine): string {
  const peers = [dpdk && `DPDK ${dpdk}`, iperf3].filter((peer) => peer !== '');
  return [cpus, `${memoryGiB} GiB`, `Linux ${kernel}`, `Node ${node}`, ...peers].join(', ');
}

/** The first line that a program prints; empty if it is not installed or fails. */
function firstLine(program: string, ...args: string[]): string {
  try {
    const text = execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return text.split('\n')[0]!;
  } catch {
    return '';
  }
}

/** @throws ERR_OPTION_INVALID if the file cannot be read, or holds no results */
export function readResults(path: string): Results {
  try {
    const results = JSON.parse(readFileSync(path, 'utf8')) as Results;
    if (!Array.isArray(results.rows) || !results.machine.cpus || typeof results.runs !== 'object')
      throw new Error('it has no rows and runs');
    return results;
  } catch (error) {
    throw new TwinpathError('ERR_OPTION_INVALID', {
      device: path,
      detail: (error as Error).message,
      hint: 'Give a file that npm run perf has written in perf/results/.',
    });
  }
}

/** @returns the file, from the working directory. @throws ERR_KERNEL, for instance when the disk is full */
export function writeResults(results: Results, folder = join(packageRoot, 'perf', 'results')): string {
  const path = join(folder, `${results.began.replaceAll(':', '-').slice(0, 19)}.json`);
  try {
    mkdirSync(folder, { recursive: true });
    writeFileSync(path, `${JSON.stringify(results, null, 1)}\n`);
  } catch (error) {
    throw new TwinpathError('ERR_KERNEL', { device: path, detail: (error as Error).message });
  }
  return relative(process.cwd(), path);
}

/** In the abstract namespace (unix(7)): the kernel removes it when the process ends for any reason. */
const LOCK = '\0twinpath-perf';

/**
 * Keeps other measurements off this machine until the server is closed: two at once would measure each other.
 *
 * @throws ERR_DEVICE_BUSY while another process holds the lock
 */
export async function lockMachine(name = LOCK): Promise<Server> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(name, resolve);
  }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EADDRINUSE') throw error;
    throw new TwinpathError('ERR_DEVICE_BUSY', {
      device: 'this machine',
      detail: 'another measurement is running',
      hint: 'Wait for it: two at once would measure each other.',
    });
  });
  server.unref();
  return server;
}
