/**
 * Numbered ICMP echo requests through a kernel's own stack and a raw socket (a ping socket needs a sysctl). One flow.
 * Belongs to one thread. The socket stays in the namespace in which it was opened.
 *
 * After the 8 bytes of ICMP header, big-endian: run, then the whole sequence number. ICMP's own field has its low half.
 */
import { check } from '../errors.ts';
import type { Shim } from '../kernel/shim.ts';
import { checksum, sum } from '../net/checksum.ts';
import { Protocol } from '../net/ip.ts';
import type { Wire } from './generator.ts';
import { internetAddress } from './udp.ts';

const AF_INET = 2;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const SOL_RAW = 255;
const ICMP_FILTER = 1;
const ECHO_REPLY = 0;
const ECHO_REQUEST = 8;
const MSG_DONTWAIT = 0x40;
/** As ping sends: 56 bytes after the header. */
const MESSAGE = 64;
const POLLIN = 1;

export class IcmpWire implements Wire {
  readonly fd: number;
  readonly #shim: Shim;
  readonly #out = new DataView(new ArrayBuffer(MESSAGE));
  readonly #in = new DataView(new ArrayBuffer(2048));
  readonly #polled: DataView;
  readonly #run = Math.floor(Math.random() * 2 ** 32);

  /** @throws ERR_KERNEL, ERR_PERMISSION (CAP_NET_RAW) */
  constructor(shim: Shim, address: string) {
    this.#shim = shim;
    this.fd = check(shim.socket(AF_INET, SOCK_RAW_CLOEXEC, Protocol.ICMP), 'socket(ICMP)');
    const connected = shim.connect(this.fd, internetAddress(address, 0), 16);
    if (connected < 0) this.close();
    check(connected, 'connect(ICMP)', { device: address });
    // A set bit filters a type out. Without the filter the socket would receive its own requests on loopback.
    shim.setsockopt(this.fd, SOL_RAW, ICMP_FILTER, new Uint32Array([~(1 << ECHO_REPLY)]), 4);
    // Before it was connected the socket received the replies to other requests too.
    while (shim.recv(this.fd, this.#in, this.#in.byteLength, MSG_DONTWAIT) >= 0);
    this.#polled = new DataView(new ArrayBuffer(8));
    this.#polled.setInt32(0, this.fd, true);
    this.#polled.setInt16(4, POLLIN, true);
  }

  send(_flow: number, first: number, count: number): number {
    for (let i = 0; i < count; i++) {
      this.#write(first + i);
      if (this.#shim.send(this.fd, this.#out, MESSAGE, MSG_DONTWAIT) < 0) return i;
    }
    return count;
  }

  receive(onPacket: (flow: number, sequence: number) => void): number {
    for (let received = 0; ; received++) {
      const length = this.#shim.recv(this.fd, this.#in, this.#in.byteLength, MSG_DONTWAIT);
      if (length < 0) return received;
      const icmp = (this.#in.getUint8(0) & 15) * 4; // a raw socket delivers the IP header too
      const own =
        length >= icmp + 16 &&
        this.#in.getUint8(icmp) === ECHO_REPLY &&
        this.#in.getUint32(icmp + 8) === this.#run;
      onPacket(own ? 0 : -1, own ? this.#in.getUint32(icmp + 12) : -1);
    }
  }

  wait(millis: number): void {
    this.#shim.poll(this.#polled, 1, millis);
  }

  close(): void {
    this.#shim.close(this.fd);
  }

  #write(sequence: number): void {
    const out = this.#out;
    out.setUint8(0, ECHO_REQUEST);
    out.setUint16(2, 0);
    out.setUint16(4, this.#run & 0xffff);
    out.setUint16(6, sequence & 0xffff);
    out.setUint32(8, this.#run);
    out.setUint32(12, sequence);
    out.setUint16(2, checksum(sum(out, 0, MESSAGE)));
  }
}
