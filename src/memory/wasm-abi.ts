/**
 * The offsets of the WASM ABI: docs/wasm-abi.md. A handler in WebAssembly imports the shared memory and reads and writes these
 * words itself, so a change here is a new version of the ABI.
 */
import { BURST } from './layout.ts';

/**
 * The first page of WebAssembly: compilers place a module's static data at low addresses, known when it is
 * linked. The workers' instances of a handler share it, as threads do.
 */
export const MODULE_STATIC_BYTES = 65_536;

/** The area of each worker's own instance: context, thread-local data, state, stack. */
export const MODULE_AREA_BYTES = 262_144;

/**
 * Byte offsets of the arrays of a burst, {@link BURST} entries each: Int32, but for `port` to `target` and `checksum`, which are
 * bytes, and `time`, which is 64 bits. The arrays from `tag` on, and `offload` as an order, are used only if the port's metadata
 * has them: see metadata.ts.
 */
export const BurstArray = {
  offset: 0,
  bytes: 4 * BURST,
  hash: 8 * BURST,
  offload: 12 * BURST,
  port: 16 * BURST,
  path: 17 * BURST,
  verdict: 18 * BURST,
  target: 19 * BURST,
  tag: 20 * BURST,
  rule: 24 * BURST,
  time: 28 * BURST,
  checksum: 36 * BURST,
} as const;
export const BURST_BYTES = 37 * BURST;

/** The arguments and results of a handler's `in_place`, which describe the rings: byte offsets of Int32. */
export const InPlaceWord = {
  /** Slots of the receive ring and of the transmit ring, as addresses, and the masks of their cursors. */
  received: 0,
  receivedMask: 4,
  sent: 8,
  sentMask: 12,
  /** Byte offset of a descriptor's address 0. */
  frames: 16,
  /** Bytes of the longest packet that may be sent. */
  maxPacketBytes: 20,
  /** The burst for packets that are not sent. */
  burst: 24,
  /** Results: packets handled, their bytes, how many of them are in the transmit ring, how many in the burst. */
  done: 28,
  bytes: 32,
  staged: 36,
  left: 40,
} as const;

/** A MAC address and two unused bytes. */
export const MAC_STRIDE = 8;
