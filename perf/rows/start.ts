/**
 * From the start of a process to the first packet that its port answers, and what it then weighs.
 *
 * The process (echo-port.ts) is Node and Twinpath and nothing else. A client outside (peers/first-answer.c) asks five
 * thousand times a second from before it is started. `node` is Node alone, which prints a word.
 *
 * Weight is the resident set, all of it: Node's own, its threads', and the shared memory with every packet frame.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { monotonicNanos } from '../../src/lab/clock.ts';
import { Lab } from '../../src/lab/host.ts';
import { EchoProcess, residentKib } from '../echo-process.ts';
import { peerProgram } from '../peers/program.ts';
import type { Row, Sample } from '../row.ts';

const FRAMES = 8192;
const MANY_FRAMES = 32_768;
/** After the first packet: what starting left behind has been collected, or will not be soon. */
const SETTLE_MILLIS = 500;
const KIB = 1024;

const run = promisify(execFile);

export const row: Row = {
  name: 'start',
  about: `process start to first packet, and resident memory; ${FRAMES} frames of 2048 bytes a queue`,
  sides: { node: nodeAlone, port: measure },
  comparisons: [
    {
      name: 'start',
      about: 'process start to first packet answered, no VF, one queue; beside Node alone',
      ...{ ours: 'port.synthetic', peer: 'node.ms', unit: 'ms', better: 'lower' },
    },
    {
      name: 'start:vf',
      about: 'the same with the VF there, which carries the traffic',
      ...{ ours: 'port.vf', peer: 'node.ms', unit: 'ms', better: 'lower' },
    },
    {
      name: 'start:memory',
      about: 'resident memory with one queue and the VF; beside Node alone',
      ...{ ours: 'port.mib', peer: 'node.mib', unit: 'MiB', better: 'lower' },
    },
    {
      name: 'start:memory-queue',
      about: `growth for one queue more, its ${FRAMES} frames (16 MiB) and its worker included`,
      ...{ ours: 'port.mibPerQueue', unit: 'MiB', better: 'lower' },
    },
    {
      name: 'start:memory-frame',
      about: 'growth for one frame more, of which 2048 are the frame',
      ...{ ours: 'port.bytesPerFrame', unit: 'bytes', better: 'lower' },
    },
  ],
  full: { runs: 5, seconds: 5 },
  quick: { runs: 1, seconds: 5 },
};

async function nodeAlone(): Promise<Sample> {
  const began = monotonicNanos();
  const child = spawn(process.execPath, ['-e', 'console.log("here"); setInterval(() => {}, 1000)'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  const ms = (monotonicNanos() - began) / 1e6;
  await sleep(SETTLE_MILLIS);
  const mib = residentKib(child.pid!) / KIB;
  child.kill('SIGKILL');
  return { ms, mib };
}

async function measure(): Promise<Sample> {
  const synthetic = await start({ queues: 1, frames: FRAMES, vf: false });
  const one = await start({ queues: 1, frames: FRAMES, vf: true });
  const two = await start({ queues: 2, frames: FRAMES, vf: true });
  const many = await start({ queues: 1, frames: MANY_FRAMES, vf: true });
  return {
    ...{ synthetic: synthetic.millis, vf: one.millis, vfTwoQueues: two.millis, vfManyFrames: many.millis },
    ...{ mib: one.kib / KIB, mibSynthetic: synthetic.kib / KIB, mibTwoQueues: two.kib / KIB },
    mibPerQueue: (two.kib - one.kib) / KIB,
    bytesPerFrame: ((many.kib - one.kib) * KIB) / (MANY_FRAMES - FRAMES),
  };
}

interface Shape {
  readonly queues: number;
  readonly frames: number;
  readonly vf: boolean;
}

/** In a lab of its own: milliseconds to the first packet, and the resident set after it. */
async function start({ queues, frames, vf }: Shape): Promise<{ millis: number; kib: number }> {
  await using lab = await Lab.create({ queues });
  const { nic } = lab;
  if (vf) {
    await nic.plug();
    await nic.moveDataPath('vf');
  }
  const asking = run('ip', ['netns', 'exec', lab.outside, peerProgram('first-answer'), nic.guestAddress]);
  asking.catch(() => {}); // awaited below
  const began = monotonicNanos();
  const port = new EchoProcess(lab, { queues, frames });
  try {
    const { stdout } = await asking;
    const millis = (Number(stdout) - began) / 1e6;
    await sleep(SETTLE_MILLIS);
    return { millis, kib: residentKib(port.pid) };
  } finally {
    await port.close();
  }
}
