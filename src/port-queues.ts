/** The queues of a port that its flows are spread over, as the application changes them. Application thread. */
import type { ConfigurationChange, PortConfiguration } from './configuration.ts';
import { wholeNumber } from './validation.ts';

/** The part of a port that this needs. */
interface ConfigurablePort {
  readonly configuration: PortConfiguration;
  configure(change: ConfigurationChange): Promise<PortConfiguration>;
}

export class PortQueues {
  readonly #port: ConfigurablePort;
  readonly #count: number;
  #changed: Promise<unknown> = Promise.resolve();

  /** @param count queues that the port was opened with */
  constructor(port: ConfigurablePort, count: number) {
    this.#port = port;
    this.#count = count;
  }

  /** In ascending order. */
  get active(): number[] {
    return [...(this.#port.configuration.queues ?? upTo(this.#count))];
  }

  /** @throws ERR_OPTION_INVALID, and as `Port.configure` */
  async select(count: number): Promise<void> {
    wholeNumber('queues', count, 1, this.#count, 'a number of queues that the port was opened with');
    await this.#change(() => upTo(count));
  }

  /** As {@link select}. */
  async stop(queue: number): Promise<void> {
    this.#check(queue);
    await this.#change((active) => active.filter((one) => one !== queue));
  }

  /** As {@link select}. */
  async start(queue: number): Promise<void> {
    this.#check(queue);
    await this.#change((active) => [...active, queue]);
  }

  /** One after the other: each begins with what the one before has left. */
  #change(change: (active: number[]) => number[]): Promise<unknown> {
    const done = this.#changed.then(() => this.#port.configure({ queues: change(this.active) }));
    this.#changed = done.catch(() => {});
    return done;
  }

  #check(queue: number): void {
    wholeNumber('queue', queue, 0, this.#count - 1, 'a queue');
  }
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, queue) => queue);
