/** Where the blocks of a capture go: standard output, a file, or several in turn. */
import { constants } from 'node:fs';
import { type FileHandle, open, rm, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { TwinpathError } from '../../errors.ts';
import { STANDARD_OUTPUT } from '../terminal.ts';
import { type Block, isPacket } from './blocks.ts';
import { isFull, type Limits, numbered } from './limits.ts';

export interface Output {
  /** The files that were written and are still there. */
  readonly files: readonly string[];
  /** Writes what every file begins with. @returns false if nobody reads any more. @throws ERR_OUTPUT */
  begin(head: Buffer): Promise<boolean>;
  /** Writes blocks behind it. @returns false if nobody reads any more. @throws ERR_OUTPUT */
  write(blocks: readonly Block[]): Promise<boolean>;
  /** @throws ERR_OUTPUT */
  close(): Promise<void>;
}

/** Between two looks for a reader of a named pipe, and for room in it, in ms. */
const READER_PAUSE = 50;
const ROOM_PAUSE = 1;
/** How often, one behind the other, a pipe may have no room once the capture is to end. */
const MAX_STALLS = 5_000;

const joined = (blocks: readonly Block[]): Buffer => Buffer.concat(blocks.map(({ bytes }) => bytes));

/** Standard output. */
export class StandardOutput implements Output {
  readonly files: readonly string[] = [];

  async begin(bytes: Buffer): Promise<boolean> {
    const error = await new Promise<NodeJS.ErrnoException | null | undefined>((resolve) => {
      process.stdout.write(bytes, (failure) => resolve(failure));
    });
    if (!error) return true;
    if (error.code === 'EPIPE') return false;
    throw new TwinpathError('ERR_OUTPUT', { device: STANDARD_OUTPUT, detail: error.message });
  }

  write(blocks: readonly Block[]): Promise<boolean> {
    return this.begin(joined(blocks));
  }

  async close(): Promise<void> {}
}

/** One file or named pipe; or, with limits, several in turn. */
export class FileOutput implements Output {
  readonly files: string[] = [];
  readonly #name: string;
  readonly #signal: AbortSignal;
  readonly #limits: Limits | undefined;
  readonly #clock: () => number;
  #head: Buffer = Buffer.alloc(0);
  #handle: FileHandle | undefined;
  #number = 0;
  #began = 0;
  #bytes = 0;
  #packets = 0;

  /**
   * @param signal ends the wait for a reader of a named pipe
   * @param limits of each of several files
   * @param clock milliseconds since 1970
   */
  constructor(name: string, signal: AbortSignal, limits?: Limits, clock: () => number = Date.now) {
    this.#name = name;
    this.#signal = signal;
    this.#limits = limits;
    this.#clock = clock;
  }

  begin(head: Buffer): Promise<boolean> {
    this.#head = head;
    return this.#next();
  }

  async write(blocks: readonly Block[]): Promise<boolean> {
    if (this.#limits === undefined) return await this.#append(joined(blocks));
    let from = 0;
    let bytes = 0;
    for (const [i, block] of blocks.entries()) {
      if (!isPacket(block)) continue;
      const amount = {
        seconds: (this.#clock() - this.#began) / 1000,
        bytes: this.#bytes + bytes,
        packets: this.#packets,
      };
      if (isFull(this.#limits, amount, block.bytes.length)) {
        if (!(await this.#append(joined(blocks.slice(from, i)))) || !(await this.#next())) return false;
        from = i;
        bytes = 0;
      }
      bytes += block.bytes.length;
      this.#packets++;
    }
    return await this.#append(joined(blocks.slice(from)));
  }

  async close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    try {
      await handle?.close();
    } catch (error) {
      throw failure(this.files.at(-1) ?? this.#name, error);
    }
  }

  async #next(): Promise<boolean> {
    await this.close();
    this.#began = this.#clock();
    this.#bytes = 0;
    this.#packets = 0;
    const several = this.#limits !== undefined;
    const name = several ? numbered(this.#name, ++this.#number, new Date(this.#began)) : this.#name;
    try {
      this.#handle = await openToWrite(name, this.#signal);
      if (this.#handle === undefined) return false;
      this.files.push(name);
      const most = this.#limits?.files ?? Number.POSITIVE_INFINITY;
      while (this.files.length > most) await rm(this.files.shift()!, { force: true });
    } catch (error) {
      throw failure(name, error);
    }
    return await this.#append(this.#head);
  }

  async #append(bytes: Buffer): Promise<boolean> {
    const handle = this.#handle!;
    try {
      for (let from = 0, stalls = 0; from < bytes.length; ) {
        const written = await writeSome(handle, bytes, from);
        from += written;
        stalls = written === 0 ? stalls + 1 : 0;
        if (stalls === 0) continue;
        if (this.#signal.aborted && stalls > MAX_STALLS) return false;
        await sleep(ROOM_PAUSE);
      }
      this.#bytes += bytes.length;
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EPIPE') return false;
      await handle.truncate(this.#bytes).catch(() => {}); // the file ends with a whole block
      throw failure(this.files.at(-1)!, error);
    }
  }
}

/**
 * Opens a file, or a named pipe once it has a reader; undefined if the signal comes first. Without O_NONBLOCK the kernel waits for
 * the reader, in a thread that no signal frees and that the process would wait for.
 */
async function openToWrite(name: string, signal: AbortSignal): Promise<FileHandle | undefined> {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NONBLOCK } = constants;
  do {
    try {
      return await open(name, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK, 0o600);
    } catch (error) {
      const waits = (error as NodeJS.ErrnoException).code === 'ENXIO' && (await stat(name)).isFIFO();
      if (!waits) throw error;
    }
    await sleep(READER_PAUSE, undefined, { signal }).catch(() => {});
  } while (!signal.aborted);
  return undefined;
}

/** Bytes that were written: none if a pipe is full. */
async function writeSome(handle: FileHandle, bytes: Buffer, from: number): Promise<number> {
  try {
    return (await handle.write(bytes, from)).bytesWritten;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0;
    throw error;
  }
}

function failure(device: string, error: unknown): TwinpathError {
  const { code, message } = error as NodeJS.ErrnoException;
  const hint =
    code === 'ENOSPC' ? 'Make room, or limit the files: -b filesize:100000 -b files:10.' : undefined;
  return new TwinpathError('ERR_OUTPUT', { device, detail: message, hint });
}
