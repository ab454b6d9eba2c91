/**
 * An HTTP server for `GET /metrics` and `GET /health`. These have no access control: let it listen at a loopback address, or at one
 * that only the monitoring reaches. It can have the live page (src/page) too. Belongs to the thread that opened the ports, which
 * may be busy: then it answers late.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { invalid } from '../validation.ts';
import type { PortHealth } from './health.ts';
import type { PortMetrics } from './port-metrics.ts';
import { PROMETHEUS_TYPE, prometheusText } from './prometheus.ts';

/** Where a server listens. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** What a server answers with; a page without a source does not exist. */
export interface Pages {
  readonly metrics?: readonly PortMetrics[];
  readonly health?: readonly PortHealth[];
  readonly others?: OtherPages;
}

/** Answers all other requests. */
export interface OtherPages {
  answer(request: IncomingMessage, response: ServerResponse): void;
}

/** Connections at one time. */
const MAX_CONNECTIONS = 128;

/** '127.0.0.1:9100' or '[::1]:9100'; port 0: any that is free. @throws ERR_OPTION_INVALID */
export function parseAddress(option: string, text: string): Address {
  const [, bracketed, plain, digits] = /^(?:\[([\da-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = Number(digits);
  if (host !== undefined && port < 65_536) return { host, port };
  return invalid(option, `${text} is not an address and a port`, 'Write 127.0.0.1:9100, or [::1]:9100.');
}

const HINTS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'Another program listens there: give another port, or 0 for any that is free.',
  EADDRNOTAVAIL: 'This machine has no such address: ip address lists those that it has.',
  EACCES: 'Ports below 1024 are for root: give a higher one.',
  ENOTFOUND: 'Give an address in place of the name.',
};

/** Listens. The caller closes the server. @throws ERR_OPTION_INVALID if the address cannot be used */
export async function serve(option: string, { host, port }: Address, pages: Pages): Promise<Server> {
  const server = createServer((request, response) => {
    const { method = '', url = '' } = request;
    if (pages.others !== undefined && !isKnown(pages, url)) {
      pages.others.answer(request, response);
      return;
    }
    const { status, type, body } = answer(pages, method, url);
    response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' });
    response.end(method === 'HEAD' ? undefined : body);
  });
  server.maxConnections = MAX_CONNECTIONS;
  try {
    server.listen(port, host);
    await once(server, 'listening');
    server.unref(); // a port keeps the process, its metrics do not
    return server;
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException;
    return invalid(option, `${host}:${port} cannot be used: ${message}`, HINTS[code]);
  }
}

/** Where it listens, as a URL. */
export function urlOf(server: Server): string {
  const { address, port, family } = server.address() as AddressInfo;
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
}

interface Page {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

const TEXT = 'text/plain; charset=utf-8';

function isKnown({ metrics, health }: Pages, url: string): boolean {
  const [path] = url.split('?');
  return (path === '/metrics' && metrics !== undefined) || (path === '/health' && health !== undefined);
}

function answer({ metrics, health }: Pages, method: string, url: string): Page {
  const [path] = url.split('?');
  if (method !== 'GET' && method !== 'HEAD') return { status: 405, type: TEXT, body: 'GET and HEAD only\n' };
  if (path === '/metrics' && metrics !== undefined) {
    return { status: 200, type: PROMETHEUS_TYPE, body: prometheusText(metrics.map((one) => one.families())) };
  }
  if (path === '/health' && health !== undefined) {
    const problems = health.flatMap((one) => one.problems());
    const body = problems.length === 0 ? 'ok\n' : `${problems.join('\n')}\n`;
    return { status: problems.length === 0 ? 200 : 503, type: TEXT, body };
  }
  const known = [metrics && '/metrics', health && '/health'].filter(Boolean);
  return { status: 404, type: TEXT, body: `there is ${known.join(' and ')}\n` };
}
