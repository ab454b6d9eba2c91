/**
 * Loads the XDP program of a device with the metadata that the handler asks for, as far as kernel and driver have them. Coordinator
 * only.
 *
 * A program that calls the driver's functions is bound to the device: the kernel attaches it there only, and not to the
 * generic hook (dev_xdp_attach in net/core/dev.c). The rule's number needs no function.
 */
import type { TwinpathError } from '../../errors.ts';
import type { Bpf } from '../../kernel/bpf.ts';
import { kernelFunctionIds } from '../../kernel/btf.ts';
import type { KernelRules } from '../../kernel/kernel-rules.ts';
import type { MacFilter } from '../../kernel/mac-filter.ts';
import { kernelIsAtLeast } from '../../kernel/machine.ts';
import { XDP_FUNCTIONS, type XdpFunctions } from '../../kernel/metadata-programs.ts';
import type { RxMetadata, XdpAbilities } from '../../kernel/netdev-netlink.ts';
import { xdpRedirect } from '../../kernel/programs.ts';
import type { Link } from '../../kernel/rtnetlink.ts';
import { MetadataBit } from '../../memory/metadata.ts';
import type { MetadataReasons } from '../device.ts';

const NONE: XdpFunctions = { time: 0, hash: 0 };
/** By the kernel's names. */
const ABILITY: Readonly<Record<'time' | 'hash', RxMetadata>> = { time: 'timestamp', hash: 'hash' };

const NO_CHECKSUM = 'XDP has no function for the status of a checksum';

/** Descriptors. Not positive if not open. */
export interface ProgramDescriptors {
  map: number;
  /** Value maps of the program: see `xdpRedirect`. */
  gate: number;
  unclaimed: number;
  program: number;
  /** The bpf_link. */
  attached: number;
}
type ProgramMaps = Readonly<Pick<ProgramDescriptors, 'map' | 'gate' | 'unclaimed'>>;

export interface LoaderOptions {
  /** Whether the packets of kernel/platform.ts stay with the kernel. */
  readonly protect?: boolean;
  /** Which addresses' packets go on to the rules; absent: all. */
  readonly macFilter?: MacFilter | undefined;
  /** Whether the program takes packets longer than one buffer. */
  readonly frags?: boolean;
  /** The metadata that the handler asks for: `MetadataBit`s. Asked when the program is loaded. Default none. */
  readonly metadata?: () => number;
  /** What the device's driver has. Default: not known. */
  readonly abilities?: (ifindex: number) => XdpAbilities | undefined;
}

/** As plain data, for another coordinator. */
export interface HeldLoader {
  /** Undefined: packets have no metadata. */
  readonly functions: XdpFunctions | undefined;
  readonly lacks: MetadataReasons;
}

export class ProgramLoader {
  readonly #bpf: Pick<Bpf, 'load'>;
  readonly #options: LoaderOptions;
  readonly #functionIds: typeof kernelFunctionIds;
  readonly #reports: boolean;
  #functions: XdpFunctions | undefined;
  #lacks: MetadataReasons = {};

  /**
   * @param functionIds for tests: not the running kernel's
   * @param reports for tests: whether drivers report what they have
   */
  constructor(
    bpf: Pick<Bpf, 'load'>,
    options: LoaderOptions,
    functionIds = kernelFunctionIds,
    reports = kernelIsAtLeast(6, 8),
  ) {
    this.#bpf = bpf;
    this.#options = options;
    this.#functionIds = functionIds;
    this.#reports = reports;
  }

  get held(): HeldLoader {
    return { functions: this.#functions, lacks: this.#lacks };
  }

  adopt({ functions, lacks }: HeldLoader): void {
    this.#functions = functions;
    this.#lacks = lacks;
  }

  /** Whether the program is bound to its device. */
  get isBound(): boolean {
    const { time, hash } = this.#functions ?? NONE;
    return time > 0 || hash > 0;
  }

  /** Decides about the metadata, and loads the program for the first time. @throws ERR_PERMISSION, ERR_KERNEL */
  first(maps: ProgramMaps, rules: KernelRules | undefined, link: Link): number {
    const wanted = this.#options.metadata?.() ?? 0;
    const lacks: Record<string, string> = {};
    if ((wanted & MetadataBit.CHECKSUM) !== 0) lacks.checksum = NO_CHECKSUM;
    const functions = this.#choose(wanted, link, lacks);
    this.#lacks = lacks;
    const gives = functions.time > 0 || functions.hash > 0 || (wanted & MetadataBit.RULE) !== 0;
    this.#functions = gives ? functions : undefined;
    if (!this.isBound) return this.load(maps, rules, link);
    try {
      return this.load(maps, rules, link);
    } catch (error) {
      this.#unbind((error as TwinpathError).message);
      return this.load(maps, rules, link);
    }
  }

  load({ map, gate, unclaimed }: ProgramMaps, rules: KernelRules | undefined, { ifindex }: Link): number {
    const { protect, macFilter, frags = false } = this.#options;
    const code = xdpRedirect(map, gate, unclaimed, { protect, macFilter, rules, metadata: this.#functions });
    return this.#bpf.load(frags ? 'xdp.frags' : 'xdp', 'twinpath', code, this.isBound ? ifindex : 0);
  }

  /** The same program for the generic hook, which takes no bound one. */
  loadForGeneric(maps: ProgramMaps, rules: KernelRules | undefined, link: Link): number {
    this.#unbind(`${link.name} runs the generic hook, where no driver is asked`);
    return this.load(maps, rules, link);
  }

  #unbind(why: string): void {
    const { time, hash } = this.#functions ?? NONE;
    this.#lacks = { ...this.#lacks, ...(time > 0 && { time: why }), ...(hash > 0 && { hash: why }) };
    const wanted = this.#options.metadata?.() ?? 0;
    this.#functions = (wanted & MetadataBit.RULE) === 0 ? undefined : NONE;
  }

  #choose(wanted: number, { ifindex, name }: Link, lacks: Record<string, string>): XdpFunctions {
    const asked = (['time', 'hash'] as const).filter((one) => {
      return (wanted & (one === 'time' ? MetadataBit.TIME : MetadataBit.HASH)) !== 0;
    });
    if (asked.length === 0) return NONE;
    const abilities = this.#options.abilities?.(ifindex);
    const { ids, why = 'this kernel has no function for it (Linux 6.3 does)' } = this.#functionIds(
      asked.map((one) => XDP_FUNCTIONS[one]),
    );
    const functions = { ...NONE };
    for (const one of asked) {
      const id = ids.get(XDP_FUNCTIONS[one]) ?? 0;
      if (id === 0) lacks[one] = why;
      // Before Linux 6.8 drivers do not report it: then the function is called, and says for each packet that it has none.
      else if (
        abilities !== undefined &&
        (abilities.rxMetadata.length > 0 || this.#reports) &&
        !abilities.rxMetadata.includes(ABILITY[one])
      )
        lacks[one] = `the driver of ${name} has none`;
      else functions[one] = id;
    }
    return functions;
  }
}
