/**
 * Azure's scheduled events: what the platform is about to do to this machine, from the instance metadata service. Source:
 * Microsoft's "Azure Metadata Service: Scheduled Events for Linux VMs".
 *
 * The service has an address of the link, asks for the header `Metadata: true`, and must not be reached through a proxy. Its
 * first answer in the life of a machine may take two minutes, since it turns the service on.
 */
import { Agent, request } from 'node:http';
import { TwinpathError } from '../errors.ts';
import type { MaintenanceEvent } from '../port-events.ts';

const API_VERSION = '2020-07-01';
const ANSWER_MILLIS = 150_000;
/** Longer answers are not read. */
const MAX_BYTES = 1 << 20;

const KINDS: readonly MaintenanceEvent['kind'][] = ['Freeze', 'Reboot', 'Redeploy', 'Preempt', 'Terminate'];

/** An event of this machine. */
export interface ScheduledEvent {
  readonly id: string;
  readonly kind: MaintenanceEvent['kind'];
  readonly started: boolean;
  /** Milliseconds since 1970; undefined if it has started, or may at any time. */
  readonly notBefore: number | undefined;
  /** How long the machine is expected to be away; undefined if it is not known. */
  readonly seconds: number | undefined;
  readonly description: string;
  readonly source: 'platform' | 'user';
}

/** The events of the machine in a document; kinds that are not known are left out. @throws Error if it is none */
export function eventsIn(document: unknown, machine: string): ScheduledEvent[] {
  const { Events: events } = (document ?? {}) as { Events?: unknown };
  if (!Array.isArray(events)) throw new Error('the answer has no list of events');
  return (events as Record<string, unknown>[]).flatMap((event) => {
    const { EventId, EventType, EventStatus, Resources, NotBefore, DurationInSeconds } = event;
    const kind = KINDS.find((one) => one === EventType);
    const concerned = Array.isArray(Resources) ? Resources.map((name) => String(name).toLowerCase()) : [];
    if (kind === undefined || !concerned.includes(machine.toLowerCase())) return [];
    const time = Date.parse(String(NotBefore ?? ''));
    const started = EventStatus === 'Started';
    return [
      {
        id: String(EventId),
        kind,
        started,
        notBefore: started || Number.isNaN(time) ? undefined : time,
        seconds: Number(DurationInSeconds) > 0 ? Number(DurationInSeconds) : undefined,
        description: String(event.Description ?? ''),
        source: event.EventSource === 'User' ? 'user' : 'platform',
      },
    ];
  });
}

/** Asks the service. Belongs to one thread. */
export class MetadataService {
  readonly #base: string;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });
  #machine: string | undefined;

  /** @param base 'http://169.254.169.254', or a stand-in of it */
  constructor(base: string) {
    this.#base = base;
  }

  /** The events of this machine now. @throws ERR_MAINTENANCE */
  async events(signal: AbortSignal): Promise<ScheduledEvent[]> {
    try {
      this.#machine ??= (
        await this.#get(`instance/compute/name?api-version=${API_VERSION}&format=text`, signal)
      ).trim();
      const text = await this.#get(`scheduledevents?api-version=${API_VERSION}`, signal);
      return eventsIn(JSON.parse(text), this.#machine);
    } catch (error) {
      throw new TwinpathError('ERR_MAINTENANCE', { device: this.#base, detail: (error as Error).message });
    }
  }

  close(): void {
    this.#agent.destroy();
  }

  #get(path: string, signal: AbortSignal): Promise<string> {
    return new Promise((resolve, reject) => {
      const asked = request(
        `${this.#base}/metadata/${path}`,
        {
          agent: this.#agent,
          headers: { Metadata: 'true' },
          signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MILLIS)]),
        },
        (answer) => {
          let text = '';
          answer.setEncoding('utf8');
          answer.on('error', reject);
          answer.on('data', (chunk: string) => {
            text += chunk;
            if (text.length > MAX_BYTES) asked.destroy(new Error('the answer is too long'));
          });
          answer.on('end', () => {
            if (answer.statusCode === 200) resolve(text);
            else reject(new Error(`it answers ${answer.statusCode}`));
          });
        },
      );
      asked.on('error', reject);
      asked.on('socket', (socket) => void socket.unref()); // a port keeps the process, this does not
      asked.end();
    });
  }
}
