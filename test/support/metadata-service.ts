/** A stand-in for Azure's instance metadata service, with the events that a test plans. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';

export interface PlannedEvent {
  readonly EventId: string;
  readonly EventType: string;
  readonly EventStatus: 'Scheduled' | 'Started';
  readonly Resources: readonly string[];
  readonly NotBefore: string;
  readonly DurationInSeconds?: number;
  readonly Description?: string;
  readonly EventSource?: 'Platform' | 'User';
}

export class MetadataServiceStandIn {
  events: readonly PlannedEvent[] = [];
  /** The status of its answers. */
  status = 200;
  /** Requests that it has answered with the events. */
  polls = 0;
  /** Requests that the real service would have refused. */
  readonly wrong: string[] = [];
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => {
      const url = new URL(request.url!, 'http://stand-in');
      const known = url.pathname.startsWith('/metadata/') && url.searchParams.has('api-version');
      if (request.headers.metadata !== 'true' || !known || request.headers['x-forwarded-for'] !== undefined)
        this.wrong.push(`${request.method} ${request.url}`);
      response.statusCode = this.status;
      if (url.pathname === '/metadata/instance/compute/name') response.end('machine-1');
      else {
        this.polls++;
        response.end(JSON.stringify({ DocumentIncarnation: this.polls, Events: this.events }));
      }
    });
  }

  static async start(): Promise<MetadataServiceStandIn> {
    const one = new MetadataServiceStandIn();
    one.#server.listen(0, '127.0.0.1');
    await once(one.#server, 'listening');
    onTestFinished(() => {
      one.#server.close();
      one.#server.closeAllConnections();
    });
    return one;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }
}

/** An event of the stand-in's machine that has no other than these properties. */
export const planned = (change: Partial<PlannedEvent> = {}): PlannedEvent => ({
  ...{ EventId: 'A1', EventType: 'Freeze', EventStatus: 'Scheduled', Resources: ['machine-1'] },
  ...{ NotBefore: 'Mon, 30 Nov 2026 18:00:00 GMT', DurationInSeconds: 5 },
  ...{ Description: 'Virtual machine is being paused', EventSource: 'Platform' },
  ...change,
});
