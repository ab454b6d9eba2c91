/**
 * Reads what a device has said about the packets of a burst into the burst's arrays, as far as the handler asks for it:
 * memory/metadata.ts has the layout. It costs 10 to 20 ns a
 * packet, much of it for one more cache line. A port whose handler asks for nothing has no such object.
 *
 * Belongs to the worker thread.
 */
import type { Burst } from '../handler/burst.ts';
import { Path, type PathId } from '../memory/layout.ts';
import {
  isMark,
  METADATA_BYTES,
  METADATA_VERIFIED,
  MetadataBit,
  MetadataField,
  RECEIVED,
} from '../memory/metadata.ts';
import type { Memory } from '../memory/shared.ts';
import { BurstArray } from '../memory/wasm-abi.ts';

/** As words: the fields before the mark, which is in one word with the rule. */
const TIME = MetadataField.TIME >> 2;
const HASH = MetadataField.HASH >> 2;

export class ReceivedMetadata {
  readonly #burst: Burst;
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
    this.#words = memory.words;
    this.#givenAt = [0, Path.SYNTHETIC, Path.VF].map((path) =>
      path === 0 ? 0 : memory.slot({ port, queue, path: path as PathId }).at('metadata'),
    );
    this.#wanted = hashes ? wanted & ~MetadataBit.HASH : wanted;
    this.#timeAt = (burst.at + BurstArray.time) >> 2;
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
    const words = this.#words;
    const { offset, hash, rule, checksum } = this.#burst;
    const wanted = this.#wanted;
    const end = offset[i]! >> 2;
    const last = words[end - 1]!;
    // A driver that starts packets elsewhere than at a word gives none.
    const has = isMark(last & 0xffff) && (offset[i]! & 3) === 0;
    if (has) words[end - 1] = 0; // the frame's next packet may have none
    const start = end - (METADATA_BYTES >> 2);
    if ((wanted & MetadataBit.TIME) !== 0) {
      const time = this.#timeAt + 2 * i;
      words[time] = has ? words[start + TIME]! : 0;
      words[time + 1] = has ? words[start + TIME + 1]! : 0;
    }
    if ((wanted & MetadataBit.HASH) !== 0) hash[i] = has ? words[start + HASH]! : 0;
    if ((wanted & MetadataBit.CHECKSUM) !== 0) checksum[i] = has ? last & METADATA_VERIFIED : 0;
    if ((wanted & MetadataBit.RULE) !== 0) rule[i] = has ? last >>> 16 : 0;
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
