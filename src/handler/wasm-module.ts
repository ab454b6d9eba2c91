/**
 * A handler's WebAssembly module, compiled and checked before any of it runs: whether it is for this ABI
 * (docs/wasm-abi.md), and whether its data stays in a module's part of the memory.
 */
import { TwinpathError } from '../errors.ts';
import type { WasmMemory } from '../memory/geometry.ts';
import { MODULE_STATIC_BYTES } from '../memory/wasm-abi.ts';
import { type MemoryLimits, readBinary, type Typed, Unreadable, type WasmBinary } from './wasm-binary.ts';

/** A compiled module; it has no members. */
export type WasmModule = object;

/** The part of the WebAssembly API for handlers, declared here because the project does not use the DOM types. */
declare const WebAssembly: {
  Module: {
    new (bytes: Uint8Array): WasmModule;
    customSections(module: WasmModule, name: string): ArrayBuffer[];
  };
};

/** The version that `twinpath_abi` has to return. */
export const WASM_ABI = 2;

const PAGE_BYTES = 65_536;

/** The imports from `env`: the types of functions, and the memory. */
const IMPORTS: Readonly<Record<string, string>> = {
  memory: '',
  context: '() -> i32',
  take: '() -> i32',
  post: '(i32, i32) -> i32',
  post_offload: '(i32, i32, i32, i32) -> i32',
  put: '(i32) -> ()',
  fail: '(i32, i32) -> ()',
  abort: '(i32, i32, i32, i32) -> ()',
};

/**
 * The exports that a module must have, may have for Twinpath, and may have for C. Others are ignored. JavaScript would call
 * a function of any type: an i64 throws at each burst, an f64 or externref gives wrong results.
 */
const NEEDED: Readonly<Record<string, string>> = { twinpath_abi: '() -> i32', burst: '(i32, i32) -> ()' };
const OPTIONAL: Readonly<Record<string, string>> = {
  init: '() -> ()',
  tick: '(i32) -> ()',
  in_place: '(i32, i32, i32, i32) -> ()',
  twinpath_metadata: '() -> i32',
  __stack_pointer: 'mut i32',
  __wasm_init_tls: '(i32) -> ()',
  __tls_size: 'i32',
  __tls_align: 'i32',
};
const kindOf = (type: string): Typed['kind'] =>
  type === '' ? 'memory' : type.includes('->') ? 'function' : 'global';

export function isWasm(bytes: Uint8Array): boolean {
  return bytes[0] === 0 && bytes[1] === 0x61 && bytes[2] === 0x73 && bytes[3] === 0x6d;
}

/** @throws ERR_HANDLER with the fault of the module */
export function refuse(url: string, detail: string, hint?: string): never {
  throw new TwinpathError('ERR_HANDLER', { device: url, detail, hint });
}

/** @throws ERR_HANDLER if the bytes are not a module, or the module cannot be a handler in this memory */
export function compileHandler(url: string, bytes: Uint8Array, memory: WasmMemory): WasmModule {
  if (!isWasm(bytes)) refuse(url, 'it is not a WebAssembly module', 'A .wasm file starts with \\0asm.');
  let module: WasmModule;
  try {
    module = new WebAssembly.Module(bytes);
  } catch (error) {
    return refuse(url, (error as Error).message);
  }
  const { imports, exports, importedMemory } = binaryOf(url, bytes);
  checkImports(url, imports);
  checkMemory(url, importedMemory, memory.buffer.byteLength / PAGE_BYTES);
  checkExports(url, exports);

  // Unless the linker's names were stripped, they show missing exports, without which the module would fail silently.
  const names = WebAssembly.Module.customSections(module, 'name').map((section) =>
    Buffer.from(section).toString('latin1'),
  );
  const lacks = (name: string, needed: string): boolean =>
    names.some((text) => text.includes(name)) && !exports.some((one) => one.name === needed);
  if (lacks('__stack_pointer', '__stack_pointer')) {
    const hint = 'C, Rust: link with --export=__stack_pointer. AssemblyScript: use twinpath-runtime.';
    refuse(url, 'it has a stack, which would be the same memory in every worker', hint);
  }
  if (lacks('__tls_base', '__wasm_init_tls')) {
    const hint = 'Link with --export=__wasm_init_tls --export=__tls_size --export=__tls_align.';
    refuse(url, 'it has thread-local variables and no way to place them', hint);
  }
  return module;
}

function binaryOf(url: string, bytes: Uint8Array): WasmBinary {
  try {
    return readBinary(bytes);
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    return refuse(url, `its types cannot be read: ${error.message}`, 'Compile it for WebAssembly 2.0.');
  }
}

function checkImports(url: string, imports: readonly Typed[]): void {
  const unknown = imports.filter(({ module, name }) => module !== 'env' || !Object.hasOwn(IMPORTS, name));
  if (unknown.length > 0) {
    const names = unknown.map(({ module, name }) => `${module}.${name}`).join(', ');
    refuse(url, `it imports ${names}`, `There is: ${Object.keys(IMPORTS).join(', ')}, all in env.`);
  }
  for (const { name, kind, type } of imports) {
    const wanted = IMPORTS[name]!;
    if (kind !== kindOf(wanted)) {
      refuse(url, `it imports env.${name} as a ${kind}: it is a ${kindOf(wanted)}`);
    }
    if (type !== wanted) refuse(url, `it imports env.${name} as ${type}: it is ${wanted}`);
  }
}

function checkExports(url: string, exports: readonly Typed[]): void {
  const hint = 'A handler exports twinpath_abi() and burst(at, length): docs/wasm-abi.md has the types.';
  for (const [name, type] of Object.entries({ ...NEEDED, ...OPTIONAL })) {
    const found = exports.find((one) => one.name === name);
    if (found === undefined) {
      if (Object.hasOwn(NEEDED, name)) refuse(url, `it does not export ${name}`, hint);
      continue;
    }
    if (found.kind !== kindOf(type)) {
      refuse(url, `its ${name} is a ${found.kind}, not a ${kindOf(type)}`, hint);
    }
    if (found.type !== type) refuse(url, `its ${name} is ${found.type}: it has to be ${type}`, hint);
  }
}

function checkMemory(url: string, wanted: MemoryLimits | undefined, pages: number): void {
  const hint = 'Import env.memory: shared, initial 1, maximum 65536.';
  if (wanted === undefined) refuse(url, 'it does not import the memory the packets are in', hint);
  if (wanted.wide) refuse(url, 'it imports its memory with 64-bit addresses', hint);
  if (!wanted.shared) refuse(url, 'it imports its memory as not shared', hint);
  if (wanted.initial > MODULE_STATIC_BYTES / PAGE_BYTES) {
    const detail = `it asks for ${wanted.initial} pages of 64 KiB for its data, and 1 is a module's`;
    refuse(url, detail, "Keep what is large in the worker's area, see docs/wasm-abi.md.");
  }
  if (wanted.maximum < pages) {
    refuse(url, `it takes a memory of at most ${wanted.maximum} pages, and the port's has ${pages}`, hint);
  }
}
