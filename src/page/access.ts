/**
 * Who may see a live page. At a loopback address: who is on this machine, or forwards a port of it by ssh; the request must name
 * a loopback host, so that a page of another site, whose name was made to lead here (DNS rebinding), gets nothing. At any other
 * address: who has the random token that is a part of the page's URL. Pure.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { BlockList, isIP, isIPv6 } from 'node:net';

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

/** Also of an IPv4 address that is written as IPv6. */
export function isLoopback(address: string): boolean {
  return isIP(address) !== 0 && LOOPBACK.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
}

/** 24 letters, digits, dashes and underscores: 144 bits. */
export const newToken = (): string => randomBytes(18).toString('base64url');

export class Access {
  /** What a path begins with, the page's own: '/' or '/TOKEN/'. */
  readonly base: string;
  readonly #token: Buffer | undefined;

  /** @param token undefined at a loopback address */
  constructor(token: string | undefined) {
    this.base = token === undefined ? '/' : `/${token}/`;
    this.#token = token === undefined ? undefined : digest(token);
  }

  /**
   * The file that a request asks for, '' for the page itself; undefined if it may not have any.
   *
   * @param host the header Host
   * @param path of the request, without a query
   */
  fileOf(host: string | undefined, path: string): string | undefined {
    if (this.#token === undefined) return namesLoopback(host) ? path.slice(1) : undefined;
    const [, given = '', file = ''] = /^\/([^/]*)\/?(.*)$/.exec(path) ?? [];
    return timingSafeEqual(digest(given), this.#token) ? file : undefined;
  }
}

/** Of one length, as the comparison needs it, whatever was given. */
const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

/** With any port: that of an ssh tunnel is another one. */
function namesLoopback(host: string | undefined): boolean {
  const [, bracketed, plain] = /^(?:\[([\da-fA-F:.]+)\]|([^:[\]]+))(?::\d{1,5})?$/.exec(host ?? '') ?? [];
  const name = bracketed ?? plain ?? '';
  return name.toLowerCase() === 'localhost' || isLoopback(name);
}
