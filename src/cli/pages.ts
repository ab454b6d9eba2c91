/** What `twinpath run` serves by HTTP: `--metrics` and `--health`, at one address or at two. */
import type { Server } from 'node:http';
import { PortHealth } from '../metrics/health.ts';
import { PortMetrics } from '../metrics/port-metrics.ts';
import { type Address, parseAddress, serve, urlOf } from '../metrics/server.ts';
import type { Port } from '../port.ts';
import { type Arguments, text } from './arguments.ts';
import type { Terminal } from './terminal.ts';

type PageName = 'metrics' | 'health';
/** The address of each page that is asked for. */
export type PageAddresses = Readonly<Partial<Record<PageName, string>>>;

/** Before a port is opened: the addresses may be wrong. @throws ERR_OPTION_INVALID */
export function pagesOf(args: Arguments): PageAddresses {
  const pages = { metrics: text(args, 'metrics'), health: text(args, 'health') };
  for (const [name, address] of Object.entries(pages))
    if (address !== undefined) parseAddress(`--${name}`, address);
  return pages;
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
  const health = ports.map((port) => new PortHealth(port));
  const close = (): void => {
    for (const server of servers) {
      server.close();
      server.closeAllConnections(); // a client that says nothing would hold the process
    }
  };
  const groups = new Map<string, PageName[]>();
  for (const name of ['metrics', 'health'] as const) {
    const address = addresses[name];
    if (address !== undefined) groups.set(address, [...(groups.get(address) ?? []), name]);
  }
  try {
    for (const [address, names] of groups) {
      const at: Address = parseAddress(`--${names[0]}`, address);
      const server = await serve(`--${names[0]}`, at, {
        ...(names.includes('metrics') && { metrics: ports.map((port) => new PortMetrics(port)) }),
        ...(names.includes('health') && { health }),
      });
      servers.push(server);
      for (const name of names) terminal.log(`${urlOf(server)}/${name}`);
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
