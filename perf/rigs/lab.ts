/** Labs whose guest answers, through a port of ours or with its own kernel; and plain namespaces. */
import { openPort, type Port } from '../../src/index.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { Lab } from '../../src/lab/host.ts';
import { deleteNamespaces, freeLabName, ip, sysctl } from '../../src/lab/namespaces.ts';
import { until } from '../../src/lab/wait.ts';
import type { OpenPortOptions } from '../../src/options.ts';
import { FIRST_CPU, LAST_CPU, Peer } from '../peers/program.ts';

export type PathName = 'vf' | 'synthetic';

/** For a change of path. */
export const SWITCH_MILLIS = 10_000;

/** Queues of a port under load: busy threads that share a CPU get more or less of it for seconds on end. */
export const QUEUES_UNDER_TRAFFIC = Math.max(1, Math.min(2, LAST_CPU));

/** Options of a port in the guest with a built-in handler: one queue, its worker pinned, unless `more` says otherwise. */
export function portOptions(lab: Lab, handler: string, more: Partial<OpenPortOptions> = {}): OpenPortOptions {
  const { netvsc, guestAddress } = lab.nic;
  return {
    netns: lab.guest,
    netvsc,
    force: true,
    queues: 1,
    pin: true,
    handler: new URL(`../../src/handlers/${handler}`, import.meta.url).href,
    ...(handler.startsWith('echo') && { handlerOptions: { address: guestAddress } }),
    ...more,
  };
}

/** Such a port in this process. The caller closes it before the lab. */
export const openLabPort = (lab: Lab, handler: string, more?: Partial<OpenPortOptions>): Promise<Port> =>
  openPort(portOptions(lab, handler, more));

/** Until every queue transmits on that path. @throws ERR_TIMEOUT */
export const ownedBy = (port: Port, path: PathName): Promise<void> =>
  until(`switch to the ${path} path`, SWITCH_MILLIS, () =>
    port.stats().queues.every(({ owner }) => owner === path),
  );

/** Gives the guest a VF, and has the host deliver through it once its port transmits there. */
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

/** A lab of one queue whose host delivers through the VF. */
export async function withVf<T>(work: (lab: Lab) => Promise<T>): Promise<T> {
  await using lab = await Lab.create({ queues: 1 });
  await lab.nic.plug();
  await lab.nic.moveDataPath('vf');
  return await work(lab);
}

/** The guest's kernel answers through its VF: the address moves there, as no port takes its packets. */
export async function plugKernel(lab: Lab): Promise<void> {
  await lab.nic.plug();
  moveAddress(lab, lab.nic.vf!);
  await lab.nic.moveDataPath('vf');
}

/** Moves the guest's address from the NetVSC stand-in to another device of it, which is up then. */
export function moveAddress({ nic, guest, outside }: Lab, device: string): void {
  const shim = loadShim();
  const links = inNamespace(shim, outside, () => RtNetlink.open(shim));
  const mac = links.link(`u${nic.number}`)!.address;
  links.close();
  ip(
    [
      `addr flush dev ${nic.netvsc}`,
      `link set ${device} up`,
      `addr add ${nic.guestAddress}/24 dev ${device}`,
      `neigh replace ${nic.outsideAddress} lladdr ${mac} dev ${device} nud permanent`,
    ],
    guest,
  );
}

/**
 * A program in C answers over AF_XDP rings of the guest's VF (peers/xsk-echo.c) while `work` runs. It polls as a worker in mode
 * 'poll' does, or waits as one in mode 'interrupt'.
 */
export async function withXskEcho<T>(lab: Lab, how: 'poll' | 'wait', work: () => Promise<T>): Promise<T> {
  const { guestAddress, vf } = lab.nic;
  const program = ['xsk-echo', FIRST_CPU, guestAddress, vf!, ...(how === 'wait' ? [how] : [])] as const;
  const echo = await Peer.start(lab.guest, ...program).ready();
  try {
    return await work();
  } finally {
    await echo.kill();
  }
}

/** The guest's kernel answers while `work` runs, with a program for UDP that polls or waits. */
export async function withKernelEcho<T>(lab: Lab, how: 'poll' | 'wait', work: () => Promise<T>): Promise<T> {
  const echo = await Peer.start(
    lab.guest,
    'ping-pong',
    'answer',
    FIRST_CPU,
    ...(how === 'wait' ? [how] : []),
  ).ready();
  try {
    return await work();
  } finally {
    await echo.kill();
  }
}

type RoundTrip = Readonly<Record<'p50' | 'p90' | 'p99' | 'max', number>>;

/**
 * Round trips of single packets from the outside host to the guest's address, in microseconds. The asker has the last CPU.
 *
 * @param pauseMillis how long it sleeps between an answer and the next packet
 * @throws Error when a packet is not answered
 */
export async function pingPong(
  lab: Lab,
  kind: 'udp' | 'icmp',
  seconds: number,
  pauseMillis = 0,
): Promise<RoundTrip> {
  const address = lab.nic.guestAddress;
  const asker = Peer.start(lab.outside, 'ping-pong', kind, address, seconds, LAST_CPU, pauseMillis);
  const { lost, p50, p90, p99, max } = JSON.parse(await asker.output());
  if (lost > 0) throw new Error(`${lost} packets were not answered within a second`);
  return { p50: p50 / 1000, p90: p90 / 1000, p99: p99 / 1000, max: max / 1000 };
}

/**
 * A network namespace of its own while `work` runs, built from lines of ip(8). It has no IPv6: the kernel's own
 * packets would be counted too. Its name is a lab's, so that a later run removes it if this one is killed.
 *
 * @throws ERR_LAB, ERR_PERMISSION
 */
export async function withNamespace<T>(
  lines: readonly string[],
  work: (namespace: string) => Promise<T> | T,
): Promise<T> {
  const namespace = `${freeLabName()}-guest`;
  ip([`netns add ${namespace}`]);
  try {
    for (const scope of ['all', 'default'])
      sysctl(loadShim(), namespace, `ipv6/conf/${scope}/disable_ipv6`, '1');
    ip(lines, namespace);
    return await work(namespace);
  } finally {
    deleteNamespaces([namespace]);
  }
}
