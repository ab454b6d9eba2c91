/** Sends pings at a steady rate, and counts the answers by their round trip. */
import { DROP, EtherType, icmpChecksum, ipv4Checksum, PASS, Protocol } from 'twinpath/handler';

/** Words of the results: 1 to stop, packets sent, answers, then the answers by the number of bits of their microseconds. */
export const STOP = 0;
export const SENT = 1;
export const ANSWERED = 2;
export const BUCKETS = 3;
export const WORDS = BUCKETS + 33;

/** Ethernet 14, IPv4 20, ICMP 8 and data 18: the shortest Ethernet frame, without its frame check sequence. */
const BYTES = 60;
const IP = 14;
const ICMP = 34;
const TIME = 42;
/** Packets of one tick: fewer than the transmit ring of a path holds. */
const MAX_AT_ONCE = 256;

/**
 * @param {{ from: string, to: string, mac: string, rate: number, id: number, results: SharedArrayBuffer }} options
 *   IPv4 addresses, the target's MAC address, pings a second, and the ICMP identifier of these pings
 * @param {import('twinpath/handler').HandlerContext} context
 * @returns {import('twinpath/handler').TickingHandler}
 */
export function create({ from, to, mac, rate, id, results }, { macs }) {
  const counts = new Int32Array(results);
  const addresses = [from, to].flatMap((address) => address.split('.').map(Number));
  const target = mac.split(':').map((byte) => Number.parseInt(byte, 16));
  // The bytes that are the same in every packet. `write` adds the source MAC address, number, time and checksums.
  const template = new Uint8Array(BYTES);
  template.set([...target, 0, 0, 0, 0, 0, 0, 0x08, 0x00], 0);
  template.set([0x45, 0, 0, BYTES - IP, 0, 0, 0x40, 0, 64, Protocol.ICMP, 0, 0, ...addresses], IP);
  template.set([8, 0, 0, 0, id >> 8, id & 255], ICMP); // echo request

  const interval = 1000 / rate;
  let next = performance.now();
  let number = 0;

  /** @param {import('twinpath/handler').Packet} packet a free frame, with the bytes of its last packet */
  function write(packet) {
    packet.write(0, template);
    packet.write(6, macs[0]); // read each time: the address of a card can change
    packet.setU16(ICMP + 6, number++ & 0xffff);
    packet.setU32(TIME, micros());
    packet.setU16(IP + 10, ipv4Checksum(packet, IP));
    packet.setU16(ICMP + 2, icmpChecksum(packet, ICMP, BYTES - ICMP));
  }

  return {
    tickMillis: 1,
    tick(burst) {
      if (Atomics.load(counts, STOP) === 1) return;
      const now = performance.now();
      for (let sent = 0; next <= now && sent < MAX_AT_ONCE; sent++) {
        if (!burst.send(BYTES, write)) break; // no free frame, or the path is full
        counts[SENT]++;
        next += interval;
      }
      if (next <= now) next = now; // skip the pings that could not be sent in time
    },
    handle(burst) {
      for (let i = 0; i < burst.length; i++) {
        const packet = burst.packet(i);
        burst.verdict[i] = isAnswer(packet, id) ? DROP : PASS; // the machine gets all other packets, ARP requests among them
        if (burst.verdict[i] === PASS) continue;
        const took = (micros() - packet.u32(TIME)) >>> 0;
        counts[ANSWERED]++;
        counts[BUCKETS + 32 - Math.clz32(took)]++;
      }
    },
  };
}

/** The clock of this thread in 32 bits: differences are correct up to 71 minutes. */
function micros() {
  return Math.floor(performance.now() * 1000) >>> 0;
}

/**
 * @param {import('twinpath/handler').Packet} packet
 * @param {number} id
 */
function isAnswer(packet, id) {
  if (packet.length < BYTES || packet.u16(12) !== EtherType.IPV4 || packet.u8(IP) !== 0x45) return false;
  if (packet.u8(IP + 9) !== Protocol.ICMP || packet.u16(ICMP) !== 0) return false; // echo reply
  return packet.u16(ICMP + 4) === id;
}
