/**
 * src/handlers/echo.ts in AssemblyScript: answers ARP requests, ICMP echo and UDP echo for its addresses, and drops the
 * same packets for the same reasons. It has the same options, `address` and `port`.
 *
 * NB: loads are not checked, so the packet's length is checked before each. Addresses stay in network order; `be16` converts
 * numbers.
 */
import {
  context,
  DROP,
  macOf,
  networkOffset,
  packetAt,
  packetBytes,
  packetPort,
  refuse,
  setVerdict,
  TX,
} from './include/twinpath';

export { twinpath_abi } from './include/twinpath';

const ETHERNET_BYTES = 14;
/** Bytes of ARP for IPv4 over Ethernet, and of an IPv4 header followed by ICMP echo or UDP. */
const MIN_LENGTH = 28;
const IPV4_BYTES = 20;
const L4_BYTES = 8;
const TTL: u32 = 64;

const ARP: u32 = 0x0806;
const IPV4: u32 = 0x0800;
const ICMP: u32 = 1;
const UDP: u32 = 17;

/** The IPv4 addresses to answer for, four bytes each. */
let addresses: usize = 0;
let count: i32 = 0;
let echoPort: u32 = 7;

const here = context();

export function burst(at: usize, length: i32): void {
  for (let i = 0; i < length; i++) {
    const mac = macOf(here, packetPort(at, i));
    setVerdict(at, i, answer(packetAt(at, i), packetBytes(at, i), mac));
  }
}

function answer(packet: usize, length: i32, mac: usize): u8 {
  if (length < ETHERNET_BYTES + MIN_LENGTH) return DROP;
  const header = networkOffset(packet, length);
  if (length < header + MIN_LENGTH) return DROP;
  if ((load<u8>(packet, 6) & 1) != 0 || isMac(packet + 6, mac)) return DROP; // a sender is neither a group nor we
  const l3 = packet + header;
  const type = be16(l3 - 2);
  const toUs = isMac(packet, mac);
  if (type == ARP) return toUs || (load<u8>(packet) & 1) != 0 ? answerArp(packet, l3, mac) : DROP;
  return type == IPV4 && toUs ? answerIpv4(packet, l3, length - header) : DROP;
}

/** Turns the request "who has target, tell sender" into the reply "target is at mac" (RFC 826). */
function answerArp(packet: usize, l3: usize, mac: usize): u8 {
  const forIpv4OverEthernet = be16(l3) == 1 && be16(l3 + 2) == IPV4 && be16(l3 + 4) == 0x0604;
  if (!forIpv4OverEthernet || be16(l3 + 6) != 1) return DROP;
  const sender = load<u32>(l3, 14);
  const target = load<u32>(l3, 24);
  // An announcement: another host claims the address.
  if (sender == target || !has(target)) return DROP;

  store16(l3 + 6, 2);
  copyMac(l3 + 18, l3 + 8);
  store<u32>(l3, sender, 24);
  copyMac(l3 + 8, mac);
  store<u32>(l3, target, 14);
  copyMac(packet, packet + 6);
  copyMac(packet + 6, mac); // the request was a broadcast
  return TX;
}

function answerIpv4(packet: usize, l3: usize, room: i32): u8 {
  const total = <i32>be16(l3 + 2);
  if (load<u8>(l3) != 0x45) return DROP; // version 4, no options
  if (total < IPV4_BYTES + L4_BYTES || total > room) return DROP;
  if ((be16(l3 + 6) & 0x3fff) != 0) return DROP; // a fragment
  const source = load<u32>(l3, 12);
  const target = load<u32>(l3, 16);
  if (!has(target) || !isHost(load<u8>(l3, 12)) || has(source)) return DROP;
  if (checksum(sumOfHeader(l3)) != 0) return DROP;

  const protocol = <u32>load<u8>(l3, 9);
  const l4 = l3 + IPV4_BYTES;
  if (protocol == ICMP) {
    if (!echoIcmp(l4)) return DROP;
  } else if (protocol != UDP || !echoUdp(l4, total - IPV4_BYTES)) return DROP;

  // Exchanging the addresses does not change the checksum; the new time to live does.
  store<u32>(l3, target, 12);
  store<u32>(l3, source, 16);
  const before = be16(l3 + 8);
  const after = (TTL << 8) | protocol;
  store16(l3 + 8, after);
  store16(l3 + 10, update16(be16(l3 + 10), before, after));
  swapMacs(packet);
  return TX;
}

/** Turns an echo request (type 8, code 0) into an echo reply (type 0, code 0). */
function echoIcmp(l4: usize): bool {
  if (be16(l4) != 0x0800) return false;
  store16(l4, 0);
  store16(l4 + 2, update16(be16(l4 + 2), 0x0800, 0));
  return true;
}

/** Exchanges the ports, which does not change the checksum. */
function echoUdp(l4: usize, room: i32): bool {
  const from = be16(l4);
  const bytes = <i32>be16(l4 + 4);
  if (be16(l4 + 2) != echoPort || from == echoPort || isResponder(from)) return false;
  if (bytes < L4_BYTES || bytes > room) return false;
  store16(l4, echoPort);
  store16(l4 + 2, from);
  return true;
}

/** Ports of services that may answer the answer: src/handlers/responders.ts explains them. */
function isResponder(port: u32): bool {
  if (port < 1024 || port == 1900 || port == 2049 || port == 3702) return true;
  return port == 5353 || port == 11211 || port == 27015 || port == 27960;
}

function isMac(at: usize, mac: usize): bool {
  return load<u32>(at) == load<u32>(mac) && load<u16>(at, 4) == load<u16>(mac, 4);
}

function swapMacs(packet: usize): void {
  const high = load<u32>(packet);
  const low = load<u16>(packet, 4);
  copyMac(packet, packet + 6);
  store<u32>(packet, high, 6);
  store<u16>(packet, low, 10);
}

function copyMac(to: usize, from: usize): void {
  store<u32>(to, load<u32>(from));
  store<u16>(to, load<u16>(from, 4), 4);
}

function sumOfHeader(l3: usize): u32 {
  let total: u32 = 0;
  for (let i = 0; i < IPV4_BYTES; i += 2) total += be16(l3 + i);
  return total;
}

/** The checksum of a sum: folded to 16 bits and complemented (RFC 1071). */
function checksum(total: u32): u32 {
  const once = (total & 0xffff) + (total >> 16);
  return ~(once + (once >> 16)) & 0xffff;
}

/** The checksum `old` after a field has changed from `before` to `after`: equation 3 of RFC 1624. */
function update16(old: u32, before: u32, after: u32): u32 {
  return checksum((~old & 0xffff) + (~before & 0xffff) + after);
}

function be16(at: usize): u32 {
  return bswap<u16>(load<u16>(at));
}

function store16(at: usize, value: u32): void {
  store<u16>(at, bswap<u16>(<u16>value));
}

/** Whether a host may have an address with this first byte: not 0/8, 127/8, multicast or above. */
function isHost(first: u32): bool {
  return first != 0 && first != 127 && first < 224;
}

function has(address: u32): bool {
  for (let i = 0; i < count; i++) if (load<u32>(addresses + (<usize>i << 2)) == address) return true;
  return false;
}

/** The rest of the options' JSON, which has no white space. */
let at: usize = 0;
let end: usize = 0;

export function init(): void {
  at = here.options;
  end = at + here.optionsBytes;
  addresses = heap.alloc(here.optionsBytes); // the text of an address has more than its four bytes
  skip(0x7b); // {
  while (!skip(0x7d)) {
    if (isKey('address')) readAddresses();
    else if (isKey('port')) readPort();
    else refuse("echo has 'address' and 'port'");
    skip(0x2c); // ,
  }
  if (count == 0) refuse("echo answers for no address: give { address: '10.77.0.2' }");
}

function isKey(name: string): bool {
  if (at + name.length + 3 > end) return false;
  for (let i = 0; i < name.length; i++) {
    if (load<u8>(at + i, 1) != <u8>name.charCodeAt(i)) return false;
  }
  if (load<u8>(at + name.length, 1) != 0x22) return false;
  at += name.length + 3; // quotes and colon
  return true;
}

function readAddresses(): void {
  const several = skip(0x5b); // [
  while (!(several && skip(0x5d))) {
    if (!skip(0x22)) refuseAddress();
    let address: u32 = 0;
    for (let i = 0; i < 4; i++) {
      if (i > 0 && !skip(0x2e)) refuseAddress(); // .
      address |= readNumber(255) << (i << 3);
    }
    if (!skip(0x22) || !isHost(address & 255)) refuseAddress();
    store<u32>(addresses + (<usize>count << 2), address);
    count++;
    skip(0x2c);
    if (!several) return;
  }
}

function readPort(): void {
  echoPort = readNumber(0xffff);
  const next = load<u8>(at);
  if (echoPort == 0 || (next != 0x2c && next != 0x7d)) refusePort();
}

/** Reads decimal digits without a leading zero. Refuses a number above `most`. */
function readNumber(most: u32): u32 {
  const first = at;
  let value: u32 = 0;
  for (; at < end; at++) {
    const digit = <u32>load<u8>(at) - 0x30;
    if (digit > 9 || value > most || (at > first && value == 0)) break;
    value = value * 10 + digit;
  }
  if (at == first || value > most) {
    if (most == 255) refuseAddress();
    refusePort();
  }
  return value;
}

function refuseAddress(): void {
  refuse("an address of echo is not the IPv4 address of a host: give it as '10.77.0.2'");
}

function refusePort(): void {
  refuse('the port of echo is not a UDP port: give a number from 1 to 65535');
}

function skip(character: u8): bool {
  if (at >= end || load<u8>(at) != character) return false;
  at++;
  return true;
}
