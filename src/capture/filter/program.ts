/**
 * From a tree of tests to a program for the machine. Each test is a block of instructions that ends with a jump; `and`, `or` and
 * `not` are only the targets of those jumps. Pure; any thread.
 */
import { INSTRUCTION, MAX_INSTRUCTIONS, Op } from './machine.ts';

/** Operation and `k`. */
export type Instruction = readonly [operation: number, k: number];

/** What a filter asks of a packet. */
export type Condition =
  | { readonly kind: 'and' | 'or'; readonly left: Condition; readonly right: Condition }
  | { readonly kind: 'not'; readonly of: Condition }
  | { readonly kind: 'test'; readonly code: readonly Instruction[]; readonly test: Instruction };

export const and = (left: Condition, right: Condition): Condition => ({ kind: 'and', left, right });
export const or = (left: Condition, right: Condition): Condition => ({ kind: 'or', left, right });
export const not = (of: Condition): Condition => ({ kind: 'not', of });

interface Block {
  readonly code: readonly Instruction[];
  readonly test: Instruction;
  onTrue: Block;
  onFalse: Block;
  /** Word of the first instruction; -1 before it has a place. */
  at: number;
}

/** A program that ends with a value, whatever the packet is. */
function end(value: number): Block {
  const block = { code: [], test: [Op.RETURN, value], at: -1 } as unknown as Block;
  block.onTrue = block;
  block.onFalse = block;
  return block;
}

/** The program; undefined if it is longer than the machine takes. */
export function programOf(condition: Condition): Int32Array | undefined {
  const first = blocksOf(condition, end(1), end(0));
  const order: Block[] = [];
  visit(first, new Set(), order);
  let words = 0;
  for (const block of order.reverse()) {
    block.onTrue = threaded(block, block.onTrue, true);
    block.onFalse = threaded(block, block.onFalse, false);
  }
  const reached: Block[] = [];
  visit(first, new Set(), reached);
  for (const block of reached.reverse()) {
    block.at = words;
    words += (block.code.length + 1) * INSTRUCTION;
  }
  if (words > MAX_INSTRUCTIONS * INSTRUCTION) return undefined;
  const program = new Int32Array(words);
  for (const { code, test, onTrue, onFalse, at } of reached) {
    for (const [i, instruction] of code.entries()) program.set(instruction, at + i * INSTRUCTION);
    program.set([...test, onTrue.at, onFalse.at], at + code.length * INSTRUCTION);
  }
  return program;
}

/** The first block of a condition. */
function blocksOf(condition: Condition, onTrue: Block, onFalse: Block): Block {
  switch (condition.kind) {
    case 'and':
      return blocksOf(condition.left, blocksOf(condition.right, onTrue, onFalse), onFalse);
    case 'or':
      return blocksOf(condition.left, onTrue, blocksOf(condition.right, onTrue, onFalse));
    case 'not':
      return blocksOf(condition.of, onFalse, onTrue);
    case 'test':
      return { code: condition.code, test: condition.test, onTrue, onFalse, at: -1 };
  }
}

/** Blocks in the order in which each comes after all that it leads to. */
function visit(block: Block, seen: Set<Block>, order: Block[]): void {
  if (seen.has(block)) return;
  seen.add(block);
  if (block.test[0] !== Op.RETURN) {
    visit(block.onFalse, seen, order);
    visit(block.onTrue, seen, order);
  }
  order.push(block);
}

/**
 * Where to go on behind a test: tests of the same value whose answer is known are left out. They would load what the test before
 * has loaded, so they cannot end the program either.
 */
function threaded(from: Block, to: Block, outcome: boolean): Block {
  let next = to;
  while (isEquality(from) && isEquality(next) && sameLoad(from, next)) {
    if (from.test[1] === next.test[1]) next = outcome ? next.onTrue : next.onFalse;
    else if (outcome) next = next.onFalse;
    else break;
  }
  return next;
}

const isEquality = ({ test, code }: Block): boolean => test[0] === Op.EQUAL && code.length > 0;

function sameLoad(a: Block, b: Block): boolean {
  return (
    a.code.length === b.code.length &&
    a.code.every(([op, k], i) => op === b.code[i]![0] && k === b.code[i]![1])
  );
}
