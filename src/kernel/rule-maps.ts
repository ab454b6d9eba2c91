/**
 * The maps of flow rules: longest-prefix tries of addresses, and arrays of counters with a copy for each CPU. As with
 * {@link Bpf}, descriptors may pass between threads. Coordinator only.
 *
 * A map of rules is filled before any program uses it, and is replaced with its program: nothing is deleted from it.
 */
import { permissionHint } from '../capabilities.ts';
import { check, Errno } from '../errors.ts';
import {
  type Attributes,
  Command,
  infoAttributes,
  infoOf,
  MapType,
  mapAttributes,
  pairAttributes,
  pairValueOf,
} from './bpf-attributes.ts';
import { possibleCpus } from './machine.ts';
import type { Shim } from './shim.ts';

/** `struct bpf_lpm_trie_key`: the prefix length, a 32-bit number of the machine, then the address in network order. */
const PREFIX_LENGTH_BYTES = 4;
const INDEX_BYTES = 4;
/** The index of an array's first entry. */
const FIRST = new Uint8Array(INDEX_BYTES);
/** `struct bpf_map_info` */
const MAP_INFO = { valueBytes: 12, bytes: 16 } as const;
/** Packets and bytes, 64 bits each. */
export const COUNTER_BYTES = 16;

export interface Count {
  readonly packets: number;
  readonly bytes: number;
}

export class RuleMaps {
  readonly #shim: Shim;
  /** Of the machine, once a counter has been read: a thread that only closes must not fail at reading it. */
  #cpus: number | undefined;

  constructor(shim: Shim) {
    this.#shim = shim;
  }

  /**
   * Creates a map from prefixes to a pair of 32-bit numbers: a look-up finds the longest prefix of an address. The kernel
   * allocates each entry when it is added (BPF_F_NO_PREALLOC is obligatory, kernel/bpf/lpm_trie.c).
   *
   * @param addressBytes 4 or 16
   * @param entries the most prefixes
   * @returns the descriptor
   * @throws ERR_PERMISSION, ERR_KERNEL
   */
  prefixMap(addressBytes: number, entries: number): number {
    const attributes = mapAttributes(MapType.LPM_TRIE, entries, 8, PREFIX_LENGTH_BYTES + addressBytes);
    return this.#create(attributes, `an LPM trie of ${entries} prefixes`);
  }

  /** @param bits of `address` that count. @throws ERR_KERNEL: ENOSPC (the map is full), ENOMEM */
  setPrefix(fd: number, address: Uint8Array, bits: number, pair: readonly [number, number]): void {
    const key = new Uint8Array(PREFIX_LENGTH_BYTES + address.length);
    new DataView(key.buffer).setUint32(0, bits, true);
    key.set(address, PREFIX_LENGTH_BYTES);
    const value = new Uint8Array(Uint32Array.from(pair).buffer);
    const result = this.#call(Command.MAP_UPDATE_ELEM, pairAttributes(fd, key, value));
    check(result, 'bpf(MAP_UPDATE_ELEM)', {
      detail: `a prefix of ${bits} bits in an LPM trie`,
      hint: hintFor(result),
    });
  }

  /** Creates an array of {@link Count}, of which each CPU has a copy. At first 0. @throws as {@link prefixMap} */
  counterMap(entries: number): number {
    return this.cpuMap(entries, COUNTER_BYTES, `an array of ${entries} counters per CPU`);
  }

  /** Creates an array with a copy for each CPU. @throws as {@link prefixMap} */
  cpuMap(entries: number, valueBytes: number, what: string): number {
    return this.#create(mapAttributes(MapType.PERCPU_ARRAY, entries, valueBytes), what);
  }

  /**
   * Creates a map that keeps a text, for another coordinator: rules may be longer than its checkpoint.
   *
   * @throws as {@link prefixMap}
   */
  textMap(text: string): number {
    const bytes = new TextEncoder().encode(text);
    const value = new Uint8Array(8 + bytes.length);
    new DataView(value.buffer).setUint32(0, bytes.length, true);
    value.set(bytes, 8);
    const fd = this.#create(mapAttributes(MapType.ARRAY, 1, value.length), `a text of ${bytes.length} bytes`);
    const result = this.#call(Command.MAP_UPDATE_ELEM, pairAttributes(fd, FIRST, value));
    if (result < 0) this.#shim.close(fd);
    check(result, 'bpf(MAP_UPDATE_ELEM)', { detail: `a text of ${bytes.length} bytes` });
    return fd;
  }

  /** @throws ERR_KERNEL */
  text(fd: number): string {
    const room = this.#valueBytes(fd);
    const attributes = pairAttributes(fd, FIRST, new Uint8Array(room));
    check(this.#call(Command.MAP_LOOKUP_ELEM, attributes), 'bpf(MAP_LOOKUP_ELEM)', { detail: 'a text' });
    const value = pairValueOf(attributes, INDEX_BYTES);
    return new TextDecoder().decode(
      new Uint8Array(value.buffer, value.byteOffset + 8, value.getUint32(0, true)),
    );
  }

  #valueBytes(fd: number): number {
    const attributes = infoAttributes(fd, MAP_INFO.bytes);
    check(this.#call(Command.OBJ_GET_INFO_BY_FD, attributes), 'bpf(OBJ_GET_INFO_BY_FD)', { detail: 'a map' });
    return infoOf(attributes).getUint32(MAP_INFO.valueBytes, true);
  }

  /**
   * A counter, summed over the CPUs. Exact up to 2^53. The kernel writes the copies of all possible CPUs, the absent ones
   * too (bpf_map_value_size in kernel/bpf/syscall.c).
   *
   * @throws ERR_KERNEL: ENOENT (no such entry), EBADF
   */
  count(fd: number, index: number): Count {
    const key = new Uint8Array(Uint32Array.of(index).buffer);
    this.#cpus ??= possibleCpus();
    const attributes = pairAttributes(fd, key, new Uint8Array(COUNTER_BYTES * this.#cpus));
    check(this.#call(Command.MAP_LOOKUP_ELEM, attributes), 'bpf(MAP_LOOKUP_ELEM)', {
      detail: `counter ${index}`,
    });
    const copies = pairValueOf(attributes, INDEX_BYTES);
    let packets = 0;
    let bytes = 0;
    for (let cpu = 0; cpu < this.#cpus; cpu++) {
      packets += Number(copies.getBigUint64(cpu * COUNTER_BYTES, true));
      bytes += Number(copies.getBigUint64(cpu * COUNTER_BYTES + 8, true));
    }
    return { packets, bytes };
  }

  #create(attributes: Attributes, detail: string): number {
    const result = this.#call(Command.MAP_CREATE, attributes);
    return check(result, 'bpf(MAP_CREATE)', { detail, hint: hintFor(result) });
  }

  #call(command: number, { block, size }: Attributes): number {
    return this.#shim.bpf(command, block, size);
  }
}

function hintFor(result: number): string | undefined {
  if (result === Errno.ENOMEM) return 'Give fewer prefixes, or allow the memory cgroup more.';
  if (result !== Errno.EPERM) return undefined;
  // Before Linux 5.11 maps are charged to the user (bpf_charge_memlock in kernel/bpf/syscall.c).
  return `${permissionHint()} On Linux before 5.11 also raise the limit of locked memory: ulimit -l unlimited.`;
}
