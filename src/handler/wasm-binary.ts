/**
 * Reads the types of imports and exports from a WebAssembly binary, which the JavaScript API does not give
 * (WebAssembly Core Specification 2.0, 5.3 to 5.5, and 3.0 for recursive types).
 *
 * Only for bytes that `new WebAssembly.Module` has accepted: they are not validated again, and every count fits. A newer
 * feature is an {@link Unreadable} error.
 */

/** An import or export with its type: '(i32, i32) -> i64' of a function, 'mut i32' of a global. */
export interface Typed {
  /** Of an import. */
  readonly module: string;
  readonly name: string;
  readonly kind: 'function' | 'table' | 'memory' | 'global' | 'tag';
  readonly type: string;
}

/** In pages. */
export interface MemoryLimits {
  readonly initial: number;
  readonly maximum: number;
  readonly shared: boolean;
  /** Whether its addresses are i64. */
  readonly wide: boolean;
}

export interface WasmBinary {
  readonly imports: readonly Typed[];
  readonly exports: readonly Typed[];
  readonly importedMemory: MemoryLimits | undefined;
}

export class Unreadable extends Error {}

const Section = { TYPE: 1, IMPORT: 2, FUNCTION: 3, GLOBAL: 6, EXPORT: 7 } as const;
const KINDS = ['function', 'table', 'memory', 'global', 'tag'] as const;

const HAS_MAXIMUM = 1;
const IS_SHARED = 2;
const IS_WIDE = 4;
const MAGIC_BYTES = 8;

const VALUE_TYPES: Readonly<Record<number, string>> = {
  127: 'i32',
  126: 'i64',
  125: 'f32',
  124: 'f64',
  123: 'v128',
  112: 'funcref',
  111: 'externref',
};
const FUNCTION = 0x60;
const STRUCT = 0x5f;
const ARRAY = 0x5e;
const SUB = 0x50;
const SUB_FINAL = 0x4f;
const RECURSIVE = 0x4e;
/** References to a type of the module, or to a kind of types: `(ref ...)` and `(ref null ...)`. */
const REFERENCES = [0x64, 0x63];
/** The one-byte forms of references to kinds of types: exnref to nullexnref. */
const isShortReference = (byte: number): boolean => byte >= 0x69 && byte <= 0x74;
/** In fields only: i16 and i8. */
const PACKED = [0x77, 0x78];

export function readBinary(bytes: Uint8Array): WasmBinary {
  return new Reader(bytes).read();
}

class Reader {
  readonly #bytes: Uint8Array;
  #at = MAGIC_BYTES;
  readonly #types: string[] = [];
  /** By index: imported ones first. */
  readonly #functions: string[] = [];
  readonly #globals: string[] = [];
  readonly #imports: Typed[] = [];
  readonly #exports: Typed[] = [];
  #memory: MemoryLimits | undefined;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  read(): WasmBinary {
    while (this.#at < this.#bytes.length) {
      const section = this.#byte();
      const end = this.#number() + this.#at;
      this.#readSection(section);
      this.#at = end;
    }
    return { imports: this.#imports, exports: this.#exports, importedMemory: this.#memory };
  }

  #readSection(section: number): void {
    if (section === Section.TYPE) this.#each(() => this.#readRecursive());
    else if (section === Section.IMPORT) this.#each(() => this.#readImport());
    else if (section === Section.FUNCTION)
      this.#each(() => this.#functions.push(this.#typeAt(this.#number())));
    else if (section === Section.GLOBAL) this.#each(() => this.#readGlobal());
    else if (section === Section.EXPORT) this.#each(() => this.#readExport());
  }

  #each(read: () => unknown): void {
    for (let count = this.#number(); count > 0; count--) read();
  }

  #byte(): number {
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) throw new Unreadable('it ends too early');
    return byte;
  }

  /** Unsigned LEB128; a signed one has the same bytes. */
  #number(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.#byte();
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  }

  #text(): string {
    const end = this.#number() + this.#at;
    const text = Buffer.from(this.#bytes.subarray(this.#at, end)).toString('utf8');
    this.#at = end;
    return text;
  }

  #readRecursive(): void {
    if (this.#bytes[this.#at] === RECURSIVE) {
      this.#at++;
      this.#each(() => this.#readType());
    } else this.#readType();
  }

  #readType(): void {
    let form = this.#byte();
    if (form === SUB || form === SUB_FINAL) {
      this.#each(() => this.#number());
      form = this.#byte();
    }
    if (form === FUNCTION) {
      const takes = this.#valueTypes();
      this.#types.push(`(${takes}) -> ${arrow(this.#valueTypes())}`);
    } else if (form === STRUCT || form === ARRAY) {
      if (form === ARRAY) this.#skipField();
      else this.#each(() => this.#skipField());
      this.#types.push('no function');
    } else throw new Unreadable(`it has a type of form 0x${form.toString(16)}`);
  }

  #skipField(): void {
    if (PACKED.includes(this.#bytes[this.#at]!)) this.#at++;
    else this.#valueType();
    this.#byte();
  }

  #valueTypes(): string {
    const types: string[] = [];
    this.#each(() => types.push(this.#valueType()));
    return types.join(', ');
  }

  #valueType(): string {
    const byte = this.#byte();
    const name = VALUE_TYPES[byte];
    if (name !== undefined) return name;
    if (isShortReference(byte)) return 'ref';
    if (!REFERENCES.includes(byte)) throw new Unreadable(`it has a value type 0x${byte.toString(16)}`);
    this.#skipHeapType();
    return 'ref';
  }

  /** A type's index, or the byte of a kind; other bytes are prefixes of later features. */
  #skipHeapType(): void {
    const byte = this.#bytes[this.#at]!;
    const isKind = (byte & 0xc0) === 0x40;
    if (isKind && !isShortReference(byte)) throw new Unreadable(`it has a heap type 0x${byte.toString(16)}`);
    this.#number();
  }

  #typeAt(index: number): string {
    return this.#types[index]!;
  }

  #globalType(): string {
    const type = this.#valueType();
    return this.#byte() === 1 ? `mut ${type}` : type;
  }

  #limits(): MemoryLimits {
    const flags = this.#byte();
    if (flags > (HAS_MAXIMUM | IS_SHARED | IS_WIDE)) throw new Unreadable(`it has limits of kind ${flags}`);
    const initial = this.#number();
    return {
      initial,
      maximum: flags & HAS_MAXIMUM ? this.#number() : Number.POSITIVE_INFINITY,
      shared: (flags & IS_SHARED) !== 0,
      wide: (flags & IS_WIDE) !== 0,
    };
  }

  #readImport(): void {
    const module = this.#text();
    const name = this.#text();
    const kind = this.#kind();
    this.#imports.push({ module, name, kind, type: this.#importType(kind) });
  }

  #importType(kind: Typed['kind']): string {
    switch (kind) {
      case 'function': {
        const type = this.#typeAt(this.#number());
        this.#functions.push(type);
        return type;
      }
      case 'table':
        this.#valueType();
        this.#limits();
        return '';
      case 'memory':
        this.#memory ??= this.#limits();
        return '';
      case 'global': {
        const type = this.#globalType();
        this.#globals.push(type);
        return type;
      }
      case 'tag':
        this.#byte();
        return this.#typeAt(this.#number());
    }
  }

  #kind(): Typed['kind'] {
    const byte = this.#byte();
    const kind = KINDS[byte];
    if (kind === undefined) throw new Unreadable(`it has an import or export of kind ${byte}`);
    return kind;
  }

  #readGlobal(): void {
    this.#globals.push(this.#globalType());
    this.#skipExpression();
  }

  #readExport(): void {
    const name = this.#text();
    const kind = this.#kind();
    const index = this.#number();
    const type =
      kind === 'function' ? this.#functions[index]! : kind === 'global' ? this.#globals[index]! : '';
    this.#exports.push({ module: '', name, kind, type });
  }

  /** The constant expression of a global, its `end` included. */
  #skipExpression(): void {
    for (let code = this.#byte(); code !== Code.END; code = this.#byte()) {
      if (ONE_NUMBER.includes(code)) this.#number();
      else if (code === Code.F32) this.#at += 4;
      else if (code === Code.F64) this.#at += 8;
      else if (code === Code.REF_NULL) this.#skipHeapType();
      else if (code === Code.VECTOR && this.#number() === Code.V128) this.#at += 16;
      else if (!NO_OPERAND.includes(code)) {
        throw new Unreadable(`it computes a global by instruction 0x${code.toString(16)}`);
      }
    }
  }
}

const Code = { END: 0x0b, F32: 0x43, F64: 0x44, REF_NULL: 0xd0, VECTOR: 0xfd, V128: 0x0c } as const;
/** global.get, i32.const, i64.const, ref.func. */
const ONE_NUMBER: readonly number[] = [0x23, 0x41, 0x42, 0xd2];
/** add, sub and mul of i32 and i64. */
const NO_OPERAND: readonly number[] = [0x6a, 0x6b, 0x6c, 0x7c, 0x7d, 0x7e];

const arrow = (results: string): string => (/^\w+$/.test(results) ? results : `(${results})`);
