/** src/handlers/reflect.ts in AssemblyScript: sends every packet back, with the MAC addresses exchanged. */
import { DROP, TX } from './include/twinpath';

export { twinpath_abi } from './include/twinpath';
export { burst, in_place } from './include/packets';

const BOTH_ADDRESSES = 12;
/** Bytes of a vector. NB: a shorter packet may end at the end of its frame. */
const VECTOR = 16;

// @ts-ignore: decorator
@global @inline
function decide(packet: usize, bytes: i32): u32 {
  if (bytes < BOTH_ADDRESSES) return DROP; // a trap would drop the whole burst
  if (bytes >= VECTOR) {
    const head = v128.load(packet);
    v128.store(packet, i8x16.shuffle(head, head, 6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 12, 13, 14, 15));
  } else exchangeFields(packet);
  return TX;
}

function exchangeFields(packet: usize): void {
  const high = load<u32>(packet);
  const low = load<u16>(packet, 4);
  store<u32>(packet, load<u32>(packet, 6));
  store<u16>(packet, load<u16>(packet, 10), 4);
  store<u32>(packet, high, 6);
  store<u16>(packet, low, 10);
}
