/** A lab whose guest echoes: by a port, or by its own kernel, on either path. */
import type { ChildProcess } from 'node:child_process';
import { cpus } from 'node:os';
import { openPort, type Port } from '../src/index.ts';
import { inNamespace } from '../src/kernel/namespace.ts';
import { RtNetlink } from '../src/kernel/rtnetlink.ts';
import { loadShim } from '../src/kernel/shim.ts';
import type { Lab } from '../src/lab/host.ts';
import { ip } from '../src/lab/namespaces.ts';
import { until } from '../src/lab/patience.ts';
import type { OpenPortOptions } from '../src/options.ts';
import { udpEcho } from './peers/ping-pong.ts';

/** For a change of path. */
export const PATIENCE_MILLIS = 10_000;

/** Queues of a port under load: busy threads that share a CPU get more or less of it for seconds on end. */
export const QUEUES_BESIDE_TRAFFIC = Math.max(1, Math.min(2, cpus().length - 1));

/** A port that echoes, its worker pinned, one queue if not told otherwise. The caller closes it before the lab. */
export function openEchoPort(lab: Lab, options: Partial<OpenPortOptions> = {}): Promise<Port> {
  const { netvsc, guestAddress } = lab.nic;
  return openPort({
    ...{ netns: lab.guest, netvsc, force: true, queues: 1, pin: true },
    handler: new URL('../src/handlers/echo.js', import.meta.url),
    handlerOptions: { address: guestAddress },
    ...options,
  });
}

export const ownedBy = (port: Port, path: 'vf' | 'synthetic'): Promise<void> =>
  until(`switch to the ${path} path`, PATIENCE_MILLIS, () =>
    port.stats().queues.every(({ owner }) => owner === path),
  );

/** Gives the guest a VF, and its port the traffic. */
export async function plug(lab: Lab, port: Port): Promise<void> {
  await lab.nic.plug();
  await ownedBy(port, 'vf');
  await lab.nic.moveDataPath('vf');
}

/** Takes the VF away again. */
export async function unplug(lab: Lab, port: Port): Promise<void> {
  await lab.nic.unplug();
  await ownedBy(port, 'synthetic');
}

/** The guest's kernel answers by its VF: the address moves there, as nobody else would take its packets. */
export async function plugKernel(lab: Lab): Promise<void> {
  const { nic } = lab;
  await nic.plug();
  const shim = loadShim();
  const links = inNamespace(shim, lab.outside, () => RtNetlink.open(shim));
  const outside = links.links().find(({ name }) => name === `u${nic.number}`)!.address;
  links.close();
  ip(
    [
      `addr flush dev ${nic.netvsc}`,
      `addr add ${nic.guestAddress}/24 dev ${nic.vf}`,
      `neigh replace ${nic.outsideAddress} lladdr ${outside} dev ${nic.vf} nud permanent`,
    ],
    lab.guest,
  );
  await nic.moveDataPath('vf');
}

/** The guest's kernel answers, with a program for UDP, until `work` is done. */
export async function withKernelEcho<T>(lab: Lab, how: 'poll' | 'wait', work: () => Promise<T>): Promise<T> {
  const echo: ChildProcess = await udpEcho(lab, how);
  try {
    return await work();
  } finally {
    echo.kill('SIGKILL');
  }
}
