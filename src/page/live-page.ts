/**
 * The live page of ports: what `twinpath top` shows, over time, in a browser. It answers requests of a server (metrics/server.ts), and
 * samples counters twice a second. Workers do nothing for it. Belongs to the thread that opened the ports, which may be busy:
 * then the page has larger steps.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { realTimeOffset } from '../control/clock.ts';
import { PortHealth } from '../metrics/health.ts';
import { type Address, type OtherPages, parseAddress, serve, urlOf } from '../metrics/server.ts';
import { packageVersion } from '../package-version.ts';
import type { Port } from '../port.ts';
import { invalid } from '../validation.ts';
import { Access, isLoopback, newToken } from './access.ts';
import { EventStream, MAX_CLIENTS } from './event-stream.ts';
import { type PageFile, readFiles } from './files.ts';
import { Recorder, SAMPLE_MILLIS } from './recorder.ts';

/**
 * Nothing from elsewhere, no script or style in the page itself, no frame around it; its URL, which may have a token in it, goes
 * nowhere.
 */
const HEADERS = {
  'cache-control': 'no-store',
  'content-security-policy':
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
} as const;

export class LivePage implements OtherPages {
  readonly #files: ReadonlyMap<string, PageFile>;
  readonly #recorder: Recorder;
  readonly #stream: EventStream;
  readonly #timer: NodeJS.Timeout;
  /** Nobody, until it is known where the server listens. */
  #access = new Access(newToken());

  /**
   * @param health of the ports, in their order, if there is one already
   * @throws ERR_START if a file of the page is missing
   */
  constructor(ports: readonly Port[], health = ports.map((port) => new PortHealth(port))) {
    this.#files = readFiles();
    this.#recorder = new Recorder(ports, health);
    this.#stream = new EventStream(this.#recorder, {
      twinpath: packageVersion(),
      pid: process.pid,
      epochMillis: Number(realTimeOffset()) / 1e6,
    });
    this.#timer = setInterval(() => {
      this.#recorder.sample();
      this.#stream.offer();
    }, SAMPLE_MILLIS).unref();
    this.#recorder.sample();
  }

  /** Admits clients: of a server at a loopback address all, else those with a new token. Returns the page's URL. */
  admit(server: Server): string {
    const { address } = server.address() as AddressInfo;
    this.#access = new Access(isLoopback(address) ? undefined : newToken());
    return `${urlOf(server)}${this.#access.base}`;
  }

  answer(request: IncomingMessage, response: ServerResponse): void {
    const { method = '', url = '' } = request;
    for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
    const [path = ''] = url.split('?');
    const file = this.#access.fileOf(request.headers.host, path);
    if (file === undefined) say(response, 403, this.#refusal);
    else if (method !== 'GET' && method !== 'HEAD')
      say(response, 405, 'GET and HEAD only', { allow: 'GET, HEAD' });
    else if (file === 'events') this.#events(request, response);
    // The names of its files are relative to it.
    else if (file === '' && path !== this.#access.base)
      say(response, 308, 'it has moved', { location: this.#access.base });
    else this.#file(file, request, response);
  }

  /** Ends the streams: a page says that the port was closed, and tries to come back. */
  close(): void {
    clearInterval(this.#timer);
    this.#stream.end();
  }

  get #refusal(): string {
    return this.#access.base === '/'
      ? 'this page is for localhost, 127.0.0.1 and [::1]; the request names another host'
      : 'this page needs the token in the URL that was printed when it was opened';
  }

  #file(name: string, { method }: IncomingMessage, response: ServerResponse): void {
    const file = this.#files.get(name);
    if (file === undefined) {
      say(response, 404, 'there is no such file');
      return;
    }
    response.writeHead(200, { 'content-type': file.type, 'content-length': file.bytes.length });
    response.end(method === 'HEAD' ? undefined : file.bytes);
  }

  #events({ method, headers }: IncomingMessage, response: ServerResponse): void {
    if (method === 'HEAD') {
      response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' }).end();
      return;
    }
    const lastId = headers['last-event-id'];
    if (this.#stream.add(response, typeof lastId === 'string' ? lastId : undefined)) return;
    say(response, 503, `${MAX_CLIENTS} pages are open already`, { 'retry-after': '5' });
  }
}

function say(
  response: ServerResponse,
  status: number,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, { ...headers, 'content-type': 'text/plain; charset=utf-8' });
  response.end(response.req.method === 'HEAD' ? undefined : `${text}\n`);
}

/** A page that is served. */
export interface ServedPage {
  /** With the token, if it has one: whoever has it sees the page. */
  readonly url: string;
  /** Stops serving. The ports stay open. May be called again. */
  close(): void;
}

export interface PageOptions {
  /**
   * Where to listen: '127.0.0.1:9080', '[::1]:9080', or a port alone, which is one of 127.0.0.1. Port 0: any that is free. The
   * default is '0'. An address that is not loopback is plain HTTP over the network, and gets a token.
   */
  readonly address?: string;
}

/** As a server's address, or a port alone. @throws ERR_OPTION_INVALID */
export function parsePageAddress(option: string, text: string): Address {
  return parseAddress(option, /^\d{1,5}$/.test(text) ? `127.0.0.1:${text}` : text);
}

/**
 * Serves a live page of ports, opened together or not. It ends with {@link ServedPage.close}; it does not keep the process.
 *
 * @throws ERR_OPTION_INVALID if the address is wrong or cannot be used; ERR_START if a file of the page is missing
 */
export async function servePage(
  ports: readonly Port[],
  { address = '0' }: PageOptions = {},
): Promise<ServedPage> {
  if (ports.length === 0) return invalid('ports', 'a page needs a port');
  const at = parsePageAddress('address', address);
  const page = new LivePage(ports);
  try {
    const server = await serve('address', at, { others: page });
    const close = (): void => {
      page.close();
      server.close();
      server.closeAllConnections();
    };
    return { url: page.admit(server), close };
  } catch (error) {
    page.close();
    throw error;
  }
}
