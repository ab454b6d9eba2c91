/**
 * A handler's WebAssembly module, compiled and looked at before anything of it runs: whether it is for
 * this ABI (docs/wasm-abi.md), and whether it keeps to the memory that is a module's.
 */
import { TwinpathError } from '../errors.ts';
import { MODULE_STATIC_BYTES, type WasmMemory } from '../memory/layout.ts';

/** One import or export of a module. */
interface Named {
  readonly module?: string;
  readonly name: string;
  readonly kind: string;
}

/** A compiled module; it has no members. */
export type WasmModule = object;

/** What of the WebAssembly API handlers need; spelled out because the DOM types that declare it are not ours. */
declare const WebAssembly: {
  Module: {
    new (bytes: Uint8Array): WasmModule;
    imports(module: WasmModule): Named[];
    exports(module: WasmModule): Named[];
    customSections(module: WasmModule, name: string): ArrayBuffer[];
  };
};

/** The version that `twinpath_abi` has to return. */
export const WASM_ABI = 1;

const PAGE_BYTES = 65_536;

/** What a module may import from `env`. */
const IMPORTS: Readonly<Record<string, string>> = {
  memory: 'memory',
  context: 'function',
  take: 'function',
  post: 'function',
  put: 'function',
  fail: 'function',
  abort: 'function',
};

/** What it must export, may export for Twinpath, and may export for C's sake. Whatever else it exports is its own. */
const NEEDED: Readonly<Record<string, string>> = { twinpath_abi: 'function', burst: 'function' };
const OPTIONAL: Readonly<Record<string, string>> = {
  init: 'function',
  tick: 'function',
  turn: 'function',
  __stack_pointer: 'global',
  __wasm_init_tls: 'function',
  __tls_size: 'global',
  __tls_align: 'global',
};

export function isWasm(bytes: Uint8Array): boolean {
  return bytes[0] === 0 && bytes[1] === 0x61 && bytes[2] === 0x73 && bytes[3] === 0x6d;
}

/** @throws ERR_HANDLER that says what is wrong with the module */
export function refuse(url: string, detail: string, hint?: string): never {
  throw new TwinpathError('ERR_HANDLER', { device: url, detail, hint });
}

/** @throws ERR_HANDLER if the bytes are no module, or one that cannot be a handler in this memory */
export function compileHandler(url: string, bytes: Uint8Array, memory: WasmMemory): WasmModule {
  if (!isWasm(bytes)) refuse(url, 'it is not a WebAssembly module', 'A .wasm file starts with \\0asm.');
  let module: WasmModule;
  try {
    module = new WebAssembly.Module(bytes);
  } catch (error) {
    return refuse(url, (error as Error).message);
  }
  const imports = WebAssembly.Module.imports(module);
  const exports = WebAssembly.Module.exports(module);
  checkImports(url, imports);
  checkMemory(url, importedMemory(bytes), memory.buffer.byteLength / PAGE_BYTES);
  checkExports(url, exports);

  // A linker's names are there unless they were stripped: reason enough to ask for what else fails silently.
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

function checkImports(url: string, imports: readonly Named[]): void {
  const unknown = imports.filter(({ module, name }) => module !== 'env' || !Object.hasOwn(IMPORTS, name));
  if (unknown.length > 0) {
    const names = unknown.map(({ module, name }) => `${module}.${name}`).join(', ');
    refuse(url, `it imports ${names}`, `There is: ${Object.keys(IMPORTS).join(', ')}, all in env.`);
  }
  for (const { name, kind } of imports) {
    if (kind !== IMPORTS[name]) refuse(url, `it imports env.${name} as a ${kind}: it is a ${IMPORTS[name]}`);
  }
}

function checkExports(url: string, exports: readonly Named[]): void {
  for (const [name, kind] of Object.entries({ ...NEEDED, ...OPTIONAL })) {
    const found = exports.find((one) => one.name === name)?.kind;
    if (found === kind || (found === undefined && !Object.hasOwn(NEEDED, name))) continue;
    const detail =
      found === undefined ? `it does not export ${name}` : `its ${name} is a ${found}, not a ${kind}`;
    refuse(url, detail, 'A handler exports twinpath_abi() and burst(at, length).');
  }
}

function checkMemory(url: string, wanted: MemoryLimits | undefined, pages: number): void {
  const hint = 'Import env.memory: shared, initial 1, maximum 65536.';
  if (wanted === undefined) refuse(url, 'it does not import the memory the packets are in', hint);
  if (!wanted.shared) refuse(url, 'it imports its memory as not shared', hint);
  if (wanted.initial > MODULE_STATIC_BYTES / PAGE_BYTES) {
    const detail = `it asks for ${wanted.initial} pages of 64 KiB for its data, and 1 is a module's`;
    refuse(url, detail, "Keep what is large in the worker's area, see docs/wasm-abi.md.");
  }
  if (wanted.maximum < pages) {
    refuse(url, `it takes a memory of at most ${wanted.maximum} pages, and the port's has ${pages}`, hint);
  }
}

/** In pages. */
interface MemoryLimits {
  readonly initial: number;
  readonly maximum: number;
  readonly shared: boolean;
}

const IMPORT_SECTION = 2;
const MEMORY_KIND = 2;
const HAS_MAXIMUM = 1;
const IS_SHARED = 2;

/**
 * The limits of the memory a module imports. The JavaScript API does not tell, so they are read from the binary
 * (WebAssembly Core Specification 2.0, 5.5.5). The module is valid and imports functions and a memory only.
 */
function importedMemory(bytes: Uint8Array): MemoryLimits | undefined {
  let at = 8; // behind magic and version
  const number = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++]!;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const section = bytes[at++];
    const length = number();
    if (section !== IMPORT_SECTION) {
      at += length;
      continue;
    }
    for (let count = number(); count > 0; count--) {
      for (let name = 0; name < 2; name++) {
        const length = number();
        at += length;
      }
      if (bytes[at++] !== MEMORY_KIND) {
        number(); // a function's type
        continue;
      }
      const flags = number();
      const initial = number();
      return {
        initial,
        maximum: flags & HAS_MAXIMUM ? number() : Number.POSITIVE_INFINITY,
        shared: (flags & IS_SHARED) !== 0,
      };
    }
    return undefined;
  }
  return undefined;
}
