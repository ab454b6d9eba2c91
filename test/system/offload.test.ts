/**
 * What the kernel's own stack makes of it: a tap with virtio headers in a namespace of its own, this test on the
 * tap's other side, and a TCP connection between them.
 */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { check, Errno } from '../../src/errors.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { deleteNamespaces, freeLabName, ip } from '../../src/lab/namespaces.ts';
import { isUnfinished, segmentation, segmentBytes } from '../../src/memory/offload.ts';
import { Headers } from '../../src/net/headers.ts';
import { Coalescer } from '../../src/offload/coalesce.ts';
import { finishChecksum } from '../../src/offload/finish.ts';
import { Segmenter } from '../../src/offload/segment.ts';
import { readHeader, VIRTIO_HEADER_BYTES } from '../../src/offload/virtio.ts';
import { be16, OUR_IP, PEER_IP } from '../support/frames.ts';
import { privileged } from '../support/requirements.ts';
import {
  ACK,
  dissect,
  frameOf,
  noise,
  OUR_IP6,
  PEER_IP6,
  PSH,
  roomyMemory,
  type Segment,
  SYN,
  segment,
} from '../support/segments.ts';

const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
const IFF_TAP_NO_PI_VNET_HDR = 0x0002 | 0x1000 | 0x4000;
/** TUN_F_CSUM, TSO4, TSO6, USO4, USO6; kernels before 6.2 know the first three. */
const OFFLOADS = [0x67, 0x07];
const O_RDWR_NONBLOCK = 2 | 0o4000;
const NONBLOCK = 0o4000;
const [AF_INET, AF_INET6, STREAM, DATAGRAM] = [2, 10, 1, 2];
const [SOL_UDP, UDP_SEGMENT] = [17, 103];
const IPPROTO_IPV6 = 41;
const PATIENCE_MILLIS = 5000;

const shim = loadShim();
const namespace = `${freeLabName()}-guest`;
const { memory, large, frames } = roomyMemory();
const headers = new Headers();
let tap = -1;
let udpSegments = false;
/** Each socket's peer has a port of its own: what the sockets before it still send is not looked at. */
let peerPort = 1000;

beforeAll(
  privileged(() => {
    ip([`netns add ${namespace}`]);
    inNamespace(shim, namespace, () => {
      tap = check(shim.open('/dev/net/tun', O_RDWR_NONBLOCK), 'open');
      const request = new DataView(new ArrayBuffer(40));
      new TextEncoder().encodeInto('host', new Uint8Array(request.buffer));
      request.setUint16(16, IFF_TAP_NO_PI_VNET_HDR, true);
      check(shim.ioctl(tap, TUNSETIFF, request), 'TUNSETIFF');
      const taken = OFFLOADS.find((offloads) => shim.ioctl(tap, TUNSETOFFLOAD, offloads) >= 0);
      expect(taken).toBeDefined();
      udpSegments = taken === OFFLOADS[0];
    });
    ip(
      [
        'link set host address 02:00:00:00:00:02 up',
        'addr add 10.77.0.2/24 dev host',
        'addr add fd00::2/64 dev host nodad',
        'neigh replace 10.77.0.1 lladdr 02:00:00:00:00:99 dev host nud permanent',
        'neigh replace fd00::1 lladdr 02:00:00:00:00:99 dev host nud permanent',
      ],
      namespace,
    );
  }),
);

afterAll(
  privileged(() => {
    shim.close(tap);
    deleteNamespaces([namespace]);
  }),
);

/** The next packet that the kernel sends to the last socket's peer, and its offload word. */
function next(): { bytes: number; offload: number } {
  const deadline = Date.now() + PATIENCE_MILLIS;
  while (Date.now() < deadline) {
    const count = shim.read(tap, memory.bytes.subarray(large - VIRTIO_HEADER_BYTES, large + 70_000), 70_000);
    if (count === Errno.EAGAIN) continue;
    const bytes = check(count, 'read') - VIRTIO_HEADER_BYTES;
    const offload = readHeader(memory.view, large - VIRTIO_HEADER_BYTES, large, bytes, headers);
    expect(offload).toBeGreaterThanOrEqual(0);
    if (!headers.parse(memory.view, large, bytes)) continue;
    if (memory.view.getUint16(large + headers.l4 + 2) === peerPort) return { bytes, offload };
  }
  throw new Error('the kernel sent no such packet');
}

const packetAt = (offset: number, bytes: number): number[] => [
  ...memory.bytes.subarray(offset, offset + bytes),
];

/** The next packet or packets, finished and cut, as a receiver on the wire would see them. */
function receive(): { segments: Segment[]; kind: number; size: number } {
  const { bytes, offload } = next();
  const kind = segmentation(offload);
  if (kind === 0) {
    if (isUnfinished(offload)) finishChecksum(memory.view, large, headers);
    return { segments: [dissect(packetAt(large, bytes))], kind, size: 0 };
  }
  const segmenter = new Segmenter(memory);
  const pieces = segmenter.begin(large, bytes, offload, 1514);
  const segments = Array.from({ length: pieces }, (_, i) =>
    dissect(packetAt(frames, segmenter.write(i, frames))),
  );
  return { segments, kind, size: segmentBytes(offload) };
}

/** Hands packets to the kernel, each chain in one write, and says how many chains they came to. */
function deliver(packets: readonly (readonly number[])[]): number {
  const coalescer = new Coalescer(memory, packets.length);
  packets.forEach((packet, i) => {
    memory.bytes.set(packet, frames + i * 4096 + 256);
    expect(coalescer.add(frames + i * 4096 + 256, packet.length, 0)).toBe(true);
  });
  const chains = coalescer.close();
  for (let c = 0; c < chains; c++) {
    const whole: number[] = [];
    for (let e = coalescer.first[c]!; e < coalescer.first[c + 1]!; e++) {
      whole.push(...packetAt(coalescer.entryOffset[e]!, coalescer.entryBytes[e]!));
    }
    expect(shim.write(tap, Uint8Array.from(whole), whole.length)).toBe(whole.length);
  }
  return chains;
}

/** Sticky options of an IPv6 socket, each with the extension header that it makes the kernel send. */
const EXTENSIONS = [
  { name: 'hop-by-hop options', option: 54 /* IPV6_HOPOPTS */, type: 0, data: [1, 4, 0, 0, 0, 0] },
  {
    name: 'destination options',
    option: 59 /* IPV6_DSTOPTS */,
    type: 60,
    data: [1, 12, ...Array(12).fill(0)],
  },
];

function socket(
  version: 4 | 6,
  type: number,
  extensions: readonly (typeof EXTENSIONS)[number][] = [],
): number {
  const [family, address] = version === 4 ? [AF_INET, PEER_IP] : [AF_INET6, PEER_IP6];
  const name = new Uint8Array(version === 4 ? 16 : 28);
  name[0] = family;
  name.set(be16(++peerPort), 2);
  name.set(address, version === 4 ? 4 : 8);
  const fd = inNamespace(shim, namespace, () => shim.socket(family, type | NONBLOCK, 0));
  for (const { option, data } of extensions) {
    const header = Uint8Array.from([0, (data.length + 2) / 8 - 1, ...data]);
    check(shim.setsockopt(check(fd, 'socket'), IPPROTO_IPV6, option, header, header.length), 'setsockopt');
  }
  const result = shim.connect(check(fd, 'socket'), name, name.length);
  if (result !== -115 /* EINPROGRESS */) check(result, 'connect');
  return fd;
}

/** `InCsumErrors` of TCP over either IP. */
function checksumErrors(): number {
  const table = inNamespace(shim, namespace, () => readFileSync('/proc/thread-self/net/snmp', 'utf8'));
  const [names, values] = table.split('\n').filter((line) => line.startsWith('Tcp:'));
  return Number(values!.split(' ')[names!.split(' ').indexOf('InCsumErrors')]);
}

function read(fd: number, count: number): number[] {
  const all: number[] = [];
  const buffer = new Uint8Array(65_536);
  const deadline = Date.now() + PATIENCE_MILLIS;
  while (all.length < count && Date.now() < deadline) {
    const got = shim.recv(fd, buffer, buffer.length, 0);
    if (got !== Errno.EAGAIN) all.push(...buffer.subarray(0, check(got, 'recv')));
  }
  return all;
}

/** A connection: the kernel's socket, and the next segment of this side. */
function connection(
  version: 4 | 6,
  extensions: readonly (typeof EXTENSIONS)[number][] = [],
): { fd: number; ours: Segment; theirs: number } {
  const fd = socket(version, STREAM, extensions);
  const [syn] = receive().segments;
  expect(syn!.flags & SYN).toBe(SYN);
  expect(syn!.src).toEqual(version === 4 ? OUR_IP : OUR_IP6);
  const theirs = syn!.seq + 1;
  const base = { version, from: peerPort, to: syn!.from, ack: theirs, window: 65_535, payload: [] };
  const mss = [2, 4, 1400 >> 8, 1400 & 255];
  deliver([frameOf(segment({ ...base, seq: 5000, flags: SYN | ACK, options: mss }))]);
  expect(receive().segments[0]!.flags).toBe(ACK);
  return { fd, ours: segment({ ...base, seq: 5001 }), theirs };
}

/** Has the kernel send `bytes` bytes, and sees that they come in order, in segments of no more than the MSS. */
function expectSent(fd: number, theirs: number, bytes: number): { segments: Segment[]; kinds: Set<number> } {
  const data = noise(bytes, 1);
  expect(shim.send(fd, Uint8Array.from(data), data.length, 0)).toBe(data.length);
  const got: Segment[] = [];
  const kinds = new Set<number>();
  while (got.reduce((sum, { payload }) => sum + payload.length, 0) < data.length) {
    const { segments, kind } = receive();
    kinds.add(kind);
    got.push(...segments);
  }
  expect(got.flatMap(({ payload }) => payload)).toEqual(data);
  got.reduce((seq, s) => {
    expect(s.seq).toBe(seq >>> 0);
    expect(s.payload.length).toBeLessThanOrEqual(1400);
    return seq + s.payload.length;
  }, theirs);
  return { segments: got, kinds };
}

describe.each([
  { names: 'hop-by-hop options', extensions: EXTENSIONS.slice(0, 1) },
  { names: 'destination options', extensions: EXTENSIONS.slice(1) },
  { names: 'both', extensions: EXTENSIONS },
])('the kernel, with $names in each IPv6 packet,', ({ extensions }) => {
  const headers = extensions.map(({ type, data }) => ({ type, data }));

  it('sends large segments of TCP, which are cut with those headers in each frame', () => {
    const { fd, theirs } = connection(6, extensions);
    const { segments, kinds } = expectSent(fd, theirs, 13_000);
    expect(kinds).toContain(4);
    for (const s of segments) expect(s.extensions).toEqual(headers);
    shim.close(fd);
  });

  // Whole or, as Linux 6.18 does for the lack of a checksum to leave unfinished, cut by itself.
  it('sends datagrams in one call, which all arrive with those headers', ({ skip }) => {
    if (!udpSegments) skip('this kernel cuts them itself');
    const fd = socket(6, DATAGRAM, extensions);
    check(shim.setsockopt(fd, SOL_UDP, UDP_SEGMENT, new Int32Array([1001]), 4), 'UDP_SEGMENT');
    const data = noise(5000, 3);
    expect(shim.send(fd, Uint8Array.from(data), data.length, 0)).toBe(data.length);
    const got: Segment[] = [];
    while (got.length < 5) got.push(...receive().segments);
    expect(got.flatMap(({ payload }) => payload)).toEqual(data);
    for (const s of got) expect(s.extensions).toEqual(headers);
    shim.close(fd);
  });
});

describe.each([4, 6] as const)('the kernel, over IPv%i,', (version) => {
  it('sends large segments, which are cut into what it would have sent itself', () => {
    const { fd, theirs } = connection(version);
    expect(expectSent(fd, theirs, 13_000).kinds).toContain(version === 4 ? 1 : 4);
    shim.close(fd);
  });

  it('takes a merged train, and a damaged part of one it refuses alone', () => {
    const { fd, ours } = connection(version);
    const data = noise(20 * 1401 + 7, 2);
    const packets = Array.from({ length: 21 }, (_, i) => {
      const payload = data.slice(i * 1401, (i + 1) * 1401);
      return frameOf({ ...ours, seq: ours.seq + i * 1401, flags: i === 20 ? ACK | PSH : ACK, payload });
    });
    const before = checksumErrors();
    const damaged = packets.map((packet) => [...packet]);
    damaged[7]![1000]! ^= 0x10;
    expect(deliver(damaged)).toBe(3);
    expect(read(fd, 7 * 1401)).toEqual(data.slice(0, 7 * 1401));
    expect(checksumErrors()).toBe(before + 1);
    expect(shim.recv(fd, new Uint8Array(10), 10, 0)).toBe(Errno.EAGAIN);

    // The packet again, with the next one, which is here already.
    expect(deliver(packets.slice(7, 9))).toBe(1);
    expect(read(fd, data.length - 7 * 1401)).toEqual(data.slice(7 * 1401));
    expect(checksumErrors()).toBe(before + 1);
    shim.close(fd);
  });

  it('sends datagrams to be cut', ({ skip }) => {
    if (!udpSegments) skip('this kernel cuts them itself');
    const fd = socket(version, DATAGRAM);
    check(shim.setsockopt(fd, SOL_UDP, UDP_SEGMENT, new Int32Array([1001]), 4), 'UDP_SEGMENT');
    const data = noise(5000, 3);
    expect(shim.send(fd, Uint8Array.from(data), data.length, 0)).toBe(data.length);
    const { segments, kind, size } = receive();
    expect([kind, size]).toEqual([5, 1001]);
    expect(segments.map(({ payload }) => payload.length)).toEqual([1001, 1001, 1001, 1001, 996]);
    expect(segments.flatMap(({ payload }) => payload)).toEqual(data);
    shim.close(fd);
  });
});
