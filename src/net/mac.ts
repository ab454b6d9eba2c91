/** MAC addresses as text, 'aa:bb:cc:dd:ee:ff', and as bytes. Pure; any thread. */

/** 'AA-BB-…' or 'aa:bb:…' in lower case with colons; `undefined` if it is neither. */
export function normalizeMac(text: string): string | undefined {
  if (!/^[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}$/i.test(text)) return undefined;
  return text.toLowerCase().replaceAll('-', ':');
}

/** @param address in the form of {@link normalizeMac} */
export function macBytes(address: string): Uint8Array {
  return Uint8Array.from(address.split(':'), (byte) => Number.parseInt(byte, 16));
}

/** '' for no address. */
export function formatMac(value: Uint8Array | undefined): string {
  if (!value) return '';
  return Array.from(value, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}
