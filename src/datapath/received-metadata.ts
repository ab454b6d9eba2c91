/**
 * Reads what a device has said about the packets of a burst into the burst's arrays, as far as the handler asks for it:
 * memory/metadata.ts has the layout. It costs 3 to 10 ns a packet. A port whose handler asks for nothing has no such object.
 *
 * Belongs to the worker thread.
 */
import type { Burst } from '../handler/burst.ts';
import { Path, type PathId } from '../memory/layout.ts';
import {
  isMark,
  METADATA_BYTES,
  METADATA_GAP,
  METADATA_GAP_BYTES,
  METADATA_VERIFIED,
  MetadataBit,
  MetadataField,
  RECEIVED,
} from '../memory/metadata.ts';
import type { Memory } from '../memory/shared.ts';
import { BurstArray } from '../memory/wasm-abi.ts';

export class ReceivedMetadata {
  readonly #burst: Burst;
  readonly #view: DataView;
  readonly #words: Int32Array;
  /** For each path, the index of the word that says whether its packets have metadata. */
  readonly #givenAt: readonly number[];
  readonly #wanted: number;
  readonly #timeAt: number;

  /**
   * @param wanted `MetadataBit`s
   * @param hashes whether the worker hashes each packet: then `hash` has the port's hash
   */
  constructor(memory: Memory, burst: Burst, port: number, queue: number, wanted: number, hashes: boolean) {
    this.#burst = burst;
    this.#view = memory.view;
    this.#words = memory.words;
    this.#givenAt = [0, Path.SYNTHETIC, Path.VF].map((path) =>
      path === 0 ? 0 : memory.slot({ port, queue, path: path as PathId }).at('metadata'),
    );
    this.#wanted = hashes ? wanted & ~MetadataBit.HASH : wanted;
    this.#timeAt = burst.at + BurstArray.time;
  }

  /**
   * @param intact whether nothing has changed the frames since they were received. A handler that died with a packet in hand may
   *   have overwritten what was before it
   */
  read(count: number, path: PathId, intact: boolean): void {
    const { tag } = this.#burst;
    const wanted = this.#wanted;
    tag.fill(0, 0, count);
    if ((wanted & RECEIVED) === 0) return;
    const given = intact && path !== Path.HOST && this.#words[this.#givenAt[path]!] === 1;
    if (!given) this.#clear(count);
    else for (let i = 0; i < count; i++) this.#readOne(i);
  }

  #readOne(i: number): void {
    const view = this.#view;
    const { offset, hash, rule, checksum } = this.#burst;
    const wanted = this.#wanted;
    const end = offset[i]! - METADATA_BYTES;
    const mark = view.getUint16(end + MetadataField.MARK, true);
    const has = isMark(mark);
    // A frame's next packet may have none.
    if (has) view.setUint16(end + MetadataField.MARK, 0, true);
    const at = (mark & METADATA_GAP) === 0 ? end : end - METADATA_GAP_BYTES;
    const time = this.#timeAt + 8 * i;
    if ((wanted & MetadataBit.TIME) !== 0) {
      view.setInt32(time, has ? view.getInt32(at + MetadataField.TIME, true) : 0, true);
      view.setInt32(time + 4, has ? view.getInt32(at + MetadataField.TIME + 4, true) : 0, true);
    }
    if ((wanted & MetadataBit.HASH) !== 0) hash[i] = has ? view.getInt32(at + MetadataField.HASH, true) : 0;
    if ((wanted & MetadataBit.CHECKSUM) !== 0) checksum[i] = has ? mark & METADATA_VERIFIED : 0;
    if ((wanted & MetadataBit.RULE) !== 0) rule[i] = has ? view.getUint16(end + MetadataField.RULE, true) : 0;
  }

  #clear(count: number): void {
    const { hash, rule, time, checksum } = this.#burst;
    const wanted = this.#wanted;
    if ((wanted & MetadataBit.TIME) !== 0) time.fill(0n, 0, count);
    if ((wanted & MetadataBit.HASH) !== 0) hash.fill(0, 0, count);
    if ((wanted & MetadataBit.CHECKSUM) !== 0) checksum.fill(0, 0, count);
    if ((wanted & MetadataBit.RULE) !== 0) rule.fill(0, 0, count);
  }
}
