/**
 * The programs and links on real devices: a guest namespace with a NetVSC stand-in `nv` (one end of a
 * veth pair, two queues) and taps, and an outside namespace with the other end, `out`.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { check, Errno } from '../../src/errors.ts';
import { Assembler } from '../../src/kernel/assembler.ts';
import { Bpf, LinkType } from '../../src/kernel/bpf.ts';
import { kernelIsAtLeast } from '../../src/kernel/machine.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { tapSteering, tcRedirect, Unclaimed, xdpRedirect } from '../../src/kernel/programs.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { addressOf, loadShim } from '../../src/kernel/shim.ts';
import { Xsk } from '../../src/memory/abi.ts';
import { privileged } from '../support/requirements.ts';

/** Kernel 6.6. */
const HAS_TCX = kernelIsAtLeast(6, 6);
const GUEST = `tp-bpf-guest-${process.pid}`;
const OUTSIDE = `tp-bpf-out-${process.pid}`;
const QUEUES = 2;
/** Enough that all of them hashing to one of two queues is a matter of 2^-31. */
const FLOWS = 32;

const AF_PACKET = 17;
const SOCK_RAW_NONBLOCK = 3 | 0o4000 | 0o2000000;
const O_RDWR_NONBLOCK = 2 | 0o4000 | 0o2000000;
const TUNSETIFF = 0x400454ca;
const TUNSETSTEERINGEBPF = 0x800454e0;
const TAP_MULTI_QUEUE = 0x0002 | 0x1000 | 0x0100;
const BPF_LINK_GET_FD_BY_ID = 30;

/** Offsets inside the test frame: Ethernet, IPv4, UDP, then flow number and the program's stamp. */
const FRAME_BYTES = 64;
const SOURCE_PORT = 34;
const STAMP = 46;
const FIRST_PORT = 5000;

const shim = loadShim();
const bpf = new Bpf(shim);
let open: number[] = [];

function own(fd: number): number {
  open.push(fd);
  return fd;
}

function ip(...words: string[]): string {
  return execFileSync('ip', words, { encoding: 'utf8' });
}

function ifindex(namespace: string, device: string): number {
  return Number(ip('-n', namespace, '-o', 'link', 'show', device).split(':')[0]);
}

function tap(name: string, queues: number): number[] {
  return Array.from({ length: queues }, () => {
    const fd = own(check(shim.open('/dev/net/tun', O_RDWR_NONBLOCK), 'open'));
    const request = new DataView(new ArrayBuffer(40));
    new TextEncoder().encodeInto(name, new Uint8Array(request.buffer));
    request.setUint16(16, TAP_MULTI_QUEUE, true);
    check(shim.ioctl(fd, TUNSETIFF, request), 'ioctl(TUNSETIFF)');
    return fd;
  });
}

function steer(fd: number, code: Uint8Array): void {
  const program = own(bpf.load('socket_filter', 'tp_steer', code));
  check(shim.ioctl(fd, TUNSETSTEERINGEBPF, new Int32Array([program])), 'ioctl(TUNSETSTEERINGEBPF)');
}

/** A raw socket on a device; `protocol` 0 only sends. */
function rawSocket(device: number, protocol: number): number {
  const fd = own(check(shim.socket(AF_PACKET, SOCK_RAW_NONBLOCK, 0), 'socket'));
  const name = new DataView(new ArrayBuffer(20));
  name.setUint16(0, AF_PACKET, true);
  name.setUint16(2, protocol);
  name.setInt32(4, device, true);
  check(shim.bind(fd, name, 20), 'bind');
  return fd;
}

/** UDP, each flow with a source port of its own. */
function udp(flow: number): Uint8Array {
  const frame = new DataView(new ArrayBuffer(FRAME_BYTES));
  [0x02000000, 0x00010200, 0x00000002].forEach((word, i) => {
    frame.setUint32(i * 4, word);
  });
  frame.setUint16(12, 0x0800);
  [0x45000032, 0, 0x40110000, 0x0a000002, 0x0a000001].forEach((word, i) => {
    frame.setUint32(14 + i * 4, word);
  });
  frame.setUint16(SOURCE_PORT, FIRST_PORT + flow);
  frame.setUint16(SOURCE_PORT + 2, 7);
  frame.setUint16(SOURCE_PORT + 4, FRAME_BYTES - SOURCE_PORT);
  frame.setUint32(STAMP, 0xffff, true);
  return new Uint8Array(frame.buffer);
}

interface Arrival {
  /** Which of the descriptors it was read from. */
  readonly at: number;
  readonly flow: number;
  readonly stamp: number;
}

/** Reads until `count` test frames have come, or two seconds have gone. */
async function arrivals(fds: readonly number[], count: number): Promise<Arrival[]> {
  const seen: Arrival[] = [];
  const frame = new DataView(new ArrayBuffer(2048));
  for (let tries = 0; seen.length < count && tries < 400; tries++) {
    fds.forEach((fd, at) => {
      while (shim.read(fd, frame, frame.byteLength) > 0) {
        if (frame.getUint16(12) !== 0x0800) continue;
        seen.push({
          at,
          flow: frame.getUint16(SOURCE_PORT) - FIRST_PORT,
          stamp: frame.getUint32(STAMP, true),
        });
      }
    });
    if (seen.length < count) await sleep(5);
  }
  return seen;
}

/** XDP that writes the RX queue into the frame and passes it: a second witness for the queue. */
function stampQueue(): Uint8Array {
  return new Assembler()
    .loadW(2, 1, 0)
    .loadW(3, 1, 4)
    .mov(4, 2)
    .aluImm('add', 4, FRAME_BYTES)
    .jumpIf('jgt', 4, 3, 'pass')
    .loadW(5, 1, 16)
    .storeW(2, 5, STAMP)
    .label('pass')
    .movImm(0, 2)
    .exit()
    .assemble();
}

function xdp(namespace: string, device: number, code: Uint8Array): number {
  const program = own(bpf.load('xdp', 'tp_test', code));
  const link = inNamespace(shim, namespace, () => bpf.attachXdp(program, device, 'native'));
  return own(check(link, 'bpf(LINK_CREATE)'));
}

/** From a device's ingress to another's egress, by a link or, on a kernel without tcx, by a filter that goes with the device. */
function redirect(from: number, to: number): void {
  if (HAS_TCX) {
    redirectByLink(from, to);
    return;
  }
  const program = own(bpf.load('sched_cls', 'tp_redirect', tcRedirect(to)));
  const netlink = inNamespace(shim, GUEST, () => RtNetlink.open(shim));
  try {
    netlink.addClsact(from);
    netlink.addBpfFilter(from, 'ingress', program, 'tp_redirect', 1, 1);
  } finally {
    netlink.close();
  }
}

function redirectByLink(from: number, to: number): number {
  const program = own(bpf.load('sched_cls', 'tp_redirect', tcRedirect(to)));
  const link = inNamespace(shim, GUEST, () => bpf.attachTcx(program, from, 'ingress'));
  return own(check(link, 'bpf(LINK_CREATE)'));
}

function deleteNamespaces(): void {
  for (const name of [GUEST, OUTSIDE]) {
    try {
      execFileSync('ip', ['netns', 'del', name], { stdio: 'ignore' });
    } catch {
      // it was not there
    }
  }
}

describe('BPF on real devices', () => {
  let nv: number;
  let out: number;

  beforeAll(
    privileged(() => {
      for (const name of [GUEST, OUTSIDE]) {
        ip('netns', 'add', name);
        inNamespace(shim, name, () => writeFileSync('/proc/sys/net/ipv6/conf/all/disable_ipv6', '1'));
      }
    }),
  );
  afterAll(privileged(deleteNamespaces));

  beforeEach(() => {
    const queues = ['numtxqueues', `${QUEUES}`, 'numrxqueues', `${QUEUES}`];
    ip(
      'link',
      'add',
      'nv',
      'netns',
      GUEST,
      ...queues,
      'type',
      'veth',
      'peer',
      'name',
      'out',
      'netns',
      OUTSIDE,
      ...queues,
    );
    ip('-n', GUEST, 'link', 'set', 'nv', 'up');
    ip('-n', OUTSIDE, 'link', 'set', 'out', 'up');
    nv = ifindex(GUEST, 'nv');
    out = ifindex(OUTSIDE, 'out');
  });
  afterEach(() => {
    for (const fd of open.reverse()) shim.close(fd);
    open = [];
    ip('-n', GUEST, 'link', 'del', 'nv');
  });

  it('a tap fed from a veth keeps each flow on the queue that the sender chose', async () => {
    const fds = inNamespace(shim, GUEST, () => tap('cap', QUEUES));
    steer(fds[0]!, tapSteering('raw'));
    ip('-n', GUEST, 'link', 'set', 'cap', 'up');
    xdp(GUEST, nv, stampQueue());
    redirect(nv, ifindex(GUEST, 'cap'));
    const sender = inNamespace(shim, OUTSIDE, () => rawSocket(out, 0));
    for (let i = 0; i < 2 * FLOWS; i++) {
      expect(shim.send(sender, udp(i % FLOWS), FRAME_BYTES, 0)).toBe(FRAME_BYTES);
    }
    const seen = await arrivals(fds, 2 * FLOWS);
    expect(seen).toHaveLength(2 * FLOWS);
    expect(new Set(seen.map(({ at }) => at)).size).toBe(QUEUES);
    for (const { at, stamp } of seen) expect(at).toBe(stamp);
    // Two frames of a flow on one queue each: as many (flow, queue) pairs as flows.
    expect(new Set(seen.map(({ at, flow }) => `${flow}@${at}`)).size).toBe(FLOWS);
  });

  it.each([
    { queues: 2, expected: [0, 1] },
    { queues: 1, expected: [0, 0] },
  ])(
    'a tap with $queues queues takes packets by the queue that the driver recorded',
    async ({ queues, expected }) => {
      // A tap records the queue of each frame written to it, as hv_netvsc does for received ones.
      const [source, fds] = inNamespace(shim, GUEST, () => [tap('source', 2), tap('cap', queues)] as const);
      steer(fds[0]!, tapSteering());
      for (const device of ['source', 'cap']) ip('-n', GUEST, 'link', 'set', device, 'up');
      redirect(ifindex(GUEST, 'source'), ifindex(GUEST, 'cap'));
      for (const [queue, at] of expected.entries()) {
        for (let flow = 0; flow < FLOWS; flow++) {
          expect(shim.write(source[queue]!, udp(flow), FRAME_BYTES)).toBe(FRAME_BYTES);
        }
        const seen = await arrivals(fds, FLOWS);
        expect(seen).toHaveLength(FLOWS);
        expect(new Set(seen.map((arrival) => arrival.at))).toEqual(new Set([at]));
      }
    },
  );

  it('a frame written to queue q of the tap reaches the far end on its RX queue q', async () => {
    const fds = inNamespace(shim, GUEST, () => tap('cap', QUEUES));
    ip('-n', GUEST, 'link', 'set', 'cap', 'up');
    redirect(ifindex(GUEST, 'cap'), nv);
    xdp(OUTSIDE, out, stampQueue());
    const receiver = inNamespace(shim, OUTSIDE, () => rawSocket(out, 0x0800));
    for (const [queue, fd] of fds.entries()) {
      for (let flow = 0; flow < FLOWS; flow++) shim.write(fd, udp(flow), FRAME_BYTES);
      const seen = await arrivals([receiver], FLOWS);
      expect(seen.map(({ flow }) => flow)).toEqual(Array.from({ length: FLOWS }, (_, i) => i));
      for (const { stamp } of seen) expect(stamp).toBe(queue);
    }
  });

  it('XDP hands a packet to the socket in its slot, and to the kernel when the slot is empty', async () => {
    const page = 4096;
    const frames = 64;
    // Frames, then two pages for each of the four rings, page aligned.
    const rings = frames * 2048;
    const memory = new SharedArrayBuffer(rings + 9 * page);
    const origin = page - (addressOf(new Uint8Array(memory)) % page);
    const view = new DataView(memory, origin);
    const words = new Int32Array(memory, origin);
    const base = addressOf(view);
    const request = new DataView(new ArrayBuffer(Xsk.bytes));
    request.setBigUint64(Xsk.umemAddr, BigInt(base), true);
    request.setBigUint64(Xsk.umemLen, BigInt(rings), true);
    request.setUint32(Xsk.frameSize, 2048, true);
    for (let i = 0; i < 4; i++) {
      request.setBigUint64(Xsk.ringAddr + 8 * i, BigInt(base + rings + i * 2 * page), true);
      request.setUint32(Xsk.ringRoom + 4 * i, 2 * page, true);
      request.setUint32(Xsk.ringEntries + 4 * i, frames, true);
    }
    const map = own(bpf.xskMap(QUEUES));
    const [gate, count] = [own(bpf.valueMap()), own(bpf.valueMap())];
    bpf.setValue(gate, Unclaimed.PASS);
    xdp(GUEST, nv, xdpRedirect(map, gate, count));
    const socket = inNamespace(shim, GUEST, () => check(shim.xskOpen(request, view), 'xsk'));
    try {
      inNamespace(shim, GUEST, () => check(shim.xskBind(socket, nv, 0, 2, 0), 'bind'));
      const word = (ring: number, field: number): number =>
        rings + ring * 2 * page + request.getUint32(Xsk.ring + 24 * ring + 4 * field, true);
      for (let i = 0; i < frames; i++) view.setBigUint64(word(0, 3) + 8 * i, BigInt(i * 2048), true);
      Atomics.store(words, word(0, 0) / 4, frames);
      const received = (): number => Atomics.load(words, word(1, 0) / 4);

      const stack = inNamespace(shim, GUEST, () => rawSocket(nv, 0x0800));
      const sender = inNamespace(shim, OUTSIDE, () => rawSocket(out, 0));
      const send = (): void => {
        for (let flow = 0; flow < FLOWS; flow++) shim.send(sender, udp(flow), FRAME_BYTES, 0);
      };

      send();
      expect(await arrivals([stack], FLOWS)).toHaveLength(FLOWS);
      expect(received()).toBe(0);

      bpf.updateMap(map, 0, socket);
      send();
      for (let tries = 0; received() === 0 && tries < 400; tries++) await sleep(5);
      const passed = (await arrivals([stack], FLOWS - received())).length;
      expect(received()).toBeGreaterThan(0);
      expect(passed).toBeGreaterThan(0); // those of queue 1, whose slot is empty
      expect(received() + passed).toBe(FLOWS);

      expect(bpf.value(count)).toBe(0);
      bpf.setValue(gate, Unclaimed.DROP);
      const taken = received();
      send();
      for (let tries = 0; bpf.value(count) + received() - taken < FLOWS && tries < 400; tries++)
        await sleep(5);
      expect(bpf.value(count)).toBe(passed); // the same flows on the same queue
      expect(shim.recv(stack, new Uint8Array(2048), 2048, 0)).toBe(Errno.EAGAIN);
      bpf.setValue(gate, Unclaimed.PASS);

      const before = received();
      expect(bpf.deleteMap(map, 0)).toBe(true);
      send();
      expect(await arrivals([stack], FLOWS)).toHaveLength(FLOWS);
      expect(received()).toBe(before);
    } finally {
      shim.xskClose(request, view);
    }
  });

  it('an XSKMAP has the slots it was made with, and says true for an empty one', () => {
    const map = own(bpf.xskMap(QUEUES));
    expect(bpf.deleteMap(map, 0)).toBe(true);
    expect(() => bpf.deleteMap(map, QUEUES)).toThrow('EINVAL');
    expect(() => bpf.updateMap(map, QUEUES, map)).toThrow('E2BIG');
    expect(() => bpf.updateMap(map, 0, map)).toThrow('ENOTSOCK');
  });

  it('a link describes its program and device, and nothing is attached after detach', () => {
    const program = own(bpf.load('xdp', 'tp_info', stampQueue()));
    const link = xdp(GUEST, nv, stampQueue());
    expect(bpf.linkInfo(link)).toMatchObject({ type: LinkType.xdp, ifindex: nv });
    inNamespace(shim, GUEST, () => {
      expect(bpf.attachXdp(program, nv, 'native')).toBe(Errno.EBUSY);
      expect(bpf.attachXdp(program, nv, 'generic')).toBe(Errno.EEXIST);
      expect(bpf.attachXdp(program, 0x7fffffff, 'native')).toBe(Errno.EINVAL);
      expect(bpf.attachTcx(program, nv, 'ingress')).toBe(Errno.EINVAL); // it is no tc program, or there is no tcx
    });
    open = open.filter((fd) => fd !== link);
    bpf.detach(link);
    const generic = inNamespace(shim, GUEST, () => own(bpf.attachXdp(program, nv, 'generic')));
    expect(bpf.linkInfo(generic).programId).toBe(bpf.programInfo(program).id);
    expect(bpf.programInfo(program).name).toBe('tp_info');
  });

  it('a tcx link describes its device, and a device that does not exist is refused with ENODEV', ({
    skip,
  }) => {
    skip(!HAS_TCX, 'needs tcx: Linux 6.6');
    const tcx = redirectByLink(nv, nv);
    expect(() => redirectByLink(0x7fffffff, nv)).toThrow('ENODEV');
    expect(bpf.linkInfo(tcx)).toMatchObject({ type: LinkType.tcx, ifindex: nv });
  });

  /** Links of each kind that this kernel has. */
  const links = (device: number): number[] => [
    xdp(GUEST, device, stampQueue()),
    ...(HAS_TCX ? [redirectByLink(device, nv)] : []),
  ];

  it('a link outlives its device as an empty shell, which detach still accepts', () => {
    ip('-n', GUEST, 'link', 'add', 'gone', 'type', 'veth', 'peer', 'name', 'gone2');
    const made = links(ifindex(GUEST, 'gone'));
    ip('-n', GUEST, 'link', 'del', 'gone');
    open = open.filter((fd) => !made.includes(fd));
    for (const link of made) {
      expect(bpf.linkInfo(link).ifindex).toBe(0);
      bpf.detach(link);
      expect(() => bpf.linkInfo(link)).toThrow('EBADF');
    }
  });

  it('links are gone when the process that holds them is killed', async () => {
    const made = links(nv);
    const ids = made.map((link) => bpf.linkInfo(link).id);
    const alive = (): boolean[] =>
      ids.map((id) => {
        const fd = shim.bpf(BPF_LINK_GET_FD_BY_ID, new Uint32Array([id, 0, 0]), 12);
        if (fd >= 0) shim.close(fd);
        else expect(fd).toBe(Errno.ENOENT);
        return fd >= 0;
      });
    // The child inherits them and from then on is the only one that holds them.
    const child = spawn('sleep', ['60'], { stdio: ['ignore', 'ignore', 'ignore', ...made] });
    try {
      await once(child, 'spawn');
      open = open.filter((fd) => !made.includes(fd));
      for (const link of made) shim.close(link);
      expect(alive()).toEqual(made.map(() => true));
    } finally {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    for (let tries = 0; alive().includes(true) && tries < 400; tries++) await sleep(5);
    expect(alive()).toEqual(made.map(() => false));
    xdp(GUEST, nv, stampQueue());
  });

  it('a program that the verifier rejects is refused with the reason it gave', () => {
    const unset = new Assembler().exit().assemble();
    expect(() => bpf.load('xdp', 'tp_bad', unset)).toThrow(/program tp_bad: .*R0 !read_ok/);
    expect(() => bpf.load('xdp', 'no/slash', unset)).toThrow('no/slash is not a name for a BPF object');
    expect(() => bpf.load('xdp', 'tp_empty', new Uint8Array(0))).toThrow('E2BIG');
  });
});
