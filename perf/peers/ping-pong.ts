/** The C programs of a round trip, in the namespaces of a lab: ping-pong.c asks, udp-echo.c answers. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpus } from 'node:os';
import { promisify } from 'node:util';
import { peerProgram } from './program.ts';

/** Microseconds. */
export interface RoundTrip {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

export interface PingPongOptions {
  readonly seconds: number;
  /** Sleep between an answer and the next packet. Default 0. */
  readonly pauseMillis?: number;
}

/** The asker has the last CPU to itself; who answers is pinned to the first, as is a port's first worker. */
const ASKER = cpus().length - 1;

const run = promisify(execFile);

/** Asks from the outside host of a lab. @throws when a packet is not answered */
export async function pingPong(
  kind: 'udp' | 'icmp',
  lab: { readonly outside: string },
  address: string,
  { seconds, pauseMillis = 0 }: PingPongOptions,
): Promise<RoundTrip> {
  const program = [peerProgram('ping-pong'), kind, address, seconds, ASKER, pauseMillis].map(String);
  const { stdout } = await run('ip', ['netns', 'exec', lab.outside, ...program]);
  const words = stdout.trim().split(' ');
  const figure = (name: string): number => Number(words[words.indexOf(name) + 1]);
  if (figure('lost') > 0) throw new Error(`${figure('lost')} packets were not answered within a second`);
  const micros = (name: string): number => figure(name) / 1000;
  return { p50: micros('p50'), p90: micros('p90'), p99: micros('p99'), max: micros('max') };
}

/** Starts the answering program in the guest of a lab. `wait`: it sleeps between packets. The caller kills it. */
export async function udpEcho(lab: { readonly guest: string }, how: 'poll' | 'wait'): Promise<ChildProcess> {
  const args = ['netns', 'exec', lab.guest, peerProgram('udp-echo'), '0'];
  const child = spawn('ip', how === 'wait' ? [...args, 'wait'] : args, {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [said] = (await Promise.race([once(child.stdout!, 'data'), once(child, 'close')])) as [unknown];
  if (!String(said).startsWith('ready')) throw new Error('udp-echo did not start');
  return child;
}
