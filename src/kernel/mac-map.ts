/**
 * A set of MAC addresses as a BPF hash map: the address and two bytes of 0 are the key, which is all that counts. Coordinator
 * only.
 */
import { check, Errno } from '../errors.ts';
import { formatMac, macBytes } from '../net/mac.ts';
import {
  type Attributes,
  Command,
  MapType,
  mapAttributes,
  pairAttributes,
  pairKeyAttributes,
  pairValueOf,
} from './bpf-attributes.ts';
import { MAC_KEY_BYTES } from './mac-filter.ts';
import type { Shim } from './shim.ts';

const MAC_BYTES = 6;
const VALUE = new Uint8Array(4);

export class MacMap {
  readonly fd: number;
  readonly #shim: Shim;

  /** @param fd of such a map */
  constructor(shim: Shim, fd: number) {
    this.#shim = shim;
    this.fd = fd;
  }

  /** @param entries the most addresses. @throws ERR_PERMISSION, ERR_KERNEL */
  static create(shim: Shim, entries: number): MacMap {
    const { block, size } = mapAttributes(MapType.HASH, entries, VALUE.length, MAC_KEY_BYTES);
    const fd = shim.bpf(Command.MAP_CREATE, block, size);
    return new MacMap(
      shim,
      check(fd, 'bpf(MAP_CREATE)', { detail: `a hash map of ${entries} MAC addresses` }),
    );
  }

  /** @throws ERR_KERNEL */
  list(): Set<string> {
    const found = new Set<string>();
    let before: Uint8Array | undefined;
    for (;;) {
      const attributes = pairAttributes(
        this.fd,
        before ?? new Uint8Array(MAC_KEY_BYTES),
        new Uint8Array(MAC_KEY_BYTES),
      );
      const result = this.#call(Command.MAP_GET_NEXT_KEY, attributes);
      if (result === Errno.ENOENT) return found; // that was the last one
      check(result, 'bpf(MAP_GET_NEXT_KEY)', { detail: 'a MAC address' });
      const { buffer, byteOffset } = pairValueOf(attributes, MAC_KEY_BYTES);
      before = new Uint8Array(buffer, byteOffset, MAC_KEY_BYTES).slice();
      found.add(formatMac(before.subarray(0, MAC_BYTES)));
    }
  }

  /** @throws ERR_KERNEL: E2BIG (the map is full), ENOMEM */
  add(mac: string): void {
    const result = this.#call(Command.MAP_UPDATE_ELEM, pairAttributes(this.fd, keyOf(mac), VALUE));
    check(result, 'bpf(MAP_UPDATE_ELEM)', { detail: `MAC address ${mac}` });
  }

  /** Does nothing if it is not there. @throws ERR_KERNEL */
  remove(mac: string): void {
    const result = this.#call(Command.MAP_DELETE_ELEM, pairKeyAttributes(this.fd, keyOf(mac)));
    if (result !== Errno.ENOENT) check(result, 'bpf(MAP_DELETE_ELEM)', { detail: `MAC address ${mac}` });
  }

  #call(command: number, { block, size }: Attributes): number {
    return this.#shim.bpf(command, block, size);
  }
}

function keyOf(mac: string): Uint8Array {
  const key = new Uint8Array(MAC_KEY_BYTES);
  key.set(macBytes(mac));
  return key;
}
