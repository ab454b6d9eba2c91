/** Finds a handler: a built-in one by its name, or a module by its path. */
import { accessSync, constants } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { TwinpathError } from '../errors.ts';
import { nearest } from '../validation.ts';

interface BuiltIn {
  readonly summary: string;
  /** Names of its options, required ones first. */
  readonly options: readonly string[];
  /** It sends to MAC addresses from packets, so its peers must be in the port's layer 2 network. */
  readonly oneEthernet?: 'always' | 'in mode direct';
}

const HANDLERS: Readonly<Record<string, BuiltIn>> = {
  reflect: { summary: 'sends every packet back, by MAC address', options: [], oneEthernet: 'always' },
  '5tswap': { summary: 'sends every IP packet back, by IP address and port', options: ['otherwise'] },
  echo: { summary: 'answers ARP, ping and UDP echo', options: ['address', 'port'] },
  host: { summary: 'leaves everything to the machine', options: [] },
  dns: { summary: 'answers from a zone file', options: ['zone', 'address', 'port', 'otherwise'] },
  balance: {
    summary: 'spreads connections over backends',
    options: [
      'vip',
      'backends',
      'ports',
      'mode',
      'source',
      'sourcePorts',
      'idle',
      'vni',
      'vxlanPort',
      'arp',
      'otherwise',
    ],
    oneEthernet: 'in mode direct',
  },
  gwlb: {
    summary: "runs another behind Azure's gateway load balancer",
    options: [
      'inner',
      'innerOptions',
      'internalPort',
      'internalVni',
      'externalPort',
      'externalVni',
      'otherwise',
    ],
  },
  firewall: { summary: 'filters for the machine', options: ['allow', 'deny', 'out', 'otherwise'] },
  count: { summary: 'counts flows, and drops them', options: ['every', 'top', 'otherwise'] },
  drop: { summary: 'drops every packet', options: [] },
};

export const BUILT_IN: readonly string[] = Object.keys(HANDLERS);

/** The built-in handlers for `--help`: name, what it does, and the names of its options. */
export const BUILT_IN_HELP = Object.entries(HANDLERS).map(([name, { summary, options, oneEthernet }]) => {
  const named = options.length === 0 ? '' : `: ${options.join(', ')}`;
  const mark = oneEthernet === undefined ? '' : oneEthernet === 'always' ? ' (*)' : ` (* ${oneEthernet})`;
  return [name, `${summary}${mark}${named}`] as const;
});

/** Does not load the module. @throws ERR_OPTION_INVALID if there is neither */
export function handlerUrl(name: string, folder = process.cwd()): URL {
  if (BUILT_IN.includes(name)) {
    const extension = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
    return new URL(`../handlers/${name}${extension}`, import.meta.url);
  }
  const file = resolve(folder, name);
  const isPath = name.includes('/') || /\.([cm]?[jt]s|wasm)$/.test(name);
  const refused = isPath ? unreadable(file) : 'ENOENT';
  if (refused === undefined) return pathToFileURL(file);
  const near = isPath ? undefined : nearest(name, BUILT_IN);
  throw new TwinpathError('ERR_OPTION_INVALID', {
    device: 'HANDLER',
    detail: isPath
      ? refused === 'ENOENT' || refused === 'ENOTDIR'
        ? `there is no file ${name}`
        : `the file ${name} cannot be read (${refused})`
      : `no built-in handler has the name ${name}`,
    hint:
      near === undefined
        ? `Give ${BUILT_IN.join(', ')}, or the path of a module such as ./handler.js.`
        : `Did you mean "${near}"?`,
  });
}

/** The errno with which this user cannot read the file. */
function unreadable(file: string): string | undefined {
  try {
    accessSync(file, constants.R_OK);
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  }
}

/**
 * A built-in handler without options does not check that it gets none, so this does.
 *
 * @throws ERR_OPTION_UNKNOWN
 */
export function checkOptionless(name: string, options: Readonly<Record<string, unknown>>): void {
  const [first] = Object.keys(options);
  if (first === undefined || HANDLERS[name]?.options.length !== 0) return;
  throw new TwinpathError('ERR_OPTION_UNKNOWN', { device: first, hint: `${name} has no options.` });
}

/** Adds an address to the options of a built-in handler that takes one, unless they have it. */
export function withAddress(
  name: string,
  options: Readonly<Record<string, unknown>>,
  address: string,
): Record<string, unknown> {
  const takesAddress = HANDLERS[name]?.options.includes('address');
  return takesAddress ? { address, ...options } : { ...options };
}
