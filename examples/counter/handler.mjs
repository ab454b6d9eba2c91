/** Counts the requests that arrive, in memory that the main thread reads, and passes every packet to the machine. */
import { EtherType, PASS, Protocol } from 'twinpath/handler';

export const KINDS = ['TCP connections', 'UDP datagrams', 'pings', 'other packets'];
const [TCP, UDP, PING, OTHER] = KINDS.keys();

/** Int32 words of each worker: one cache line, because workers that write to the same line slow each other down. */
export const WORDS = 16;

/**
 * @param {{ counters: SharedArrayBuffer }} options `WORDS` words for each queue
 * @param {import('twinpath/handler').HandlerContext} context
 * @returns {import('twinpath/handler').Handler}
 */
export function create({ counters }, { queue }) {
  const published = new Int32Array(counters, queue * WORDS * 4, KINDS.length);
  // Starts from the published counts: a worker that replaces a dead one continues its counts.
  const counts = Int32Array.from(published);
  return (burst) => {
    for (let i = 0; i < burst.length; i++) {
      counts[kindOf(burst.packet(i))]++;
      burst.verdict[i] = PASS;
    }
    // Once for each burst: an atomic store costs more than counting a packet.
    for (let kind = 0; kind < KINDS.length; kind++) Atomics.store(published, kind, counts[kind]);
  };
}

/** @param {import('twinpath/handler').Packet} packet */
function kindOf(packet) {
  if (packet.length < 34) return OTHER; // Ethernet and IPv4
  const ip = packet.l3;
  const type = packet.u16(ip - 2);
  let protocol = -1;
  let payload = 0;
  if (type === EtherType.IPV4 && packet.length >= ip + 20) {
    if ((packet.u16(ip + 6) & 0x1fff) !== 0) return OTHER; // a later fragment has no header after IP's
    protocol = packet.u8(ip + 9);
    payload = ip + 4 * (packet.u8(ip) & 15);
  } else if (type === EtherType.IPV6 && packet.length >= ip + 40) {
    protocol = packet.u8(ip + 6); // packets with extension headers count as other
    payload = ip + 40;
  }
  if (protocol === Protocol.UDP) return UDP;
  if (protocol === Protocol.ICMP) return packet.length > payload && packet.u8(payload) === 8 ? PING : OTHER;
  if (protocol === Protocol.ICMPV6)
    return packet.length > payload && packet.u8(payload) === 128 ? PING : OTHER;
  // SYN without ACK: the first packet of a connection.
  const isTcp = protocol === Protocol.TCP && packet.length >= payload + 14;
  return isTcp && (packet.u8(payload + 13) & 0x12) === 0x02 ? TCP : OTHER;
}
