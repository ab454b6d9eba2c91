/**
 * Ctrl-C and its kin. The first one asks: the signal aborts, and the command puts everything back in
 * order. The second one insists: the process ends at once, and the kernel takes back what was attached.
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

  /** The first signal that came. */
  get received(): SignalName | undefined {
    return this.#received;
  }

  /** What a shell expects of a process that such a signal ended early; 0 if none came. */
  get exitCode(): number {
    return this.#received === undefined ? 0 : CODES[this.#received];
  }
}

/**
 * What `open` opens, or undefined if it was interrupted and has undone what it did. The signal that it gets aborts
 * only while it opens: an open port is looked at once more before it is closed.
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
