/** src/handlers/reflect.ts in AssemblyScript: every packet goes back with the MAC addresses exchanged. */
import { packetAt, packetBytes, setVerdict, TX } from './include/twinpath';

export { twinpath_abi } from './include/twinpath';

const BOTH_ADDRESSES = 12;

export function burst(at: usize, length: i32): void {
  for (let i = 0; i < length; i++) {
    if (packetBytes(at, i) < BOTH_ADDRESSES) continue; // to trap would cost the burst
    const packet = packetAt(at, i);
    const high = load<u32>(packet);
    const low = load<u16>(packet, 4);
    store<u32>(packet, load<u32>(packet, 6));
    store<u16>(packet, load<u16>(packet, 10), 4);
    store<u32>(packet, high, 6);
    store<u16>(packet, low, 10);
    setVerdict(at, i, TX);
  }
}
