/**
 * The machine that runs filters: a subset of the classic BPF of the kernel and of libpcap, with the same meaning, in wider
 * instructions. A load outside the packet ends the program, and the packet does not match (bpf_filter.c of libpcap). Jumps
 * lead forward only, so each instruction runs once at most.
 *
 * Any thread; allocates nothing.
 */
import { CAPTURE_PROGRAM_WORDS } from '../../memory/geometry.ts';

/**
 * Operations. A and X are registers of 32 bits. Loads are big-endian: of 4, 2 or 1 bytes at `k`, which is 0 or more, or at `k` + X. `HEADER` loads X
 * with four times the low half of a byte, the length of an IPv4 header. Operations between `ADD` and `NEGATE` combine A with `k`, those from
 * `ADD_X` on with X.
 */
export const Op = {
  RETURN: 0,
  LOAD4: 1,
  LOAD2: 2,
  LOAD1: 3,
  LOAD4_X: 4,
  LOAD2_X: 5,
  LOAD1_X: 6,
  HEADER: 7,
  IMMEDIATE: 8,
  LENGTH: 9,
  RECALL: 10,
  STORE: 11,
  TO_X: 12,
  NEGATE: 13,
  ADD: 16,
  SUBTRACT: 17,
  MULTIPLY: 18,
  DIVIDE: 19,
  AND: 20,
  OR: 21,
  LEFT: 22,
  RIGHT: 23,
  ADD_X: 24,
  SUBTRACT_X: 25,
  MULTIPLY_X: 26,
  DIVIDE_X: 27,
  AND_X: 28,
  OR_X: 29,
  LEFT_X: 30,
  RIGHT_X: 31,
  EQUAL: 32,
  GREATER: 33,
  AT_LEAST: 34,
  BITS: 35,
  EQUAL_X: 36,
  GREATER_X: 37,
  AT_LEAST_X: 38,
} as const;
/** From an operation with `k` to that with X. */
export const WITH_X = Op.ADD_X - Op.ADD;
export const TEST_WITH_X = Op.EQUAL_X - Op.EQUAL;

/** Words of an instruction: operation, `k`, and of a test the words to go on at if it is true, and if not. */
export const INSTRUCTION = 4;
/** Words that a program may keep. */
export const SCRATCH = 16;
/** The most instructions of a program. */
export const MAX_INSTRUCTIONS = CAPTURE_PROGRAM_WORDS / INSTRUCTION;

export class FilterMachine {
  readonly #bytes: Uint8Array;
  readonly #scratch = new Int32Array(SCRATCH);

  /** @param bytes that the packets are in */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /**
   * Whether a program takes the packet of `length` bytes at `at`.
   *
   * @param program made by `compileFilter`
   */
  matches(program: Int32Array, at: number, length: number): boolean {
    const bytes = this.#bytes;
    const scratch = this.#scratch;
    let a = 0;
    let x = 0;
    for (let pc = 0; ; pc += INSTRUCTION) {
      const k = program[pc + 1]!;
      switch (program[pc]!) {
        case Op.LOAD4:
        case Op.LOAD4_X: {
          const from = program[pc] === Op.LOAD4 ? k : (x >>> 0) + k;
          if (from + 4 > length) return false;
          const i = at + from;
          a = (bytes[i]! << 24) | (bytes[i + 1]! << 16) | (bytes[i + 2]! << 8) | bytes[i + 3]!;
          break;
        }
        case Op.LOAD2:
        case Op.LOAD2_X: {
          const from = program[pc] === Op.LOAD2 ? k : (x >>> 0) + k;
          if (from + 2 > length) return false;
          a = (bytes[at + from]! << 8) | bytes[at + from + 1]!;
          break;
        }
        case Op.LOAD1:
        case Op.LOAD1_X: {
          const from = program[pc] === Op.LOAD1 ? k : (x >>> 0) + k;
          if (from >= length) return false;
          a = bytes[at + from]!;
          break;
        }
        case Op.HEADER:
          if (k >= length) return false;
          x = (bytes[at + k]! & 0xf) << 2;
          break;
        case Op.IMMEDIATE:
          a = k;
          break;
        case Op.LENGTH:
          a = length;
          break;
        case Op.RECALL:
          a = scratch[k]!;
          break;
        case Op.STORE:
          scratch[k] = a;
          break;
        case Op.TO_X:
          x = a;
          break;
        case Op.NEGATE:
          a = -a | 0;
          break;
        case Op.EQUAL:
          pc = program[pc + (a === k ? 2 : 3)]! - INSTRUCTION;
          break;
        case Op.GREATER:
          pc = program[pc + (a >>> 0 > k >>> 0 ? 2 : 3)]! - INSTRUCTION;
          break;
        case Op.AT_LEAST:
          pc = program[pc + (a >>> 0 >= k >>> 0 ? 2 : 3)]! - INSTRUCTION;
          break;
        case Op.BITS:
          pc = program[pc + ((a & k) !== 0 ? 2 : 3)]! - INSTRUCTION;
          break;
        case Op.EQUAL_X:
          pc = program[pc + (a === x ? 2 : 3)]! - INSTRUCTION;
          break;
        case Op.GREATER_X:
          pc = program[pc + (a >>> 0 > x >>> 0 ? 2 : 3)]! - INSTRUCTION;
          break;
        case Op.AT_LEAST_X:
          pc = program[pc + (a >>> 0 >= x >>> 0 ? 2 : 3)]! - INSTRUCTION;
          break;
        case Op.RETURN:
          return k !== 0;
        default: {
          const operation = program[pc]!;
          const operand = operation >= Op.ADD_X ? x : k;
          if (operand === 0 && (operation === Op.DIVIDE || operation === Op.DIVIDE_X)) return false;
          a = combine(operation >= Op.ADD_X ? operation - WITH_X : operation, a, operand);
        }
      }
    }
  }
}

/** A with an operand, in 32 bits without a sign; the result as a signed number. */
export function combine(operation: number, a: number, operand: number): number {
  switch (operation) {
    case Op.ADD:
      return (a + operand) | 0;
    case Op.SUBTRACT:
      return (a - operand) | 0;
    case Op.MULTIPLY:
      return Math.imul(a, operand);
    case Op.DIVIDE:
      return ((a >>> 0) / (operand >>> 0)) | 0;
    case Op.AND:
      return a & operand;
    case Op.OR:
      return a | operand;
    case Op.LEFT:
      return operand >>> 0 < 32 ? a << operand : 0;
    default:
      return operand >>> 0 < 32 ? (a >>> operand) | 0 : 0;
  }
}
