/**
 * A network appliance behind Azure's gateway load balancer: runs another handler, the inner one, over the packets that come through two
 * VXLAN tunnels.
 *
 * The load balancer sends what comes from outside through the external tunnel and what comes from the protected machines through
 * the internal one. What the appliance lets go on goes back to the load balancer through the other tunnel, its inner packet
 * unchanged (Microsoft Learn, "Gateway load balancer"; RFC 7348).
 *
 * - The inner handler sees the inner packets, from their Ethernet header on. `PASS` lets one go on, through the other tunnel. `TX` sends it
 *   back through the one it came from. `DROP`, `FORWARD` and `DELIVER` are as ever. With `TEE` beside `PASS` or `TX`, the copy is in the tunnel too.
 * - All else is for the machine, or dropped: `otherwise`. So a server of the machine answers the load balancer's health probes: `--health`
 *   is one. With `protect: 'platform'` the probes do not reach the handler at all.
 * - A packet in a tunnel is IPv4 without options, fragments and VLAN tags, addressed to the port's MAC address. Its UDP checksum
 *   is not looked at, and is 0 in what is sent.
 * - A packet goes back with one less than the time to live that it came with, so a forged source makes no endless loop. With none left it is
 *   in no tunnel.
 * - What `burst.send` makes is not in a tunnel.
 */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { isDeepStrictEqual } from 'node:util';
import type { Burst } from '../handler/burst.ts';
import { configured } from '../handler/configured.ts';
import type { Created, Handler, HandlerContext, HandlerModule, HandlerObject } from '../handler/handler.ts';
import { DROP, isTeed, PASS, TEE, TX, type Verdict } from '../handler/handler.ts';
import { Path } from '../memory/layout.ts';
import { invalid, plainObject, wholeNumber } from '../validation.ts';
import { checkNames, otherwiseOf, requireSame } from './options.ts';
import { Tunnels } from './tunnels.ts';

/**
 * @param options `inner`: name of a built-in handler, path or file URL of a module. `innerOptions`: its options, an object.
 *   `internalPort` (10800), `internalVni` (800), `externalPort` (10801), `externalVni` (801): the tunnels.
 *   `otherwise`: 'pass' (default) or 'drop' packets that are in no tunnel
 * @throws TwinpathError ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID; the promise rejects with what the inner module throws
 */
export function create(options: Record<string, unknown>, context: HandlerContext): Promise<Created> {
  let outer = outerOf(options);
  return innerHandler(innerUrl(options.inner), outer.innerOptions, context).then((inner) => {
    const handle = typeof inner === 'function' ? inner : inner.handle.bind(inner);
    const methods = typeof inner === 'function' ? {} : methodsOf(inner);
    return {
      ...methods,
      handle: (burst) => run(burst, handle, outer.tunnels, outer.otherwise, context.macs),
      configure: (changed) => {
        requireSame('gwlb', options, changed, ['inner']);
        const next = outerOf(changed);
        const apply = isDeepStrictEqual(next.innerOptions, outer.innerOptions)
          ? undefined
          : innerConfigured(methods, next.innerOptions);
        return () => {
          apply?.();
          outer = next;
        };
      },
    };
  });
}

interface Outer {
  readonly tunnels: Tunnels;
  readonly otherwise: Verdict;
  readonly innerOptions: Record<string, unknown>;
}

function outerOf(options: Record<string, unknown>): Outer {
  const names = ['internalPort', 'internalVni', 'externalPort', 'externalVni'] as const;
  checkNames('gwlb', options, ['inner', 'innerOptions', ...names, 'otherwise']);
  const number = (name: (typeof names)[number], byDefault: number, most: number): number =>
    wholeNumber(name, options[name] ?? byDefault, 1, most);
  return {
    tunnels: new Tunnels(
      { port: number('internalPort', 10_800, 0xffff), vni: number('internalVni', 800, 0xffffff) },
      { port: number('externalPort', 10_801, 0xffff), vni: number('externalVni', 801, 0xffffff) },
    ),
    otherwise: otherwiseOf(options, 'pass'),
    innerOptions: plainObject('innerOptions', (options.innerOptions ?? {}) as Record<string, unknown>),
  };
}

/** Those of the inner handler besides `handle`. */
function methodsOf(inner: HandlerObject): Partial<HandlerObject> {
  const { tick, tickMillis, message, configure } = inner;
  return {
    ...(tick === undefined ? {} : { tick: tick.bind(inner), tickMillis: tickMillis ?? 10 }),
    ...(message === undefined ? {} : { message: message.bind(inner) }),
    ...(configure === undefined ? {} : { configure: configure.bind(inner) }),
  };
}

function innerConfigured(
  { configure }: Partial<HandlerObject>,
  options: Record<string, unknown>,
): () => void {
  if (configure !== undefined) return configured(configure, options, "the inner handler's");
  return invalid('innerOptions', 'the inner handler takes no other options while it runs');
}

function run(
  burst: Burst,
  inner: Handler,
  tunnels: Tunnels,
  otherwise: Verdict,
  macs: readonly Uint8Array[],
): void {
  const all = burst.length;
  if (burst.path[0] === Path.HOST) {
    burst.verdict.fill(TX, 0, all);
    return;
  }
  const mac = macs[burst.port[0]!]!;
  const count = tunnels.enter(burst, mac);
  burst.verdict.fill(otherwise, count, all);
  if (count === 0) return;
  burst.open(count); // the inner handler sees no other packets
  try {
    inner(burst);
  } catch (error) {
    // The packet that it looked at last is dropped, those before it go on, and those after it are offered again.
    const { cursor } = burst;
    burst.length = all;
    for (let i = 0; i < cursor; i++) leave(burst, i, tunnels, mac);
    for (let i = cursor + 1; i < count; i++) tunnels.restore(burst, i);
    burst.open(all);
    if (cursor >= 0) burst.packet(cursor);
    throw error;
  }
  burst.length = all;
  for (let i = 0; i < count; i++) leave(burst, i, tunnels, mac);
}

function leave(burst: Burst, i: number, tunnels: Tunnels, mac: Uint8Array): void {
  const verdict = burst.verdict[i]!;
  const tee = isTeed(verdict) ? TEE : 0;
  const way = verdict & ~tee;
  if (way !== PASS && way !== TX) return;
  burst.verdict[i] = tunnels.leave(burst, i, way === PASS, mac) ? TX | tee : DROP;
}

function innerUrl(option: unknown): string {
  const text = typeof option === 'string' ? option : '';
  if (text === '') return invalid('inner', 'gwlb has no inner handler', "Give one: { inner: 'firewall' }.");
  if (text === 'gwlb' || text.endsWith('.wasm')) return invalid('inner', `${text} cannot be in a tunnel`);
  if (text.startsWith('file:')) return text;
  if (text.includes('/') || text.includes('.')) return pathToFileURL(resolve(text)).href;
  const extension = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
  return new URL(`./${text}${extension}`, import.meta.url).href;
}

async function innerHandler(
  url: string,
  options: Record<string, unknown>,
  context: HandlerContext,
): Promise<Created> {
  let module: HandlerModule;
  try {
    module = (await import(url)) as HandlerModule;
  } catch (error) {
    return invalid('inner', `${url} cannot be loaded: ${(error as Error).message.split('\n')[0]}`);
  }
  if ((module.metadata ?? []).length > 0) {
    invalid('inner', `${url} asks for metadata of packets, which inner packets do not have`);
  }
  const handler = module.create ? await module.create(options, context) : module.default;
  if (typeof handler === 'function' || typeof handler?.handle === 'function') return handler;
  return invalid('inner', `${url} exports no handler`);
}
