/**
 * Numbered UDP packets through a kernel's own stack: one connected socket a flow, many packets a call.
 *
 * Belongs to one thread. Its sockets stay in the namespace in which that thread opened them. The guest must echo each payload
 * unchanged. Payload, big-endian: magic, run, flow, sequence, then the send time as seconds and nanoseconds of
 * CLOCK_MONOTONIC, for readers of a capture.
 */
import { check } from '../errors.ts';
import { addressOf, type Shim } from '../kernel/shim.ts';
import { nowNanos } from '../memory/shared.ts';
import type { Wire } from './generator.ts';

export interface UdpOptions {
  readonly address: string;
  readonly port: number;
  readonly flows: number;
  /** UDP payload, at least 24 bytes. */
  readonly bytes: number;
  /** Source port of flow 0; the next flows have the next ports. 0 lets the kernel choose all. */
  readonly firstPort: number;
}

/** Bytes of the payload's fields. */
export const UDP_PAYLOAD_MIN = 24;

const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
const SO_RCVBUFFORCE = 33;
const MSG_DONTWAIT = 0x40;
/** Several times a whole window of the largest packets. */
const RECEIVE_BYTES = 8 * 1024 * 1024;

const MAGIC = 0x54574e50; // TWNP
/** Packets a call. At 32 the call itself costs about 20 ns a packet, the stack 2 µs. */
const BATCH = 32;
/** struct mmsghdr: struct msghdr (name, iov, control, flags), the length, padding. */
const MMSGHDR = 64;
const MSG_IOV = 16;
const MSG_IOVLEN = 24;
const MSG_LEN = 56;
const IOVEC = 16;
/** struct pollfd as 16-bit words: fd (two of them), events, revents. */
const POLLFD = 4;
const POLLIN = 1;

export class UdpWire implements Wire {
  /**
   * Times that the kernel refused a packet: its queue was full, or an ICMP message had said that the port is closed.
   * sendmmsg(2) returns the reason of the first packet only.
   */
  refused = 0;
  readonly #shim: Shim;
  readonly #sockets: readonly number[];
  readonly #out: Batch;
  readonly #in: Batch;
  readonly #polled: Int16Array;
  readonly #run: number;
  /** Whether `#polled` has the result of a `wait` that `receive` has not used yet. */
  #fresh = false;

  /**
   * Opens its sockets in the namespace of the calling thread.
   *
   * @param watch further descriptors on which `wait` is to return
   * @throws ERR_KERNEL, ERR_PERMISSION
   */
  constructor(
    shim: Shim,
    { address, port, flows, bytes, firstPort }: UdpOptions,
    watch: readonly number[] = [],
  ) {
    this.#shim = shim;
    const sockets: number[] = [];
    this.#sockets = sockets;
    this.#run = Math.floor(Math.random() * 2 ** 32);
    this.#out = new Batch(bytes);
    this.#in = new Batch(bytes);
    try {
      for (let flow = 0; flow < flows; flow++) {
        sockets.push(check(shim.socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0), 'socket(AF_INET)'));
        this.#connect(sockets[flow]!, { address, port, from: firstPort === 0 ? 0 : firstPort + flow });
      }
    } catch (error) {
      this.close();
      throw error;
    }
    const descriptors = [...sockets, ...watch];
    this.#polled = new Int16Array(descriptors.length * POLLFD);
    descriptors.forEach((fd, i) => {
      this.#polled[i * POLLFD] = fd;
      this.#polled[i * POLLFD + 1] = fd >> 16;
      this.#polled[i * POLLFD + 2] = POLLIN;
    });
  }

  send(flow: number, first: number, count: number): number {
    const wanted = Math.min(count, BATCH);
    const now = nowNanos();
    const seconds = Math.floor(now / 1e9);
    const nanos = now - seconds * 1e9;
    const { view } = this.#out;
    for (let i = 0; i < wanted; i++) {
      const at = this.#out.payload(i);
      view.setUint32(at, MAGIC);
      view.setUint32(at + 4, this.#run);
      view.setUint32(at + 8, flow);
      view.setUint32(at + 12, first + i);
      view.setUint32(at + 16, seconds);
      view.setUint32(at + 20, nanos);
    }
    const result = this.#shim.sendmmsg(this.#sockets[flow]!, this.#out.view, wanted, MSG_DONTWAIT);
    const taken = Math.max(0, result); // an error means that the first packet was not sent
    this.refused += wanted - taken;
    return taken;
  }

  receive(onPacket: (flow: number, sequence: number) => void): number {
    if (!this.#fresh) this.#poll(0);
    this.#fresh = false;
    let received = 0;
    for (let flow = 0; flow < this.#sockets.length; flow++) {
      if (this.#polled[flow * POLLFD + 3] !== 0) received += this.#drain(flow, onPacket);
    }
    return received;
  }

  wait(millis: number): void {
    this.#poll(millis);
    this.#fresh = true;
  }

  close(): void {
    for (const fd of this.#sockets) this.#shim.close(fd);
  }

  #poll(millis: number): void {
    check(this.#shim.poll(this.#polled, this.#polled.length / POLLFD, millis), 'poll');
  }

  #drain(flow: number, onPacket: (flow: number, sequence: number) => void): number {
    const { view } = this.#in;
    for (let total = 0; ; ) {
      const count = this.#shim.recvmmsg(this.#sockets[flow]!, view, BATCH, MSG_DONTWAIT);
      if (count < 0) return total; // empty, or ECONNREFUSED, which the kernel returns once
      for (let i = 0; i < count; i++) {
        const at = this.#in.payload(i);
        const own =
          view.getUint32(i * MMSGHDR + MSG_LEN, true) >= UDP_PAYLOAD_MIN &&
          view.getUint32(at) === MAGIC &&
          view.getUint32(at + 4) === this.#run &&
          view.getUint32(at + 8) === flow;
        onPacket(own ? flow : -1, own ? view.getUint32(at + 12) : -1);
      }
      total += count;
      if (count < BATCH) return total;
    }
  }

  #connect(fd: number, { address, port, from }: { address: string; port: number; from: number }): void {
    const size = new Uint32Array([RECEIVE_BYTES]);
    if (this.#shim.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, size, 4) < 0) {
      this.#shim.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, size, 4);
    }
    check(this.#shim.bind(fd, internetAddress('0.0.0.0', from), 16), 'bind', { device: `UDP port ${from}` });
    check(this.#shim.connect(fd, internetAddress(address, port), 16), 'connect', {
      device: `${address}:${port}`,
    });
  }
}

/** struct sockaddr_in. */
export function internetAddress(address: string, port: number): DataView {
  const view = new DataView(new ArrayBuffer(16));
  view.setUint16(0, AF_INET, true);
  view.setUint16(2, port);
  address.split('.').forEach((byte, i) => {
    view.setUint8(4 + i, Number(byte));
  });
  return view;
}

/**
 * Message headers for sendmmsg(2) and recvmmsg(2), each with one iovec and one payload, in one buffer: headers, iovecs, payloads.
 * It must live as long as the kernel has its address.
 */
export class Batch {
  readonly view: DataView;
  readonly #count: number;
  readonly #bytes: number;

  /** @param bytes of a payload */
  constructor(bytes: number, count = BATCH) {
    this.#bytes = bytes;
    this.#count = count;
    this.view = new DataView(new ArrayBuffer(count * (MMSGHDR + IOVEC + bytes)));
    const address = addressOf(this.view);
    for (let i = 0; i < count; i++) {
      const iovec = count * MMSGHDR + i * IOVEC;
      this.view.setBigUint64(i * MMSGHDR + MSG_IOV, BigInt(address + iovec), true);
      this.view.setBigUint64(i * MMSGHDR + MSG_IOVLEN, 1n, true);
      this.view.setBigUint64(iovec, BigInt(address + this.payload(i)), true);
      this.view.setBigUint64(iovec + 8, BigInt(bytes), true);
    }
  }

  /** Offset of a payload in {@link view}. */
  payload(index: number): number {
    return this.#count * (MMSGHDR + IOVEC) + index * this.#bytes;
  }
}
