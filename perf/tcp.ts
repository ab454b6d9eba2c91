/**
 * TCP streams of iperf3 between the guest of a lab and the world outside: by the kernel alone, through a port of
 * ours, and through DPDK.
 *
 * The guest's kernel has the address 10.77.0.2 in each of them. Alone, it sits behind the NetVSC stand-in. With a
 * port it still does, and the port's host path carries what the port says. With DPDK the address moves to a
 * tap of testpmd's, which forwards between that and an AF_XDP socket on the VF: what a DPDK application does for
 * the kernel's programs.
 */
import { type ChildProcess, execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Lab } from '../src/lab/host.ts';
import { ip } from '../src/lab/namespaces.ts';
import { type Stream, stream } from './iperf.ts';
import { Testpmd } from './peers/testpmd.ts';

export const DIRECTIONS = ['in', 'out'] as const;
export type Direction = (typeof DIRECTIONS)[number];
export type Mode = 'ingress' | 'inline';

const QUEUES = 2;
/** Of testpmd's tap in the guest. */
const TAP = 'dpdk0';
const ANSWER_MILLIS = 10_000;

/** The process that holds a port: see held-port.ts. */
export class HeldPort {
  readonly child: ChildProcess;
  #said = '';

  private constructor(child: ChildProcess) {
    this.child = child;
    child.on('message', (text: string) => {
      this.#said = text;
    });
  }

  static async open(lab: Lab, mode: Mode): Promise<HeldPort> {
    const file = fileURLToPath(new URL('held-port.js', import.meta.url));
    const port = new HeldPort(fork(file, [lab.guest, lab.nic.netvsc, mode, String(QUEUES)]));
    await port.owned('synthetic');
    return port;
  }

  /** Until every queue of it transmits on that path. */
  async owned(by: 'synthetic' | 'vf'): Promise<void> {
    const deadline = performance.now() + ANSWER_MILLIS;
    while (this.#said !== by) {
      if (performance.now() > deadline || this.child.exitCode !== null) {
        throw new Error(`the port never came to transmit by ${by}: it said "${this.#said}"`);
      }
      await sleep(5);
    }
  }

  async kill(): Promise<void> {
    const gone = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await gone;
  }

  async close(): Promise<void> {
    if (!this.child.connected) return;
    const gone = once(this.child, 'exit');
    this.child.disconnect();
    await gone;
  }
}

/** Plugs the VF and has the host send by it. */
export async function moveToVf(lab: Lab, port: HeldPort): Promise<void> {
  await lab.nic.plug();
  await port.owned('vf');
  await lab.nic.moveDataPath('vf');
}

/** The kernel alone, by the stand-in of the NetVSC. */
export async function withoutPort<T>(work: (lab: Lab) => Promise<T>): Promise<T> {
  await using lab = await Lab.create({ queues: QUEUES });
  return await work(lab);
}

export async function withPort<T>(
  { mode, path }: { mode: Mode; path: 'synthetic' | 'vf' },
  work: (lab: Lab, port: HeldPort) => Promise<T>,
): Promise<T> {
  await using lab = await Lab.create({ queues: QUEUES });
  const port = await HeldPort.open(lab, mode);
  try {
    if (path === 'vf') await moveToVf(lab, port);
    return await work(lab, port);
  } finally {
    await port.close();
  }
}

/** @throws Error, saying how to install testpmd when it is missing */
export async function withTestpmd<T>(work: (lab: Lab) => Promise<T>): Promise<T> {
  await using lab = await Lab.create({ queues: 1 });
  const { nic, guest, outside } = lab;
  await nic.plug();
  const testpmd = await Testpmd.start({
    vdevs: [`net_af_xdp0,iface=${nic.vf}`, `net_tap0,iface=${TAP},mac=${nic.mac}`],
    ...{ forward: 'io', namespace: guest },
  });
  try {
    ip(
      [
        `addr flush dev ${nic.netvsc}`,
        `link set ${TAP} up`,
        `addr add ${nic.guestAddress}/24 dev ${TAP}`,
        `neigh replace ${nic.outsideAddress} lladdr ${macOf(outside, `u${nic.number}`)} dev ${TAP} nud permanent`,
      ],
      guest,
    );
    await nic.moveDataPath('vf');
    return await work(lab);
  } finally {
    await testpmd.stop();
  }
}

function macOf(namespace: string, device: string): string {
  const told = execFileSync('ip', ['-netns', namespace, '-json', 'link', 'show', 'dev', device], {
    encoding: 'utf8',
  });
  return (JSON.parse(told) as [{ address: string }])[0].address;
}

/** A stream one way. `flowing` is called when bytes flow. */
export function streamThrough(
  { guest, outside, nic }: Lab,
  direction: Direction,
  seconds: number,
  flowing?: () => void,
): Promise<Stream> {
  const ways = {
    in: { from: outside, to: guest, address: nic.guestAddress },
    out: { from: guest, to: outside, address: nic.outsideAddress },
  };
  return stream({ ...ways[direction], seconds, flowing });
}
