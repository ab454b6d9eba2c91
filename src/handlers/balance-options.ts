/** What the three kinds of `balance` have in common: options, and the hash that chooses a backend. */
import { has, ipv4Number, isHost } from '../net/addresses.ts';
import { finishHash, mixHash } from '../net/flow.ts';
import { macBytes, normalizeMac } from '../net/mac.ts';
import { invalid } from '../validation.ts';
import { SLOTS } from './maglev.ts';
import { list } from './options.ts';

/** A backend that is reached by its IP address. */
export interface IpBackend {
  /** For the hash: address and port. */
  readonly name: string;
  readonly address: number;
  /** 0: none was given. */
  readonly port: number;
  readonly mac: Uint8Array | undefined;
}

/** The arguments are signed words: a number above 2^31 would be an object. */
export function slotOf(source: number, target: number, protocol: number, ports: number): number {
  return (finishHash(mixHash(mixHash(mixHash(mixHash(0, source), target), ports), protocol)) >>> 0) % SLOTS;
}

/** By port: 1 if it is balanced; undefined if all are. @throws TwinpathError ERR_OPTION_INVALID */
export function servedPorts(option: unknown): Uint8Array | undefined {
  const ports = list(option);
  if (ports.length === 0) return undefined;
  const isServed = new Uint8Array(0x10000);
  for (const text of ports) {
    const port = Number(text);
    if (!isPort(port)) {
      invalid('ports', `${String(text)} is not a port`, "Give numbers from 1 to 65535: '80,443'.");
    }
    isServed[port] = 1;
  }
  return isServed;
}

/**
 * 1 to `most` backends: '10.0.0.5', '10.0.0.5:8080', each with '@02:00:00:00:00:05' or not.
 *
 * @param own addresses of the balancer, which no backend may have: packets would come round again
 * @throws TwinpathError ERR_OPTION_INVALID
 */
export function ipBackends(option: unknown, most: number, own: Int32Array): IpBackend[] {
  const backends = list(option).map(ipBackend);
  if (backends.length === 0 || backends.length > most) {
    invalid('backends', `there are ${backends.length}`, `Give 1 to ${most} IP addresses.`);
  }
  const names = backends.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) invalid('backends', `${twice} is listed twice`);
  const loop = backends.find(({ address }) => has(own, address));
  if (loop !== undefined) invalid('backends', `${loop.name} is the balancer's own address`);
  return backends;
}

function ipBackend(option: unknown): IpBackend {
  const text = String(option);
  const [, ip = '', number, at] = /^([^:@]+)(?::(\d+))?(?:@(.+))?$/.exec(text) ?? [];
  const address = ipv4Number(ip);
  const port = Number(number ?? 0);
  const normal = at === undefined ? undefined : normalizeMac(at);
  const mac = normal === undefined ? undefined : macBytes(normal);
  const isRight =
    address !== undefined &&
    isHost(address) &&
    (number === undefined || isPort(port)) &&
    (at === undefined) === (mac === undefined) &&
    (mac === undefined || (mac[0]! & 1) === 0);
  if (!isRight) {
    return invalid(
      'backends',
      `${text} is not a backend`,
      "Give '10.0.0.5', '10.0.0.5:8080' or '10.0.0.5@02:00:00:00:00:05'.",
    );
  }
  return { name: port === 0 ? ip : `${ip}:${port}`, address: address | 0, port, mac };
}

const isPort = (port: number): boolean => Number.isInteger(port) && port >= 1 && port <= 0xffff;
