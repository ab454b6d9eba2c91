/**
 * Clients of the live page, each with one endless response of server-sent events (WHATWG HTML, 9.2). A client gets what it has not
 * yet got, when it has read what it got before: a slow one gets fewer and larger events and misses nothing that the recorder
 * still has. So a client has one event in memory here, beside what the kernel keeps for its connection; one that reads nothing
 * for a minute is disconnected. Belongs to the thread that opened the ports.
 */
import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import type { Hello, Update } from './messages.ts';
import { KEPT_SAMPLES, KEPT_SWITCHES, type Recorder, SAMPLE_MILLIS } from './recorder.ts';

/** Each may have an event of a few hundred kilobytes under way. */
export const MAX_CLIENTS = 16;
/** Samples for which a client may read nothing: a minute. */
export const MAX_STALLED = 60_000 / SAMPLE_MILLIS;
/** Milliseconds until a browser connects again. */
const RETRY_MILLIS = 1000;

/** What both kinds of greeting have. */
export type Identity = Pick<Hello, 'twinpath' | 'pid' | 'epochMillis'>;

interface Client {
  readonly response: ServerResponse;
  /** The last that it got. */
  sequence: number;
  switchNumber: number;
  /** Samples since it last read something, while it has something to read. */
  stalled: number;
}

export class EventStream {
  readonly #recorder: Recorder;
  readonly #identity: Identity;
  readonly #clients = new Set<Client>();
  /** Numbers of another instance mean nothing here. */
  readonly #instance = randomBytes(6).toString('hex');

  constructor(recorder: Recorder, identity: Identity) {
    this.#recorder = recorder;
    this.#identity = identity;
  }

  get size(): number {
    return this.#clients.size;
  }

  /**
   * Begins the response, unless there are too many clients.
   *
   * @param lastId the header Last-Event-ID of a client that comes back
   * @returns whether it was begun
   */
  add(response: ServerResponse, lastId: string | undefined): boolean {
    if (this.#clients.size >= MAX_CLIENTS) return false;
    response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
    const had = this.#parse(lastId);
    const client: Client = { response, stalled: 0, ...(had ?? { sequence: 0, switchNumber: 0 }) };
    this.#clients.add(client);
    response.on('error', () => {}); // 'close' follows
    response.on('close', () => this.#clients.delete(client));
    const hello: Hello = {
      ...this.#identity,
      sampleMillis: SAMPLE_MILLIS,
      keptSamples: KEPT_SAMPLES,
      keptSwitches: KEPT_SWITCHES,
      resumed: had !== undefined,
    };
    response.write(`retry: ${RETRY_MILLIS}\n${event('hello', hello)}`);
    this.#update(client);
    return true;
  }

  /** After each sample: gives every client that is ready what is new. It is the heartbeat, too. */
  offer(): void {
    for (const client of this.#clients) {
      if (client.response.writableLength === 0) {
        client.stalled = 0;
        this.#update(client);
      } else if (++client.stalled >= MAX_STALLED) client.response.destroy();
    }
  }

  /** Tells every client that no more comes, and ends the responses. */
  end(): void {
    for (const { response } of this.#clients) response.end(event('end', {}));
    this.#clients.clear();
  }

  #update(client: Client): void {
    const { sequence, switchNumber, states } = this.#recorder;
    const update: Update = {
      samples: this.#recorder.samplesAfter(client.sequence),
      switches: this.#recorder.switchesAfter(client.switchNumber),
      ports: states,
    };
    Object.assign(client, { sequence, switchNumber });
    client.response.write(event('update', update, `${this.#instance}-${sequence}-${switchNumber}`));
  }

  /** What a client of this instance has got; undefined if it comes from elsewhere, or too much was lost meanwhile. */
  #parse(lastId: string | undefined): Pick<Client, 'sequence' | 'switchNumber'> | undefined {
    const [, instance, samples, switches] = /^([\da-f]{12})-(\d{1,15})-(\d{1,15})$/.exec(lastId ?? '') ?? [];
    const [sequence, switchNumber] = [Number(samples), Number(switches)];
    const { sequence: newest, switchNumber: newestSwitch } = this.#recorder;
    if (instance !== this.#instance || sequence > newest || switchNumber > newestSwitch) return undefined;
    const kept = newest - sequence <= KEPT_SAMPLES && newestSwitch - switchNumber <= KEPT_SWITCHES;
    return kept ? { sequence, switchNumber } : undefined;
  }
}

/** JSON has no line feed in it: one line of data is enough. */
function event(name: string, data: object, id?: string): string {
  return `${id === undefined ? '' : `id: ${id}\n`}event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}
