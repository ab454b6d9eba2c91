/**
 * The keys of the Toeplitz hash. Both ends of an agreement, port and device, must have the same one.
 *
 * Pure functions; any thread. The longest input that is hashed, two IPv6 addresses and two ports, is 36
 * bytes and looks at 36 × 8 + 31 bits of the key: {@link KEY_BYTES}. Devices that hash more (tunnels) have
 * keys up to {@link MAX_KEY_BYTES}; what is beyond the 40th byte does not matter to the hash here.
 */
import { TwinpathError } from '../errors.ts';

export const KEY_BYTES = 40;
const MAX_KEY_BYTES = 52;

/** The key of Microsoft's verification suite, and the default of Windows and of many drivers. */
export const DEFAULT_KEY: Uint8Array = Uint8Array.of(
  ...[0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67],
  ...[0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb],
  ...[0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30],
  ...[0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa],
);

/**
 * Repeats after 16 bits, so that exchanging source and destination changes nothing: both directions of a
 * flow get one hash (Woo and Park, "Scalable TCP Session Monitoring with Symmetric Receive-side Scaling",
 * 2012). The price is a hash with only 16 bits of key in it: an outsider finds flows that collide more easily.
 */
export const SYMMETRIC_KEY: Uint8Array = Uint8Array.from({ length: KEY_BYTES }, (_, i) =>
  i % 2 === 0 ? 0x6d : 0x5a,
);

const PLAIN = /^(?:[0-9a-f]{2})+$/i;
const WITH_COLONS = /^[0-9a-f]{2}(?::[0-9a-f]{2})*$/i;

/**
 * The key an option names: 'default' (also when absent), 'symmetric', or 40 to 52 bytes as an array or as
 * hexadecimal digits, with a colon between all bytes or none. Always a copy.
 *
 * @throws ERR_OPTION_INVALID
 */
export function keyOf(option: string | Uint8Array | undefined): Uint8Array {
  if (option === undefined || option === 'default') return DEFAULT_KEY.slice();
  if (option === 'symmetric') return SYMMETRIC_KEY.slice();
  const key = option instanceof Uint8Array ? Uint8Array.from(option) : parsed(option);
  if (key.length < KEY_BYTES || key.length > MAX_KEY_BYTES) throw invalid(`it has ${key.length} bytes`);
  return key;
}

function parsed(text: unknown): Uint8Array {
  if (typeof text !== 'string') throw invalid('it is neither a string nor bytes');
  if (!PLAIN.test(text) && !WITH_COLONS.test(text)) throw invalid('it is not made of hexadecimal bytes');
  return Uint8Array.from(text.match(/[0-9a-f]{2}/gi)!, (byte) => Number.parseInt(byte, 16));
}

function invalid(detail: string): TwinpathError {
  return new TwinpathError('ERR_OPTION_INVALID', {
    device: 'rssKey',
    detail,
    hint: `Give 'default', 'symmetric', or ${KEY_BYTES} to ${MAX_KEY_BYTES} bytes, as in 6d:5a:56:da…`,
  });
}
