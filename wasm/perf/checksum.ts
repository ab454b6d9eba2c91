/** A router's work on IPv4: decrements the time to live and updates the checksum (RFC 1624). */
import { packetAt, packetBytes, setVerdict, TX } from '../include/twinpath';

export { twinpath_abi } from '../include/twinpath';

export function burst(at: usize, length: i32): void {
  for (let i = 0; i < length; i++) {
    if (packetBytes(at, i) < 34) continue;
    const packet = packetAt(at, i);
    const before = <u32>bswap<u16>(load<u16>(packet, 22));
    const after = (before - 0x100) & 0xffff;
    const old = <u32>bswap<u16>(load<u16>(packet, 24));
    let sum = (~old & 0xffff) + (~before & 0xffff) + after;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    store<u16>(packet, bswap<u16>(<u16>after), 22);
    store<u16>(packet, bswap<u16>(<u16>~sum), 24);
    setVerdict(at, i, TX);
  }
}
