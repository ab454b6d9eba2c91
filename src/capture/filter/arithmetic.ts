/**
 * Sums in filters: `tcp[13] & 2`, `ip[2:2] - 20`, `len`. To instructions that leave the value in A. Pure; any thread.
 */
import { combine, Op, SCRATCH, TEST_WITH_X, WITH_X } from './machine.ts';
import type { Primitives, ProtocolName } from './primitives.ts';
import { and, type Condition, type Instruction, not } from './program.ts';

/** Protocols whose bytes a filter can name. */
export const INDEXED = [
  ...(['ether', 'ip', 'ip6', 'arp', 'rarp'] as const),
  ...(['tcp', 'udp', 'sctp', 'icmp', 'igmp', 'icmp6'] as const),
] as const;
export type Indexed = (typeof INDEXED)[number];

export type Sum =
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'length' }
  | { readonly kind: 'negative'; readonly of: Sum }
  | {
      readonly kind: 'bytes';
      readonly of: Indexed;
      readonly index: Sum;
      readonly size: 1 | 2 | 4;
      /** Where that protocol's first byte is: behind the tags that the filter has named before. */
      readonly network: number;
      /** What makes a packet one of that protocol. */
      readonly check: Condition | undefined;
    }
  | { readonly kind: 'operation'; readonly operation: number; readonly left: Sum; readonly right: Sum };

export const number = (value: number): Sum => ({ kind: 'number', value: value | 0 });

const LOADS = { 1: [Op.LOAD1, Op.LOAD1_X], 2: [Op.LOAD2, Op.LOAD2_X], 4: [Op.LOAD4, Op.LOAD4_X] } as const;
const IPV6_BYTES = 40;

export function bytesOf(primitives: Primitives, of: Indexed, index: Sum, size: 1 | 2 | 4): Sum {
  const { network } = primitives;
  return { kind: 'bytes', of, index, size, network, check: checkOf(primitives, of, index) };
}

function checkOf(primitives: Primitives, of: Indexed, index: Sum): Condition | undefined {
  const inner = conditionsOf(index);
  const joined = (...conditions: (Condition | undefined)[]): Condition | undefined =>
    conditions
      .filter((condition) => condition !== undefined)
      .reduce<Condition | undefined>(
        (left, right) => (left === undefined ? right : and(left, right)),
        undefined,
      );
  switch (of) {
    case 'ether':
      return inner;
    case 'ip':
    case 'ip6':
    case 'arp':
    case 'rarp':
      return joined(inner, primitives.abbreviation(of));
    case 'icmp6':
      return joined(inner, primitives.abbreviation('ip6'), primitives.nextHeader6(58));
    default: {
      const first = primitives.firstFragment();
      return joined(primitives.abbreviation('ip'), inner, primitives.abbreviation(of as ProtocolName), first);
    }
  }
}

/** What must be true of a packet that has the bytes which the sum names. */
export function conditionsOf(sum: Sum): Condition | undefined {
  switch (sum.kind) {
    case 'bytes':
      return sum.check;
    case 'negative':
      return conditionsOf(sum.of);
    case 'operation':
      // As libpcap (gen_arth): what the right operand asks of the packet is forgotten.
      return conditionsOf(sum.left);
    default:
      return undefined;
  }
}

/** An operation on two sums, at once if both are numbers. */
export function operationOf(operation: number, left: Sum, right: Sum): Sum {
  return left.kind === 'number' && right.kind === 'number'
    ? number(combine(operation, left.value, right.value))
    : { kind: 'operation', operation, left, right };
}

export const negative = (of: Sum): Sum =>
  of.kind === 'number' ? number(-of.value) : { kind: 'negative', of };

/**
 * The comparison of two sums, and before it what must be true of the packet.
 *
 * @param test `Op.EQUAL`, `Op.GREATER` or `Op.AT_LEAST`
 * @returns undefined if the machine has too few words for it
 */
export function comparison(test: number, left: Sum, right: Sum, negated: boolean): Condition | undefined {
  const code = codeOf(left, 0);
  let k = 0;
  let operation = test;
  if (right.kind === 'number') k = right.value;
  else {
    code?.push([Op.STORE, 0]);
    const other = codeOf(right, 1);
    if (other === undefined) return undefined;
    code?.push(...other, [Op.TO_X, 0], [Op.RECALL, 0]);
    operation += TEST_WITH_X;
  }
  if (code === undefined) return undefined;
  const plain: Condition = { kind: 'test', code, test: [operation, k] };
  const compared = negated ? not(plain) : plain;
  const before = [conditionsOf(left), conditionsOf(right)].filter((condition) => condition !== undefined);
  return before.length === 0 ? compared : and(before.reduce(and), compared);
}

/** Instructions that leave the sum in A, and use the words from `free` on; undefined if there are too few. */
function codeOf(sum: Sum, free: number): Instruction[] | undefined {
  if (free >= SCRATCH) return undefined;
  switch (sum.kind) {
    case 'number':
      return [[Op.IMMEDIATE, sum.value]];
    case 'length':
      return [[Op.LENGTH, 0]];
    case 'negative': {
      const code = codeOf(sum.of, free);
      return code && [...code, [Op.NEGATE, 0]];
    }
    case 'bytes':
      return loadOf(sum, free);
    case 'operation': {
      const { operation, left, right } = sum;
      const first = codeOf(left, free);
      if (right.kind === 'number') return first && [...first, [operation, right.value]];
      const second = codeOf(right, free + 1);
      if (first === undefined || second === undefined) return undefined;
      return [
        ...first,
        [Op.STORE, free],
        ...second,
        [Op.TO_X, 0],
        [Op.RECALL, free],
        [operation + WITH_X, 0],
      ];
    }
  }
}

function loadOf(
  { of, index, size, network }: Sum & { kind: 'bytes' },
  free: number,
): Instruction[] | undefined {
  const [load, loadX] = LOADS[size];
  const fixed = of === 'ether' ? 0 : of === 'icmp6' ? network + IPV6_BYTES : network;
  const behindHeader = (['tcp', 'udp', 'sctp', 'icmp', 'igmp'] as Indexed[]).includes(of);
  if (index.kind === 'number') {
    return behindHeader
      ? [
          [Op.HEADER, network],
          [loadX, fixed + index.value],
        ]
      : [[load, fixed + index.value]];
  }
  const code = codeOf(index, free);
  if (code === undefined) return undefined;
  if (!behindHeader) return [...code, [Op.TO_X, 0], [loadX, fixed]];
  return [...code, [Op.HEADER, network], [Op.ADD_X, 0], [Op.TO_X, 0], [loadX, fixed]];
}
