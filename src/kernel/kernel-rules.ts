/**
 * A set of rules in the kernel: its maps, filled, for the programs of one path. Coordinator only.
 *
 * A set is never changed: another one takes its place together with the program that uses it. The maps live until the last
 * program that uses them ends, so `close` right after the exchange is safe.
 */
import { type Step, stepsOf, type Table } from '../rules/plan.ts';
import type { RuleSet } from '../rules/rule.ts';
import { ActionCode, type Classifier, type ClassifierMaps, counterOf, type TableMaps } from './classifier.ts';
import { SCRATCH_BYTES } from './packet-access.ts';
import { type Count, RuleMaps } from './rule-maps.ts';
import type { Shim } from './shim.ts';

/** Packets and bytes since the set was given to the path. */
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
  readonly set: RuleSet;
  readonly maps: ClassifierMaps;
}

const NO_TABLES: TableMaps = { 4: 0, 6: 0 };

export class KernelRules implements Classifier {
  readonly set: RuleSet;
  readonly steps: readonly Step[];
  readonly maps: ClassifierMaps;
  readonly #shim: Shim;
  readonly #ruleMaps: RuleMaps;

  private constructor(shim: Shim, set: RuleSet, maps: ClassifierMaps) {
    this.set = set;
    this.steps = stepsOf('rules', set);
    this.maps = maps;
    this.#shim = shim;
    this.#ruleMaps = new RuleMaps(shim);
  }

  /** Makes and fills the maps. @throws ERR_PERMISSION, ERR_KERNEL, after closing all of them */
  static open(shim: Shim, set: RuleSet): KernelRules {
    const ruleMaps = new RuleMaps(shim);
    const fds: number[] = [];
    const keep = (fd: number): number => {
      fds.push(fd);
      return fd;
    };
    try {
      const scratch = keep(ruleMaps.cpuMap(1, SCRATCH_BYTES, 'a scratch value per CPU'));
      const counters = keep(ruleMaps.counterMap(counterOf(set.rules.length).all));
      const tables = stepsOf('rules', set).map(({ table, others }) => ({
        table: fill(ruleMaps, table, keep),
        others: fill(ruleMaps, others, keep),
      }));
      return new KernelRules(shim, set, { scratch, counters, tables });
    } catch (error) {
      for (const fd of fds) shim.close(fd);
      throw error;
    }
  }

  /** Continues what another coordinator has made. */
  static adopt(shim: Shim, { set, maps }: HeldRules): KernelRules {
    return new KernelRules(shim, set, maps);
  }

  get held(): HeldRules {
    return { set: this.set, maps: this.maps };
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
    const { scratch, counters, tables } = this.maps;
    const tries = tables.flatMap(({ table, others }) => [table[4], table[6], others[4], others[6]]);
    for (const fd of [scratch, counters, ...tries]) if (fd > 0) this.#shim.close(fd);
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
