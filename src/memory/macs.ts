/**
 * The MAC address of each port, six bytes in the shared memory. The coordinator writes them; handlers and the application
 * read them in place, so they see a new address with the next packet. For an instant a reader may see bytes of both.
 */

import type { Memory } from './shared.ts';
import { MAC_STRIDE } from './wasm-abi.ts';

const MAC_BYTES = 6;

/** Views of all ports' addresses, which show every change. */
export function macsOf({ bytes, layout }: Memory): Uint8Array[] {
  return Array.from({ length: layout.geometry.ports }, (_, port) =>
    bytes.subarray(layout.macs + port * MAC_STRIDE, layout.macs + port * MAC_STRIDE + MAC_BYTES),
  );
}

/** 'aa:bb:cc:dd:ee:ff' */
export function macOf(memory: Memory, port: number): string {
  return Array.from(macsOf(memory)[port]!, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

export function setMac(memory: Memory, port: number, mac: string): void {
  macsOf(memory)[port]!.set(mac.split(':').map((byte) => Number.parseInt(byte, 16)));
}
