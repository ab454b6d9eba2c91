/**
 * Makes both entry points of a handler from one function that decides on a single packet: `burst`, which every handler has,
 * and `in_place`, for paths whose rings hold descriptors. `in_place` moves a packet from the receive ring to the transmit
 * ring in the loop that decides on it. docs/wasm-abi.md explains both.
 *
 * ```ts
 * import { TX } from 'twinpath/wasm/include/twinpath';
 * export { twinpath_abi } from 'twinpath/wasm/include/twinpath';
 * export { burst, in_place } from 'twinpath/wasm/include/packets';
 *
 * // @ts-ignore: decorator
 * @global @inline function decide(packet: usize, bytes: i32): u32 {
 *   return bytes < 60 ? DROP : TX;
 * }
 * ```
 *
 * `decide` gets the packet's address and length, may write to the packet, and returns a verdict, or `forwardTo(port)`; with `| TEE`
 * if the application is to have a copy. It is inlined into the loops, so it should be short: put longer code into functions that it
 * calls. A handler that moves packets, changes their length, or needs their port, path or hash must export its own `burst`, and no
 * `in_place`.
 */
import { packetAt, packetBytes, FORWARD, setTarget, setVerdict, TEE, TX } from "./twinpath";

/** The verdict that sends a packet out of another port. */
// @ts-ignore: decorator
@inline export function forwardTo(port: i32): u32 {
  return <u32>FORWARD | (<u32>port << 8);
}

export function burst(at: usize, length: i32): void {
  for (let i = 0; i < length; i++) {
    // @ts-ignore: the handler's
    conclude(at, i, decide(packetAt(at, i), packetBytes(at, i)));
  }
}

/** Most packets that may be left to the worker, and of one portion: the length of a burst. */
const BURST: u32 = 64;
/** The shortest frame: an Ethernet header. */
const MIN_LENGTH: u32 = 14;
/** Bytes of a descriptor: address, length. */
const DESCRIPTOR: usize = 16;
/** Mask of the lower halves of both: the upper halves are 0. */
const LOW: usize = memory.data<u32>([-1, 0, -1, 0]);

@unmanaged
class InPlace {
  /** Slots and cursor masks of the receive ring and the transmit ring. */
  received: usize;
  receivedMask: u32;
  sent: usize;
  sentMask: u32;
  /** Memory address of a descriptor's address 0. */
  frames: usize;
  /** Most bytes of a packet to send. */
  maxPacketBytes: u32;
  /** The burst for packets that are not sent. */
  burst: usize;
  /** Results: packets handled, their bytes, how many of them were sent, and how many are in the burst. */
  done: i32;
  bytes: u32;
  staged: i32;
  left: u32;
}

/** Packets in the burst, including those of the unfinished portion. */
let left: u32 = 0;

export function in_place(rings: InPlace, from: u32, to: u32, count: i32): void {
  const firstReceived = rings.received;
  const firstSent = rings.sent;
  const endReceived = firstReceived + (<usize>(rings.receivedMask + 1)) * DESCRIPTOR;
  const endSent = firstSent + (<usize>(rings.sentMask + 1)) * DESCRIPTOR;
  const frames = rings.frames;
  const range = rings.maxPacketBytes - MIN_LENGTH;
  const low = v128.load(LOW);
  let slot = firstReceived + (<usize>(from & rings.receivedMask)) * DESCRIPTOR;
  let out = firstSent + (<usize>(to & rings.sentMask)) * DESCRIPTOR;
  left = 0;
  while (rings.done < count && left < BURST) {
    // A portion: no ring wraps in it, and the burst has room for all of it. A trap loses only the portion.
    const portion = min(
      min(<u32>(count - rings.done), BURST - left),
      min(<u32>(endReceived - slot), <u32>(endSent - out)) / <u32>DESCRIPTOR,
    );
    const began = out;
    const end = slot + <usize>portion * DESCRIPTOR;
    const pairs = slot + <usize>(portion & ~1) * DESCRIPTOR;
    let sums = i64x2.splat(0);
    while (slot != pairs) {
      sums = i64x2.add(sums, v128.load(slot));
      out = one(rings, slot, out, frames, range, low);
      sums = i64x2.add(sums, v128.load(slot + DESCRIPTOR));
      out = one(rings, slot + DESCRIPTOR, out, frames, range, low);
      slot += 2 * DESCRIPTOR;
    }
    if (slot != end) {
      sums = i64x2.add(sums, v128.load(slot));
      out = one(rings, slot, out, frames, range, low);
      slot = end;
    }
    rings.done += <i32>portion;
    rings.bytes += <u32>i64x2.extract_lane(sums, 1);
    rings.staged += <i32>((out - began) / DESCRIPTOR);
    rings.left = left;
    if (slot == endReceived) slot = firstReceived;
    if (out == endSent) out = firstSent;
  }
}

/** Handles one packet. Returns the slot for the next packet to send. */
// @ts-ignore: decorator
@inline function one(rings: InPlace, slot: usize, out: usize, frames: usize, range: u32, low: v128): usize {
  const packet = frames + <usize>load<u32>(slot);
  const bytes = load<u32>(slot, 8);
  // @ts-ignore: the handler's
  const verdict: u32 = decide(packet, <i32>bytes);
  if (verdict == TX) {
    v128.store(out, v128.and(v128.load(slot), low));
    if (bytes - MIN_LENGTH <= range) return out + DESCRIPTOR;
  }
  leave(rings.burst, packet, bytes, verdict);
  return out;
}

function leave(burst: usize, packet: usize, bytes: u32, verdict: u32): void {
  const at = burst + (<usize>left << 2);
  store<u32>(at, <u32>packet);
  store<u32>(at, bytes, 256);
  conclude(burst, <i32>left, verdict);
  left++;
}

// @ts-ignore: decorator
@inline function conclude(burst: usize, i: i32, verdict: u32): void {
  setVerdict(burst, i, <u8>verdict);
  if ((<u8>verdict & ~TEE) == FORWARD) setTarget(burst, i, <i32>(verdict >> 8));
}
