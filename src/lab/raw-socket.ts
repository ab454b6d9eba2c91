/**
 * A packet socket that sends and receives whole frames, with their VLAN tags. The kernel removes the tag of a received frame
 * and reports it as auxiliary data (PACKET_AUXDATA); RawSocket puts it back. For tests: it is slow.
 */
import { check, TwinpathError } from '../errors.ts';
import { inNamespace } from '../kernel/namespace.ts';
import { RtNetlink } from '../kernel/rtnetlink.ts';
import { addressOf, loadShim, type Shim } from '../kernel/shim.ts';

const AF_PACKET = 17;
const SOCK_RAW_NONBLOCK = 3 | 0o4000 | 0o2000000;
/** ETH_P_ALL */
const ALL = 3;
const SOL_PACKET = 263;
const PACKET_AUXDATA = 8;
const PACKET_OUTGOING = 4;
const TP_STATUS_VLAN_VALID = 1 << 4;
/** A jumbo frame. */
const MAX_FRAME = 16_384;
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

export class RawSocket {
  readonly #shim: Shim;
  readonly #fd: number;

  private constructor(shim: Shim, fd: number) {
    this.#shim = shim;
    this.#fd = fd;
  }

  /**
   * On a device of a network namespace, which is given by name or path. It receives every frame before the tc programs of the
   * device's ingress, or only frames of that EtherType, behind an outermost tag if there is one, and after those programs.
   *
   * @throws ERR_LAB if there is no such device, ERR_KERNEL, ERR_PERMISSION
   */
  static open(namespace: string, device: string, etherType = ALL): RawSocket {
    const shim = loadShim();
    return inNamespace(shim, namespace, () => {
      const ifindex = indexOf(shim, device);
      const fd = check(shim.socket(AF_PACKET, SOCK_RAW_NONBLOCK, 0), 'socket(AF_PACKET)', { device });
      const socket = new RawSocket(shim, fd);
      try {
        socket.#bind(ifindex, etherType);
      } catch (error) {
        socket.close();
        throw error;
      }
      return socket;
    });
  }

  #bind(ifindex: number, etherType: number): void {
    const result = this.#shim.setsockopt(this.#fd, SOL_PACKET, PACKET_AUXDATA, new Int32Array([1]), 4);
    check(result, 'setsockopt(PACKET_AUXDATA)');
    const name = new DataView(new ArrayBuffer(20)); // struct sockaddr_ll: family, protocol, ifindex, …
    name.setUint16(0, AF_PACKET, true);
    name.setUint16(2, etherType);
    name.setInt32(4, ifindex, true);
    check(this.#shim.bind(this.#fd, name, 20), 'bind(AF_PACKET)');
  }

  close(): void {
    this.#shim.close(this.#fd);
  }

  send(frame: Uint8Array): void {
    check(this.#shim.send(this.#fd, frame, frame.length, 0), 'send(AF_PACKET)');
  }

  /** Frames that have arrived since the last call, without those that this host sent. */
  received(): Buffer[] {
    const found: Buffer[] = [];
    for (let one = this.#receive(); one !== undefined; one = this.#receive())
      if (one.length > 0) found.push(one);
    return found;
  }

  #receive(): Buffer | undefined {
    const [frame, name, control] = [
      new Uint8Array(MAX_FRAME),
      new Uint8Array(20),
      new DataView(new ArrayBuffer(64)),
    ];
    const iov = new BigUint64Array([BigInt(addressOf(frame)), BigInt(MAX_FRAME)]);
    const message = new DataView(new ArrayBuffer(MESSAGE.bytes));
    const pointer = (at: number, to: ArrayBufferView): void =>
      message.setBigUint64(at, BigInt(addressOf(to)), true);
    pointer(MESSAGE.name, name);
    message.setUint32(MESSAGE.nameBytes, name.length, true);
    pointer(MESSAGE.iov, iov);
    message.setBigUint64(MESSAGE.iovs, 1n, true);
    pointer(MESSAGE.control, control);
    message.setBigUint64(MESSAGE.controlBytes, BigInt(control.byteLength), true);
    if (this.#shim.recvmmsg(this.#fd, message, 1, 0) <= 0) return undefined;
    if (name[10] === PACKET_OUTGOING) return Buffer.alloc(0);
    const bytes = Buffer.from(frame.subarray(0, message.getUint32(MESSAGE.count, true)));
    const hasAuxdata = message.getBigUint64(MESSAGE.controlBytes, true) >= BigInt(AUXDATA.tpid + 2);
    if (!hasAuxdata || (control.getUint32(AUXDATA.status, true) & TP_STATUS_VLAN_VALID) === 0) return bytes;
    const tag = Buffer.alloc(4);
    tag.writeUInt16BE(control.getUint16(AUXDATA.tpid, true), 0);
    tag.writeUInt16BE(control.getUint16(AUXDATA.tci, true), 2);
    return Buffer.concat([bytes.subarray(0, 12), tag, bytes.subarray(12)]);
  }
}

function indexOf(shim: Shim, device: string): number {
  const netlink = RtNetlink.open(shim);
  try {
    const link = netlink.link(device);
    if (link === undefined) throw new TwinpathError('ERR_LAB', { device, detail: 'there is no such device' });
    return link.ifindex;
  } finally {
    netlink.close();
  }
}
