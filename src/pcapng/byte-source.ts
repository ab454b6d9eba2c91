/**
 * The bytes of a capture file, in order, through one buffer of a fixed size: a file of gigabytes takes no more memory than a
 * short one, and a length that a hostile file claims allocates nothing. Blocks on reads, and for a pipe on opening it: until
 * another process writes. Any thread, one object each.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { TwinpathError } from '../errors.ts';

/** The most bytes that {@link ByteSource.has} can be asked for. */
export const MAX_CONTIGUOUS = 512 * 1024;

export class ByteSource {
  readonly file: string;
  readonly bytes = new Uint8Array(MAX_CONTIGUOUS);
  readonly view = new DataView(this.bytes.buffer);
  /** Index of the next byte in {@link bytes}. */
  at = 0;
  readonly #fd: number;
  #end = 0;
  #closed = false;
  /** Bytes of the file before the buffer. */
  #before = 0;

  /** @throws ERR_CAPTURE_FILE */
  constructor(file: string) {
    this.file = file;
    this.#fd = calling(file, () => openSync(file, 'r'));
  }

  /** Offset of the next byte in the file. */
  get offset(): number {
    return this.#before + this.at;
  }

  /** Bytes in the buffer that have not been taken: all that the file still has, after {@link has} returned false. */
  get left(): number {
    return this.#end - this.at;
  }

  /**
   * Reads until the buffer has `count` more bytes from {@link at} on, which moves what was there before.
   *
   * @param count at most MAX_CONTIGUOUS
   * @returns false if the file ends before. @throws ERR_CAPTURE_FILE
   */
  has(count: number): boolean {
    if (this.left >= count) return true;
    this.bytes.copyWithin(0, this.at, this.#end);
    this.#before += this.at;
    this.#end -= this.at;
    this.at = 0;
    while (this.#end < count) if (!this.#read()) return false;
    return true;
  }

  /** Leaves out `count` bytes, any number. @returns false if the file ends before. @throws ERR_CAPTURE_FILE */
  skip(count: number): boolean {
    let rest = count;
    while (rest > this.left) {
      rest -= this.left;
      this.#before += this.#end;
      this.at = 0;
      this.#end = 0;
      if (!this.#read()) return false;
    }
    this.at += rest;
    return true;
  }

  /** May be called again. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#fd);
  }

  /** The file is not as the format says. @param offset of what is wrong */
  damaged(offset: number, what: string): never {
    throw new TwinpathError('ERR_CAPTURE_FILE', { device: this.file, detail: `offset ${offset}: ${what}` });
  }

  /** The file ends inside of something that begins at `offset`. */
  truncated(offset: number, what: string): never {
    return this.damaged(offset, `the file ends at offset ${this.offset + this.left}, inside ${what}`);
  }

  #read(): boolean {
    const { bytes } = this;
    const count = calling(this.file, () =>
      readSync(this.#fd, bytes, this.#end, bytes.length - this.#end, null),
    );
    this.#end += count;
    return count > 0;
  }
}

/** What a call of the file system returns. @throws ERR_CAPTURE_FILE, with what the system call answered */
export function calling<T>(file: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    const { syscall, errno, message } = error as NodeJS.ErrnoException;
    if (errno === undefined) throw new TwinpathError('ERR_CAPTURE_FILE', { device: file, detail: message });
    throw new TwinpathError('ERR_CAPTURE_FILE', { device: file, syscall, errno: -errno });
  }
}
