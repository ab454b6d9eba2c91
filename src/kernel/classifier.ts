/**
 * Flow rules as BPF instructions: the same for an XDP program and for one at a tc hook. rules/matcher.ts has their meaning.
 *
 * The program reads a packet once, and writes what rules ask for to a scratch map (packet-reader.ts). Then it tries the steps
 * of the plan (rules/plan.ts) one after the other, and counts the packet for the rule that decides. The scratch is a map and
 * not the stack because the verifier knows nothing of a map's values: at the start of each step it sees one state, not one
 * for each way through the steps before. So the time it takes grows with the steps, and not exponentially.
 *
 * Each CPU has its own scratch and counters. At an ingress hook one packet of a CPU is finished before the next: programs run
 * in a softirq, or with softirqs disabled (tun_get_user in drivers/net/tun.c).
 */

import { matchesAll, type Side, type Step } from '../rules/plan.ts';
import type { Rule, RuleSet } from '../rules/rule.ts';
import type { Assembler } from './assembler.ts';
import { Field, NONE, type PacketKind } from './packet-access.ts';
import { readPacket } from './packet-reader.ts';

/** Descriptors of the maps that a classifier uses. */
export interface ClassifierMaps {
  /** A value of `SCRATCH_BYTES`. */
  readonly scratch: number;
  /** Of `counterOf`. */
  readonly counters: number;
  /** For each step, the tables of its two sides: see {@link TableMaps}. */
  readonly tables: readonly { readonly table: TableMaps; readonly others: TableMaps }[];
}

/** LPM tries by version of IP; 0 none. Their values are a counter's index and an action. */
export interface TableMaps {
  readonly 4: number;
  readonly 6: number;
}

export interface Classifier {
  readonly set: RuleSet;
  readonly steps: readonly Step[];
  readonly maps: ClassifierMaps;
}

/** Numbers of the actions in tables and registers. */
export const ActionCode = { handler: 0, kernel: 1, drop: 2, count: 3 } as const;

/** Indexes of counters: each rule's position in the user's list, and these two after them. */
export const counterOf = (rules: number) => ({ overtagged: rules, otherwise: rules + 1, all: rules + 2 });

const MAP_LOOKUP = 1;
/** Of a map's key, on the stack. */
const KEY = -4;

/**
 * Appends instructions that jump to one of the labels 'to handler', 'to kernel' and 'to drop'. In: the context in register 1.
 * Out: the context in register 6; all others are overwritten.
 */
export function classify(program: Assembler, { set, steps, maps }: Classifier, kind: PacketKind): Assembler {
  const counters = counterOf(set.rules.length);
  const needs = {
    ports: set.rules.some(({ srcPort, dstPort, port }) => (srcPort ?? dstPort ?? port) !== undefined),
    flags: set.rules.some(({ tcpFlags }) => tcpFlags !== undefined),
  };
  program.mov(6, 1).movImm(8, 0);
  lookUpEntry(program, maps.scratch).jeqImm(0, 0, 'to drop').mov(9, 0); // never null, but the verifier cannot know that
  readPacket(program, kind, needs);
  steps.forEach((step, k) => {
    program.label(`step ${k}`);
    new StepWriter(program, maps, k).write(step);
  });
  const last = steps.at(-1);
  if (last === undefined || !matchesAll(last.rule)) {
    program
      .label(`step ${steps.length}`)
      .movImm(8, counters.otherwise)
      .movImm(7, ActionCode[set.otherwise])
      .jump('decided');
  }
  program.label('overtagged').movImm(8, counters.overtagged).movImm(7, ActionCode.drop).label('decided');
  return countPacket(program, maps.counters, 'counted')
    .jeqImm(7, ActionCode.kernel, 'to kernel')
    .jeqImm(7, ActionCode.drop, 'to drop')
    .jump('to handler');
}

/** Writes the instructions of one step: each condition that fails jumps to the next step. */
class StepWriter {
  readonly #program: Assembler;
  readonly #maps: ClassifierMaps;
  readonly #k: number;
  readonly #next: string;

  constructor(program: Assembler, maps: ClassifierMaps, k: number) {
    this.#program = program;
    this.#maps = maps;
    this.#k = k;
    this.#next = `step ${k + 1}`;
  }

  write({ rule, table, others }: Step): void {
    const program = this.#program;
    const maps = this.#maps.tables[this.#k]!;
    this.#conditions(rule);
    for (const side of ['src', 'dst'] as const) {
      if (side === table?.side || side === others?.side) continue;
      if (rule[side] !== undefined) this.#prefix(rule, side);
    }
    if (others !== undefined) this.#lookUp(others.side, maps.others, 'others');
    if (table === undefined) program.movImm(8, rule.index).movImm(7, ActionCode[rule.action]);
    else {
      this.#lookUp(table.side, maps.table, 'table');
      program.loadW(8, 0, 0).loadW(7, 0, 4);
    }
    if (rule.action !== 'count') program.jump('decided');
    else countPacket(program, this.#maps.counters, this.#label('counted'));
  }

  #conditions(rule: Rule): void {
    const { etherType, vlan, version, protocol, tcpFlags, fragment } = rule;
    if (etherType !== undefined) this.#equals(Field.TYPE, etherType);
    if (vlan !== undefined) this.#equals(Field.VLAN, vlan === 'none' ? NONE : vlan);
    if (version !== undefined) this.#equals(Field.VERSION, version);
    if (protocol !== undefined) this.#equals(Field.PROTOCOL, protocol);
    if (rule.srcPort !== undefined) this.#inRange(Field.FROM, rule.srcPort, this.#next);
    if (rule.dstPort !== undefined) this.#inRange(Field.TO, rule.dstPort, this.#next);
    if (rule.port !== undefined) {
      const [other, found] = [this.#label('other port'), this.#label('port')];
      this.#inRange(Field.FROM, rule.port, other);
      this.#program.jump(found).label(other);
      this.#inRange(Field.TO, rule.port, this.#next);
      this.#program.label(found);
    }
    if (tcpFlags !== undefined) {
      this.#program.loadW(2, 9, Field.FLAGS).jumpIf32Imm('jeq', 2, NONE, this.#next);
      this.#program.aluImm('and', 2, tcpFlags.mask).jneImm(2, tcpFlags.value, this.#next);
    }
    if (fragment === 'none') {
      this.#program.loadW(2, 9, Field.VERSION).jeqImm(2, 0, this.#next);
      this.#equals(Field.FRAGMENT, 0);
    }
    if (fragment === 'later') this.#equals(Field.FRAGMENT, 2);
    if (fragment === 'any') this.#program.loadW(2, 9, Field.FRAGMENT).jeqImm(2, 0, this.#next);
  }

  #equals(field: number, value: number): void {
    this.#program.loadW(2, 9, field).jumpIf32Imm('jne', 2, value, this.#next);
  }

  #inRange(
    field: number,
    { first, last }: { readonly first: number; readonly last: number },
    or: string,
  ): void {
    this.#program.loadW(2, 9, field);
    if (first === last) this.#program.jumpIf32Imm('jne', 2, first, or);
    else this.#program.jumpIf32Imm('jlt', 2, first, or).jumpIf32Imm('jgt', 2, last, or);
  }

  /** Compares an address with one prefix, in words of 32 bits as a little-endian machine loads them. */
  #prefix(rule: Rule, side: Side): void {
    const [{ address, bits }] = rule[side] as [{ readonly address: Uint8Array; readonly bits: number }];
    this.#equals(Field.VERSION, address.length === 4 ? 4 : 6);
    const words = new DataView(address.buffer, address.byteOffset, address.length);
    for (let at = 0; at < address.length && at * 8 < bits; at += 4) {
      const counts = Math.min(bits - at * 8, 32);
      this.#program.loadW(2, 9, addressField(side) + at);
      if (counts < 32) this.#program.aluImm('and', 2, maskWord(counts));
      this.#program.jumpIf32Imm('jne', 2, words.getUint32(at, true), this.#next);
    }
  }

  /** Looks an address up: its entry is in register 0 afterwards. */
  #lookUp(side: Side, maps: TableMaps, which: string): void {
    const program = this.#program;
    const [six, found] = [this.#label(`${which} 6`), this.#label(`${which} found`)];
    program
      .loadW(3, 9, Field.VERSION)
      .mov(2, 9)
      .aluImm('add', 2, addressField(side) - 4);
    if (maps[6] > 0) program.jeqImm(3, 6, six);
    program.jneImm(3, 4, this.#next);
    if (maps[4] > 0) program.loadMapFd(1, maps[4]).call(MAP_LOOKUP).jneImm(0, 0, found);
    program.jump(this.#next);
    if (maps[6] > 0) program.label(six).loadMapFd(1, maps[6]).call(MAP_LOOKUP).jeqImm(0, 0, this.#next);
    program.label(found);
  }

  #label(what: string): string {
    return `step ${this.#k} ${what}`;
  }
}

/** Its key in a trie begins four bytes before, with the number of its bits. */
const addressField = (side: Side): number => (side === 'src' ? Field.SRC : Field.DST);

/** The first `bits` of 32 in network order, as a little-endian machine loads them. */
function maskWord(bits: number): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setInt32(0, -1 << (32 - bits));
  return view.getInt32(0, true);
}

/** Counts the packet in the counter whose index is in register 8. Overwrites registers 0 to 5. */
function countPacket(program: Assembler, counters: number, done: string): Assembler {
  return lookUpEntry(program, counters)
    .jeqImm(0, 0, done)
    .loadDW(2, 0, 0)
    .aluImm('add', 2, 1)
    .storeDW(0, 2, 0)
    .loadDW(2, 0, 8)
    .loadW(3, 9, Field.BYTES)
    .alu('add', 2, 3)
    .storeDW(0, 2, 8)
    .label(done);
}

/** The entry of an array whose index is in register 8: its address in register 0. Overwrites registers 1 to 5. */
function lookUpEntry(program: Assembler, map: number): Assembler {
  return program.storeW(10, 8, KEY).mov(2, 10).aluImm('add', 2, KEY).loadMapFd(1, map).call(MAP_LOOKUP);
}
