/** Moves a capture from a running port to where it is written, until one of them ends. */
import { INTERFACES } from '../../capture/interfaces.ts';
import { CaptureClient, type CaptureWish } from '../../control/capture-client.ts';
import { type Block, BlockReader, isPacket, isStatistics, missedIn } from './blocks.ts';
import { isFull, type Limits } from './limits.ts';
import type { Output } from './output.ts';

/** The section and the interfaces. */
const HEAD_BLOCKS = 1 + INTERFACES.length;

export interface Capturing {
  /** The control socket. */
  readonly socket: string;
  readonly wish: CaptureWish;
  readonly output: Output;
  /** When the capture ends by itself. */
  readonly limits: Limits;
  /** Ends it too. */
  readonly signal: AbortSignal;
  /** Called once packets are captured, and written. */
  readonly started: () => void;
}

export interface Captured {
  readonly packets: number;
  /** Packets that the filter took and that are missing, because this process was too slow. */
  readonly missed: number;
  /** Why it ended: the user or a limit, nobody reads, the port was closed, or its process died. */
  readonly end: 'asked' | 'unread' | 'closed' | 'died';
}

/** @throws what the process answers; ERR_OUTPUT */
export async function capturePackets(capturing: Capturing): Promise<Captured> {
  const { socket, wish, signal } = capturing;
  const client = await CaptureClient.start(socket, wish);
  const copy = new Copy(client, capturing);
  const end = (): void => copy.end();
  signal.addEventListener('abort', end, { once: true });
  const { duration } = capturing.limits;
  const timer = duration === undefined ? undefined : setTimeout(end, duration * 1000);
  try {
    if (signal.aborted) end();
    return await copy.run();
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', end);
    client.close();
    await capturing.output.close();
  }
}

class Copy {
  readonly #client: CaptureClient;
  readonly #output: Output;
  readonly #limits: Limits;
  readonly #started: () => void;
  readonly #head: Block[] = [];
  #packets = 0;
  #bytes = 0;
  #missed = 0;
  /** Whether the statistics have come, which are the end of the file. */
  #whole = false;
  #asked = false;

  constructor(client: CaptureClient, { output, limits, started }: Capturing) {
    this.#client = client;
    this.#started = started;
    this.#output = output;
    this.#limits = { ...limits, duration: Number.POSITIVE_INFINITY };
  }

  end(): void {
    if (!this.#asked) this.#client.end();
    this.#asked = true;
  }

  async run(): Promise<Captured> {
    const reader = new BlockReader();
    for await (const chunk of this.#client.bytes()) {
      if (!(await this.#take(reader.push(chunk)))) return this.#outcome('unread');
    }
    return this.#outcome(this.#asked ? 'asked' : this.#whole ? 'closed' : 'died');
  }

  #outcome(end: Captured['end']): Captured {
    return { packets: this.#packets, missed: this.#missed, end };
  }

  /** @returns false if nobody reads any more */
  async #take(blocks: readonly Block[]): Promise<boolean> {
    const missing = HEAD_BLOCKS - this.#head.length;
    if (missing > 0) {
      this.#head.push(...blocks.slice(0, missing));
      if (this.#head.length < HEAD_BLOCKS) return true;
      if (!(await this.#output.begin(Buffer.concat(this.#head.map(({ bytes }) => bytes))))) return false;
      this.#started();
    }
    const wanted = blocks.slice(Math.max(missing, 0)).filter((block) => this.#wants(block));
    return wanted.length === 0 || (await this.#output.write(wanted));
  }

  #wants(block: Block): boolean {
    if (isStatistics(block)) {
      this.#whole = true;
      this.#missed += missedIn(block.bytes);
      return true;
    }
    if (!isPacket(block)) return true;
    const amount = { seconds: 0, bytes: this.#bytes, packets: this.#packets };
    if (isFull(this.#limits, amount, block.bytes.length)) return false;
    this.#packets++;
    this.#bytes += block.bytes.length;
    if (this.#packets === this.#limits.packets) this.end();
    return true;
  }
}
