/** src/handlers/reflect.ts in AssemblyScript: every packet goes back with the MAC addresses exchanged. */
import { packetAt, packetBytes, setVerdict, TX } from './include/twinpath';

export { twinpath_abi } from './include/twinpath';

const BOTH_ADDRESSES = 12;
/** Bytes of a vector. A shorter packet may end where its frame does. */
const VECTOR = 16;

export function burst(at: usize, length: i32): void {
  for (let i = 0; i < length; i++) {
    const packet = packetAt(at, i);
    const bytes = packetBytes(at, i);
    if (bytes < BOTH_ADDRESSES) continue; // to trap would cost the burst
    if (bytes >= VECTOR) {
      const head = v128.load(packet);
      v128.store(packet, i8x16.shuffle(head, head, 6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 12, 13, 14, 15));
    } else swapFields(packet);
    setVerdict(at, i, TX);
  }
}

function swapFields(packet: usize): void {
  const high = load<u32>(packet);
  const low = load<u16>(packet, 4);
  store<u32>(packet, load<u32>(packet, 6));
  store<u16>(packet, load<u16>(packet, 10), 4);
  store<u32>(packet, high, 6);
  store<u16>(packet, low, 10);
}
