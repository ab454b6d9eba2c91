/** Prefixes of IP addresses, from text to bytes. Any thread. */
import { isIPv4, isIPv6 } from 'node:net';
import { ipv4Number, ipv6Bytes } from '../net/addresses.ts';
import { invalid } from '../validation.ts';
import type { Prefix } from './rule.ts';

const EXAMPLES = "Give it as '10.0.0.0/8', '10.1.2.3' or '2001:db8::/32'.";

/** Whether a text is meant as a prefix: to tell it from a word that is out of place. */
export function looksLikePrefix(text: string): boolean {
  const [address = ''] = text.split('/');
  return isIPv4(address) || isIPv6(address) || /^[\d.:/]+$/.test(text);
}

/**
 * '10.0.0.0/8' or '2001:db8::1': an address alone is a prefix of all its bits.
 *
 * @param option names the text in the error
 * @throws ERR_OPTION_INVALID
 */
export function prefixOf(option: string, text: unknown): Prefix {
  const [, address = '', digits] = /^([\da-f.:]+)(?:\/(\d{1,3}))?$/i.exec(String(text)) ?? [];
  const network = addressBytes(address);
  if (network === undefined) return invalid(option, `${String(text)} is not a prefix`, EXAMPLES);
  const most = network.length * 8;
  const bits = digits === undefined ? most : Number(digits);
  if (bits > most) return invalid(option, `${String(text)} has more than the ${most} bits of its address`);
  const masked = network.map((byte, i) => byte & (0xff00 >> Math.min(Math.max(bits - 8 * i, 0), 8)));
  if (masked.some((byte, i) => byte !== network[i])) {
    const hint = 'Give the network, or only the address.';
    return invalid(option, `${String(text)} has bits after its prefix of ${bits}`, hint);
  }
  return { address: masked, bits };
}

function addressBytes(text: string): Uint8Array | undefined {
  const number = ipv4Number(text);
  if (number === undefined) return ipv6Bytes(text);
  return Uint8Array.of(number >>> 24, number >>> 16, number >>> 8, number);
}
