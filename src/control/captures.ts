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
  /** Writes the file, from its first block on. Resolves when it is whole, or nobody reads any more. To be called once. */
  run(): Promise<void>;
  /** No packet is captured any more: what is left follows, and what was counted. */
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
    const running = new RunningCapture(stream, output, {
      withdraw: () => writeCaptureOrder(this.#memory, capture, undefined),
      free: () => {
        this.#running[capture] = undefined;
      },
    });
    this.#running[capture] = running;
    writeCaptureOrder(this.#memory, capture, { id, port, snapLength, program });
    return running;
  }
}

/** What a capture has taken. */
interface Place {
  /** Workers copy for it no longer. */
  readonly withdraw: () => void;
  /** Its rings are another one's. */
  readonly free: () => void;
}

class RunningCapture implements Capture {
  readonly #stream: CaptureStream;
  readonly #output: CaptureOutput;
  readonly #place: Place;
  #state: 'runs' | 'ends' | 'over' = 'runs';

  constructor(stream: CaptureStream, output: CaptureOutput, place: Place) {
    this.#stream = stream;
    this.#output = output;
    this.#place = place;
  }

  async run(): Promise<void> {
    try {
      await this.#write(this.#stream.head());
      await this.#copy();
      if (this.#state === 'ends') this.#output.write(this.#stream.tail());
    } finally {
      this.abandon();
    }
  }

  end(): void {
    if (this.#state !== 'runs') return;
    this.#state = 'ends';
    this.#place.withdraw();
  }

  abandon(): void {
    this.end();
    if (this.#state === 'over') return;
    this.#state = 'over';
    this.#place.free();
  }

  async #copy(): Promise<void> {
    let pause = LEAST_PAUSE;
    for (let left = MAX_LAST_CHUNKS; this.#state !== 'over' && left > 0; ) {
      const chunk = this.#stream.read();
      if (chunk !== undefined) {
        // What waits in the rings is bounded: workers add nothing more after their next look at the orders.
        if (this.#state === 'ends') left--;
        pause = LEAST_PAUSE;
        await this.#write(chunk);
      } else if (this.#state === 'ends') return;
      else {
        await sleep(pause);
        pause = Math.min(2 * pause, MOST_PAUSE);
      }
    }
  }

  async #write(bytes: Uint8Array): Promise<void> {
    if (!this.#output.write(bytes)) await this.#output.drained();
    else await soon(); // other clients have their turn
  }
}
