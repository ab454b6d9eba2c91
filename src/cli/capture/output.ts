/** Where the blocks of a capture go: standard output, a file, or several in turn. */
import { type FileHandle, open, rm } from 'node:fs/promises';
import { TwinpathError } from '../../errors.ts';
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
    throw new TwinpathError('ERR_OUTPUT', { detail: error.message });
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
  readonly #limits: Limits | undefined;
  readonly #clock: () => number;
  #head: Buffer = Buffer.alloc(0);
  #handle: FileHandle | undefined;
  #number = 0;
  #began = 0;
  #bytes = 0;
  #packets = 0;

  /**
   * @param limits of each of several files
   * @param clock milliseconds since 1970
   */
  constructor(name: string, limits?: Limits, clock: () => number = Date.now) {
    this.#name = name;
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
      this.#handle = await open(name, 'w', 0o600);
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
      for (let from = 0; from < bytes.length; ) from += (await handle.write(bytes, from)).bytesWritten;
      this.#bytes += bytes.length;
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EPIPE') return false;
      await handle.truncate(this.#bytes).catch(() => {}); // the file ends with a whole block
      throw failure(this.files.at(-1)!, error);
    }
  }
}

function failure(device: string, error: unknown): TwinpathError {
  const { code, message } = error as NodeJS.ErrnoException;
  const hint =
    code === 'ENOSPC' ? 'Make room, or limit the files: -b filesize:100000 -b files:10.' : undefined;
  return new TwinpathError('ERR_OUTPUT', { device, detail: message, hint });
}
