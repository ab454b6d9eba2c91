/**
 * The MAC filter of a port, in the kernel: its maps are made once, before the first path, and serve the programs of both paths
 * until the port is closed. Which addresses the filter accepts follows the configuration and the addresses that the port's
 * devices have, which other programs may change. Coordinator thread only.
 */
import type { PortConfiguration } from '../configuration.ts';
import { Bpf } from '../kernel/bpf.ts';
import { Accept, type Acceptance, type MacFilter } from '../kernel/mac-filter.ts';
import { MacMap } from '../kernel/mac-map.ts';
import type { Shim } from '../kernel/shim.ts';

/** Descriptors of the maps, as plain data for another coordinator. */
export interface HeldMacFilter {
  readonly addresses: number;
  readonly acceptance: number;
  readonly filtered: { readonly synthetic: number; readonly vf: number };
}

/** Both lists of a configuration and the devices' own, of the configuration before too while it changes. */
const MAX_ADDRESSES = 1024;
const BROADCAST = 'ff:ff:ff:ff:ff:ff';

/** Packets since it was made, by the path that it left to the machine's own stack. */
export interface FilteredPackets {
  readonly synthetic: number;
  readonly vf: number;
}

export class PortMacFilter {
  readonly #shim: Shim;
  readonly #bpf: Bpf;
  readonly #macs: (asked: boolean) => readonly string[];
  #held: HeldMacFilter | undefined;
  #configuration: PortConfiguration | undefined;
  #own = '';

  /**
   * @param macs the addresses of the devices that the port has now, as its messages say, or asked from the kernel
   * @param held what another coordinator has made
   */
  constructor(shim: Shim, macs: (asked: boolean) => readonly string[], held?: HeldMacFilter) {
    this.#shim = shim;
    this.#macs = macs;
    this.#bpf = new Bpf(shim);
    this.#held = held;
  }

  /** Undefined before {@link open} and after {@link close}. */
  get held(): HeldMacFilter | undefined {
    return this.#held;
  }

  /** For the programs of a path. */
  of(path: keyof FilteredPackets): MacFilter | undefined {
    return this.#held && { ...this.#held, filtered: this.#held.filtered[path] };
  }

  /** Undefined while it is not open. @throws ERR_KERNEL */
  get filtered(): FilteredPackets | undefined {
    const filtered = this.#held?.filtered;
    return filtered && { synthetic: this.#bpf.value(filtered.synthetic), vf: this.#bpf.value(filtered.vf) };
  }

  /** Makes the maps, which accept every packet. @throws ERR_PERMISSION, ERR_KERNEL, after closing all of them */
  open(): void {
    const fds: number[] = [];
    const keep = (fd: number): number => {
      fds.push(fd);
      return fd;
    };
    try {
      this.#held = {
        addresses: keep(MacMap.create(this.#shim, MAX_ADDRESSES).fd),
        acceptance: keep(this.#bpf.valueMap()),
        filtered: { synthetic: keep(this.#bpf.valueMap()), vf: keep(this.#bpf.valueMap()) },
      };
    } catch (error) {
      for (const fd of fds) this.#shim.close(fd);
      throw error;
    }
  }

  /**
   * From now on accepts what this configuration asks for as well, and refuses nothing that it has accepted: before the devices
   * are configured.
   *
   * @throws ERR_KERNEL
   */
  widen(wanted: PortConfiguration): void {
    if (this.#held === undefined) return;
    this.#configuration = undefined; // what is in the maps is that of no configuration
    const addresses = new MacMap(this.#shim, this.#held.addresses);
    for (const mac of listed(wanted, [])) addresses.add(mac);
    const now = this.#bpf.value(this.#held.acceptance) as Acceptance;
    this.#bpf.setValue(this.#held.acceptance, wider(now, acceptanceOf(wanted)));
  }

  /**
   * Accepts what the configuration asks for and the devices' own addresses, and no more. Does nothing if that is what it does.
   *
   * @param asked whether to ask the kernel for those, which may take long: its messages may be some behind
   * @throws ERR_KERNEL
   */
  set(wanted: PortConfiguration, asked: boolean): void {
    if (this.#held === undefined) return;
    const own = this.#macs(asked);
    const names = own.join();
    if (wanted === this.#configuration && names === this.#own) return;
    this.#configuration = undefined; // if this fails, the next call does it again
    const addresses = new MacMap(this.#shim, this.#held.addresses);
    const next = listed(wanted, own);
    // An address that stays is in the map at each moment.
    const before = addresses.list();
    for (const mac of next) if (!before.has(mac)) addresses.add(mac);
    this.#bpf.setValue(this.#held.acceptance, acceptanceOf(wanted));
    for (const mac of before) if (!next.has(mac)) addresses.remove(mac);
    this.#configuration = wanted;
    this.#own = names;
  }

  /** After all devices are closed. */
  close(): void {
    for (const fd of this.#held === undefined ? [] : descriptorsOfFilter(this.#held)) this.#shim.close(fd);
    this.#held = undefined;
  }
}

/** All of them. */
export function descriptorsOfFilter({ addresses, acceptance, filtered }: HeldMacFilter): number[] {
  return [addresses, acceptance, filtered.synthetic, filtered.vf];
}

function listed({ mac, unicast, multicast }: PortConfiguration, own: readonly string[]): Set<string> {
  return new Set([BROADCAST, ...own, ...(mac === null ? [] : [mac]), ...unicast, ...multicast]);
}

function acceptanceOf({ macFilter, promiscuous, allMulticast }: PortConfiguration): Acceptance {
  if (!macFilter || promiscuous) return Accept.ALL;
  return allMulticast ? Accept.LISTED_AND_MULTICAST : Accept.LISTED;
}

function wider(one: Acceptance, other: Acceptance): Acceptance {
  if (one === Accept.ALL || other === Accept.ALL) return Accept.ALL;
  return one === Accept.LISTED ? other : one;
}
