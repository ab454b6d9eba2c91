/**
 * The numbers of the WASM ABI that say where things are: docs/wasm-abi.md. A handler in WebAssembly imports the shared
 * memory and reads and writes these words itself, so a change here is a new version of the ABI.
 */
import { BURST } from './layout.ts';

/**
 * The first page of WebAssembly: compilers place a module's static data at low addresses, known when it is
 * linked. The workers' instances of a handler share it, as threads do.
 */
export const MODULE_STATIC_BYTES = 65_536;

/** What each worker's instance has for itself: context, thread-local data, state, stack. */
export const MODULE_AREA_BYTES = 262_144;

/** Where the arrays of a burst lie, from its start: four of Int32 and four of bytes, {@link BURST} entries each. */
export const BurstArray = {
  offset: 0,
  bytes: 4 * BURST,
  hash: 8 * BURST,
  offload: 12 * BURST,
  port: 16 * BURST,
  path: 17 * BURST,
  verdict: 18 * BURST,
  target: 19 * BURST,
} as const;
export const BURST_BYTES = 20 * BURST;

/**
 * What a handler's `in_place` is told of the rings, and what it answers: byte offsets of Int32.
 */
export const InPlaceWord = {
  /** Slots of the receive ring and of the transmit ring, as addresses, and what their cursors are masked with. */
  received: 0,
  receivedMask: 4,
  sent: 8,
  sentMask: 12,
  /** Where address 0 of a descriptor is. */
  frames: 16,
  /** Bytes of a packet that may be sent, at most. */
  maxPacketBytes: 20,
  /** The burst for what is not sent. */
  burst: 24,
  /** Answers: packets dealt with, their bytes, how many of them are in the transmit ring, how many in the burst. */
  done: 28,
  bytes: 32,
  staged: 36,
  left: 40,
} as const;

/** A MAC address and two bytes of nothing. */
export const MAC_STRIDE = 8;
