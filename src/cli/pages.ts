/** What `twinpath run` and `demo` serve by HTTP: `--metrics`, `--health` and `--page`, at one address or at several. */
import type { Server } from 'node:http';
import { PortHealth } from '../metrics/health.ts';
import { PortMetrics } from '../metrics/port-metrics.ts';
import { type Address, parseAddress, serve, urlOf } from '../metrics/server.ts';
import { LivePage, parsePageAddress } from '../page/live-page.ts';
import type { Port } from '../port.ts';
import { type Arguments, type OptionRow, text } from './arguments.ts';
import type { Terminal } from './terminal.ts';

const NAMES = ['metrics', 'health', 'page'] as const;
type PageName = (typeof NAMES)[number];
/** The address of each page that is asked for. */
export type PageAddresses = Readonly<Partial<Record<PageName, Address>>>;

/** The option of `run` and of `demo`. */
export const PAGE_OPTION: OptionRow = {
  value: '[ADDRESS:]PORT',
  help: 'serve a live page for browsers there: rates, owners, failovers. Without ADDRESS for this machine alone',
  otherwise: 'no',
};

/** Before a port is opened: the addresses may be wrong. @throws ERR_OPTION_INVALID */
export function pagesOf(args: Arguments): PageAddresses {
  const given = NAMES.flatMap((name) => {
    const address = text(args, name);
    const parse = name === 'page' ? parsePageAddress : parseAddress;
    return address === undefined ? [] : [[name, parse(`--${name}`, address)]];
  });
  return Object.fromEntries(given);
}

/** Pages that are served. */
export interface ServedPages {
  /** `/health` answers 503 from now on. */
  drain(): void;
  close(): void;
}

/** Serves them. @throws ERR_OPTION_INVALID if an address cannot be used */
export async function servePages(
  addresses: PageAddresses,
  ports: readonly Port[],
  terminal: Terminal,
): Promise<ServedPages> {
  const servers: Server[] = [];
  const pages: LivePage[] = [];
  const health = ports.map((port) => new PortHealth(port));
  const close = (): void => {
    for (const page of pages) page.close();
    for (const server of servers) {
      server.close();
      server.closeAllConnections(); // a client that says nothing would hold the process
    }
  };
  const groups = new Map<string, { address: Address; names: PageName[] }>();
  for (const name of NAMES) {
    const address = addresses[name];
    if (address === undefined) continue;
    const key = `${address.host}:${address.port}`;
    const group = groups.get(key) ?? { address, names: [] };
    group.names.push(name);
    groups.set(key, group);
  }
  try {
    for (const { address, names } of groups.values()) {
      const page = names.includes('page') ? new LivePage(ports, health) : undefined;
      if (page !== undefined) pages.push(page);
      const server = await serve(`--${names[0]}`, address, {
        ...(names.includes('metrics') && { metrics: ports.map((port) => new PortMetrics(port)) }),
        ...(names.includes('health') && { health }),
        ...(page !== undefined && { others: page }),
      });
      servers.push(server);
      for (const name of names)
        terminal.log(name === 'page' ? `page ${page!.admit(server)}` : `${urlOf(server)}/${name}`);
    }
    const drain = (): void => {
      for (const one of health) one.drain();
    };
    return { drain, close };
  } catch (error) {
    close();
    throw error;
  }
}
