/** Sends UDP datagrams for one port back to their sender, and passes all other packets to the machine. */
import { DROP, EtherType, PASS, Protocol, TX, update16 } from 'twinpath/handler';

/**
 * Runs once in each queue worker, before its first packet.
 *
 * @param {{ port?: number }} options the port's `handlerOptions`
 * @returns {import('twinpath/handler').Handler}
 */
export function create({ port = 7 }) {
  if (!Number.isInteger(port) || port < 1 || port > 65535) {
    throw new RangeError(`udp-echo: port must be a whole number from 1 to 65535, not ${port}`);
  }
  return (burst) => {
    for (let i = 0; i < burst.length; i++) burst.verdict[i] = answer(burst.packet(i), port);
  };
}

/**
 * @param {import('twinpath/handler').Packet} packet
 * @param {number} port
 */
function answer(packet, port) {
  // Check lengths before reading: a read past the packet's end throws, and a throw costs microseconds.
  if (packet.length < 42 || packet.isGroup) return PASS; // Ethernet 14, IPv4 20, UDP 8 bytes
  const ip = packet.l3; // after the Ethernet header and any VLAN tags
  if (packet.length < ip + 28 || packet.u16(ip - 2) !== EtherType.IPV4) return PASS;
  if (packet.u8(ip) !== 0x45) return PASS; // version 4, a header of 5 words: no options
  if ((packet.u16(ip + 6) & 0x3fff) !== 0) return PASS; // a fragment: only the kernel reassembles them
  if (packet.u8(ip + 9) !== Protocol.UDP || packet.u16(ip + 22) !== port) return PASS;
  // Clients use ports above 1023. Another echo service would answer the answer, and the two would never stop.
  const from = packet.u16(ip + 20);
  if (from < 1024 || from === port) return DROP;

  packet.swapMacs();
  const sender = packet.u32(ip + 12);
  packet.setU32(ip + 12, packet.u32(ip + 16));
  packet.setU32(ip + 16, sender);
  packet.setU16(ip + 20, port);
  packet.setU16(ip + 22, from);
  // A checksum is a sum, so it stays correct when fields are exchanged. It has to change with the time to live.
  const before = packet.u16(ip + 8); // time to live and protocol
  const after = (64 << 8) | Protocol.UDP;
  packet.setU16(ip + 8, after);
  packet.setU16(ip + 10, update16(packet.u16(ip + 10), before, after));
  return TX;
}
