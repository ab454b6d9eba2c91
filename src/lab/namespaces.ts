/**
 * The namespaces a lab lives in: their names, iproute2 to build in them, and what killed runs left.
 *
 * A lab is `tp-<pid>-<n>`; its namespaces add `-out`, `-host` and `-guest`. The process id in the name
 * is what lets a later run tell its neighbour's lab from an orphan. Synchronous, a few milliseconds a
 * call; needs root and iproute2.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { threadId } from 'node:worker_threads';
import { TwinpathError } from '../errors.ts';
import { inNamespace } from '../kernel/namespace.ts';
import type { Shim } from '../kernel/shim.ts';

const FOLDER = '/run/netns';
const LACKING =
  'A lab needs root, with CAP_SYS_ADMIN and CAP_NET_ADMIN: in a container only a privileged one has them.';
const LAB = /^tp-(\d+)-\d+-\w+$/;
/** Labs of one thread; worker threads of a process number theirs apart without asking each other. */
const LABS_PER_THREAD = 1000;
/** USER_HZ, the unit of times in /proc/PID/stat, on every architecture Node runs on. */
const TICKS_PER_SECOND = 100;
/** The clock of /proc/stat's btime is cut to seconds, and may have been set since. */
const CLOCK_SLACK_SECONDS = 5;

/** A name that no lab of this process has. */
export function freeLabName(): string {
  const taken = new Set(namespaces());
  for (let n = threadId * LABS_PER_THREAD; ; n++) {
    const name = `tp-${process.pid}-${n}`;
    if (!['out', 'host', 'guest'].some((part) => taken.has(`${name}-${part}`))) return name;
  }
}

/**
 * Removes the namespaces of labs whose process is gone, or whose process id now is another process's.
 * Labs of running processes are left alone, whoever runs them.
 *
 * @returns how many namespaces it removed
 */
export function cleanUpStaleLabs(): number {
  const stale = namespaces().filter((name) => {
    const pid = LAB.exec(name)?.[1];
    return pid !== undefined && !isAlive(Number(pid), createdAt(name));
  });
  if (stale.length > 0) deleteNamespaces(stale);
  const left = new Set(namespaces());
  return stale.filter((name) => !left.has(name)).length;
}

/** Forgets the names. The namespaces themselves go when the last socket or thread in them does. */
export function deleteNamespaces(names: readonly string[]): void {
  // -force: one that another clean-up was quicker with must not keep the rest.
  run(
    ['-force', '-batch', '-'],
    names.map((name) => `netns del ${name}`),
  );
}

/**
 * Runs lines of ip(8) in one process, inside a namespace if one is named.
 *
 * @throws ERR_LAB with ip's own complaint, ERR_PERMISSION
 */
export function ip(lines: readonly string[], namespace?: string): void {
  const place = namespace === undefined ? [] : ['-netns', namespace];
  const { status, stderr } = run([...place, '-batch', '-'], lines);
  if (status === 0) return;
  const complaint = stderr.trim().split('\n')[0] ?? '';
  if (/not permitted|permission denied/i.test(complaint)) {
    throw new TwinpathError('ERR_PERMISSION', { detail: complaint, hint: LACKING });
  }
  throw new TwinpathError('ERR_LAB', { device: namespace, detail: `ip says "${complaint}"` });
}

/** Sets a key below /proc/sys/net, which shows the namespace of the thread that opens it. */
export function sysctl(shim: Shim, namespace: string, key: string, value: string): boolean {
  return inNamespace(shim, namespace, () => {
    try {
      writeFileSync(`/proc/sys/net/${key}`, value);
      return true;
    } catch {
      return false; // a kernel built without it
    }
  });
}

function run(parameters: string[], lines: readonly string[]): { status: number | null; stderr: string } {
  const result = spawnSync('ip', parameters, { input: `${lines.join('\n')}\n`, encoding: 'utf8' });
  if (result.error) {
    throw new TwinpathError('ERR_LAB', {
      detail: `cannot run ip: ${result.error.message}`,
      hint: 'Install iproute2 (Debian: apt-get install iproute2).',
    });
  }
  return result;
}

function namespaces(): string[] {
  try {
    return readdirSync(FOLDER);
  } catch {
    return []; // no namespace has been named on this machine yet
  }
}

/** Seconds since the epoch; infinite for one that has just gone. */
function createdAt(name: string): number {
  try {
    return statSync(`${FOLDER}/${name}`).ctimeMs / 1000;
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

/** Whether the process runs and already ran at that time: process ids are used again. */
function isAlive(pid: number, atSeconds: number): boolean {
  try {
    // The second field is the program's name in brackets and may itself hold spaces and brackets.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    const booted = Number(/^btime (\d+)$/m.exec(readFileSync('/proc/stat', 'utf8'))?.[1]);
    const started = booted + Number(fields[19]) / TICKS_PER_SECOND;
    return !(started > atSeconds + CLOCK_SLACK_SECONDS);
  } catch {
    return false;
  }
}
