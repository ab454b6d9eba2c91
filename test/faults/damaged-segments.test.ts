/**
 * A TCP segment damaged on its way, between others that are merged: whoever holds the socket, the machine or a host
 * that it forwards to, acknowledges what came before and nothing more.
 */
import { expect, it, onTestFinished } from 'vitest';
import { check, Errno } from '../../src/errors.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { deleteNamespaces, ip, sysctl } from '../../src/lab/namespaces.ts';
import { internetAddress } from '../../src/lab/udp.ts';
import { buildLab, type Lab, Scene, until } from '../support/harness.ts';
import { ACK, frameOf, noise, type Segment, SYN, segment } from '../support/segments.ts';

const HOST = new URL('../../dist/src/handlers/host.js', import.meta.url);
/** include/uapi/linux/{socket,if_packet,if_ether}.h */
const [AF_INET, AF_PACKET] = [2, 17];
const STREAM_NONBLOCK = 1 | 0o4000;
const RAW_NONBLOCK = 3 | 0o4000 | 0o2000000;
const ETH_P_ALL = 3;
const EINPROGRESS = -115;
const SACK_PERMITTED = [4, 2];
const SACK = 5;

/** An address of the outside's subnet that no kernel has: the test itself is the host there. */
const PEER = '10.77.0.201';
const PEER_PORT = 9000;
/** A network behind the machine. */
const INNER = '10.99.0.2';
/** Of Ethernet, IPv4 and TCP without options. */
const HEADERS = 54;
const SIZE = 1000;
const SEGMENTS = 40;
const DAMAGED = 20;
const CONNECTIONS = 6;

const shim = loadShim();

const bytesOf = (address: string): number[] => address.split('.').map(Number);
const macOf = (mac: string): number[] => mac.split(':').map((byte) => Number.parseInt(byte, 16));

/** Of a frame between two kernels, whose checksum may be unfinished. */
function headersOf(frame: readonly number[]): Segment {
  const view = new DataView(Uint8Array.from(frame).buffer);
  return segment({
    ...{ src: frame.slice(26, 30), from: view.getUint16(34), to: view.getUint16(36) },
    ...{ seq: view.getUint32(38), ack: view.getUint32(42), flags: frame[47]! },
    options: frame.slice(54, 34 + (frame[46]! >> 4) * 4),
  });
}

/** The host at {@link PEER}, by frames. */
class Peer {
  readonly #fd: number;
  readonly #from: number[];
  readonly #to: number[];
  readonly #room = new Uint8Array(2048);

  constructor(lab: Lab) {
    this.#from = macOf('02:15:5d:77:00:01');
    this.#to = macOf(lab.nic.mac);
    this.#fd = inNamespace(shim, lab.outside, () => {
      const fd = check(shim.socket(AF_PACKET, RAW_NONBLOCK, 0), 'socket');
      onTestFinished(() => void shim.close(fd));
      const netlink = RtNetlink.open(shim);
      const name = new DataView(new ArrayBuffer(20));
      name.setUint16(0, AF_PACKET, true);
      name.setUint16(2, ETH_P_ALL);
      name.setInt32(4, netlink.link('u0')!.ifindex, true);
      netlink.close();
      check(shim.bind(fd, name, 20), 'bind');
      return fd;
    });
    ip([`neigh replace ${PEER} lladdr 02:15:5d:77:00:01 dev eth0 nud permanent`], lab.guest);
  }

  send(s: Segment, damage: (frame: number[]) => void = () => {}): void {
    const frame = frameOf(s);
    frame.splice(0, 12, ...this.#to, ...this.#from);
    damage(frame);
    check(shim.send(this.#fd, Uint8Array.from(frame), frame.length, 0), 'send');
  }

  /** The next segment for the peer, if one has come. */
  receive(): Segment | undefined {
    for (;;) {
      const count = shim.recv(this.#fd, this.#room, this.#room.length, 0);
      if (count === Errno.EAGAIN) return undefined;
      const frame = [...this.#room.subarray(0, check(count, 'recv'))];
      // What it sent itself comes back to a packet socket, too.
      if (frame[23] === 6 && bytesOf(PEER).every((byte, i) => frame[30 + i] === byte))
        return headersOf(frame);
    }
  }

  async #first(of: (s: Segment) => boolean): Promise<Segment> {
    let found: Segment | undefined;
    await until('a segment', () => {
      for (let s = this.receive(); s !== undefined && found === undefined; s = this.receive()) {
        if (of(s)) found = s;
      }
      return found !== undefined;
    });
    return found!;
  }

  /** The other end of a connection that a socket there begins. */
  async accept(port: number): Promise<Segment> {
    const syn = await this.#first(({ flags, to }) => to === port && (flags & SYN) !== 0);
    const ours = segment({
      ...{ src: bytesOf(PEER), dst: syn.src, from: port, to: syn.from },
      ...{ seq: 0xffff_c000, ack: syn.seq + 1, window: 0xffff, payload: [] },
    });
    this.send({ ...ours, flags: SYN | ACK, options: [...SACK_PERMITTED, 1, 1] });
    await this.#first(({ flags, to }) => to === port && flags === ACK);
    return { ...ours, seq: ours.seq + 1 };
  }
}

/** How far a receiver has got: what it acknowledges, and the end of what it has behind a gap. */
function progress({ ack, options }: Segment, start: number): { acked: number; seen: number } {
  const acked = (ack - start) | 0;
  const at = options.indexOf(SACK);
  const sack = at < 0 ? [] : options.slice(at + 2, at + options[at + 1]!);
  let seen = acked;
  for (let i = 4; i + 4 <= sack.length; i += 8) {
    const end = sack.slice(i, i + 4).reduce((all, byte) => all * 256 + byte, 0);
    seen = Math.max(seen, (end - start) | 0);
  }
  return { acked, seen };
}

/** A connection to the peer, begun; to be closed. */
function socket(namespace: string, port: number): number {
  const fd = inNamespace(shim, namespace, () => shim.socket(AF_INET, STREAM_NONBLOCK, 0));
  const result = shim.connect(check(fd, 'socket'), internetAddress(PEER, port), 16);
  if (result !== EINPROGRESS) check(result, 'connect');
  return fd;
}

function readAll(fd: number): number[] {
  const all: number[] = [];
  const room = new Uint8Array(65_536);
  for (;;) {
    const count = shim.recv(fd, room, room.length, 0);
    if (count === Errno.EAGAIN) return all;
    all.push(...room.subarray(0, check(count, 'recv')));
  }
}

const sameBytes = (a: readonly number[], b: readonly number[]): boolean =>
  Buffer.from(a).equals(Buffer.from(b));

/** A host behind the machine, which forwards. */
function innerHost(lab: Lab): string {
  const namespace = `${lab.name}-inner`;
  onTestFinished(() => deleteNamespaces([namespace]));
  ip([`netns add ${namespace}`]);
  ip(
    [
      `link add in0 type veth peer name eth0 netns ${namespace}`,
      'link set in0 up',
      'addr add 10.99.0.1/24 dev in0',
    ],
    lab.guest,
  );
  ip(
    [
      'link set lo up',
      'link set eth0 up',
      `addr add ${INNER}/24 dev eth0`,
      'route add default via 10.99.0.1',
    ],
    namespace,
  );
  sysctl(shim, lab.guest, 'ipv4/ip_forward', '1');
  return namespace;
}

/** Sends a stream with one damaged segment, later that segment again, and sees what the socket makes of both. */
async function expectExact(peer: Peer, namespace: string, port: number): Promise<void> {
  const fd = socket(namespace, port);
  const ours = await peer.accept(port);
  const data = noise(SEGMENTS * SIZE, port);
  const part = (k: number): Segment => ({
    ...{ ...ours, seq: (ours.seq + k * SIZE) >>> 0, flags: ACK },
    payload: data.slice(k * SIZE, (k + 1) * SIZE),
  });
  const parts = Array.from({ length: SEGMENTS }, (_, k) => part(k));
  let acked = 0;
  const seen = async (): Promise<void> => {
    let furthest = 0;
    await until('all segments seen', () => {
      for (let s = peer.receive(); s !== undefined; s = peer.receive()) {
        if (s.to !== port) continue; // the end of the connection before
        const now = progress(s, ours.seq);
        acked = Math.max(acked, now.acked);
        furthest = Math.max(furthest, now.seen);
      }
      return furthest === SEGMENTS * SIZE;
    });
  };
  parts.forEach((s, k) => {
    peer.send(s, (frame) => {
      if (k === DAMAGED) frame[HEADERS + 500]! ^= 0x20;
    });
  });
  await seen();
  expect(acked).toBe(DAMAGED * SIZE);
  expect(sameBytes(readAll(fd), data.slice(0, DAMAGED * SIZE))).toBe(true);
  peer.send(parts[DAMAGED]!);
  await seen();
  expect(acked).toBe(SEGMENTS * SIZE);
  expect(sameBytes(readAll(fd), data.slice(DAMAGED * SIZE))).toBe(true);
  shim.close(fd);
}

it.each([
  { owner: 'the machine itself', behind: false, path: 'synthetic' },
  { owner: 'the machine itself', behind: false, path: 'vf' },
  { owner: 'a host that the machine forwards to', behind: true, path: 'synthetic' },
  { owner: 'a host that the machine forwards to', behind: true, path: 'vf' },
] as const)('$owner acknowledges exactly what came undamaged by the $path path', async (scenario) => {
  const lab = await buildLab({ queues: 1 });
  const namespace = scenario.behind ? innerHost(lab) : lab.guest;
  const peer = new Peer(lab);
  // Gathers what comes in numbers: packets sent one after the other are merged.
  const scene = await Scene.openIn(lab, { handler: HOST, mode: 'interrupt' });
  if (scenario.path === 'vf') await scene.plug();
  for (let i = 0; i < CONNECTIONS; i++) await expectExact(peer, namespace, PEER_PORT + i);
  // Some of them went in large segments, or this would show nothing.
  const { txPackets, txChains } = scene.port.stats().paths.host;
  expect(txPackets).toBeGreaterThan(CONNECTIONS * SEGMENTS);
  expect(txChains).toBeLessThan(txPackets - CONNECTIONS);
  await scene.finish();
});
