/** A VF's path queue without a port around it: frames by AF_XDP, large segments by a packet socket beside it. */
import { expect, it, onTestFinished } from 'vitest';
import { check, Errno } from '../../src/errors.ts';
import { EthtoolNetlink } from '../../src/kernel/ethtool-netlink.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { SettingsStore } from '../../src/kernel/settings-store.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { switchOffloadsOff } from '../../src/lab/devices.ts';
import { ip } from '../../src/lab/namespaces.ts';
import { pathCounters } from '../../src/memory/counters.ts';
import { FramePool } from '../../src/memory/frames.ts';
import { HEADROOM, Path } from '../../src/memory/layout.ts';
import { offloadWord, Segmentation } from '../../src/memory/offload.ts';
import { Memory } from '../../src/memory/shared.ts';
import { AfXdpDevice } from '../../src/paths/af-xdp/device.ts';
import { attach } from '../../src/paths/attach.ts';
import { buildLab, type Lab, until } from '../support/harness.ts';
import { frameOf, noise, segment } from '../support/segments.ts';

const AF_PACKET = 17;
const SOCK_RAW_NONBLOCK = 3 | 0o4000 | 0o2000000;
/** The other protocols come only after the lab's own programs. */
const ETH_P_ALL = 3;
/** Ethernet, IPv4 and TCP without options. */
const HEADERS = 14 + 20 + 20;
const MSS = 1400;
const LARGE = 40 * MSS;
/** More than two kicks' worth before Linux 6.17. */
const ROW = 70;

const shim = loadShim();
const address = { port: 0, queue: 0, path: Path.VF };

/** A VF in the guest and its path queue, until the test is over. */
async function rig() {
  const lab = await buildLab({ queues: 1 });
  await lab.nic.plug();
  const geometry = { pageSize: 4096, ports: 1, queues: 1, frameSize: 2048, framesPerWorker: 1024 };
  const memory = Memory.create({ ...geometry, ringEntries: 256 });
  const device = inNamespace(shim, lab.guest, () => {
    const netlink = RtNetlink.open(shim);
    const link = netlink.link(lab.nic.vf!)!;
    netlink.close();
    const ethtool = EthtoolNetlink.open(shim);
    onTestFinished(() => ethtool.close());
    const place = { ethtool, store: SettingsStore.open(shim) };
    const options = { rss: 'device', rssKey: new Uint8Array(40), segments: true, ...place } as const;
    const made = new AfXdpDevice(shim, memory, 0, Path.VF, link, options);
    made.open();
    return made;
  });
  onTestFinished(() => device.close());
  const pool = new FramePool(memory, 0);
  const queue = attach({ shim, memory, pool }, address)!;
  pool.owners.recover([queue]);
  const counter = pathCounters(memory, 0, 0, Path.VF);
  let number = 0;

  const packet = (bytes: number): number[] =>
    frameOf(segment({ seq: number, payload: noise(bytes, number), unfinished: bytes > MSS }));
  const rigged = {
    ...{ lab, device, queue },
    get sent() {
      return number;
    },
    count: (name: keyof typeof counter): number => memory.doubles[counter[name]]!,
    push(): void {
      expect(queue.tx.room(1)).toBe(1);
      const at = memory.layout.frames + pool.peek(0) + HEADROOM;
      const bytes = packet(50);
      memory.bytes.set(bytes, at);
      queue.tx.push(at, bytes.length);
      pool.remove(1);
      number++;
    },
    /** Whether it went. */
    segment(): boolean {
      const at = memory.layout.hostBuffers(0, 0) + HEADROOM;
      const bytes = packet(LARGE);
      memory.bytes.set(bytes, at);
      const went = queue.tx.sendSegment!(at, bytes.length, offloadWord(MSS, Segmentation.TCP_V4, true));
      if (went) number++;
      return went;
    },
  };
  return rigged;
}

/** What arrives at the other end of the VF: the number and the payload's length of each packet. */
function wire(lab: Lab): () => [seq: number, payload: number][] {
  const fd = inNamespace(shim, lab.host, () => {
    const socket = check(shim.socket(AF_PACKET, SOCK_RAW_NONBLOCK, 0), 'socket');
    const netlink = RtNetlink.open(shim);
    const name = new DataView(new ArrayBuffer(20));
    name.setUint16(0, AF_PACKET, true);
    name.setUint16(2, ETH_P_ALL);
    name.setInt32(4, netlink.link(`v${lab.nic.number}`)!.ifindex, true);
    netlink.close();
    check(shim.bind(socket, name, 20), 'bind');
    return socket;
  });
  onTestFinished(() => void shim.close(fd));
  const room = new Uint8Array(70_000);
  const seen: [number, number][] = [];
  return () => {
    for (;;) {
      const bytes = shim.recv(fd, room, room.length, 0);
      if (bytes === Errno.EAGAIN) return seen;
      const packet = room.subarray(0, check(bytes, 'recv'));
      // As the device was given it: the checksum of a large segment is unfinished, which dissect() refuses.
      const seq = new DataView(room.buffer).getUint32(HEADERS - 16);
      const payload = [...packet.subarray(HEADERS)];
      expect(payload).toEqual(noise(payload.length, seq));
      seen.push([seq, payload.length]);
    }
  };
}

it('frames and uncut segments leave a VF in the order of their pushes', async () => {
  const vf = await rig();
  expect(vf.device.description.mode).toBe('native copy, packet socket for large segments');
  const arrived = wire(vf.lab);
  const expected: [number, number][] = [];
  for (const frames of [0, 1, 0, 0, 2, ROW, 1, 0]) {
    for (let i = 0; i < frames; i++) {
      expected.push([vf.sent, 50]);
      vf.push();
    }
    expected.push([vf.sent, LARGE]);
    expect(vf.segment()).toBe(true);
    await until('the packets so far', () => arrived().length >= vf.sent);
    vf.queue.tx.complete();
  }
  expect(arrived()).toEqual(expected);
  expect(vf.queue.ledger()).toMatchObject({ tx: 0, completing: 0 });
  expect([vf.count('txSegments'), vf.count('txSegmentsRefused')]).toEqual([8, 0]);
  expect(vf.count('txPackets')).toBe(expected.length);
});

it('a VF that is down, gone or without TSO gets no uncut segment', async () => {
  const vf = await rig();
  const { lab, queue } = vf;
  const arrived = wire(lab);
  /** Refusals of a device make the next segments be cut without a try: until one is tried, then. */
  const goes = (): boolean => {
    const tries = (): number => vf.count('txSegments') + vf.count('txSegmentsRefused');
    for (const before = tries(); ; ) {
      const went = vf.segment();
      if (tries() > before) return went;
    }
  };
  expect(goes()).toBe(true);
  ip([`link set ${lab.nic.vf} down`], lab.guest);
  expect(goes()).toBe(false);
  ip([`link set ${lab.nic.vf} up`], lab.guest);
  await until('a carrier', goes);
  inNamespace(shim, lab.guest, () => switchOffloadsOff(shim, lab.nic.vf!));
  expect(goes()).toBe(false);
  vf.push();
  expect(queue.tx.flush()).toBe(0);
  await until('all that went', () => arrived().length >= vf.sent);
  expect(arrived()).toEqual([
    [0, LARGE],
    [1, LARGE],
    [2, 50],
  ]);
  await lab.nic.unplug();
  expect(goes()).toBe(false);
});
