/**
 * The captures that run on the ports of a socket: each has a reader of its own, which drains the rings of its packets into a
 * connection. While the client does not read, nothing is drained: the rings fill, and workers count what finds no room.
 * Control thread only.
 */
import { setTimeout as sleep, setImmediate as soon } from 'node:timers/promises';
import { compileFilter } from '../capture/filter/filter.ts';
import { TwinpathError } from '../errors.ts';
import { writeCaptureOrder } from '../memory/capture-orders.ts';
import { CAPTURES } from '../memory/geometry.ts';
import { macsOf } from '../memory/macs.ts';
import type { Memory } from '../memory/shared.ts';
import { CaptureStream } from './capture-stream.ts';
import { realTimeOffset } from './clock.ts';
import { SNAP_LENGTH } from './protocol.ts';

/** Pauses between two looks at empty rings, in ms: they double up to the most. A ring holds some milliseconds of line rate. */
const LEAST_PAUSE = 1;
const MOST_PAUSE = 16;
/** More than full rings make. */
const MAX_LAST_CHUNKS = 1024;

export interface CaptureSettings {
  readonly port: number;
  readonly device: string;
  /** Who writes the file. */
  readonly application: string;
  readonly filter?: string;
  readonly snapLength?: number;
}

/** Where the file goes. */
export interface CaptureOutput {
  /** False if the client has to read first: then {@link drained}. */
  write(bytes: Uint8Array): boolean;
  /** Resolves when the client has read, or has gone. */
  drained(): Promise<void>;
}

export interface Capture {
  /** Writes the file, from its first block on. */
  begin(): void;
  /** Writes what is left, and what was counted. Does nothing if it has ended. */
  end(): void;
  /** Nobody reads any more. */
  abandon(): void;
}

export class Captures {
  readonly #memory: Memory;
  /** By number. */
  readonly #running: (Capture | undefined)[] = Array(CAPTURES).fill(undefined);
  #next = 1;

  constructor(memory: Memory) {
    this.#memory = memory;
  }

  /** @throws ERR_OPTION_INVALID for a filter that is not taken; ERR_CAPTURE if as many run as may */
  start(settings: CaptureSettings, output: CaptureOutput): Capture {
    const { port, device, application, filter = '', snapLength = SNAP_LENGTH } = settings;
    const program = compileFilter(filter);
    const capture = this.#running.indexOf(undefined);
    if (capture < 0) {
      throw new TwinpathError('ERR_CAPTURE', {
        device,
        detail: `${CAPTURES} captures run in its process already`,
        hint: 'End one of them.',
      });
    }
    const id = this.#next++;
    const clockOffset = realTimeOffset();
    const stream = new CaptureStream(this.#memory, {
      ...{ capture, id, filter, snapLength, device, application, clockOffset },
      mac: Uint8Array.from(macsOf(this.#memory)[port]!),
      now: () => process.hrtime.bigint() + clockOffset,
    });
    const running = new RunningCapture(stream, output, () => {
      writeCaptureOrder(this.#memory, capture, undefined);
      this.#running[capture] = undefined;
    });
    this.#running[capture] = running;
    writeCaptureOrder(this.#memory, capture, { id, port, snapLength, program });
    return running;
  }
}

class RunningCapture implements Capture {
  readonly #stream: CaptureStream;
  readonly #output: CaptureOutput;
  readonly #release: () => void;
  #ended = false;

  constructor(stream: CaptureStream, output: CaptureOutput, release: () => void) {
    this.#stream = stream;
    this.#output = output;
    this.#release = release;
  }

  begin(): void {
    void this.#run();
  }

  end(): void {
    if (this.#ended) return;
    this.abandon();
    // What waits in the rings, which is bounded: workers add nothing more after their next look at the orders.
    for (let left = MAX_LAST_CHUNKS; left > 0; left--) {
      const chunk = this.#stream.read();
      if (chunk === undefined) break;
      this.#output.write(chunk);
    }
    this.#output.write(this.#stream.tail());
  }

  abandon(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#release();
  }

  async #run(): Promise<void> {
    this.#output.write(this.#stream.head());
    let pause = LEAST_PAUSE;
    while (!this.#ended) {
      const chunk = this.#stream.read();
      if (chunk === undefined) {
        await sleep(pause);
        pause = Math.min(2 * pause, MOST_PAUSE);
        continue;
      }
      pause = LEAST_PAUSE;
      if (!this.#output.write(chunk)) await this.#output.drained();
      else await soon(); // other clients have their turn
    }
  }
}
