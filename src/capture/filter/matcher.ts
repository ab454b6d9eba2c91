/**
 * A filter's program as a function of JavaScript, which V8 compiles: five to ten times as fast as the machine, which is what it
 * falls back on where Node may not make code from text (--disallow-code-generation-from-strings). The text has only numbers
 * of the program in it.
 *
 * A block of the program, from a target of a jump to the next, is a piece of the function. Jumps lead forward, so each is a
 * `break` out of the labelled blocks that end before its target.
 */
import { FilterMachine, INSTRUCTION, Op } from './machine.ts';

/** Whether a filter takes the packet of `length` bytes at `at`. */
export type Matcher = (at: number, length: number) => boolean;

/** Blocks of the longest function: V8's parser calls itself for each label. */
const MAX_BLOCKS = 256;

const OPERATORS: Readonly<Record<number, string>> = {
  [Op.ADD]: 'a + V',
  [Op.SUBTRACT]: 'a - V',
  [Op.MULTIPLY]: 'Math.imul(a, V)',
  [Op.DIVIDE]: '(a >>> 0) / (V >>> 0)',
  [Op.AND]: 'a & V',
  [Op.OR]: 'a | V',
  [Op.LEFT]: 'V >>> 0 < 32 ? a << V : 0',
  [Op.RIGHT]: 'V >>> 0 < 32 ? a >>> V : 0',
};
const TESTS: Readonly<Record<number, string>> = {
  [Op.EQUAL]: 'a === V',
  [Op.GREATER]: 'a >>> 0 > V >>> 0',
  [Op.AT_LEAST]: 'a >>> 0 >= V >>> 0',
  [Op.BITS]: '(a & V) !== 0',
};
const SIZES: Readonly<Record<number, number>> = {
  [Op.LOAD4]: 4,
  [Op.LOAD2]: 2,
  [Op.LOAD1]: 1,
  [Op.LOAD4_X]: 4,
  [Op.LOAD2_X]: 2,
  [Op.LOAD1_X]: 1,
};

/** @param bytes that the packets are in */
export function matcherOf(program: Int32Array, bytes: Uint8Array): Matcher {
  const source = sourceOf(program);
  if (source !== undefined) {
    try {
      return new Function('bytes', source)(bytes) as Matcher;
    } catch (error) {
      if (!(error instanceof EvalError)) throw error;
    }
  }
  const machine = new FilterMachine(bytes);
  return (at, length) => machine.matches(program, at, length);
}

/** The body of a function of `bytes` that returns the matcher; undefined if the program has too many blocks. */
function sourceOf(program: Int32Array): string | undefined {
  const starts = startsOf(program);
  if (starts.length > MAX_BLOCKS) return undefined;
  const number = new Map(starts.map((start, block) => [start, block]));
  /** Bytes that a packet is known to have where a block begins. */
  const known = starts.map((_, block) => (block === 0 ? 0 : Number.POSITIVE_INFINITY));
  const pieces = starts.map((start, block) => {
    const piece = new Piece(known[block]!);
    const end = starts[block + 1] ?? program.length;
    for (let pc = start; pc < end; pc += INSTRUCTION) {
      const [operation = 0, k = 0] = program.subarray(pc, pc + 2);
      if (operation === Op.RETURN) piece.add(`return ${k !== 0};`);
      else if (operation < Op.EQUAL) piece.instruction(operation, k);
      else {
        const targets = [program[pc + 2]!, program[pc + 3]!].map((at) => number.get(at)!);
        for (const target of targets) known[target] = Math.min(known[target]!, piece.known);
        piece.test(operation, k, targets[0]!, targets[1]!);
      }
    }
    return piece.text;
  });
  const labels = starts.map((_, block) => `b${block}: {`).slice(1);
  const body = pieces.map((piece, block) => (block === 0 ? piece : `}\n${piece}`)).join('\n');
  const scratch = Array.from({ length: 16 }, (_, i) => `m${i} = 0`).join(', ');
  return `return (at, length) => {
    let a = 0, x = 0, f = 0, ${scratch};
    ${labels.reverse().join(' ')}
    ${body}
  };`;
}

/** Words at which blocks begin: the start, and the targets of jumps. */
function startsOf(program: Int32Array): number[] {
  const starts = new Set([0]);
  for (let pc = 0; pc < program.length; pc += INSTRUCTION) {
    if (program[pc]! < Op.EQUAL) continue;
    starts.add(program[pc + 2]!);
    starts.add(program[pc + 3]!);
  }
  return [...starts].sort((a, b) => a - b);
}

/** The text of one block. */
class Piece {
  text = '';
  known: number;

  constructor(known: number) {
    this.known = known;
  }

  add(line: string): void {
    this.text += `${line}\n`;
  }

  instruction(operation: number, k: number): void {
    const size = SIZES[operation];
    if (size !== undefined) {
      if (operation <= Op.LOAD1) this.#load(size, k);
      else this.#loadAtX(size, k);
      return;
    }
    switch (operation) {
      case Op.HEADER:
        this.#need(k + 1);
        this.add(`x = (bytes[at + ${k}] & 15) << 2;`);
        return;
      case Op.IMMEDIATE:
        this.add(`a = ${k};`);
        return;
      case Op.LENGTH:
        this.add('a = length;');
        return;
      case Op.RECALL:
        this.add(`a = m${k};`);
        return;
      case Op.STORE:
        this.add(`m${k} = a;`);
        return;
      case Op.TO_X:
        this.add('x = a;');
        return;
      case Op.NEGATE:
        this.add('a = -a | 0;');
        return;
      default: {
        const withX = operation >= Op.ADD_X;
        const plain = withX ? operation - (Op.ADD_X - Op.ADD) : operation;
        const value = withX ? 'x' : `(${k})`;
        if (plain === Op.DIVIDE) this.add(`if (${value} === 0) return false;`);
        this.add(`a = (${OPERATORS[plain]!.replaceAll('V', value)}) | 0;`);
      }
    }
  }

  test(operation: number, k: number, onTrue: number, onFalse: number): void {
    const withX = operation >= Op.EQUAL_X;
    const plain = withX ? operation - (Op.EQUAL_X - Op.EQUAL) : operation;
    const condition = TESTS[plain]!.replaceAll('V', withX ? 'x' : `(${k})`);
    this.add(`if (${condition}) break b${onTrue}; else break b${onFalse};`);
  }

  #need(bytes: number): void {
    if (bytes <= this.known) return;
    this.known = bytes;
    this.add(`if (length < ${bytes}) return false;`);
  }

  #load(size: number, k: number): void {
    this.#need(k + size);
    this.add(`a = ${sumOf(size, (i) => `bytes[at + ${k + i}]`)};`);
  }

  #loadAtX(size: number, k: number): void {
    this.add(`f = (x >>> 0) + ${k};`);
    this.add(`if (f + ${size} > length) return false;`);
    this.add(`f += at; a = ${sumOf(size, (i) => `bytes[f + ${i}]`)};`);
  }
}

const sumOf = (size: number, byte: (i: number) => string): string =>
  Array.from({ length: size }, (_, i) => `(${byte(i)} << ${8 * (size - 1 - i)})`).join(' | ');
