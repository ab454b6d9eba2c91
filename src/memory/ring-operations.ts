/**
 * The loops over a burst, and over the bytes of a packet, in WebAssembly: wasm/ring-operations/rings.ts, one instance per
 * thread over the shared memory.
 *
 * All arguments are addresses in bytes or numbers. Cursors run freely, as in ring.ts; the caller publishes them. A worker
 * may die inside, so the order of writes is part of the interface.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../package-root.ts';
import type { WasmMemory } from './geometry.ts';
import type { Memory } from './shared.ts';

export interface RingOperations {
  /**
   * Initializes a burst's arrays: port, path, the verdict DROP for each packet, and offload 0 unless the path has
   * written it.
   */
  begin(burst: number, port: number, path: number, keepOffload: boolean): void;
  /** Reads descriptors into the burst's offsets and lengths. Returns the sum of their bytes. */
  receive(burst: number, slots: number, mask: number, cursor: number, count: number, frames: number): number;
  /**
   * Stages packets `from` … `to` of the burst, up to the first whose verdict is not TX, or that is shorter than an Ethernet
   * header or longer than `maxPacketBytes`: writes their slots, and makes `owner` the owner of their frames.
   *
   * @returns `bytes << 8 | packets`
   */
  stage(
    burst: number,
    from: number,
    to: number,
    maxPacketBytes: number,
    slots: number,
    mask: number,
    cursor: number,
    stagedAt: number,
    frames: number,
    owners: number,
    frameShift: number,
    owner: number,
  ): number;
  /**
   * Makes `owner` the owner of the frames of `count` slots from `cursor` on. It writes in this order: the cursor behind
   * them to the word after `stagedAt`; the owners, the oldest first; the same cursor to `stagedAt`.
   */
  setOwners(
    slots: number,
    mask: number,
    cursor: number,
    count: number,
    stagedAt: number,
    owners: number,
    frameShift: number,
    owner: number,
  ): void;
  /**
   * The one's complement sum of `count` bytes at `at`, 131072 at most, folded to 16 bits: 0 only if every byte is 0. An odd
   * last byte counts as the high half of a word.
   */
  sum(at: number, count: number): number;
}

declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: { env: { memory: WasmMemory } }) => { readonly exports: unknown };
};

const instances = new WeakMap<Memory, RingOperations>();
let module: object | undefined;

/** The instance of the calling thread. Compiles the module when first called (a millisecond). */
export function ringOperationsOf(memory: Memory): RingOperations {
  const known = instances.get(memory);
  if (known !== undefined) return known;
  module ??= new WebAssembly.Module(readFileSync(join(packageRoot, 'dist/src/memory/rings.wasm')));
  const instance = new WebAssembly.Instance(module, { env: { memory: memory.shared.memory } });
  const ringOps = instance.exports as RingOperations;
  instances.set(memory, ringOps);
  return ringOps;
}
