/**
 * An assembler for eBPF: instructions, labels, 8-byte slots. Twinpath's programs are short, so they are assembled at run
 * time: that needs no clang, no libbpf and no object file.
 *
 * Instruction encoding: the kernel's Documentation/bpf/standardization/instruction-set.rst. Both architectures that
 * Twinpath runs on are little-endian, so `dst` is the low nibble of the second byte.
 *
 * An Assembler makes one program, in one thread. An unknown label or a register out of range is a bug in Twinpath, and
 * throws a RangeError. The kernel's verifier checks the program itself: see `Bpf.load`.
 */

/** 0 is the result, 1 to 5 are arguments, which a call overwrites, 6 to 9 survive calls, 10 is the read-only frame pointer. */
export type Register = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10;

const CLASS = { LD: 0, LDX: 1, ST: 2, STX: 3, ALU32: 4, JMP: 5, JMP32: 6, ALU64: 7 } as const;
const FROM_REGISTER = 0x08;
const MEM = 0x60;
const LD_IMM64 = 0x18;
/** BPF_PSEUDO_MAP_FD in src_reg: the kernel replaces the descriptor with the map's address. */
const PSEUDO_MAP_FD = 1;
/** BPF_PSEUDO_MAP_VALUE: with the address of the only value of an array map (Linux 5.2). */
const PSEUDO_MAP_VALUE = 2;
/** BPF_PSEUDO_KFUNC_CALL (Linux 5.13). */
const PSEUDO_KFUNC_CALL = 2;
/** BPF_ATOMIC with BPF_ADD; BPF_XADD in older kernels. */
const ATOMIC = 0xc0;

const SIZE = { B: 0x10, H: 0x08, W: 0x00, DW: 0x18 } as const;

const ALU = { add: 0x00, sub: 0x10, and: 0x50, lsh: 0x60, mov: 0xb0 } as const;

/** Conditions. They compare unsigned numbers, except those that begin with `js`. `jset`: any of these bits is set. */
const JUMP = {
  jeq: 0x10,
  jgt: 0x20,
  jge: 0x30,
  jset: 0x40,
  jne: 0x50,
  jsgt: 0x60,
  jsge: 0x70,
  jlt: 0xa0,
  jle: 0xb0,
  jslt: 0xc0,
} as const;

export type AluOp = keyof typeof ALU;
export type JumpOp = keyof typeof JUMP;

interface Slot {
  readonly opcode: number;
  readonly dst: number;
  readonly src: number;
  readonly offset: number;
  readonly imm: number;
  /** Label of a jump; {@link Assembler.assemble} makes it an offset. */
  readonly target?: string;
}

/** Each method appends an instruction and returns the assembler. */
export class Assembler {
  readonly #slots: Slot[] = [];
  readonly #labels = new Map<string, number>();

  mov(dst: Register, src: Register): this {
    return this.alu('mov', dst, src);
  }

  /** `imm` is sign-extended to 64 bits. */
  movImm(dst: Register, imm: number): this {
    return this.aluImm('mov', dst, imm);
  }

  alu(op: AluOp, dst: Register, src: Register): this {
    return this.#emit(CLASS.ALU64 | ALU[op] | FROM_REGISTER, dst, src);
  }

  aluImm(op: AluOp, dst: Register, imm: number): this {
    return this.#emit(CLASS.ALU64 | ALU[op], dst, 0, 0, imm);
  }

  /** Swaps the bytes of the low 16, 32 or 64 bits of `dst`, and clears the others: network order to the machine's. */
  swapBytes(dst: Register, bits: 16 | 32 | 64): this {
    return this.#emit(CLASS.ALU32 | FROM_REGISTER | 0xd0, dst, 0, 0, bits);
  }

  loadB(dst: Register, src: Register, offset: number): this {
    return this.#emit(CLASS.LDX | MEM | SIZE.B, dst, src, offset);
  }

  loadH(dst: Register, src: Register, offset: number): this {
    return this.#emit(CLASS.LDX | MEM | SIZE.H, dst, src, offset);
  }

  loadW(dst: Register, src: Register, offset: number): this {
    return this.#emit(CLASS.LDX | MEM | SIZE.W, dst, src, offset);
  }

  /** `*(u32 *)(dst + offset) = src` */
  storeW(dst: Register, src: Register, offset: number): this {
    return this.#emit(CLASS.STX | MEM | SIZE.W, dst, src, offset);
  }

  loadDW(dst: Register, src: Register, offset: number): this {
    return this.#emit(CLASS.LDX | MEM | SIZE.DW, dst, src, offset);
  }

  /** `*(u64 *)(dst + offset) = src` */
  storeDW(dst: Register, src: Register, offset: number): this {
    return this.#emit(CLASS.STX | MEM | SIZE.DW, dst, src, offset);
  }

  /** Loads the address of a map. It takes two slots, and a jump across it counts both. */
  loadMapFd(dst: Register, fd: number): this {
    return this.#emit(CLASS.LD | LD_IMM64, dst, PSEUDO_MAP_FD, 0, fd).#emit(0, 0, 0);
  }

  /** Loads the address of the value of an array map of one entry. Two slots, as {@link loadMapFd}. */
  loadMapValue(dst: Register, fd: number): this {
    return this.#emit(CLASS.LD | LD_IMM64, dst, PSEUDO_MAP_VALUE, 0, fd).#emit(0, 0, 0);
  }

  /** `*(u64 *)(dst + offset) += src`, atomically among CPUs. */
  atomicAddDW(dst: Register, src: Register, offset: number): this {
    return this.#emit(CLASS.STX | ATOMIC | SIZE.DW, dst, src, offset);
  }

  /** Calls a kernel helper by its number in include/uapi/linux/bpf.h. It overwrites registers 0 to 5. */
  call(helper: number): this {
    return this.#emit(CLASS.JMP | 0x80, 0, 0, 0, helper);
  }

  /** Calls a function of the kernel by its id in the kernel's BTF (BPF_PSEUDO_KFUNC_CALL). Registers as for {@link call}. */
  callKernel(id: number): this {
    return this.#emit(CLASS.JMP | 0x80, 0, PSEUDO_KFUNC_CALL, 0, id);
  }

  jump(label: string): this {
    return this.#emit(CLASS.JMP, 0, 0, 0, 0, label);
  }

  jumpIf(op: JumpOp, dst: Register, src: Register, label: string): this {
    return this.#emit(CLASS.JMP | JUMP[op] | FROM_REGISTER, dst, src, 0, 0, label);
  }

  /** NB: `imm` is sign-extended to 64 bits; for 32-bit values above 2^31 use {@link jumpIf32Imm}. */
  jumpIfImm(op: JumpOp, dst: Register, imm: number, label: string): this {
    return this.#emit(CLASS.JMP | JUMP[op], dst, 0, 0, imm, label);
  }

  /** Compares the low 32 bits only. */
  jumpIf32Imm(op: JumpOp, dst: Register, imm: number, label: string): this {
    return this.#emit(CLASS.JMP32 | JUMP[op], dst, 0, 0, imm, label);
  }

  jeqImm(dst: Register, imm: number, label: string): this {
    return this.jumpIfImm('jeq', dst, imm, label);
  }

  jneImm(dst: Register, imm: number, label: string): this {
    return this.jumpIfImm('jne', dst, imm, label);
  }

  /** Names the next instruction. */
  label(name: string): this {
    if (this.#labels.has(name)) throw new RangeError(`label ${name} is defined twice`);
    this.#labels.set(name, this.#slots.length);
    return this;
  }

  exit(): this {
    return this.#emit(CLASS.JMP | 0x90, 0, 0);
  }

  /** The program in the kernel's format, 8 bytes a slot. May be called more than once. */
  assemble(): Uint8Array {
    const code = new Uint8Array(this.#slots.length * 8);
    const view = new DataView(code.buffer);
    this.#slots.forEach((slot, index) => {
      const at = index * 8;
      view.setUint8(at, slot.opcode);
      view.setUint8(at + 1, (slot.src << 4) | slot.dst);
      view.setInt16(
        at + 2,
        slot.target === undefined ? slot.offset : this.#distance(index, slot.target),
        true,
      );
      view.setInt32(at + 4, slot.imm, true);
    });
    return code;
  }

  /** Counted from the instruction after the jump. */
  #distance(from: number, target: string): number {
    const to = this.#labels.get(target);
    if (to === undefined) throw new RangeError(`label ${target} is not defined`);
    if (to === this.#slots.length) throw new RangeError(`no instruction follows label ${target}`);
    return within(to - from - 1, 16, 'jump');
  }

  #emit(opcode: number, dst: number, src: number, offset = 0, imm = 0, target?: string): this {
    if (!isRegister(dst)) throw new RangeError(`${dst} is not a register`);
    if (!isRegister(src)) throw new RangeError(`${src} is not a register`);
    within(offset, 16, 'offset');
    // A constant may be signed (-1) or unsigned (0xc0a80000): the 32 bits are the same.
    if (imm < 0 || !(imm <= 0xffffffff)) within(imm, 32, 'immediate');
    if (!Number.isInteger(imm)) throw new RangeError(`immediate ${imm} is not an integer`);
    this.#slots.push({ opcode, dst, src, offset, imm, target });
    return this;
  }
}

/** A 16-bit number in network order, as a little-endian machine loads and stores it: byteorder(3). */
export function htons(value: number): number {
  return ((value & 0xff) << 8) | (value >>> 8);
}

function isRegister(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= 10;
}

function within(value: number, bits: 16 | 32, what: string): number {
  const half = 2 ** (bits - 1);
  if (Number.isInteger(value) && value >= -half && value < half) return value;
  throw new RangeError(`${what} ${value} does not fit in ${bits} bits`);
}
