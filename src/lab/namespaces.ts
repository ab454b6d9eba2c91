/**
 * The namespaces of labs: their names, iproute2 in them, and the removal of those that killed processes left.
 *
 * A lab is `tp-<pid>-<n>`; its namespaces add `-out`, `-host` and `-guest`. The process id says whether a lab is still in
 * use. Synchronous, a few milliseconds a call. Needs root and iproute2.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { threadId } from 'node:worker_threads';
import { TwinpathError } from '../errors.ts';
import { inNamespace } from '../kernel/namespace.ts';
import type { Shim } from '../kernel/shim.ts';

const FOLDER = '/run/netns';
const PERMISSION_HINT =
  'A lab needs root with CAP_SYS_ADMIN and CAP_NET_ADMIN. A container has them only if it is privileged.';
const LAB = /^tp-(\d+)-\d+-\w+$/;
/** Labs of one thread: so the threads of a process use different numbers. */
const LABS_PER_THREAD = 1000;
/** USER_HZ, the unit of times in /proc/PID/stat, on every architecture that Node supports. */
const TICKS_PER_SECOND = 100;
/** The btime of /proc/stat has whole seconds, and the clock may have been set since. */
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
 * Removes the namespaces of labs whose process has ended, even if another process has its id now. Labs of running processes
 * are not touched.
 */
export function cleanUpStaleLabs(): void {
  const stale = namespaces().filter((name) => {
    const pid = LAB.exec(name)?.[1];
    return pid !== undefined && !isAlive(Number(pid), createdAt(name));
  });
  if (stale.length > 0) deleteNamespaces(stale);
}

/** Deletes the names. The kernel frees a namespace when its last socket is closed and its last thread has left. */
export function deleteNamespaces(names: readonly string[]): void {
  // -force: go on if another process has deleted one of them.
  run(
    ['-force', '-batch', '-'],
    names.map((name) => `netns del ${name}`),
  );
}

/**
 * Runs lines of ip(8) in one process, in the given namespace.
 *
 * @throws ERR_LAB with the message of ip(8), ERR_PERMISSION
 */
export function ip(lines: readonly string[], namespace?: string): void {
  const place = namespace === undefined ? [] : ['-netns', namespace];
  const { status, stderr } = run([...place, '-batch', '-'], lines);
  if (status === 0) return;
  const complaint = stderr.trim().split('\n')[0] ?? '';
  if (/not permitted|permission denied/i.test(complaint)) {
    throw new TwinpathError('ERR_PERMISSION', { detail: complaint, hint: PERMISSION_HINT });
  }
  throw new TwinpathError('ERR_LAB', { device: namespace, detail: `ip: "${complaint}"` });
}

/** Sets a key below /proc/sys/net, which belongs to the namespace of the thread that opens it. @returns false if there is no such key */
export function sysctl(shim: Shim, namespace: string, key: string, value: string): boolean {
  return inNamespace(shim, namespace, () => {
    try {
      writeFileSync(`/proc/sys/net/${key}`, value);
      return true;
    } catch {
      return false; // this kernel does not have it
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
    return []; // no namespace has had a name on this machine yet
  }
}

/** Seconds since the epoch; infinite if it has just been deleted. */
function createdAt(name: string): number {
  try {
    return statSync(`${FOLDER}/${name}`).ctimeMs / 1000;
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

/** Whether the process runs, and ran at that time already: process ids are reused. */
function isAlive(pid: number, atSeconds: number): boolean {
  try {
    // The second field is the program's name in brackets. The name may contain spaces and brackets.
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
