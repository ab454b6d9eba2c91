/**
 * A set of rules in the kernel: its maps, filled, for the programs of both paths of a port. Coordinator only.
 *
 * The paths share the counters, which therefore outlast a VF that goes, and the scratch: on one CPU the XDP program has ended
 * before the tc program sees the packet. A set is never changed: another one takes its place together with the programs that
 * use it. The maps live until the last such program ends, so `close` right after the exchange is safe.
 */

import { checkRules } from '../rules/check.ts';
import { type Step, stepsOf, type Table } from '../rules/plan.ts';
import type { GivenRules, RuleSet } from '../rules/rule.ts';
import { ActionCode, type Classifier, type ClassifierMaps, counterOf, type TableMaps } from './classifier.ts';
import { SCRATCH_BYTES } from './packet-access.ts';
import { type Count, RuleMaps } from './rule-maps.ts';
import type { Shim } from './shim.ts';

/** Packets and bytes since the set was given to the port, of both paths. A packet counts for each program that tries it. */
export interface RuleCounts {
  /** By position in the user's list. */
  readonly rules: readonly Count[];
  /** What matched no rule but rules that count. */
  readonly otherwise: Count;
  /** What was dropped because it had more VLAN tags than rules look through. */
  readonly overtagged: Count;
}

/** As plain data, for another coordinator. */
export interface HeldRules {
  /** The descriptor of a map with the rules as they were given. */
  readonly text: number;
  readonly maps: ClassifierMaps;
}

/** All of them. */
export function descriptorsOf({ text, maps: { scratch, counters, tables } }: HeldRules): number[] {
  const tries = tables.flatMap(({ table, others }) => [table[4], table[6], others[4], others[6]]);
  return [text, scratch, counters, ...tries].filter((fd) => fd > 0);
}

const NO_TABLES: TableMaps = { 4: 0, 6: 0 };

export class KernelRules implements Classifier {
  readonly maps: ClassifierMaps;
  readonly #text: number;
  readonly #shim: Shim;
  readonly #ruleMaps: RuleMaps;
  /** Read from the map when they are needed: a thread that only closes everything must not fail here. */
  #given: GivenRules | undefined;
  #set: RuleSet | undefined;
  #steps: readonly Step[] | undefined;

  private constructor(shim: Shim, { text, maps }: HeldRules) {
    this.maps = maps;
    this.#text = text;
    this.#shim = shim;
    this.#ruleMaps = new RuleMaps(shim);
  }

  /** Makes and fills the maps. @throws ERR_PERMISSION, ERR_KERNEL, after closing all of them; as `checkRules` */
  static open(shim: Shim, given: GivenRules): KernelRules {
    const set = checkRules('rules', given.rules, given.otherwise);
    const ruleMaps = new RuleMaps(shim);
    const fds: number[] = [];
    const keep = (fd: number): number => {
      fds.push(fd);
      return fd;
    };
    try {
      const text = keep(ruleMaps.textMap(JSON.stringify(given)));
      const scratch = keep(ruleMaps.cpuMap(1, SCRATCH_BYTES, 'a scratch value per CPU'));
      const counters = keep(ruleMaps.counterMap(counterOf(set.rules.length).all));
      const steps = stepsOf('rules', set);
      const tables = steps.map(({ table, others }) => ({
        table: fill(ruleMaps, table, keep),
        others: fill(ruleMaps, others, keep),
      }));
      const made = new KernelRules(shim, { text, maps: { scratch, counters, tables } });
      made.#given = given;
      made.#set = set;
      made.#steps = steps;
      return made;
    } catch (error) {
      for (const fd of fds) shim.close(fd);
      throw error;
    }
  }

  /** Continues what another coordinator has made. */
  static adopt(shim: Shim, held: HeldRules): KernelRules {
    return new KernelRules(shim, held);
  }

  /** @throws ERR_KERNEL, if another coordinator has made it and the kernel does not give it out */
  get given(): GivenRules {
    this.#given ??= JSON.parse(this.#ruleMaps.text(this.#text)) as GivenRules;
    return this.#given;
  }

  get set(): RuleSet {
    this.#set ??= checkRules('rules', this.given.rules, this.given.otherwise);
    return this.#set;
  }

  get steps(): readonly Step[] {
    this.#steps ??= stepsOf('rules', this.set);
    return this.#steps;
  }

  get held(): HeldRules {
    return { text: this.#text, maps: this.maps };
  }

  /** One system call for each counter. @throws ERR_KERNEL */
  counts(): RuleCounts {
    const { overtagged, otherwise } = counterOf(this.set.rules.length);
    const read = (index: number): Count => this.#ruleMaps.count(this.maps.counters, index);
    return {
      rules: this.set.rules.map((_, index) => read(index)),
      otherwise: read(otherwise),
      overtagged: read(overtagged),
    };
  }

  close(): void {
    for (const fd of descriptorsOf(this.held)) this.#shim.close(fd);
  }
}

function fill(maps: RuleMaps, table: Table | undefined, keep: (fd: number) => number): TableMaps {
  if (table === undefined) return NO_TABLES;
  const [four, six] = [4, 16].map((bytes) => {
    const entries = table.entries.filter(({ address }) => address.length === bytes);
    if (entries.length === 0) return 0;
    const fd = keep(maps.prefixMap(bytes, entries.length));
    for (const { address, bits, rule } of entries) {
      maps.setPrefix(fd, address, bits, [rule.index, ActionCode[rule.action]]);
    }
    return fd;
  }) as [number, number];
  return { 4: four, 6: six };
}
