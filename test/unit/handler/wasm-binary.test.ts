import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readBinary, Unreadable } from '../../../src/handler/wasm-binary.ts';
import { type Part, wasm } from '../../support/wasm-bytes.ts';

const NAMES: Record<string, string> = {
  ...{ i: 'i32', l: 'i64', f: 'f32', d: 'f64', v: 'v128', c: 'funcref', x: 'externref' },
};
const letters = fc.array(fc.constantFrom(...'ilfdvcx'), { maxLength: 6 }).map((all) => all.join(''));
const type = fc.tuple(letters, letters).map(([takes, returns]) => `${takes}>${returns}`);
const listed = (part: string) => [...part].map((letter) => NAMES[letter]).join(', ');

function spelled(type: string): string {
  const [takes, returns] = type.split('>') as [string, string];
  return `(${listed(takes)}) -> ${returns.length === 1 ? listed(returns) : `(${listed(returns)})`}`;
}

/** Whether V8 links an exported function to an import of this type: it does only if they are the same. */
function links(exported: Uint8Array, name: string, type: string): boolean {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(exported));
  const importing = new WebAssembly.Module(wasm({ memory: false, imports: [`env.f ${type}`], exports: [] }));
  try {
    new WebAssembly.Instance(importing, { env: { f: exports[name] } });
    return true;
  } catch (error) {
    expect(error).toBeInstanceOf(WebAssembly.LinkError);
    return false;
  }
}

declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports?: object) => { exports: Record<string, unknown> };
  LinkError: new () => Error;
};

describe('the types of a WebAssembly module', () => {
  it('are those by which V8 links its functions', () => {
    const seen = new Set<boolean>();
    fc.assert(
      fc.property(fc.array(type, { minLength: 1, maxLength: 5 }), fc.nat(4), type, (types, which, other) => {
        const parts = types.map((type, i): Part => ({ name: `f${i}`, type }));
        const bytes = wasm({ memory: false, exports: parts });
        const { exports } = readBinary(bytes);
        expect(exports.map(({ type }) => type)).toEqual(types.map(spelled));
        const i = which % types.length;
        for (const candidate of [types[i]!, other]) {
          const isSame = links(bytes, `f${i}`, candidate);
          expect(spelled(candidate) === exports[i]!.type).toBe(isSame);
          seen.add(isSame);
        }
      }),
      { numRuns: 200 },
    );
    expect(seen.size).toBe(2);
  });

  it('include those of imports and of globals, with any initial value', () => {
    const parts = [...'ilfdvcx'].map(
      (type, i): Part => ({ name: type, type, global: 5, mutable: i % 2 === 0 }),
    );
    const imports = ['env.a li>d', 'env.g:global', 'env.b'];
    const read = readBinary(
      wasm({ memory: { wide: true }, imports, exports: [...parts, { name: 'own', type: 'd>d' }] }),
    );
    expect(read.exports.map(({ kind, type }) => `${kind} ${type}`)).toEqual([
      ...[
        'global mut i32',
        'global i64',
        'global mut f32',
        'global f64',
        'global mut v128',
        'global funcref',
      ],
      ...['global mut externref', 'function (f64) -> f64'],
    ]);
    expect(read.imports.map(({ name, type }) => `${name} ${type}`)).toEqual([
      'a (i64, i32) -> f64',
      'g i32',
      'b () -> ()',
      'memory ',
    ]);
    expect(read.importedMemory).toEqual({ initial: 1, maximum: 65_536, shared: true, wide: true });
  });

  it('are found behind recursive types, structures and arrays', () => {
    const types = [
      ...[0x4e, 2, 0x50, 0, 0x5f, 2, 0x78, 0, 0x64, 1, 1, 0x4f, 1, 0, 0x5e, 0x6e, 1],
      ...[0x60, 2, 0x7f, 0x63, 0, 1, 0x6d, 0x60, 0, 1, 0x7e],
    ];
    const bytes = [
      ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, types.length + 1, 3, ...types],
      ...[3, 3, 2, 2, 3, 7, 9, 2, 1, 97, 0, 0, 1, 98, 0, 1],
    ];
    expect(readBinary(Uint8Array.from(bytes)).exports.map(({ type }) => type)).toEqual([
      '(i32, ref) -> ref',
      '() -> i64',
    ]);
  });

  it('are refused where they are newer than the reader, and never read past the end', () => {
    const newer = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 2, 1, 0x5d];
    expect(() => readBinary(Uint8Array.from(newer))).toThrow(Unreadable);
    const whole = wasm({ imports: ['env.take >i'], exports: [{ name: 'g', type: 'd', global: 0 }] });
    const change = fc.tuple(fc.nat(whole.length - 1), fc.nat(255));
    fc.assert(
      fc.property(fc.nat(whole.length), fc.array(change, { maxLength: 3 }), (length, changes) => {
        const bytes = Uint8Array.from(whole);
        for (const [at, value] of changes) bytes[at] = value;
        try {
          readBinary(bytes.subarray(0, length));
        } catch (error) {
          expect(error).toBeInstanceOf(Unreadable);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('of every shipped module are those of the ABI', () => {
    const folder = new URL('../../../dist/src/handlers/', import.meta.url);
    const files = readdirSync(folder).filter((file) => file.endsWith('.wasm'));
    expect(files.length).toBeGreaterThan(1);
    for (const file of files) {
      const { exports } = readBinary(readFileSync(new URL(file, folder)));
      const types = new Map(exports.map(({ name, type }) => [name, type]));
      expect(types.get('burst')).toBe('(i32, i32) -> ()');
      expect(types.get('twinpath_abi')).toBe('() -> i32');
      expect(types.get('__stack_pointer')).toBe('mut i32');
    }
  });
});
