/** The udp-echo example in AssemblyScript: sends UDP datagrams for port 7 back, and passes the rest to the machine. */
// In a project of your own: 'twinpath/wasm/include/twinpath'.
import {
  DROP,
  networkOffset,
  PASS,
  packetAt,
  packetBytes,
  setVerdict,
  TX,
} from '../../wasm/include/twinpath';

export { twinpath_abi } from '../../wasm/include/twinpath';

const ECHO_PORT: u32 = 7;
const FIRST_CLIENT_PORT: u32 = 1024;
const IPV4: u32 = 0x0800;
const UDP: u8 = 17;
const TTL: u8 = 64;

/** Packets are big-endian and WebAssembly is little-endian. */
function get16(at: usize): u32 {
  return bswap(load<u16>(at));
}

function set16(at: usize, value: u32): void {
  store<u16>(at, bswap(<u16>value));
}

function exchange(a: usize, b: usize, bytes: usize): void {
  for (let i: usize = 0; i < bytes; i++) {
    const byte = load<u8>(a + i);
    store<u8>(a + i, load<u8>(b + i));
    store<u8>(b + i, byte);
  }
}

/** The checksum after a 16-bit field has changed: RFC 1624. */
function update16(checksum: u32, before: u32, after: u32): u32 {
  let sum = (~checksum & 0xffff) + (~before & 0xffff) + after;
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

function answer(packet: usize, bytes: i32): u8 {
  // No access is checked: compare lengths before each one.
  if (bytes < 42 || load<u8>(packet) & 1) return PASS; // too short for UDP, or a group address
  const l3 = networkOffset(packet, bytes); // after Ethernet and any VLAN tags
  const ip = packet + l3;
  const udp = ip + 20;
  if (bytes < l3 + 28 || get16(ip - 2) != IPV4 || load<u8>(ip) != 0x45) return PASS; // 0x45: no options
  if ((get16(ip + 6) & 0x3fff) != 0) return PASS; // a fragment
  if (load<u8>(ip + 9) != UDP || get16(udp + 2) != ECHO_PORT) return PASS;
  // Another echo service would answer the answer, and the two would never stop.
  if (get16(udp) < FIRST_CLIENT_PORT) return DROP;

  exchange(packet, packet + 6, 6);
  exchange(ip + 12, ip + 16, 4);
  exchange(udp, udp + 2, 2);
  // A checksum stays correct when fields are exchanged. It has to change with the time to live.
  const before = get16(ip + 8);
  store<u8>(ip + 8, TTL);
  set16(ip + 10, update16(get16(ip + 10), before, get16(ip + 8)));
  return TX;
}

export function burst(at: usize, length: i32): void {
  for (let i = 0; i < length; i++) setVerdict(at, i, answer(packetAt(at, i), packetBytes(at, i)));
}
