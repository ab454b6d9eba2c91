/**
 * The datapath's work for each packet of a burst, apart from the handler: reads descriptors from a ring, writes them to a
 * ring, and sums bytes for checksums.
 *
 * Each access to a shared array costs JavaScript several checks (kind, bounds, base address); here it is one instruction.
 * Pure functions over addresses: no state, no stack, and nothing in the first page, which belongs to the handlers. The
 * caller publishes the cursors. src/memory/ring-operations.ts describes each function.
 * test/models/ring-operations-twin.ts has the same in TypeScript, and test/unit/memory/ring-operations.test.ts compares the two.
 */

/** Offsets of a burst's arrays: BurstArray in src/memory/wasm-abi.ts. */
const BURST: i32 = 64;
const BYTES: usize = 4 * BURST;
const OFFLOAD: usize = 12 * BURST;
const PORT: usize = 16 * BURST;
const PATH: usize = 17 * BURST;
const VERDICT: usize = 18 * BURST;

const TX: u8 = 1;
const FOUR_TX: u32 = 0x01010101;
/** The shortest frame: an Ethernet header. */
const MIN_LENGTH: u32 = 14;
/** Bytes of a descriptor, as a shift. */
const DESCRIPTOR: u32 = 4;
/** Distance from the word for staged descriptors to the word for those being given: PATH_WORDS in src/memory/blocks.ts. */
const GIVING: usize = 4;

export function begin(burst: usize, port: i32, path: i32, keepOffload: bool): void {
  const zero = i64x2.splat(0);
  const ports = i8x16.splat(<i8>port);
  const paths = i8x16.splat(<i8>path);
  for (let at = burst; at < burst + <usize>BURST; at += 16) {
    v128.store(at, ports, PORT);
    v128.store(at, paths, PATH);
    v128.store(at, zero, VERDICT);
  }
  if (keepOffload) return;
  for (let at = burst; at < burst + <usize>(4 * BURST); at += 16) v128.store(at, zero, OFFLOAD);
}

export function receive(burst: usize, slots: usize, mask: u32, cursor: u32, count: i32, frames: i32): i32 {
  const base = i32x4.splat(frames);
  let sums = i32x4.splat(0);
  let total: i32 = 0;
  let i: i32 = 0;
  while (i < count) {
    const first = (cursor + i) & mask;
    const slot = slots + (<usize>first << DESCRIPTOR);
    const to = burst + (<usize>i << 2);
    if (i + 4 <= count && first + 3 <= mask) {
      // Four descriptors are a 4 × 4 matrix of words; two of its columns are needed.
      const ab = i8x16.shuffle(v128.load(slot), v128.load(slot, 16),
        0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
      const cd = i8x16.shuffle(v128.load(slot, 32), v128.load(slot, 48),
        0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
      const lengths = i8x16.shuffle(ab, cd, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
      v128.store(to, i32x4.add(base,
        i8x16.shuffle(ab, cd, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23)));
      v128.store(to, lengths, BYTES);
      sums = i32x4.add(sums, lengths);
      i += 4;
    } else {
      const length = load<i32>(slot, 8);
      store<i32>(to, frames + load<i32>(slot));
      store<i32>(to, length, BYTES);
      total += length;
      i++;
    }
  }
  return total + i32x4.extract_lane(sums, 0) + i32x4.extract_lane(sums, 1) +
    i32x4.extract_lane(sums, 2) + i32x4.extract_lane(sums, 3);
}

export function stage(
  burst: usize, from: i32, to: i32, maxPacketBytes: u32,
  slots: usize, mask: u32, cursor: u32, stagedAt: usize,
  frames: u32, owners: usize, frameShift: u32, owner: u32,
): i32 {
  const base = i32x4.splat(<i32>frames);
  const shortest = i32x4.splat(<i32>MIN_LENGTH);
  const range = i32x4.splat(<i32>(maxPacketBytes - MIN_LENGTH));
  const zero = i32x4.splat(0);
  let sums = zero;
  let total: u32 = 0;
  let at = cursor;
  let i = from;
  while (i < to) {
    const packet = burst + (<usize>i << 2);
    const first = at & mask;
    const slot = slots + (<usize>first << DESCRIPTOR);
    if (i + 4 <= to && first + 3 <= mask && load<u32>(burst + <usize>i, VERDICT) == FOUR_TX) {
      const lengths = v128.load(packet, BYTES);
      if (i32x4.all_true(i32x4.le_u(i32x4.sub(lengths, shortest), range))) {
        const addresses = i32x4.sub(v128.load(packet), base);
        const low = i8x16.shuffle(addresses, lengths,
          0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
        const high = i8x16.shuffle(addresses, lengths,
          8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
        v128.store(slot, i8x16.shuffle(low, zero,
          0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23));
        v128.store(slot, i8x16.shuffle(low, zero,
          8, 9, 10, 11, 16, 17, 18, 19, 12, 13, 14, 15, 20, 21, 22, 23), 16);
        v128.store(slot, i8x16.shuffle(high, zero,
          0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23), 32);
        v128.store(slot, i8x16.shuffle(high, zero,
          8, 9, 10, 11, 16, 17, 18, 19, 12, 13, 14, 15, 20, 21, 22, 23), 48);
        sums = i32x4.add(sums, lengths);
        i += 4;
        at += 4;
        continue;
      }
    }
    if (load<u8>(burst + <usize>i, VERDICT) != TX) break;
    const length = load<u32>(packet, BYTES);
    if (length - MIN_LENGTH > maxPacketBytes - MIN_LENGTH) break;
    store<u64>(slot, load<u32>(packet) - frames);
    store<u64>(slot, length, 8);
    total += length;
    i++;
    at++;
  }
  setOwners(slots, mask, cursor, at - cursor, stagedAt, owners, frameShift, owner);
  total += i32x4.extract_lane(sums, 0) + i32x4.extract_lane(sums, 1) +
    i32x4.extract_lane(sums, 2) + i32x4.extract_lane(sums, 3);
  return (total << 8) | (i - from);
}

export function setOwners(
  slots: usize, mask: u32, cursor: u32, count: u32, stagedAt: usize, owners: usize, frameShift: u32, owner: u32,
): void {
  const end = cursor + count;
  store<u32>(stagedAt, end, GIVING);
  let at = cursor;
  while (at != end) {
    const first = at & mask;
    let slot = slots + (<usize>first << DESCRIPTOR);
    const some = min(end - at, mask + 1 - first);
    const last = slot + (<usize>some << DESCRIPTOR);
    const eights = slot + (<usize>(some & ~7) << DESCRIPTOR);
    while (slot != eights) {
      hold(slot, owners, frameShift, owner);
      hold(slot + 16, owners, frameShift, owner);
      hold(slot + 32, owners, frameShift, owner);
      hold(slot + 48, owners, frameShift, owner);
      hold(slot + 64, owners, frameShift, owner);
      hold(slot + 80, owners, frameShift, owner);
      hold(slot + 96, owners, frameShift, owner);
      hold(slot + 112, owners, frameShift, owner);
      slot += 128;
    }
    for (; slot != last; slot += 16) hold(slot, owners, frameShift, owner);
    at += some;
  }
  store<u32>(stagedAt, end);
}

export function sum(at: usize, count: i32): u32 {
  const end = at + <usize>count;
  let a = i32x4.splat(0);
  let b = i32x4.splat(0);
  // 16-bit words in the machine's order, added in 32-bit lanes, which have room for 131072 bytes.
  while (at + 64 <= end) {
    a = i32x4.add(a, i32x4.extadd_pairwise_i16x8_u(v128.load(at)));
    b = i32x4.add(b, i32x4.extadd_pairwise_i16x8_u(v128.load(at, 16)));
    a = i32x4.add(a, i32x4.extadd_pairwise_i16x8_u(v128.load(at, 32)));
    b = i32x4.add(b, i32x4.extadd_pairwise_i16x8_u(v128.load(at, 48)));
    at += 64;
  }
  while (at + 16 <= end) {
    a = i32x4.add(a, i32x4.extadd_pairwise_i16x8_u(v128.load(at)));
    at += 16;
  }
  a = i32x4.add(folded(a), folded(b));
  let total = <u32>i32x4.extract_lane(a, 0) + <u32>i32x4.extract_lane(a, 1) +
    <u32>i32x4.extract_lane(a, 2) + <u32>i32x4.extract_lane(a, 3);
  while (at + 2 <= end) {
    total += load<u16>(at);
    at += 2;
  }
  if (at < end) total += load<u8>(at); // as if a zero followed
  total = (total & 0xffff) + (total >> 16);
  total = (total & 0xffff) + (total >> 16);
  return ((total & 0xff) << 8) | (total >> 8);
}

// @ts-expect-error: decorator
@inline
function folded(sums: v128): v128 {
  return i32x4.add(v128.and(sums, i32x4.splat(0xffff)), i32x4.shr_u(sums, 16));
}

// @ts-expect-error: decorator
@inline
function hold(slot: usize, owners: usize, frameShift: u32, owner: u32): void {
  store<u16>(owners + (<usize>(load<u32>(slot) >>> frameShift) << 1), <u16>owner);
}
