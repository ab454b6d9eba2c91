/**
 * Keys of the Toeplitz hash. Port and device need the same key.
 *
 * Pure functions; any thread. The longest input, two IPv6 addresses and two ports, has 36 bytes and uses 36 × 8 + 31
 * bits of the key: {@link KEY_BYTES}. Devices that hash more (tunnels) have keys of up to {@link MAX_KEY_BYTES}; the hash
 * here does not use the bytes after the 40th.
 */
import { TwinpathError } from '../errors.ts';

export const KEY_BYTES = 40;
const MAX_KEY_BYTES = 52;

/** The key of Microsoft's verification suite, and the default of Windows and of many drivers. */
export const DEFAULT_KEY: Uint8Array = parsed(
  '6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa',
);

/**
 * A key that repeats after 16 bits gives both directions of a flow the same hash (Woo and Park, "Scalable TCP Session
 * Monitoring with Symmetric Receive-side Scaling", 2012). The disadvantage: the hash depends on only 16 bits of key, so an
 * attacker finds colliding flows more easily.
 */
export const SYMMETRIC_KEY: Uint8Array = Uint8Array.from({ length: KEY_BYTES }, (_, i) =>
  i % 2 === 0 ? 0x6d : 0x5a,
);

/**
 * The key of an option: 'default' (also if it is absent), 'symmetric', or 40 to 52 bytes, as an array or as hexadecimal
 * digits, with colons between all bytes or none. Always a copy.
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

/** The key of a configuration: its hexadecimal digits, or null for the port's own. */
export function keyFrom(digits: string | null, own: Uint8Array): Uint8Array {
  return digits === null ? own : parsed(digits);
}

function parsed(text: unknown): Uint8Array {
  if (typeof text !== 'string') throw invalid('it is neither a string nor bytes');
  if (!/^([0-9a-f]{2})+$/i.test(text) && !/^[0-9a-f]{2}(:[0-9a-f]{2})*$/i.test(text)) {
    throw invalid('it is not made of hexadecimal bytes');
  }
  return Uint8Array.from(text.match(/[0-9a-f]{2}/gi)!, (byte) => Number.parseInt(byte, 16));
}

function invalid(detail: string): TwinpathError {
  return new TwinpathError('ERR_OPTION_INVALID', {
    device: 'rssKey',
    detail,
    hint: `Give 'default', 'symmetric', or ${KEY_BYTES} to ${MAX_KEY_BYTES} bytes, as in 6d:5a:56:da…`,
  });
}
