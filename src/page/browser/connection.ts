/** The stream of the server's events, and whether it flows. A browser opens it again by itself, except after a refusal. */
import type { Hello, Update } from '../messages.ts';

export type ConnectionState = 'connecting' | 'live' | 'lost' | 'closed';

export interface Listener {
  hello(hello: Hello): void;
  update(update: Update): void;
  /** 'closed': the server has said that nothing more comes; like 'lost', it is tried again. */
  state(state: ConnectionState): void;
}

/** Without a word for so long, a connection is dead, whatever TCP says: a tunnel may have gone. */
const SILENCE_MILLIS = 5000;
const RETRY_MILLIS = 2000;

export class Connection {
  readonly #listener: Listener;
  #source: EventSource | undefined;
  #watch: ReturnType<typeof setTimeout> | undefined;
  /** The server has said that nothing more comes, and none has said hello since. */
  #ended = false;

  constructor(listener: Listener) {
    this.#listener = listener;
    this.#open();
  }

  #open(): void {
    this.#source?.close();
    const source = new EventSource('events');
    this.#source = source;
    this.#expect();
    const on = <Data>(name: string, then: (data: Data) => void): void =>
      source.addEventListener(name, (event) => {
        this.#expect();
        then(JSON.parse((event as MessageEvent<string>).data) as Data);
      });
    on<Hello>('hello', (hello) => {
      this.#ended = false;
      this.#listener.hello(hello);
    });
    on<Update>('update', (update) => {
      this.#listener.update(update);
      this.#listener.state('live');
    });
    on('end', () => {
      this.#ended = true;
      this.#listener.state('closed');
    });
    source.addEventListener('error', () => {
      this.#listener.state(this.#ended ? 'closed' : 'lost');
      if (source.readyState === EventSource.CLOSED) this.#again(RETRY_MILLIS);
    });
  }

  #expect(): void {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => {
      this.#listener.state(this.#ended ? 'closed' : 'lost');
      this.#open();
    }, SILENCE_MILLIS);
  }

  #again(millis: number): void {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => this.#open(), millis);
  }
}
