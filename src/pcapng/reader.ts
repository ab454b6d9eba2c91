/**
 * Reads the packets of a pcap or pcapng file, whichever it is, in either byte order. The file is read as far as packets are
 * asked for, through one buffer. Blocks on reads. Any thread, one object each.
 */
import { PcapngFormat } from './blocks.ts';
import { ByteSource } from './byte-source.ts';
import type { CapturedPacket, CaptureFormat } from './captured-packet.ts';
import { ClassicFormat, isClassic } from './classic.ts';
import { BlockType } from './format.ts';

/** First bytes of compressed files, big-endian, and what to do about them. */
const COMPRESSED = [
  [0x1f8b_0000, 0xffff_0000, 'gzip', 'gunzip'],
  [0x28b5_2ffd, 0xffff_ffff, 'zstd', 'unzstd'],
  [0x0422_4d18, 0xffff_ffff, 'lz4', 'unlz4'],
  [0xfd37_7a58, 0xffff_ffff, 'xz', 'unxz'],
] as const;

export class CaptureReader implements Disposable {
  readonly #source: ByteSource;
  readonly #format: CaptureFormat;

  /**
   * Opens a file and reads its header.
   *
   * @throws ERR_CAPTURE_FILE if it cannot be opened, or is neither pcap nor pcapng
   */
  constructor(file: string) {
    this.#source = new ByteSource(file);
    try {
      this.#format = formatOf(this.#source);
    } catch (error) {
      this.#source.close();
      throw error;
    }
  }

  get format(): 'pcap' | 'pcapng' {
    return this.#format.name;
  }

  /** Offset in the file of what is read next. */
  get offset(): number {
    return this.#source.offset;
  }

  /**
   * The next packet; undefined at the end of the file. Its bytes are valid until the next call.
   *
   * @throws ERR_CAPTURE_FILE if the file is damaged or ends inside a packet: the error names the offset
   */
  next(): CapturedPacket | undefined {
    return this.#format.next();
  }

  /** The packets that are left, as {@link next} returns them. */
  *[Symbol.iterator](): Generator<CapturedPacket, void> {
    for (;;) {
      const packet = this.next();
      if (packet === undefined) return;
      yield packet;
    }
  }

  /** May be called again. */
  close(): void {
    this.#source.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function formatOf(source: ByteSource): CaptureFormat {
  if (!source.has(4)) source.truncated(0, 'the first word');
  const { view, at } = source;
  const first = view.getUint32(at, false);
  if (first === BlockType.SECTION_HEADER) return new PcapngFormat(source);
  if (isClassic(view, at)) return new ClassicFormat(source);
  const packed = COMPRESSED.find(([magic, mask]) => (first & mask) >>> 0 === magic >>> 0);
  if (packed !== undefined) source.damaged(0, `it is compressed with ${packed[2]}: run ${packed[3]} first`);
  return source.damaged(
    0,
    `neither pcap nor pcapng: it begins with 0x${first.toString(16).padStart(8, '0')}`,
  );
}
