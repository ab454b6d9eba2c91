/**
 * A device that receives as fast as the last core can make frames, and the programs that read from it.
 *
 * It is one end of a veth pair, but nothing is sent through the pair: that costs more than any of the receivers. Frames are
 * given to it where a network card's driver hands over what it has received, at the XDP hook: to the program that is attached
 * there, or to the kernel's stack (peers/xdp-generator.c).
 */
import { fileURLToPath } from 'node:url';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { LAST_CPU, Peer } from '../peers/program.ts';
import { withNamespace } from './lab.ts';
import { stopwatch } from './timing.ts';

export interface FloodedDevice {
  readonly namespace: string;
  readonly device: 'vf0';
  /** A stand-in for a NetVSC with the same MAC address, so that a port takes the device for its VF. */
  readonly netvsc: 'eth0';
  /** Has the device receive from now on. Call it when the XDP program, if any, is attached. */
  readonly begin: () => void;
}

/** What a receiver counted. */
export interface Received {
  readonly packets: number;
  readonly millis: number;
  /** CPU time of its process meanwhile, the kernel's on its behalf included. */
  readonly cpuMillis: number;
  /** Packets that its ring or socket had no room for. */
  readonly dropped: number;
}

/** Packets that were received, and dropped, until then. */
export type Counts = readonly [received: number, dropped: number];

/** Counts from now on. The returned function takes the counts at the end. */
export function counting([receivedBefore, droppedBefore]: Counts): (until: Counts) => Received {
  const elapsed = stopwatch();
  return ([received, dropped]) => ({
    ...elapsed(),
    packets: received - receivedBefore,
    dropped: dropped - droppedBefore,
  });
}

/** How long a receiver runs before it counts. */
export const WARM_MILLIS = 400;

const MAC = '02:15:5d:7a:00:02';
const LINES = [
  `link add vf0 address ${MAC} type veth peer name far0`,
  `link add eth0 address ${MAC} type veth peer name idle0`,
  ...['vf0', 'far0', 'eth0', 'idle0'].map((device) => `link set ${device} up`),
];
/** Longer than any receiver runs, after which the sender is killed. */
const SENDER_SECONDS = 600;

/** Runs `receive`. Returns its result, and the frames a second that the sender makes when there is no receiver. */
export function flooded(
  receive: (device: FloodedDevice) => Promise<Received>,
): Promise<{ received: Received; madeAlone: number }> {
  return withNamespace(LINES, async (namespace) => {
    const send = (...how: (string | number)[]): Peer =>
      Peer.start(namespace, 'xdp-generator', LAST_CPU, SENDER_SECONDS, ...how);
    const madeAlone = Number(await send('vf0', 'drop').output());
    let sender: Peer | undefined;
    const begin = (): void => {
      sender = send('vf0', xdpProgram(namespace));
    };
    try {
      const received = await receive({ namespace, device: 'vf0', netvsc: 'eth0', begin });
      if (!sender?.running) throw new Error('the sender ended by itself');
      return { received, madeAlone };
    } finally {
      await sender?.kill();
    }
  });
}

/** Number of the XDP program at the device, 0 without one. */
function xdpProgram(namespace: string): number {
  const links = inNamespace(loadShim(), namespace, () => RtNetlink.open(loadShim()));
  try {
    return links.link('vf0')!.xdpProgram;
  } finally {
    links.close();
  }
}

/** Runs a receiver of perf/peers. @throws Error with its last words */
export async function receiver(
  name: 'pcap' | 'recvmmsg',
  { namespace, device, begin }: FloodedDevice,
  seconds: number,
): Promise<Received> {
  begin();
  const file = fileURLToPath(new URL(`../peers/${name}.js`, import.meta.url));
  return JSON.parse(await Peer.inNamespace(namespace, process.execPath, file, device, seconds).output());
}
