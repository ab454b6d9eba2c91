/**
 * The host path in a lab, without workers: the test itself reads and writes the taps, or has
 * fixtures/host-pump.mjs do it. `guest` is the machine whose stack this is about.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { check } from '../../src/errors.ts';
import { Assembler } from '../../src/kernel/assembler.ts';
import { Bpf } from '../../src/kernel/bpf.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { MARK } from '../../src/kernel/programs.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { addressOf, loadShim } from '../../src/kernel/shim.ts';
import { internetAddress } from '../../src/lab/udp.ts';
import { Driver, Path } from '../../src/memory/layout.ts';
import { Memory } from '../../src/memory/shared.ts';
import { macBytes } from '../../src/net/mac.ts';
import { VIRTIO_HEADER_BYTES as VNET_HEADER } from '../../src/offload/virtio.ts';
import { HostDevice } from '../../src/paths/host/device.ts';
import { HostRedirect } from '../../src/paths/host/redirect.ts';
import { openHostTap } from '../../src/paths/host/tap.ts';
import { openTap } from '../../src/paths/tap/open.ts';
import { TcRedirect } from '../../src/paths/tap/redirect.ts';
import type { RedirectKind } from '../../src/paths/tc-attachments.ts';
import { be16, naiveChecksum } from '../support/frames.ts';
import { buildLab, type Lab, nothingLeft, until } from '../support/harness.ts';
import { attachments } from '../support/machine-state.ts';

const PUMP = fileURLToPath(new URL('../fixtures/host-pump.mjs', import.meta.url));
/** Longer than a frame of the lab's MTU, header and all. */
const SEGMENT = 1514;

const AF_INET = 2;
const SOCK_DGRAM_NONBLOCK = 2 | 0o4000 | 0o2000000;
const SOL_SOCKET = 1;
const SO_ATTACH_BPF = 50;
/** `struct __sk_buff` */
const SKB_MARK = 8;

const shim = loadShim();
const bpf = new Bpf(shim);
const outsideMac = '02:15:5d:77:00:01';

interface Rig {
  readonly netvsc: number;
  readonly capture: readonly number[];
  readonly host: readonly number[];
  readonly redirect: TcRedirect;
  readonly hostRedirect: HostRedirect;
  /** Links are made in the thread's namespace. */
  readonly enableInline: () => void;
}

/** Both taps and their redirects in the guest, until the test is over. */
function rig(lab: Lab, { kind = 'tcx', queues = 1 }: { kind?: RedirectKind; queues?: number } = {}): Rig {
  return inNamespace(shim, lab.guest, () => {
    const netlink = RtNetlink.open(shim);
    const { ifindex: netvsc, mtu, name: device } = netlink.link(lab.nic.netvsc)!;
    const capture = openTap(shim, netlink, { template: 'twinpath%d', queues, mtu });
    const host = openHostTap(shim, netlink, { queues, mtu });
    const redirect = new TcRedirect(shim, netlink, {
      netvsc,
      tap: capture.ifindex,
      device,
      kind,
      marks: true,
    });
    redirect.attach();
    const hostRedirect = new HostRedirect(shim, netlink, { netvsc, tap: host.ifindex, device, kind });
    hostRedirect.attach();
    expect([redirect.name, hostRedirect.name]).toEqual(
      Array(2).fill(kind === 'tcx' ? 'tcx links' : 'clsact filters'),
    );
    const enableInline = (): void => inNamespace(shim, lab.guest, () => hostRedirect.enableInline());
    onTestFinished(async () => {
      hostRedirect.release();
      redirect.release();
      for (const fd of [...capture.fds, ...host.fds]) shim.close(fd);
      await nothingLeft(lab);
      netlink.close();
    });
    return { netvsc, capture: capture.fds, host: host.fds, redirect, hostRedirect, enableInline };
  });
}

function udpSocket(namespace: string, port: number, peer?: readonly [string, number]): number {
  return inNamespace(shim, namespace, () => {
    const fd = check(shim.socket(AF_INET, SOCK_DGRAM_NONBLOCK, 0), 'socket');
    onTestFinished(() => void shim.close(fd));
    check(shim.bind(fd, internetAddress('0.0.0.0', port), 16), 'bind');
    if (peer) check(shim.connect(fd, internetAddress(...peer), 16), 'connect');
    return fd;
  });
}

/** The socket takes only packets with this fwmark from now on. */
function onlyMarked(socket: number, mark: number): void {
  const code = new Assembler()
    .loadW(2, 1, SKB_MARK)
    .movImm(0, -1)
    .jeqImm(2, mark, 'take')
    .movImm(0, 0)
    .label('take')
    .exit()
    .assemble();
  const program = bpf.load('socket_filter', 'tp_only_marked', code);
  check(shim.setsockopt(socket, SOL_SOCKET, SO_ATTACH_BPF, new Int32Array([program]), 4), 'setsockopt');
  shim.close(program);
}

/** Packets of whatever descriptor, `count` at least or what has come in `millis`. */
async function read(fd: number, count: number, millis?: number): Promise<Uint8Array[]> {
  const found: Uint8Array[] = [];
  const room = new Uint8Array(VNET_HEADER + 65_550);
  const enough = (): boolean => {
    for (;;) {
      const length = shim.read(fd, room, room.length);
      if (length < 0) return found.length >= count;
      found.push(room.slice(0, length));
    }
  };
  await until(`${count} packets`, enough, millis);
  return found;
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();
const addressBytes = (address: string): number[] => address.split('.').map(Number);

interface Datagram {
  readonly to: string;
  readonly fromPort: number;
  readonly toPort: number;
  readonly payload: string;
}

/** From the outside host to the guest, complete with checksums. */
function datagram(lab: Lab, { to, fromPort, toPort, payload }: Datagram): Uint8Array {
  const data = [...Buffer.from(payload)];
  const length = 8 + data.length;
  const { guestAddress, outsideAddress } = lab.nic;
  const addresses = [...addressBytes(outsideAddress), ...addressBytes(guestAddress)];
  const head = (sum: number[]): number[] => [
    ...[0x45, 0, ...be16(20 + length), 0, 1, 0, 0, 64, 17, ...sum],
    ...addresses,
  ];
  const udp = (sum: number[]): number[] => [
    ...[...be16(fromPort), ...be16(toPort), ...be16(length), ...sum],
    ...data,
  ];
  const pseudo = [...addresses, 0, 17, ...be16(length)];
  return Uint8Array.from([
    ...[...macBytes(to), ...macBytes(outsideMac), 8, 0],
    ...head(be16(naiveChecksum(head([0, 0])))),
    ...udp(be16(naiveChecksum([...pseudo, ...udp([0, 0])]))),
  ]);
}

/** Header and frame as two pieces of one packet. */
function writeToHost(fd: number, frame: Uint8Array): number {
  const bytes = new Uint8Array(VNET_HEADER + frame.length);
  bytes.set(frame, VNET_HEADER);
  const spans = new Int32Array([0, VNET_HEADER, VNET_HEADER, frame.length]);
  return shim.writeChains(fd, addressOf(bytes), bytes.byteLength, spans, new Uint32Array([2]), 1);
}

/** What came up the host tap, its checksum finished if that was left to us; without the header. */
function finished(packet: Uint8Array): { frame: Uint8Array; unfinished: boolean } {
  const header = new DataView(packet.buffer, 0, VNET_HEADER);
  const frame = packet.slice(VNET_HEADER);
  const unfinished = (header.getUint8(0) & 1) !== 0; // VIRTIO_NET_HDR_F_NEEDS_CSUM
  if (unfinished) {
    const start = header.getUint16(6, true);
    // The field holds the sum of the pseudo header.
    frame.set(be16(naiveChecksum([...frame.subarray(start)])), start + header.getUint16(8, true));
  }
  return { frame, unfinished };
}

/** A program that drops marked packets, behind ours at the NetVSC's egress. */
function dropMarked(lab: Lab, ifindex: number): void {
  const code = new Assembler()
    .loadW(2, 1, SKB_MARK)
    .movImm(0, -1)
    .jeqImm(2, 0, 'next')
    .movImm(0, 2) // TCX_DROP
    .label('next')
    .exit()
    .assemble();
  const program = bpf.load('sched_cls', 'tp_drop_marked', code);
  const link = inNamespace(shim, lab.guest, () => bpf.attachTcx(program, ifindex, 'egress'));
  shim.close(program);
  check(link, 'bpf(LINK_CREATE)');
  onTestFinished(() => void shim.close(link));
}

const variants = (['veth', 'bridge'] as const).flatMap((standIn) =>
  (['tcx', 'clsact'] as const).map((kind) => ({ standIn, kind })),
);

describe.each(variants)('over a $standIn by $kind', ({ standIn, kind }) => {
  it('the kernel receives a packet written to the host tap once, if it is for its MAC', async () => {
    const lab = await buildLab({ standIn });
    const { host, capture } = rig(lab, { kind });
    const socket = udpSocket(lab.guest, 7000);
    onlyMarked(socket, 0);
    const common = { fromPort: 5000, toPort: 7000 };
    const packets = [
      { ...common, to: '02:00:00:00:00:77', payload: 'for another' },
      { ...common, to: lab.nic.mac, payload: 'for the guest' },
      { ...common, to: lab.nic.mac, payload: 'the last' },
    ];
    for (const packet of packets) expect(writeToHost(host[0]!, datagram(lab, packet))).toBe(1);
    expect((await read(socket, 2)).map(text)).toEqual(['for the guest', 'the last']);
    for (const fd of [...host, ...capture]) expect(await read(fd, 0)).toEqual([]);
  });

  it('a packet that the kernel sends arrives at the host tap, and leaves once through the capture tap', async () => {
    const lab = await buildLab({ standIn });
    const { netvsc, host, capture, hostRedirect, enableInline } = rig(lab, { kind });
    const outside = udpSocket(lab.outside, 7001);
    const guest = udpSocket(lab.guest, 7002, [lab.nic.outsideAddress, 7001]);
    const say = (word: string): void =>
      void check(shim.write(guest, Buffer.from(word), word.length), 'write');

    say('before');
    expect((await read(outside, 1)).map(text)).toEqual(['before']);
    expect(await read(host[0]!, 0)).toEqual([]);

    enableInline();
    enableInline();
    // tcx runs before filters, so there nothing can stand behind ours.
    if (kind === 'tcx') dropMarked(lab, netvsc);
    say('inline');
    const [packet] = await read(host[0]!, 1);
    const { frame, unfinished } = finished(packet!);
    expect(unfinished).toBe(true);
    expect([...frame.subarray(0, 12)]).toEqual([...macBytes(outsideMac), ...macBytes(lab.nic.mac)]);
    expect(await read(outside, 0)).toEqual([]);

    check(shim.write(capture[0]!, frame, frame.length), 'write');
    expect((await read(outside, 1)).map(text)).toEqual(['inline']);
    for (const fd of [...host, ...capture]) expect(await read(fd, 0)).toEqual([]);

    hostRedirect.disableInline();
    say('after');
    expect((await read(outside, 1)).map(text)).toEqual(['after']);
    expect(await read(host[0]!, 0)).toEqual([]);
  });
});

describe('the host path', () => {
  it.each([
    ['veth', 'tcx'],
    ['bridge', 'clsact'],
  ] as const)(
    'carries a megabyte of TCP each way over a %s by %s, and the connection lives through the death of its process',
    async (standIn, kind) => {
      const lab = await buildLab({ standIn });
      const pump = await startPump(kind, 'cut', lab);
      const talk = await connect(lab);
      await talk.exchange();
      expect(attachments(lab.guest).join('; ')).toContain(`${kind === 'tcx' ? 'tcx' : 'twinpath'} `);
      expect(pump.largest()).toBe(SEGMENT);
      await pump.kill();
      await talk.exchange();

      if (kind === 'tcx') return nothingLeft(lab);
      await until('the taps gone', () => !attachments(lab.guest).some((line) => line.startsWith('tap')));
      const left = attachments(lab.guest).map((line) => line.replace(/twinpath \d+/, 'twinpath N'));
      expect(left).toEqual([
        'clsact on eth0',
        'filter twinpath at ingress of eth0',
        'filter twinpath N at egress of eth0',
      ]);
      rig(lab); // attaching removes them: when the test is over, nothing is left
    },
  );

  it('brings up TCP segments uncut, and a kernel takes them so', async () => {
    const lab = await buildLab();
    // Past both wires, from kernel to kernel: what one leaves unfinished the other accepts.
    const pump = await startPump('tcx', 'whole', lab, 'both ends');
    await (await connect(lab)).exchange();
    expect(pump.largest()).toBeGreaterThan(20 * SEGMENT);
  });

  it('marks what it gives to the kernel, and the capture redirect is what clears it', async () => {
    const lab = await buildLab();
    const { host, redirect } = rig(lab);
    const socket = udpSocket(lab.guest, 7000);
    const pass = (payload: string): void => {
      const packet = { to: lab.nic.mac, fromPort: 5000, toPort: 7000, payload };
      expect(writeToHost(host[0]!, datagram(lab, packet))).toBe(1);
    };
    onlyMarked(socket, MARK);
    pass('cleared');
    redirect.releaseNetvsc();
    pass('not cleared');
    expect((await read(socket, 1)).map(text)).toEqual(['not cleared']);
  });

  it('brings a flow up on the queue by which it was last written', async () => {
    const flows = Array.from({ length: 32 }, (_, flow) => flow);
    const lab = await buildLab();
    const { host, enableInline } = rig(lab, { queues: 2 });
    enableInline();
    const { mac, outsideAddress } = lab.nic;
    const sockets = flows.map((flow) => udpSocket(lab.guest, 7100 + flow, [outsideAddress, 5000 + flow]));
    for (const turn of [0, 1]) {
      const queueOf = (flow: number): number => ((flow >> 1) + turn) & 1;
      for (const flow of flows) {
        const ports = { fromPort: 5000 + flow, toPort: 7100 + flow };
        writeToHost(host[queueOf(flow)]!, datagram(lab, { to: mac, ...ports, payload: 'hello' }));
      }
      for (const socket of sockets) {
        await read(socket, 1);
        check(shim.write(socket, Buffer.from('answer'), 6), 'write');
      }
      for (const [queue, fd] of host.entries()) {
        const mine = flows.filter((flow) => queueOf(flow) === queue);
        const seen = await read(fd, mine.length);
        const ports = seen.map((packet) => new DataView(packet.buffer).getUint16(VNET_HEADER + 36) - 5000);
        expect(ports.sort((a, b) => a - b)).toEqual(mine);
      }
    }
  });

  it('a host device opens a queue for each worker, and leaves nothing', async () => {
    const lab = await buildLab();
    const geometry = { pageSize: 4096, ports: 1, queues: 2, frameSize: 2048, framesPerWorker: 64 };
    const memory = Memory.create({ ...geometry, ringEntries: 64 });
    const slots = [0, 1].map((queue) => memory.slot({ port: 0, queue, path: Path.HOST }));
    inNamespace(shim, lab.guest, () => {
      const netlink = RtNetlink.open(shim);
      const device = new HostDevice(shim, netlink, memory, 0, netlink.link(lab.nic.netvsc)!, {
        inline: true,
      });
      device.open();
      expect(slots.map(({ driver }) => driver)).toEqual([Driver.HOST, Driver.HOST]);
      expect(slots[0]!.fd).not.toBe(slots[1]!.fd);
      expect(device.description.mode).toMatch(/^read\/write, TCP( and UDP)? segments$/);
      device.arm();
      expect(device.description).toMatchObject({ driver: 'host', device: 'eth0', redirect: 'tcx links' });
      const tap = netlink.link(device.ifindex)!;
      expect(tap).toMatchObject({ name: 'twinhost0', mtu: 1500 });
      device.enableInline();
      expect(attachments(lab.guest)).toEqual([
        'tcx egress on eth0',
        'tap twinhost0',
        'tcx ingress on twinhost0',
      ]);
      device.disarm();
      expect(attachments(lab.guest)).toEqual(['tap twinhost0', 'tcx ingress on twinhost0']);
      expect(device.dropped(0)).toMatchObject({ rxDropped: 0 });
      device.close();
      device.close();
      expect(slots.map(({ driver }) => driver)).toEqual([Driver.CLOSED, Driver.CLOSED]);
      netlink.close();
    });
    await nothingLeft(lab);
  });
});

interface Pump {
  /** Bytes of the longest frame that a kernel has sent. */
  readonly largest: () => number;
  readonly kill: () => Promise<void>;
}

async function startPump(
  kind: RedirectKind,
  segments: 'cut' | 'whole',
  lab: Lab,
  ends?: 'both ends',
): Promise<Pump> {
  const places = [`${lab.guest}/${lab.nic.netvsc}`, ...(ends ? [`${lab.outside}/u0`] : [])];
  const child = spawn(process.execPath, [PUMP, kind, segments, ...places], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const kill = async (): Promise<void> => {
    const gone = once(child, 'exit');
    if (child.kill('SIGKILL')) await gone;
  };
  onTestFinished(kill);
  const said = listen(child);
  await until('the pump open', () => said().includes('open\n'));
  return { largest: () => Number(/largest (\d+)\n$/.exec(said())?.[1]), kill };
}

function listen(child: ChildProcess): () => string {
  let heard = '';
  child.stdout!.on('data', (data) => {
    heard += data;
  });
  return () => heard;
}

const ECHO = `
  const server = require('node:net').createServer((socket) => socket.pipe(socket));
  server.listen(7, '0.0.0.0', () => console.log('ready'));`;

/** For each line of input: sends a megabyte, compares what comes back. */
const TALK = `
  const { randomBytes } = require('node:crypto');
  const socket = require('node:net').connect(7, process.argv[1], () => console.log('ready'));
  let sent = Buffer.alloc(0), at = 0;
  socket.on('data', (data) => {
    if (data.compare(sent, at, at + data.length) !== 0) console.log('different');
    at += data.length;
    if (at === sent.length) console.log('same');
  });
  process.stdin.on('data', () => {
    sent = randomBytes(1 << 20);
    at = 0;
    socket.write(sent);
  });`;

/** A TCP connection from the guest to an echo of the outside host. */
async function connect(lab: Lab): Promise<{ exchange: () => Promise<void> }> {
  const run = async (namespace: string, ...script: string[]) => {
    const command = ['netns', 'exec', namespace, process.execPath, '-e', ...script];
    const child = spawn('ip', command, { stdio: ['pipe', 'pipe', 'inherit'] });
    onTestFinished(() => void child.kill('SIGKILL'));
    const said = listen(child);
    await until('a process ready', () => said().startsWith('ready\n'));
    return { child, said };
  };
  await run(lab.outside, ECHO);
  const { child, said } = await run(lab.guest, TALK, lab.nic.outsideAddress);
  return {
    exchange: async () => {
      const before = said().length;
      child.stdin.write('more\n');
      await until('a megabyte there and back', () => said().length > before);
      expect(said().slice(before)).toBe('same\n');
    },
  };
}
