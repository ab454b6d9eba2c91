/**
 * Programs of the machine with packet sockets: what they send by a tap of ours is not traffic of the port, and what they
 * see on the NetVSC of the packets that a handler passes is what docs/host-stack.md says.
 */
import { expect, it, onTestFinished } from 'vitest';
import { check, Errno } from '../../src/errors.ts';
import { Assembler } from '../../src/kernel/assembler.ts';
import { Bpf } from '../../src/kernel/bpf.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { MARK } from '../../src/kernel/programs.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { buildLab, type Lab, Scene, until } from '../support/harness.ts';
import { frameOf, segment } from '../support/segments.ts';
import { Station } from '../support/stations.ts';

const HOST = new URL('../../dist/src/handlers/host.js', import.meta.url);
/** include/uapi/linux/{socket,if_packet,if_ether}.h, asm-generic/socket.h */
const [AF_PACKET, SOL_SOCKET, SO_ATTACH_BPF] = [17, 1, 50];
const RAW_NONBLOCK = 3 | 0o4000 | 0o2000000;
const ETH_P_ALL = 3;
/** `struct __sk_buff` */
const SKB_MARK = 8;
const UDP = 17;
const PACKETS = 20;

const shim = loadShim();

/** A packet socket in the guest, on the device of that name; of the marked packets alone if it is said. */
function packetSocket(lab: Lab, device: string, { marked = false } = {}): number {
  return inNamespace(shim, lab.guest, () => {
    const fd = check(shim.socket(AF_PACKET, RAW_NONBLOCK, 0), 'socket');
    if (marked) {
      const code = new Assembler().loadW(2, 1, SKB_MARK).movImm(0, -1).jeqImm(2, MARK, 'take').movImm(0, 0);
      const program = new Bpf(shim).load('socket_filter', 'tp_marked', code.label('take').exit().assemble());
      check(shim.setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, new Int32Array([program]), 4), 'setsockopt');
      shim.close(program);
    }
    const netlink = RtNetlink.open(shim);
    const name = new DataView(new ArrayBuffer(20));
    name.setUint16(0, AF_PACKET, true);
    name.setUint16(2, ETH_P_ALL);
    name.setInt32(4, netlink.link(device)!.ifindex, true);
    netlink.close();
    check(shim.bind(fd, name, 20), 'bind');
    return fd;
  });
}

/** How many datagrams to that port have come to the socket since it was last asked. */
function seen(fd: number, port: number): number {
  const room = new Uint8Array(2048);
  let packets = 0;
  for (;;) {
    const length = shim.recv(fd, room, room.length, 0);
    if (length === Errno.EAGAIN) return packets;
    check(length, 'recv');
    if (room[23] === UDP && room[36]! * 256 + room[37]! === port) packets++;
  }
}

it.each([
  { tap: 'io_uring', redirect: 'clsact' },
  { tap: 'read/write', redirect: 'tcx' },
] as const)(
  'packets that the machine sends through a tap reach no handler ($tap, $redirect)',
  async ({ tap, redirect }) => {
    const lab = await buildLab({ queues: 1 });
    const [guest, outside] = await Promise.all([Station.start(lab.guest), Station.start(lab.outside)]);
    const scene = await Scene.openIn(lab, { handler: HOST, host: 'inline', tap, redirect });
    const { port } = scene;
    const frame = Uint8Array.from(frameOf(segment({ protocol: UDP, to: 7009 })));
    const counts = (): number[] => {
      const { synthetic, host } = port.stats().paths;
      return [synthetic.rxPackets, host.rxPackets];
    };
    const before = counts();
    for (const device of ['twinpath0', 'twinhost0']) {
      const fd = packetSocket(lab, device);
      for (let i = 0; i < PACKETS; i++) {
        expect(shim.send(fd, frame, frame.length, 0)).toBe(Errno.ENOBUFS); // whoever sends it is told
      }
      shim.close(fd);
    }
    expect(counts()).toEqual(before);
    await outside.call('datagrams', lab.nic.guestAddress, 7001, PACKETS, 100);
    await guest.call('datagrams', lab.nic.outsideAddress, 7001, PACKETS, 100);
    await until('what is the port’s, behind them', () => {
      const [synthetic, host] = counts();
      return synthetic! >= before[0]! + PACKETS && host! >= before[1]! + PACKETS;
    });
    await until('the kernel’s counters', () => {
      const { synthetic, host } = port.stats().paths;
      return synthetic.kernel.rxDropped >= PACKETS && host.kernel.rxDropped >= PACKETS;
    });
    const { synthetic, host } = port.stats().paths;
    expect([synthetic.kernel.rxDropped, host.kernel.rxDropped]).toEqual([PACKETS, PACKETS]);
    await scene.finish();
  },
);

it('a packet socket on the NetVSC sees a passed packet twice: on arrival, and when the machine receives it', async () => {
  const lab = await buildLab({ queues: 1 });
  const outside = await Station.start(lab.outside);
  // The kernel asks the socket that was bound last first.
  const marked = packetSocket(lab, 'eth0', { marked: true });
  const all = packetSocket(lab, 'eth0');
  onTestFinished(() => {
    for (const fd of [marked, all]) shim.close(fd);
  });
  const scene = await Scene.openIn(lab, { handler: HOST });
  const see = async (to: number): Promise<{ marked: number; all: number }> => {
    await outside.call('datagrams', lab.nic.guestAddress, to, PACKETS, 100);
    let received = 0;
    await until('all received by the machine', () => {
      received += seen(marked, to);
      return received >= PACKETS;
    });
    return { marked: received, all: seen(all, to) };
  };
  // By the synthetic path twice, the second time with our mark; by the VF only as the machine receives it.
  expect(await see(7001)).toEqual({ marked: PACKETS, all: 2 * PACKETS });
  await scene.plug();
  expect(await see(7002)).toEqual({ marked: PACKETS, all: PACKETS });
  await scene.finish();
});
