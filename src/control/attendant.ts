/** Carries out the requests of clients: reads the shared memory, and asks the coordinator. Control thread only. */
import { checkChange } from '../configuration.ts';
import type { HandlerQuestion, PortDescription, Question } from '../coordinator/messages.ts';
import { TwinpathError } from '../errors.ts';
import { ExtendedHistory } from '../extended-statistics.ts';
import type { CounterReadings } from '../kernel/device-counters.ts';
import { Journal } from '../memory/journal.ts';
import { macOf } from '../memory/macs.ts';
import type { Memory } from '../memory/shared.ts';
import type { ReportedEvent } from '../port-events.ts';
import type { Settings } from '../settings.ts';
import { invalid, oneOf, onlyKnown, plainObject, wholeNumber } from '../validation.ts';
import { type Capture, type CaptureOutput, Captures } from './captures.ts';
import {
  type PortRow,
  type Request,
  type RequestName,
  SNAP_LENGTH,
  type StatisticsSample,
} from './protocol.ts';
import { sampleOf } from './sample.ts';

export type CaptureRequest = Extract<Request, { request: 'capture' }>;

/** The other threads of the ports. */
export interface Ports {
  /** Asks the coordinator, or the supervisor. @throws what it answers with */
  ask(question: Question | HandlerQuestion): Promise<unknown>;
  /** Begins to close the ports. */
  close(): void;
}

/** Fields of each request besides `id` and `request`. */
const FIELDS: Readonly<Record<RequestName, readonly string[]>> = {
  ports: [],
  stats: [],
  failovers: ['since'],
  information: ['port'],
  extended: ['port'],
  rules: ['port'],
  configure: ['port', 'change'],
  configureHandler: ['port', 'change'],
  watch: ['millis'],
  capture: ['port', 'filter', 'snapLength'],
  stop: [],
};

export class Attendant {
  readonly #memory: Memory;
  readonly #settings: Settings;
  readonly #ports: Ports;
  readonly #descriptions: PortDescription[];
  readonly #journal: Journal;
  readonly #histories: readonly ExtendedHistory[];
  readonly #captures: Captures;

  constructor(memory: Memory, settings: Settings, descriptions: readonly PortDescription[], ports: Ports) {
    this.#memory = memory;
    this.#settings = settings;
    this.#descriptions = [...descriptions];
    this.#ports = ports;
    this.#journal = new Journal(memory);
    this.#histories = descriptions.map(() => new ExtendedHistory());
    this.#captures = new Captures(memory);
  }

  /** Keeps what an event says of a port. */
  note(reported: ReportedEvent): void {
    const port = 'port' in reported.event ? reported.event.port : undefined;
    const description = port === undefined ? undefined : this.#descriptions[port];
    if (description === undefined) return;
    if (reported.kind === 'counted') this.#histories[port!]!.read(reported.event.readings);
    else if (reported.kind === 'link') this.#descriptions[port!] = { ...description, paths: reported.paths };
    else if (reported.kind === 'configured')
      this.#descriptions[port!] = { ...description, configuration: reported.event.configuration };
    else if (reported.kind === 'carrier') {
      const { up, speedMbps, duplex } = reported.event;
      this.#descriptions[port!] = { ...description, link: { up, speedMbps, duplex } };
    }
  }

  /** Checks what came from a client. @throws ERR_OPTION_INVALID, ERR_OPTION_UNKNOWN */
  check(given: unknown): Request {
    const asked = plainObject('request', given as Record<string, unknown>);
    const names = Object.keys(FIELDS) as RequestName[];
    const request = oneOf('request', asked.request as RequestName, names);
    const fields = FIELDS[request];
    onlyKnown(asked, ['id', 'request', ...fields], `"${request}" has: ${fields.join(', ') || 'no fields'}.`);
    const { port, since, millis } = asked;
    if (fields.includes('port')) wholeNumber('port', port, 0, this.#descriptions.length - 1);
    if (since !== undefined) wholeNumber('since', since, 0, Number.MAX_SAFE_INTEGER);
    if (request === 'watch') wholeNumber('millis', millis, 100, 3_600_000);
    if (request === 'capture') checkCapture(asked);
    if (fields.includes('change')) plainObject('change', asked.change as Record<string, unknown>);
    return asked as unknown as Request;
  }

  /** Begins a capture. @throws ERR_OPTION_INVALID, ERR_CAPTURE */
  capture(request: CaptureRequest, application: string, output: CaptureOutput): Capture {
    const { device } = this.#descriptions[request.port]!;
    return this.#captures.start({ ...request, device, application }, output);
  }

  /** Answers a request other than `watch` and `capture`. @throws TwinpathError */
  async answer(request: Exclude<Request, { request: 'watch' | 'capture' }>): Promise<unknown> {
    switch (request.request) {
      case 'ports':
        return this.#rows();
      case 'stats':
        return this.sample();
      case 'failovers':
        return this.#journal.since(request.since ?? 0);
      case 'information':
        return this.#ports.ask({ kind: 'information', port: request.port });
      case 'extended': {
        const readings = await this.#ports.ask({ kind: 'counters', port: request.port });
        return this.#histories[request.port]!.read(readings as CounterReadings);
      }
      case 'rules':
        return (await this.#ports.ask({ kind: 'count rules', port: request.port })) ?? null;
      case 'configure': {
        const { port } = request;
        const { frameSize, queues } = this.#memory.layout.geometry;
        const change = checkChange(request.change, frameSize, queues);
        return this.#ports.ask({ kind: 'configure', port, change });
      }
      case 'configureHandler': {
        const { port, change } = request;
        await this.#ports.ask({ kind: 'handler options', port, change });
        return null;
      }
      case 'stop':
        this.#ports.close();
        return null;
    }
  }

  sample(): StatisticsSample {
    return sampleOf(this.#memory);
  }

  #rows(): PortRow[] {
    const { netns, handlers, handlerOf, queues, mode } = this.#settings;
    return this.#descriptions.map((description, port) => ({
      port,
      device: description.device,
      mac: macOf(this.#memory, port),
      netns: netns ?? null,
      handler: handlers[handlerOf[port]!]!.url,
      queues,
      mode: description.configuration.mode ?? mode,
      paths: description.paths,
      link: description.link,
      configuration: description.configuration,
    }));
  }
}

function checkCapture({ filter, snapLength }: Record<string, unknown>): void {
  if (filter !== undefined && typeof filter !== 'string') invalid('filter', 'it must be a string');
  if (snapLength !== undefined) wholeNumber('snapLength', snapLength, 1, SNAP_LENGTH);
}

/** An error as an answer has it. */
export function answerError(error: unknown): { code: string; message: string } {
  if (error instanceof TwinpathError) return { ...error.toJSON(), message: error.message };
  return { code: 'ERR_WORKER', message: error instanceof Error ? error.message : String(error) };
}

/** For a line that is no JSON. */
export const notJson = (error: unknown): never =>
  invalid('request', `the line is not JSON: ${(error as Error).message}`);
