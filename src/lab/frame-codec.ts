/**
 * Writes the frames that an outside host on the memory path sends, and reads and checks the replies: UDP with the payload of
 * UdpWire, and ICMP echo as one more flow after the UDP flows.
 *
 * Each flow has a template; from packet to packet only the numbers of the payload and one checksum change. Reading checks
 * every header and checksum. Allocates nothing per packet. One thread.
 */

import { checksum, sum } from '../net/checksum.ts';
import { ETHERNET_BYTES, EtherType } from '../net/ethernet.ts';
import { Flow } from '../net/flow.ts';
import { Protocol } from '../net/ip.ts';
import { IPV4_BYTES } from '../net/ipv4.ts';
import { macBytes } from '../net/mac.ts';

export interface CodecOptions {
  readonly flows: number;
  /** UDP payload, at least 24 bytes. */
  readonly bytes: number;
  /** Source port of flow 0. */
  readonly firstPort: number;
  /** Of the guest. */
  readonly address: string;
  readonly port: number;
  readonly guestMac: string;
  /** Of the outside host. */
  readonly from: string;
  readonly mac: string;
}

const L3 = ETHERNET_BYTES;
const L4 = L3 + IPV4_BYTES;
const L4_BYTES = 8;
const PAYLOAD = L4 + L4_BYTES;
const MAGIC = 0x54574e50; // TWNP
const ECHO_REQUEST = 0x0800;
const DONT_FRAGMENT = 0x4000;
/** As ping(8) sends. */
const PING_BYTES = 56;

export class FrameCodec {
  /** Sequence number of the last frame that was read. */
  sequence = -1;
  /** Number of the ICMP flow. */
  readonly pings: number;
  readonly #options: CodecOptions;
  readonly #run = Math.floor(Math.random() * 2 ** 32);
  readonly #templates: readonly Uint8Array[];
  readonly #mac: DataView;
  readonly #found = new Flow();

  constructor(options: CodecOptions) {
    this.#options = options;
    this.pings = options.flows;
    this.#mac = new DataView(macBytes(options.mac).buffer);
    this.#templates = Array.from({ length: options.flows + 1 }, (_, flow) => this.#template(flow));
  }

  /** Writes packet `sequence` of a flow at `at`; `bytes` and `view` share one memory. Returns its length. */
  write(bytes: Uint8Array, view: DataView, at: number, flow: number, sequence: number, now: number): number {
    const template = this.#templates[flow]!;
    bytes.set(template, at);
    const seconds = Math.floor(now / 1e9);
    view.setUint32(at + PAYLOAD + 12, sequence);
    view.setUint32(at + PAYLOAD + 16, seconds);
    view.setUint32(at + PAYLOAD + 20, now - seconds * 1e9);
    const l4Bytes = template.length - L4;
    if (flow === this.pings) {
      view.setUint16(at + L4 + 6, sequence & 0xffff);
      view.setUint16(at + L4 + 2, checksum(sum(view, at + L4, l4Bytes)));
    } else {
      view.setUint16(at + L4 + 6, checksum(this.#udpSum(view, at, l4Bytes)) || 0xffff);
    }
    return template.length;
  }

  /**
   * The flow of a frame that came back undamaged, with its number in {@link sequence}; -1 for all other frames, of this run
   * or not.
   */
  read(view: DataView, at: number, length: number): number {
    const flow = this.#flowOf(view, at, length);
    this.sequence = flow < 0 ? -1 : view.getUint32(at + PAYLOAD + 12);
    return flow;
  }

  #flowOf(view: DataView, at: number, length: number): number {
    if (length < PAYLOAD + 24 || !this.#isForUs(view, at, length)) return -1;
    const numbers =
      view.getUint32(at + PAYLOAD) === MAGIC &&
      view.getUint32(at + PAYLOAD + 4) === this.#run &&
      view.getUint32(at + PAYLOAD + 8) <= this.pings;
    if (!numbers) return -1;
    const flow = view.getUint32(at + PAYLOAD + 8);
    const { end, protocol, from, to } = this.#found;
    const l4Bytes = end - L4;
    if (l4Bytes !== this.#templates[flow]!.length - L4) return -1;
    if (flow === this.pings) {
      const reply = protocol === Protocol.ICMP && view.getUint16(at + L4) === 0;
      return reply && checksum(sum(view, at + L4, l4Bytes)) === 0 ? flow : -1;
    }
    const { port, firstPort } = this.#options;
    const ports = from === port && to === firstPort + flow;
    return protocol === Protocol.UDP && ports && checksum(this.#udpSum(view, at, l4Bytes)) === 0 ? flow : -1;
  }

  #isForUs(view: DataView, at: number, length: number): boolean {
    return (
      view.getUint32(at) === this.#mac.getUint32(0) &&
      view.getUint16(at + 4) === this.#mac.getUint16(4) &&
      this.#found.readAt(view, at, length) &&
      this.#found.type === EtherType.IPV4 &&
      this.#found.l4 === L4 &&
      checksum(sum(view, at + L3, IPV4_BYTES)) === 0
    );
  }

  /** Of a datagram with its pseudo header. */
  #udpSum(view: DataView, at: number, l4Bytes: number): number {
    return sum(view, at + L4, l4Bytes, sum(view, at + L3 + 12, 8, Protocol.UDP + l4Bytes));
  }

  #template(flow: number): Uint8Array {
    const { bytes, guestMac, mac, address, from, firstPort, port } = this.#options;
    const ping = flow === this.pings;
    const frame = new Uint8Array(PAYLOAD + (ping ? PING_BYTES : bytes));
    const view = new DataView(frame.buffer);
    frame.set(macBytes(guestMac), 0);
    frame.set(macBytes(mac), 6);
    view.setUint16(12, EtherType.IPV4);
    view.setUint8(L3, 0x45);
    view.setUint16(L3 + 2, frame.length - L3);
    view.setUint16(L3 + 6, DONT_FRAGMENT);
    view.setUint8(L3 + 8, 64);
    view.setUint8(L3 + 9, ping ? Protocol.ICMP : Protocol.UDP);
    frame.set(from.split('.').map(Number), L3 + 12);
    frame.set(address.split('.').map(Number), L3 + 16);
    view.setUint16(L3 + 10, checksum(sum(view, L3, IPV4_BYTES)));
    if (ping) {
      view.setUint16(L4, ECHO_REQUEST);
      view.setUint16(L4 + 4, this.#run & 0xffff);
    } else {
      view.setUint16(L4, firstPort + flow);
      view.setUint16(L4 + 2, port);
      view.setUint16(L4 + 4, frame.length - L4);
    }
    view.setUint32(PAYLOAD, MAGIC);
    view.setUint32(PAYLOAD + 4, this.#run);
    view.setUint32(PAYLOAD + 8, flow);
    return frame;
  }
}
