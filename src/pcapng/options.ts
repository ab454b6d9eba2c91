/** The options at the end of a block, while it is written. Little-endian. */
import { OPTION_END, padded } from './format.ts';

const OPTION_HEAD = 4;
const MAX_OPTION = 0xffff;

/** Codes and values, in the order in which the file has them. */
export class Options {
  readonly #options: (readonly [code: number, value: Uint8Array])[] = [];

  /** Bytes in the file, with the end mark. 0 without options. */
  get bytes(): number {
    const each = this.#options.map(([, value]) => OPTION_HEAD + padded(value.length));
    return each.length === 0 ? 0 : each.reduce((a, b) => a + b, OPTION_HEAD);
  }

  /** Adds an option, unless it is undefined. Texts that are too long for the format are cut. */
  text(code: number, value: string | undefined): this {
    return value === undefined ? this : this.raw(code, cut(new TextEncoder().encode(value)));
  }

  /** Adds a 64-bit number, unless it is undefined. */
  u64(code: number, value: bigint | undefined): this {
    if (value === undefined) return this;
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    return this.raw(code, bytes);
  }

  /** Adds a time, whose high word is first in either byte order. */
  time(code: number, value: bigint | undefined): this {
    if (value === undefined) return this;
    const bytes = new Uint8Array(8);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, Number(value >> 32n), true);
    view.setUint32(4, Number(value & 0xffffffffn), true);
    return this.raw(code, bytes);
  }

  raw(code: number, value: Uint8Array): this {
    this.#options.push([code, value]);
    return this;
  }

  /** Writes them. Returns the offset behind. */
  put(view: DataView, at: number): number {
    if (this.#options.length === 0) return at;
    let end = at;
    for (const [code, value] of this.#options) {
      view.setUint16(end, code, true);
      view.setUint16(end + 2, value.length, true);
      new Uint8Array(view.buffer, view.byteOffset + end + OPTION_HEAD, value.length).set(value);
      end += OPTION_HEAD + padded(value.length);
    }
    view.setUint32(end, OPTION_END, true);
    return end + OPTION_HEAD;
  }
}

/** The longest part that an option holds and that does not end inside a character. */
function cut(text: Uint8Array): Uint8Array {
  let end = Math.min(text.length, MAX_OPTION);
  while (end < text.length && (text[end]! & 0xc0) === 0x80) end--;
  return text.subarray(0, end);
}
