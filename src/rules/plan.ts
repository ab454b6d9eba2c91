/**
 * How the kernel's programs try a set of rules: as a list of steps, of which each is a few instructions. Pure; any thread.
 *
 * Consecutive rules that differ only in their prefixes and actions become one step with a table, which the kernel searches
 * for the longest prefix of the address. So 10,000 rules such as `src 192.0.2.0/24 drop` cost one look-up a packet.
 *
 * The first rule in order decides and not the longest prefix: the entry of each prefix names the first rule among those
 * whose prefix contains it. The longest prefix that contains an address is contained in all others that do, so its entry
 * names the first rule for that address. A rule that only counts lets the next one count too, so it is a step of its own.
 */
import { invalid } from '../validation.ts';
import type { Prefix, Rule, RuleSet } from './rule.ts';

/**
 * Steps of a program. The verifier tries a program's branches (kernel/bpf/verifier.c: a million instructions in all), and a
 * packet passes every step before its own. A test loads the largest set.
 */
export const MAX_STEPS = 64;

/**
 * Tables of prefixes, counted for each version of IP. A program may use 64 maps (MAX_USED_MAPS in include/linux/bpf.h), of
 * which ours need some for other things.
 */
export const MAX_TRIES = 56;

export type Side = 'src' | 'dst';

export interface TableEntry extends Prefix {
  /** The first rule for addresses whose longest prefix this is. */
  readonly rule: Rule;
}

export interface Table {
  readonly side: Side;
  /** No prefix twice. */
  readonly entries: readonly TableEntry[];
}

export interface Step {
  /** Its first rule, whose fields, apart from the side of the table, all its rules share. */
  readonly rule: Rule;
  /** Absent if no side has more than one prefix. */
  readonly table: Table | undefined;
  /** The other side's prefixes, if they are several. */
  readonly others: Table | undefined;
}

/** @param option names the list of rules in the error. @throws ERR_OPTION_INVALID if there are too many steps, or tables */
export function stepsOf(option: string, { rules }: RuleSet): Step[] {
  const steps: Step[] = [];
  for (let at = 0; at < rules.length; ) {
    const [src, dst] = (['src', 'dst'] as const).map((side) => runLength(rules, at, side));
    const side = dst! > src! ? 'dst' : 'src';
    const run = rules.slice(at, at + Math.max(src!, dst!));
    steps.push(stepOf(run, run.length > 1 ? side : sideOfMost(run[0]!)));
    at += run.length;
    if (matchesAll(run[0]!)) break; // the rules after it are never tried, and the verifier refuses unreachable code
  }
  const hint =
    'Rules in a row that differ only in a prefix count as one: put them together, or list their prefixes in one rule.';
  if (steps.length > MAX_STEPS)
    invalid(option, `they need ${steps.length} steps in the kernel, and ${MAX_STEPS} is the most`, hint);
  const tries = steps.reduce((sum, { table, others }) => sum + versionsIn(table) + versionsIn(others), 0);
  if (tries > MAX_TRIES)
    invalid(
      option,
      `they need ${tries} tables of prefixes in the kernel, and ${MAX_TRIES} is the most`,
      hint,
    );
  return steps;
}

function versionsIn(table: Table | undefined): number {
  return new Set(table?.entries.map(({ address }) => address.length)).size;
}

/** Whether a rule decides about every packet. */
export function matchesAll({ index: _, action, ...fields }: Rule): boolean {
  return action !== 'count' && Object.values(fields).every((field) => field === undefined);
}

/** Rules from `at` on that make one step with a table of that side; 1 if it is no more. */
function runLength(rules: readonly Rule[], at: number, side: Side): number {
  const first = rules[at]!;
  if (!joins(first, side)) return 1;
  let end = at + 1;
  while (end < rules.length && joins(rules[end]!, side) && differOnlyIn(side, first, rules[end]!)) end++;
  return end - at;
}

const joins = (rule: Rule, side: Side): boolean => rule[side] !== undefined && rule.action !== 'count';

/** Whether two rules have the same fields, but for the side's prefixes, the action and the place. */
function differOnlyIn(side: Side, one: Rule, other: Rule): boolean {
  return COMPARED.every((field) => field === side || isSame(one[field], other[field]));
}

const COMPARED = [
  ...(['etherType', 'vlan', 'version', 'protocol', 'src', 'dst', 'srcPort', 'dstPort', 'port'] as const),
  ...(['tcpFlags', 'fragment'] as const),
];

function isSame(one: Rule[keyof Rule], other: Rule[keyof Rule]): boolean {
  if (one === other) return true;
  return (
    typeof one === 'object' && typeof other === 'object' && JSON.stringify(one) === JSON.stringify(other)
  );
}

const sideOfMost = ({ src, dst }: Rule): Side => ((dst?.length ?? 0) > (src?.length ?? 0) ? 'dst' : 'src');

function stepOf(run: readonly Rule[], side: Side): Step {
  const [rule] = run as [Rule];
  const other = side === 'src' ? 'dst' : 'src';
  return { rule, table: tableOf(run, side), others: tableOf([rule], other) };
}

function tableOf(run: readonly Rule[], side: Side): Table | undefined {
  const given = run.flatMap((rule, order) =>
    (rule[side] ?? []).map((prefix) => ({ ...prefix, rule, order })),
  );
  if (given.length < 2) return undefined;
  const lengths = [...new Set(given.map(({ bits }) => bits))].sort((a, b) => b - a);
  const found = new Map<string, (typeof given)[number]>();
  for (const entry of given.toSorted((a, b) => a.bits - b.bits || a.order - b.order)) {
    const key = prefixKey(entry.address, entry.bits);
    if (found.has(key)) continue; // the same prefix in an earlier rule
    const length = lengths.find((bits) => bits < entry.bits && found.has(prefixKey(entry.address, bits)));
    const above = length === undefined ? undefined : found.get(prefixKey(entry.address, length))!;
    found.set(
      key,
      above !== undefined && above.order < entry.order ? { ...entry, ...decision(above) } : entry,
    );
  }
  const entries = [...found.values()].map(({ address, bits, rule }) => ({ address, bits, rule }));
  return { side, entries };
}

const decision = <T extends { rule: Rule; order: number }>({ rule, order }: T) => ({ rule, order });

/** The first `bits` of an address, with its version. */
function prefixKey(address: Uint8Array, bits: number): string {
  const bytes = address.subarray(0, Math.ceil(bits / 8));
  const last = bits % 8 === 0 ? [] : [bytes.at(-1)! & (0xff00 >> (bits % 8)) & 0xff];
  return `${address.length} ${bits} ${[...bytes.subarray(0, Math.floor(bits / 8)), ...last].join('.')}`;
}
