/** A veth pair with a sender at one end, that sends as fast as the last core can; and who receives at the other. */
import { type ChildProcess, spawn } from 'node:child_process';
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
  /** The receiving end. A stand-in of a NetVSC with its MAC is beside it, so that a port takes it for a VF. */
  readonly device: 'vf0';
  readonly netvsc: 'eth0';
}

/** What a receiver got in the time it counted. */
export interface Received {
  readonly packets: number;
  readonly millis: number;
  /** CPU time of its process meanwhile, the kernel's on its behalf included. */
  readonly cpuMillis: number;
}

/** Counts from now on: the returned function tells what was received since, given how many it is by then. */
export function counting(first: number): (packets: number) => Received {
  const began = performance.now();
  const cpu = process.cpuUsage();
  return (packets) => {
    const { user, system } = process.cpuUsage(cpu);
    return {
      packets: packets - first,
      millis: performance.now() - began,
      cpuMillis: (user + system) / 1000,
    };
  };
}

/** How long a receiver runs before it counts. */
export const WARM_MILLIS = 400;
const FRAME_BYTES = 60;

/** Runs `receive` while the sender sends. @returns what it returns, and frames a second that the device took */
export async function flooded(
  seconds: number,
  receive: (veth: Veth) => Promise<Received>,
): Promise<{ received: Received; offered: number }> {
  const program = peerProgram('blast');
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
    // Longer than anybody receives: it is ended below.
    const length = seconds + 30;
    const last = String(availableParallelism() - 1);
    sender = spawn('ip', ['netns', 'exec', namespace, program, 'far0', `${FRAME_BYTES}`, `${length}`, last], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const [first, began] = [taken(namespace), performance.now()];
    const received = await receive({ namespace, device: 'vf0', netvsc: 'eth0' });
    const offered = ((taken(namespace) - first) * 1000) / (performance.now() - began);
    if (sender.exitCode !== null) throw new Error('the sender ended by itself');
    return { received, offered };
  } finally {
    if (sender?.exitCode === null) {
      const gone = once(sender, 'exit');
      sender.kill('SIGKILL');
      await gone;
    }
    deleteNamespaces([namespace]);
  }
}

/** Frames that the sending end has taken so far. */
function taken(namespace: string): number {
  const shim = loadShim();
  const links = inNamespace(shim, namespace, () => RtNetlink.open(shim));
  try {
    return links.link('far0')!.statistics!.txPackets;
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
