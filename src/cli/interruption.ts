/**
 * SIGINT (Ctrl-C), SIGTERM and SIGHUP. The first aborts `signal`, and the command closes what it has opened. The second ends
 * the process at once, and the kernel detaches what was attached.
 */
const CODES = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

type SignalName = keyof typeof CODES;

export class Interruption {
  readonly #controller = new AbortController();
  #received: SignalName | undefined;

  constructor() {
    for (const name of Object.keys(CODES) as SignalName[]) {
      process.on(name, () => {
        if (this.#received !== undefined) process.exit(CODES[name]);
        this.#received = name;
        this.#controller.abort();
      });
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The first signal that the process received. */
  get received(): SignalName | undefined {
    return this.#received;
  }

  /** 128 and the signal's number, as shells expect; 0 without a signal. */
  get exitCode(): number {
    return this.#received === undefined ? 0 : CODES[this.#received];
  }
}

/**
 * What `open` returns; undefined if it was interrupted, after it has closed what it had opened. Its signal aborts only while
 * it opens: the command still reads the statistics of an open port before it closes it.
 */
export async function unlessInterrupted<T>(
  interrupted: AbortSignal,
  open: (signal: AbortSignal) => Promise<T>,
): Promise<T | undefined> {
  const opening = new AbortController();
  const abort = (): void => opening.abort();
  interrupted.addEventListener('abort', abort);
  try {
    if (interrupted.aborted) return undefined;
    return await open(opening.signal);
  } catch (error) {
    if (interrupted.aborted) return undefined;
    throw error;
  } finally {
    interrupted.removeEventListener('abort', abort);
  }
}
