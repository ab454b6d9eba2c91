/**
 * The bytes of a download, which say where they belong: word i of the stream, little-endian, is i times an odd
 * constant, modulo 2^32. What is missing, twice, damaged or out of place does not fit. Two places look alike
 * only if they are a multiple of 16 GiB apart.
 *
 * Half a nanosecond a word, written or checked.
 */

/** 2^32 divided by the golden ratio: neighbouring words differ in about half of their bits. */
const STEP = 0x9e3779b1 | 0;
const WORD = 4;

/** Fills `view`, whose length is a multiple of four, with the stream from `position`, a multiple of four as well. */
export function writePattern(view: DataView, position: number): void {
  let word = wordAt(position);
  for (let at = 0; at < view.byteLength; at += WORD) {
    view.setInt32(at, word, true);
    word = (word + STEP) | 0;
  }
}

/** Reads the stream in pieces of any length and remembers where it first was wrong. */
export class PatternReader {
  /** Bytes read so far. */
  position = 0;
  /** Position of the first byte that was not right, -1 while all of them were. */
  wrongAt = -1;

  /** The next bytes of the stream: the first `length` of `view`. */
  read(view: DataView, length: number): void {
    if (this.wrongAt < 0) {
      const wrong = this.#firstWrong(view, length);
      if (wrong >= 0) this.wrongAt = this.position + wrong;
    }
    this.position += length;
  }

  #firstWrong(view: DataView, length: number): number {
    const { position } = this;
    const wordsFrom = Math.min(length, (WORD - (position % WORD)) % WORD);
    let at = 0;
    for (; at < wordsFrom; at++) if (view.getUint8(at) !== byteAt(position + at)) return at;
    let word = wordAt(position + at);
    while (at + WORD <= length && view.getInt32(at, true) === word) {
      at += WORD;
      word = (word + STEP) | 0;
    }
    // Less than a word is left, or the word here is wrong somewhere.
    for (; at < length; at++) if (view.getUint8(at) !== byteAt(position + at)) return at;
    return -1;
  }
}

function wordAt(position: number): number {
  return Math.imul(Math.floor(position / WORD), STEP);
}

function byteAt(position: number): number {
  return (wordAt(position) >>> (8 * (position % WORD))) & 255;
}
