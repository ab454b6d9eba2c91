/**
 * A name server: answers for one zone from a small zone file, over UDP, and leaves other packets to the machine.
 *
 * - It answers A, AAAA and CNAME with authority, and ANY with the addresses (RFC 8482). NXDOMAIN and empty answers have an
 *   SOA record, which is not from the file. Outside the zone it answers REFUSED.
 * - It does no recursion, DNSSEC, TCP or zone transfer. If an answer is too long for its client, the response is empty and
 *   has the bit for "truncated".
 * - It sends no response to a port where another service could answer it (responders.ts), nor to its own port, and it
 *   never answers a response.
 * - It does not verify the UDP checksum of a query. A sender on the same Hyper-V host leaves the checksum to a device,
 *   which does not exist there. The response repeats the question, so the client notices a damaged query.
 *
 * zone.ts describes the file.
 *
 * Copy from it: an answer that is longer than its question; work done in `create`, so that a packet costs a hash, a
 * comparison and a copy; one `Flow` for both versions of IP.
 *
 * ```ts
 * import type { HandlerContext, HandlerObject, Packet, Verdict } from 'twinpath/handler';
 * import { checksum, DROP, Flow, ipv4Checksum, PASS, Path, Protocol, sumOf, TX, udpChecksum } from 'twinpath/handler';
 * ```
 */
import { readFileSync } from 'node:fs';
import { checksum, ipv4Checksum, sumOf, udpChecksum } from '../handler/checksum.ts';
import type { HandlerContext, HandlerObject } from '../handler/handler.ts';
import { DROP, PASS, TX, type Verdict } from '../handler/handler.ts';
import type { Packet } from '../handler/packet.ts';
import { Path } from '../memory/layout.ts';
import { has, hostAddresses, ipv6Bytes, isHost, wordsOf } from '../net/addresses.ts';
import { Flow, int32At } from '../net/flow.ts';
import { Protocol } from '../net/ip.ts';
import { IPV4_BYTES } from '../net/ipv4.ts';
import { IPV6_BYTES } from '../net/ipv6.ts';
import { invalid, wholeNumber } from '../validation.ts';
import { answersArp } from './arp.ts';
import { DnsAnswers } from './dns-answers.ts';
import { NOT_A_QUERY, respond } from './dns-message.ts';
import { checkNames, list, otherwiseOf } from './options.ts';
import { isResponder } from './responders.ts';
import { parseZone, type Zone } from './zone.ts';

const DNS_PORT = 53;
const UDP_BYTES = 8;
const IPV6_WORDS = 4;
const TTL = 64;

/**
 * @param options `zone`: path of a zone file, or its text (which has line breaks).
 *   `address`: one or several IPv4 and IPv6 addresses to answer for.
 *   `port`: UDP port, default 53.
 *   `otherwise`: 'pass' (default) gives other packets to the machine, which must have the addresses itself, and answers ARP
 *   and neighbour discovery for them. 'drop' drops them, except ARP requests, which this handler then answers. Packets of
 *   the machine go out in both cases.
 * @throws TwinpathError ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID; for a line of the zone, too
 */
export function create(options: Record<string, unknown>, { macs }: HandlerContext): HandlerObject {
  let server = serverOf(options);
  return {
    handle: (burst) => {
      const now = server;
      for (let i = 0; i < burst.length; i++) {
        burst.verdict[i] =
          burst.path[i] === Path.HOST ? TX : now.answer(burst.packet(i), macs[burst.port[i]!]!);
      }
    },
    configure: (changed) => {
      const next = serverOf(changed); // it reads the zone file again
      return () => {
        server = next;
      };
    },
  };
}

function serverOf(options: Record<string, unknown>): Server {
  checkNames('dns', options, ['zone', 'address', 'port', 'otherwise']);
  const port = wholeNumber('port', options.port ?? DNS_PORT, 1, 0xffff, 'a UDP port');
  return new Server(options.address, port, otherwiseOf(options, 'pass'), zoneOf(options.zone));
}

class Server {
  readonly #ipv4: Int32Array;
  /** Four words each. */
  readonly #ipv6: Int32Array;
  readonly #port: number;
  readonly #otherwise: Verdict;
  readonly #answers: DnsAnswers;
  readonly #flow = new Flow();

  constructor(address: unknown, port: number, otherwise: Verdict, zone: Zone) {
    const texts = list(address);
    const six = texts.map((text) => (typeof text === 'string' ? ipv6Bytes(text) : undefined));
    this.#ipv4 = hostAddresses(
      'address',
      texts.filter((_, i) => six[i] === undefined),
    );
    this.#ipv6 = Int32Array.from(six.flatMap((bytes) => (bytes === undefined ? [] : [...wordsOf(bytes)])));
    this.#port = port;
    this.#otherwise = otherwise;
    this.#answers = new DnsAnswers(zone);
    if (texts.length === 0) {
      invalid('address', 'dns answers for no address', "Give it: { address: '10.77.0.2' }.");
    }
    if (this.#ipv6.length > 0 && otherwise !== PASS) {
      const detail = 'neighbour discovery for an IPv6 address would have no answer';
      invalid('address', detail, "Give otherwise: 'pass', and the address to the machine.");
    }
  }

  answer(packet: Packet, mac: Uint8Array): Verdict {
    const flow = this.#flow;
    if (!flow.read(packet)) {
      const isAsked = this.#otherwise !== PASS && flow.type >= 0;
      return isAsked && answersArp(packet, flow.l3, mac, this.#ipv4) ? TX : this.#otherwise;
    }
    if (!this.#isForUs(packet, mac)) return this.#otherwise;
    const { l3, l4, from, addressBytes } = flow;
    const bytes = packet.u16(l4 + 4);
    if (isResponder(from) || from === this.#port || !this.#canReply(packet, mac)) return DROP;
    if (bytes < UDP_BYTES || l4 + bytes > flow.end) return DROP;
    const count = respond(packet, l4 + UDP_BYTES, bytes - UDP_BYTES, this.#answers);
    if (count === NOT_A_QUERY) return this.#otherwise;
    if (count === 0) return DROP;

    packet.swapMacs();
    packet.setU16(l4, this.#port);
    packet.setU16(l4 + 2, from);
    packet.setU16(l4 + 4, UDP_BYTES + count);
    if (addressBytes === 4) finishIpv4(packet, l3);
    else finishIpv6(packet, l3);
    return TX;
  }

  /** Whether it is a complete UDP datagram to our port, directly after an IP header. */
  #isForUs(packet: Packet, mac: Uint8Array): boolean {
    const { l3, l4, end, addresses, addressBytes } = this.#flow;
    if (this.#flow.protocol !== Protocol.UDP || this.#flow.to !== this.#port || this.#flow.fragment)
      return false;
    if (!packet.dstEquals(mac) || l4 + UDP_BYTES > end) return false;
    if (addressBytes === 4) return l4 === l3 + IPV4_BYTES && has(this.#ipv4, int32At(packet, addresses + 4));
    return l4 === l3 + IPV6_BYTES && this.#hasIpv6(packet, addresses + 16);
  }

  /** Whether the sender is another host, and the checksum of an IPv4 header is correct. */
  #canReply(packet: Packet, mac: Uint8Array): boolean {
    const { l3, addresses, addressBytes } = this.#flow;
    const first = int32At(packet, addresses);
    if ((packet.u8(6) & 1) !== 0 || packet.srcEquals(mac)) return false; // a sender is neither a group nor we
    if (addressBytes === 4) {
      if (!isHost(first) || has(this.#ipv4, first)) return false;
      return checksum(sumOf(packet, l3, IPV4_BYTES)) === 0;
    }
    const isLocal =
      first === 0 &&
      int32At(packet, addresses + 4) === 0 &&
      int32At(packet, addresses + 8) === 0 &&
      int32At(packet, addresses + 12) >>> 0 <= 1;
    return first >>> 24 !== 0xff && !isLocal && !this.#hasIpv6(packet, addresses);
  }

  #hasIpv6(packet: Packet, at: number): boolean {
    const words = this.#ipv6;
    for (let i = 0; i < words.length; i += IPV6_WORDS) {
      let same = 0;
      while (same < IPV6_WORDS && words[i + same] === int32At(packet, at + 4 * same)) same++;
      if (same === IPV6_WORDS) return true;
    }
    return false;
  }
}

/** Exchanges the addresses, and updates lengths and checksums for the packet's new length. */
function finishIpv4(packet: Packet, l3: number): void {
  const source = int32At(packet, l3 + 12);
  packet.setU32(l3 + 12, int32At(packet, l3 + 16));
  packet.setU32(l3 + 16, source);
  packet.setU16(l3 + 2, packet.length - l3);
  packet.setU8(l3 + 8, TTL);
  packet.setU16(l3 + 10, ipv4Checksum(packet, l3));
  packet.setU16(l3 + IPV4_BYTES + 6, udpChecksum(packet, l3));
}

function finishIpv6(packet: Packet, l3: number): void {
  for (let at = l3 + 8; at < l3 + 24; at += 4) {
    const source = int32At(packet, at);
    packet.setU32(at, int32At(packet, at + 16));
    packet.setU32(at + 16, source);
  }
  const l4 = l3 + IPV6_BYTES;
  const bytes = packet.length - l4;
  packet.setU16(l3 + 4, bytes);
  packet.setU8(l3 + 7, TTL);
  // RFC 8200, 8.1: the sum includes both addresses, the length and the protocol, and must not be 0.
  packet.setU16(l4 + 6, 0);
  const sum = checksum(sumOf(packet, l3 + 8, 32, Protocol.UDP + bytes) + sumOf(packet, l4, bytes));
  packet.setU16(l4 + 6, sum === 0 ? 0xffff : sum);
}

function zoneOf(option: unknown): Zone {
  if (typeof option !== 'string' || option === '') {
    return invalid('zone', 'dns has no zone', "Give the path of a zone file: { zone: './example.zone' }.");
  }
  if (option.includes('\n')) return parseZone(option, 'zone');
  let text = '';
  try {
    text = readFileSync(option, 'utf8');
  } catch (error) {
    invalid('zone', (error as Error).message, 'Give the path of a zone file.');
  }
  return parseZone(text, option);
}
