/**
 * A packet socket that sends and receives whole frames, VLAN tags included. The kernel takes a tag out of every frame
 * that it receives, before any packet socket sees it, and tells it beside the frame (PACKET_AUXDATA): it is put back
 * here.
 */
import { onTestFinished } from 'vitest';
import { check } from '../../src/errors.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { addressOf, loadShim } from '../../src/kernel/shim.ts';
import { linkIn } from './machine-state.ts';

const AF_PACKET = 17;
const SOCK_RAW_NONBLOCK = 3 | 0o4000 | 0o2000000;
/** ETH_P_ALL, in network order. */
const ALL = 0x0300;
const SOL_PACKET = 263;
const PACKET_AUXDATA = 8;
const PACKET_OUTGOING = 4;
const TP_STATUS_VLAN_VALID = 1 << 4;
const ROOM = 4096;
/** struct mmsghdr: msghdr of 56 bytes, count, padding. */
const MESSAGE = {
  name: 0,
  nameBytes: 8,
  iov: 16,
  iovs: 24,
  control: 32,
  controlBytes: 40,
  count: 56,
  bytes: 64,
};
/** Behind a cmsghdr of 16 bytes: struct tpacket_auxdata. */
const AUXDATA = { status: 16, tci: 16 + 16, tpid: 16 + 18, bytes: 40 };

const shim = loadShim();

export class RawSocket {
  readonly #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** On a device of the namespace, until the test is over. */
  static open(namespace: string, device: string): RawSocket {
    const fd = inNamespace(shim, namespace, () =>
      check(shim.socket(AF_PACKET, SOCK_RAW_NONBLOCK, 0), 'socket'),
    );
    onTestFinished(() => void shim.close(fd));
    check(
      shim.setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, new Int32Array([1]), 4),
      'setsockopt(PACKET_AUXDATA)',
    );
    const name = new DataView(new ArrayBuffer(20)); // struct sockaddr_ll: family, protocol, ifindex, …
    name.setUint16(0, AF_PACKET, true);
    name.setUint16(2, ALL, true);
    name.setInt32(4, linkIn(namespace, device)!.ifindex, true);
    check(shim.bind(fd, name, 20), 'bind(AF_PACKET)');
    return new RawSocket(fd);
  }

  send(frame: Uint8Array): void {
    check(shim.send(this.#fd, frame, frame.length, 0), 'send(AF_PACKET)');
  }

  /** What has come since the last call, without what was sent from here. */
  received(): Buffer[] {
    const found: Buffer[] = [];
    for (let one = this.#receive(); one !== undefined; one = this.#receive())
      if (one.length > 0) found.push(one);
    return found;
  }

  #receive(): Buffer | undefined {
    const [frame, name, control] = [
      new Uint8Array(ROOM),
      new Uint8Array(20),
      new DataView(new ArrayBuffer(64)),
    ];
    const iov = new BigUint64Array([BigInt(addressOf(frame)), BigInt(ROOM)]);
    const message = new DataView(new ArrayBuffer(MESSAGE.bytes));
    const pointer = (at: number, to: ArrayBufferView): void =>
      message.setBigUint64(at, BigInt(addressOf(to)), true);
    pointer(MESSAGE.name, name);
    message.setUint32(MESSAGE.nameBytes, name.length, true);
    pointer(MESSAGE.iov, iov);
    message.setBigUint64(MESSAGE.iovs, 1n, true);
    pointer(MESSAGE.control, control);
    message.setBigUint64(MESSAGE.controlBytes, BigInt(control.byteLength), true);
    if (shim.recvmmsg(this.#fd, message, 1, 0) <= 0) return undefined;
    if (name[10] === PACKET_OUTGOING) return Buffer.alloc(0);
    const bytes = Buffer.from(frame.subarray(0, message.getUint32(MESSAGE.count, true)));
    const told = message.getBigUint64(MESSAGE.controlBytes, true) >= BigInt(AUXDATA.tpid + 2);
    if (!told || (control.getUint32(AUXDATA.status, true) & TP_STATUS_VLAN_VALID) === 0) return bytes;
    const tag = Buffer.alloc(4);
    tag.writeUInt16BE(control.getUint16(AUXDATA.tpid, true), 0);
    tag.writeUInt16BE(control.getUint16(AUXDATA.tci, true), 2);
    return Buffer.concat([bytes.subarray(0, 12), tag, bytes.subarray(12)]);
  }
}

/** An Ethernet frame: MAC addresses, then what is given as hexadecimal digits, then text. */
export function frame(to: string, from: string, tagsAndType: string, text: string): Buffer {
  const head = [to, from].map((mac) => Buffer.from(mac.replaceAll(':', ''), 'hex'));
  return Buffer.concat([
    ...head,
    Buffer.from(tagsAndType.replaceAll(' ', ''), 'hex'),
    Buffer.from(text.padEnd(50)),
  ]);
}
