/**
 * A device that receives as fast as the last core can, and who reads from it.
 *
 * It is one end of a veth pair, but nothing is sent through the pair: that costs more than any of the receivers. Frames
 * are given to it where a network card's driver hands over what it has received, at the XDP hook: to the program that is
 * attached there, or to the kernel's stack (peers/xdp-generator.c).
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { deleteNamespaces, freeLabName, ip, sysctl } from '../../src/lab/namespaces.ts';
import { peerProgram } from '../peers/program.ts';

export interface Veth {
  readonly namespace: string;
  /** The device. A stand-in of a NetVSC with its MAC is beside it, so that a port takes it for a VF. */
  readonly device: 'vf0';
  readonly netvsc: 'eth0';
  /** Has it receive from now on. Whoever attaches an XDP program has done so. */
  readonly begin: () => void;
}

/** What a receiver got in the time it counted. */
export interface Received {
  readonly packets: number;
  readonly millis: number;
  /** CPU time of its process meanwhile, the kernel's on its behalf included. */
  readonly cpuMillis: number;
  /** Packets that its ring or socket had no room for, since it was opened or meanwhile. */
  readonly dropped: number;
}

/** Of packets that were received, or dropped, until then. */
export type Counts = readonly [received: number, dropped: number];

/** Counts from now on: the returned function tells what came since, given how many it is by then. */
export function counting([first, lost]: Counts): (until: Counts) => Received {
  const began = performance.now();
  const cpu = process.cpuUsage();
  return ([received, dropped]) => {
    const { user, system } = process.cpuUsage(cpu);
    return {
      packets: received - first,
      millis: performance.now() - began,
      cpuMillis: (user + system) / 1000,
      dropped: dropped - lost,
    };
  };
}

/** How long a receiver runs before it counts. */
export const WARM_MILLIS = 400;

/** Frames a second that the sender makes when nobody receives them. @throws Error with its last words */
function madeAlone(program: string, cpu: string): number {
  const { status, stdout, stderr } = spawnSync(program, [cpu, '30', 'lo', 'drop'], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr.trim() || `the sender ended with ${status}`);
  return Number(stdout);
}

/** Runs `receive`. @returns what it returns, and frames a second that the sender makes when nobody receives them */
export async function flooded(
  seconds: number,
  receive: (veth: Veth) => Promise<Received>,
): Promise<{ received: Received; alone: number }> {
  const program = peerProgram('xdp-generator');
  const cpu = String(availableParallelism() - 1);
  const alone = madeAlone(program, cpu);
  const namespace = `${freeLabName()}-guest`;
  const mac = '02:15:5d:7a:00:02';
  ip([`netns add ${namespace}`]);
  let sender: ChildProcess | undefined;
  try {
    sysctl(loadShim(), namespace, 'ipv6/conf/default/disable_ipv6', '1');
    ip(
      [
        `link add vf0 address ${mac} type veth peer name far0`,
        `link add eth0 address ${mac} type veth peer name idle0`,
        ...['vf0', 'far0', 'eth0', 'idle0'].map((device) => `link set ${device} up`),
      ],
      namespace,
    );
    const begin = (): void => {
      // Longer than anybody receives: it is ended below.
      const command = [program, cpu, String(seconds + 30), 'vf0', String(xdpProgram(namespace))];
      sender = spawn('ip', ['netns', 'exec', namespace, ...command], {
        stdio: ['ignore', 'ignore', 'inherit'],
      });
    };
    const received = await receive({ namespace, device: 'vf0', netvsc: 'eth0', begin });
    if (sender === undefined || sender.exitCode !== null) throw new Error('the sender ended by itself');
    return { received, alone };
  } finally {
    if (sender?.exitCode === null) {
      const gone = once(sender, 'exit');
      sender.kill('SIGKILL');
      await gone;
    }
    deleteNamespaces([namespace]);
  }
}

/** Number of the XDP program at the device, 0 without one. */
function xdpProgram(namespace: string): number {
  const shim = loadShim();
  const links = inNamespace(shim, namespace, () => RtNetlink.open(shim));
  try {
    return links.link('vf0')!.xdpProgram;
  } finally {
    links.close();
  }
}

/** Runs a receiver of this folder. @throws Error with its last words */
export async function receiver(
  name: string,
  { namespace, device }: Veth,
  seconds: number,
): Promise<Received> {
  const file = fileURLToPath(new URL(`./${name}.js`, import.meta.url));
  const command = ['netns', 'exec', namespace, process.execPath, file, device, String(seconds)];
  const child = spawn('ip', command, { stdio: ['ignore', 'pipe', 'pipe'] });
  const said = { out: '', err: '' };
  child.stdout.on('data', (data) => {
    said.out += data;
  });
  child.stderr.on('data', (data) => {
    said.err += data;
  });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(said.err.trim().split('\n').at(-1) || `${name} ended with ${code}`);
  return JSON.parse(said.out) as Received;
}
