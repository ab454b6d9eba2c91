/**
 * Ctrl-C and its kin. The first one asks: the signal aborts, and the command puts everything back in
 * order. The second one insists: the process ends at once, and the kernel takes back what was attached.
 */
const CODES = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

export class Interruption {
  readonly #controller = new AbortController();
  #code = 0;

  constructor() {
    for (const name of Object.keys(CODES) as (keyof typeof CODES)[]) {
      process.on(name, () => {
        if (this.#code !== 0) process.exit(CODES[name]);
        this.#code = CODES[name];
        this.#controller.abort();
      });
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** What a shell expects of a process that such a signal ended early; 0 if none came. */
  get exitCode(): number {
    return this.#code;
  }
}
