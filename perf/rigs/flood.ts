/**
 * A device that receives as fast as the last core can make frames, and the programs that read from it.
 *
 * It is one end of a veth pair, but nothing is sent through the pair: that costs more than any of the receivers. Frames are
 * given to it where a network card's driver hands over what it has received, at the XDP hook: to the program that is attached
 * there, or to the kernel's stack (peers/xdp-generator.c).
 *
 * The sender is SCHED_IDLE: a thread of the receiver's that shares its core runs as soon as it is woken, as on a core of its own, and
 * not after the sender's slice of some milliseconds.
 */
import { fileURLToPath } from 'node:url';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { compiled, LAST_CPU, Peer } from '../peers/program.ts';
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
/** A second's work for the sender alone. */
const FRAMES = 8_000_000;

type Sender = (...how: (string | number)[]) => Peer;

function withDevice<T>(work: (namespace: string, send: Sender) => Promise<T>): Promise<T> {
  return withNamespace(LINES, (namespace) =>
    work(namespace, (...how) => {
      const words = ['--idle', '0', compiled('xdp-generator'), LAST_CPU, SENDER_SECONDS, ...how];
      return Peer.inNamespace(namespace, 'chrt', ...words);
    }),
  );
}

/** Frames a second that the sender makes, or that it takes through the program, or the kernel. */
const framesPerSecond = async (send: Sender, device: string, how: string | number): Promise<number> =>
  Number(await send(device, how, FRAMES).output());

/** Runs `receive`. Returns its result, and the frames a second that the sender makes when there is no receiver. */
export function flooded(
  receive: (device: FloodedDevice) => Promise<Received>,
): Promise<{ received: Received; madeAlone: number }> {
  return withDevice(async (namespace, send) => {
    const madeAlone = await framesPerSecond(send, 'vf0', 'drop');
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

/** What drops all frames of a device while they are timed. */
export interface Dropper {
  /** Frames that it has dropped. */
  dropped(): Promise<number> | number;
  close(): Promise<void> | void;
}

/**
 * Nanoseconds that one core takes for a frame which is dropped where a device has received it, without those to make it: at the
 * XDP hook of `vf0`, or, with a socket buffer, in the kernel behind `eth0`.
 *
 * @throws Error if not every frame was dropped
 */
export function costOfDrop(
  device: 'vf0' | 'eth0',
  prepare: (namespace: string) => Promise<Dropper> | Dropper,
): Promise<number> {
  return withDevice(async (namespace, send) => {
    const madeAlone = await framesPerSecond(send, device, 'drop');
    const dropper = await prepare(namespace);
    try {
      const before = await dropper.dropped();
      const program = device === 'vf0' ? xdpProgram(namespace) : 0;
      const taken = await framesPerSecond(send, device, program);
      const dropped = (await dropper.dropped()) - before;
      if (dropped < FRAMES) throw new Error(`of ${FRAMES} frames only ${dropped} were dropped`);
      return 1e9 / taken - 1e9 / madeAlone;
    } finally {
      await dropper.close();
    }
  });
}

/** Number of the XDP program at the VF, 0 without one. */
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
