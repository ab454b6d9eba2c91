/** Sends IPv4 packets back, by EtherType and version, and drops all others. */
import { packetAt, packetBytes, setVerdict, TX } from '../include/twinpath';

export { twinpath_abi } from '../include/twinpath';

export function burst(at: usize, length: i32): void {
  for (let i = 0; i < length; i++) {
    if (packetBytes(at, i) < 34) continue;
    const packet = packetAt(at, i);
    if (load<u16>(packet, 12) == 0x0008 && load<u8>(packet, 14) >> 4 == 4) setVerdict(at, i, TX);
  }
}
