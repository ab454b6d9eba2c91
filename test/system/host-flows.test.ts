/**
 * On which worker the packets of a connection of the machine's own stack are: those from the network where the
 * port's table has them, those of the stack where the last packet of that flow was passed to it.
 */
import { expect, it, onTestFinished } from 'vitest';
import { check } from '../../src/errors.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { internetAddress } from '../../src/lab/udp.ts';
import { DEFAULT_KEY } from '../../src/rss/key.ts';
import { retaIndex } from '../../src/rss/redirection.ts';
import { RssHash } from '../../src/rss/toeplitz.ts';
import { buildLab, expectNoDrops, type Lab, Scene, until } from '../support/harness.ts';

const WITNESS = new URL('../fixtures/handlers/host-witness.mjs', import.meta.url);
const FLOWS = 64;
const FIRST = 30_000;
/** The other end's port; flows are told apart by the larger of the two. */
const SERVICE = 7000;
/** include/uapi/linux/socket.h, asm-generic/socket.h */
const AF_INET = 2;
const SOCK_DGRAM_NONBLOCK = 2 | 0o4000 | 0o2000000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;

const shim = loadShim();

interface Flow {
  readonly guest: number;
  readonly outside: number;
}

/** Connected UDP sockets at both ends, one pair a flow; the outside's ports are {@link FIRST} and following. */
function openFlows(lab: Lab): Flow[] {
  const socket = (namespace: string, port: number, peer: readonly [string, number]): number =>
    inNamespace(shim, namespace, () => {
      const fd = check(shim.socket(AF_INET, SOCK_DGRAM_NONBLOCK, 0), 'socket');
      onTestFinished(() => void shim.close(fd));
      check(shim.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, new Int32Array([1]), 4), 'setsockopt');
      check(shim.bind(fd, internetAddress('0.0.0.0', port), 16), 'bind');
      check(shim.connect(fd, internetAddress(...peer), 16), 'connect');
      return fd;
    });
  const { guestAddress, outsideAddress } = lab.nic;
  return Array.from({ length: FLOWS }, (_, flow) => ({
    guest: socket(lab.guest, SERVICE, [outsideAddress, FIRST + flow]),
    outside: socket(lab.outside, FIRST + flow, [guestAddress, SERVICE]),
  }));
}

/** One numbered datagram, until it has arrived. */
async function send(from: number, to: number, number: number): Promise<void> {
  const data = new DataView(new ArrayBuffer(32));
  data.setUint32(0, number);
  check(shim.send(from, new Uint8Array(data.buffer), 32, 0), 'send');
  const room = new Uint8Array(64);
  await until('a datagram', () => shim.recv(to, room, room.length, 0) === 32);
  expect(new DataView(room.buffer).getUint32(0)).toBe(number);
}

/** The worker that the port's key and table name for what comes from outside of a flow. */
function placed(lab: Lab, flow: number, queues: number): number {
  const packet = new DataView(new ArrayBuffer(42));
  packet.setUint16(12, 0x0800);
  packet.setUint8(14, 0x45);
  packet.setUint8(23, 17);
  for (const [at, address] of [
    [26, lab.nic.outsideAddress],
    [30, lab.nic.guestAddress],
  ] as const) {
    address.split('.').forEach((byte, i) => {
      packet.setUint8(at + i, Number(byte));
    });
  }
  packet.setUint16(34, FIRST + flow);
  packet.setUint16(36, SERVICE);
  return retaIndex(new RssHash(packet, DEFAULT_KEY).of(0, 42)) % queues;
}

/** What the witness noted: from the network, the stack's first datagrams, the stack's later ones. */
class Notes {
  readonly words = new Int32Array(new SharedArrayBuffer(12 * FLOWS));
  column(which: 0 | 1 | 2): number[] {
    return Array.from({ length: FLOWS }, (_, flow) => this.words[3 * flow + which]!);
  }
  clear(): void {
    this.words.fill(0);
  }
}

async function open(notes: Notes): Promise<Scene> {
  const handlerOptions = { seen: notes.words, first: FIRST };
  return Scene.openIn(await buildLab(), { handler: WITNESS, handlerOptions, host: 'inline', queues: 2 });
}

it('both directions of an incoming connection are handled by the worker of its hash', async () => {
  const notes = new Notes();
  const scene = await open(notes);
  const { lab, port } = scene;
  const flows = openFlows(lab);
  const expected = flows.map((_, flow) => 1 << placed(lab, flow, 2));
  expect(new Set(expected).size).toBe(2);
  for (const path of ['synthetic', 'vf'] as const) {
    if (path === 'vf') await scene.plug();
    notes.clear();
    for (const { guest, outside } of flows) {
      await send(outside, guest, 0);
      await send(guest, outside, 0);
      await send(guest, outside, 1);
    }
    for (const which of [0, 1, 2] as const) expect(notes.column(which)).toEqual(expected);
  }
  expectNoDrops(port);
  await port.close();
});

it('an outgoing connection is handled by the worker of its answers once the first answer arrives', async () => {
  const notes = new Notes();
  const scene = await open(notes);
  const { lab, port } = scene;
  const flows = openFlows(lab);
  const expected = flows.map((_, flow) => 1 << placed(lab, flow, 2));
  for (const { guest, outside } of flows) {
    await send(guest, outside, 0);
    await send(outside, guest, 0);
    await send(guest, outside, 1);
  }
  // The first packet comes up by a hash of the tap's own.
  for (const mask of notes.column(1)) expect([1, 2]).toContain(mask);
  for (const which of [0, 2] as const) expect(notes.column(which)).toEqual(expected);

  // Flows move with the table; what the stack sends follows at the next packet that was passed.
  await port.setQueues(1);
  notes.clear();
  for (const { guest, outside } of flows) {
    await send(outside, guest, 0);
    await send(guest, outside, 1);
  }
  for (const which of [0, 2] as const) expect(notes.column(which)).toEqual(flows.map(() => 1));
  expectNoDrops(port);
  await port.close();
});
