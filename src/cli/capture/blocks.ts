/** Cuts the stream of a capture into its blocks, for which little-endian pcapng is expected. Pure. */
import { BlockType } from '../../pcapng/format.ts';

/** Bytes of a block's type and length. */
const HEAD = 8;
/** No block of a capture is longer. */
const MAX_BLOCK = 1 << 20;

export interface Block {
  readonly type: number;
  readonly bytes: Buffer;
}

export class BlockReader {
  #rest: Buffer = Buffer.alloc(0);

  /** Adds bytes that have arrived. Returns the whole blocks. @throws RangeError if that is not pcapng */
  push(chunk: Buffer): Block[] {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const blocks: Block[] = [];
    let at = 0;
    while (bytes.length - at >= HEAD) {
      const length = bytes.readUInt32LE(at + 4);
      if (length < HEAD || length > MAX_BLOCK) throw new RangeError(`a block of ${length} bytes`);
      if (bytes.length - at < length) break;
      blocks.push({ type: bytes.readUInt32LE(at), bytes: bytes.subarray(at, at + length) });
      at += length;
    }
    this.#rest = bytes.subarray(at);
    return blocks;
  }
}

/** What the blocks of interface statistics say, for the last line. */
export function missedIn(block: Buffer): number {
  const view = new DataView(block.buffer, block.byteOffset, block.length);
  let missed = 0;
  for (let at = HEAD + 12; at + 4 <= block.length - 4; ) {
    const code = view.getUint16(at, true);
    const length = view.getUint16(at + 2, true);
    if (code === 0) break;
    if (code === DROPPED && length === 8) missed = Number(view.getBigUint64(at + 4, true));
    at += 4 + ((length + 3) & ~3);
  }
  return missed;
}

/** `StatisticsOption.DROPPED`. */
const DROPPED = 5;

export const isPacket = ({ type }: Block): boolean => type === BlockType.ENHANCED_PACKET;
export const isStatistics = ({ type }: Block): boolean => type === BlockType.INTERFACE_STATISTICS;
