/** A name server for a few IPv4 addresses. It passes all packets that are not for UDP port 53 to the machine. */
import { isIPv4 } from 'node:net';
import { DROP, EtherType, ipv4Checksum, PASS, Protocol, TX, udpChecksum } from 'twinpath/handler';

const NO_RECORD = new Uint8Array(0);

/**
 * @param {{ names?: Record<string, string> }} options IPv4 addresses by name
 * @returns {import('twinpath/handler').Handler}
 */
export function create({ names = { 'hello.example': '192.0.2.1' } }) {
  // Once, and not for each packet: the bytes of each name in a question, and of its answer.
  const entries = Object.entries(names).map(([name, address]) => {
    if (!isIPv4(address)) throw new TypeError(`dns: the address of ${name} must be IPv4, not ${address}`);
    // Pointer to the name in the question (12), type A, class IN, 60 seconds, 4 bytes.
    const head = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4];
    return { name: encoded(name), record: Uint8Array.from([...head, ...address.split('.').map(Number)]) };
  });
  return (burst) => {
    for (let i = 0; i < burst.length; i++) burst.verdict[i] = answer(burst.packet(i), entries);
  };
}

/**
 * @param {import('twinpath/handler').Packet} packet
 * @param {{ name: Uint8Array, record: Uint8Array }[]} entries
 */
function answer(packet, entries) {
  if (packet.length < 42 || packet.isGroup) return PASS;
  const ip = packet.l3;
  const udp = ip + 20;
  const message = udp + 8;
  if (packet.length < message || packet.u16(ip - 2) !== EtherType.IPV4 || packet.u8(ip) !== 0x45) return PASS;
  if ((packet.u16(ip + 6) & 0x3fff) !== 0) return PASS; // a fragment
  if (packet.u8(ip + 9) !== Protocol.UDP || packet.u16(udp + 2) !== 53) return PASS;

  // The packet is for this server. An answer to a response, or to a service (a port below 1024), could be answered
  // in turn, without end.
  const end = udp + packet.u16(udp + 4);
  if (end > packet.length || end < message + 17) return DROP; // 12 bytes of header, 5 of the shortest question
  if (packet.u16(udp) < 1024) return DROP;
  const flags = packet.u16(message + 2);
  if ((flags & 0xf800) !== 0 || packet.u16(message + 4) !== 1) return DROP; // not a query, or not one question
  let label = message + 12; // a name is a list of labels, each after its length, with a 0 at the end
  while (label < end && packet.u8(label) !== 0) label += packet.u8(label) + 1;
  const question = label + 5; // its end: after the 0, two bytes of type and two bytes of class
  if (question > end) return DROP;

  const found = lookUp(packet, message + 12, label + 1, entries);
  const isAddress = found !== undefined && packet.u32(label + 1) === 0x0001_0001; // type A, class IN
  const record = isAddress ? found.record : NO_RECORD;
  // A response that repeats "recursion desired": with authority for a name of ours, else with the code REFUSED (5).
  packet.setU16(message + 2, (flags & 0x0100) | (found === undefined ? 0x8005 : 0x8400));
  packet.setU16(message + 6, isAddress ? 1 : 0);
  packet.setU32(message + 8, 0); // the additional records of the query are cut off
  packet.length = question + record.length; // the frame has free space after the packet
  packet.write(question, record);
  sendBack(packet, ip);
  return TX;
}

/** @param {string} name 'a.bc' becomes 1 a 2 b c 0 */
function encoded(name) {
  const labels = name.toLowerCase().split('.');
  if (labels.some((label) => !/^[\w-]{1,63}$/.test(label)) || name.length > 253) {
    throw new TypeError(`dns: ${name} is not a name`);
  }
  return Uint8Array.from([...labels.flatMap((label) => [label.length, ...Buffer.from(label)]), 0]);
}

/**
 * The entry whose name stands in the bytes from `at` to `end`, in lower or upper case. A loop and not `find`, which
 * needs a new closure for each packet: a handler that allocates nothing never causes a garbage collection.
 *
 * @param {import('twinpath/handler').Packet} packet
 * @param {number} at
 * @param {number} end
 * @param {{ name: Uint8Array, record: Uint8Array }[]} entries
 */
function lookUp(packet, at, end, entries) {
  for (const entry of entries) {
    let i = entry.name.length === end - at ? 0 : -1;
    while (i >= 0 && i < end - at) i = lowerCase(packet.u8(at + i)) === entry.name[i] ? i + 1 : -1;
    if (i === end - at) return entry;
  }
  return undefined;
}

/** @param {number} byte a letter, or the length of a label, which is below 64 and stays as it is */
function lowerCase(byte) {
  return byte >= 65 && byte <= 90 ? byte + 32 : byte;
}

/**
 * Exchanges the addresses and ports, and makes lengths and checksums fit the new packet.
 *
 * @param {import('twinpath/handler').Packet} packet
 * @param {number} ip
 */
function sendBack(packet, ip) {
  packet.swapMacs();
  const sender = packet.u32(ip + 12);
  packet.setU32(ip + 12, packet.u32(ip + 16));
  packet.setU32(ip + 16, sender);
  packet.setU16(ip + 2, packet.length - ip);
  packet.setU8(ip + 8, 64); // time to live
  packet.setU16(ip + 10, ipv4Checksum(packet, ip));
  packet.setU16(ip + 22, packet.u16(ip + 20));
  packet.setU16(ip + 20, 53);
  packet.setU16(ip + 24, packet.length - ip - 20);
  packet.setU16(ip + 26, udpChecksum(packet, ip));
}
