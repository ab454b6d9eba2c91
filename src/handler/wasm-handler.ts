/**
 * A handler in WebAssembly: one instance per worker over the port's memory, called once with each burst.
 *
 * The workers' instances are threads of one program. They share their static data, in the first page of the memory. Each
 * has its stack, thread-local variables and allocations in the worker's own area:
 *
 * ```
 *   context | options, JSON | area → … | … ← stack | thread-local
 * ```
 *
 * A module can write anywhere in the port's memory, as a JavaScript handler can by `burst.offset`, but nowhere else. A trap
 * is an exception, which drops its burst. Belongs to the worker thread.
 */
import { TwinpathError } from '../errors.ts';
import type { WasmMemory } from '../memory/geometry.ts';
import { ALL_METADATA } from '../memory/metadata.ts';
import type { Memory } from '../memory/shared.ts';
import { MODULE_AREA_BYTES } from '../memory/wasm-abi.ts';
import type { Burst, FrameSource } from './burst.ts';
import type { Handler, HandlerContext, InPlaceHandler, TickingHandler } from './handler.ts';
import { compileHandler, refuse, WASM_ABI, type WasmModule } from './wasm-module.ts';

interface WasmGlobal {
  value: number;
}

type WasmFunction = (...values: number[]) => number;

/** The imports of a module, see docs/wasm-abi.md. */
type Imports = Readonly<Record<string, WasmMemory | WasmFunction>>;

declare const WebAssembly: {
  Instance: new (
    module: WasmModule,
    imports: { env: Imports },
  ) => { readonly exports: Readonly<Record<string, unknown>> };
};

/** `compileHandler` has checked these types. */
interface Exports {
  readonly twinpath_abi: WasmFunction;
  readonly burst: WasmFunction;
  readonly init?: WasmFunction;
  readonly tick?: WasmFunction;
  readonly in_place?: WasmFunction;
  readonly twinpath_metadata?: WasmFunction;
  readonly __stack_pointer?: WasmGlobal;
  readonly __wasm_init_tls?: WasmFunction;
  readonly __tls_size?: WasmGlobal;
  readonly __tls_align?: WasmGlobal;
}

/** The burst and the MAC addresses are in the memory that the module imports. */
type WasmContext = Pick<HandlerContext, 'queue' | 'queues'>;

/** Int32 words of the context; the options follow. Part of the ABI. */
const CONTEXT_BYTES = 32;
/** Alignment of the stack pointer in C's ABI; more than any object in the area needs. */
const ALIGNMENT = 16;
/** Of the area, for the stack and thread-local variables. */
const STACK_BYTES = 65_536;
/** Of a text from the module. */
const MAX_TEXT = 1_000;

/** The functions of a module's handler. */
export interface WasmHandler {
  readonly handle: Handler;
  readonly tick: TickingHandler['tick'] | undefined;
  readonly inPlace: InPlaceHandler | undefined;
  /** The metadata that it asks for: `MetadataBit`s. */
  readonly metadata: number;
}

/** @throws ERR_HANDLER if the module cannot be a handler here; ERR_OPTION_INVALID if it refuses its options */
export function wasmHandler(
  url: string,
  bytes: Uint8Array,
  options: Record<string, unknown>,
  context: WasmContext,
  memory: Memory,
): WasmHandler {
  const module = compileHandler(url, bytes, memory.shared.memory);
  return new WasmInstance(url, module, options, context, memory);
}

class WasmInstance implements WasmHandler {
  readonly handle: Handler;
  readonly tick: TickingHandler['tick'] | undefined;
  readonly inPlace: InPlaceHandler | undefined;
  readonly metadata: number;

  readonly #url: string;
  readonly #memory: Memory;
  readonly #context: number;
  readonly #exports: Exports;
  readonly #frameMask: number;
  #stackTop: number;
  #running = false;
  #source: FrameSource | undefined;
  /** The frame it has taken, -1 none: freed after a trap. */
  #held = -1;

  constructor(
    url: string,
    module: WasmModule,
    options: Record<string, unknown>,
    context: WasmContext,
    memory: Memory,
  ) {
    const { layout } = memory;
    this.#url = url;
    this.#memory = memory;
    this.#frameMask = -layout.geometry.frameSize;
    this.#context = layout.moduleArea(context.queue);
    this.#stackTop = this.#context + MODULE_AREA_BYTES;
    this.#writeContext(context, options);
    this.#exports = this.#instantiate(module);
    this.#lay();
    this.metadata = this.#begin();

    const { burst, tick, in_place: inPlace } = this.#exports;
    const at = layout.burst(context.queue);
    this.handle = (packets) => this.#call(packets, burst, at, packets.length);
    this.tick = tick && ((packets, port) => this.#call(packets, tick, port, 0)); // which takes one
    this.inPlace =
      inPlace && ((source, at, from, to, count) => this.#callInPlace(source, inPlace, at, from, to, count));
  }

  #writeContext({ queue, queues }: WasmContext, options: Record<string, unknown>): void {
    const { bytes, words, layout } = this.#memory;
    const at = this.#context;
    const optionsAt = at + CONTEXT_BYTES;
    const text = Buffer.from(json(this.#url, options));
    const area = Math.ceil((optionsAt + text.length) / ALIGNMENT) * ALIGNMENT;
    const areaBytes = at + MODULE_AREA_BYTES - STACK_BYTES - area;
    if (areaBytes < 0) refuse(this.#url, `its options are too long: ${text.length} bytes of JSON`);

    bytes.fill(0, at, at + MODULE_AREA_BYTES); // a worker that died may have been here
    const { ports } = layout.geometry;
    words.set([queue, queues, ports, layout.macs, optionsAt, text.length, area, areaBytes], at >>> 2);
    bytes.set(text, optionsAt);
  }

  #instantiate(module: WasmModule): Exports {
    const env: Imports = {
      memory: this.#memory.shared.memory,
      context: () => this.#context,
      take: () => this.#take(),
      // WebAssembly passes an i32 as a signed number.
      post: (offset = 0, length = 0) => this.#post(offset >>> 0, length >>> 0, 0, 0),
      post_offload: (offset = 0, length = 0, offload = 0, tag = 0) =>
        this.#post(offset >>> 0, length >>> 0, offload, tag),
      put: (offset = 0) => this.#put(offset >>> 0),
      fail: (at = 0, length = 0) => this.#fail(at, length),
      abort: (message = 0, file = 0, line = 0, column = 0) => this.#abort(message, file, line, column),
    };
    return this.#attempt('it cannot be instantiated', () => {
      const instance = new WebAssembly.Instance(module, { env });
      return instance.exports as unknown as Exports;
    });
  }

  /** Gives the instance the stack and the thread-local memory of its worker. */
  #lay(): void {
    const { __stack_pointer, __wasm_init_tls, __tls_size, __tls_align } = this.#exports;
    const bytes = __tls_size?.value ?? 0;
    if (bytes > STACK_BYTES / 2) {
      refuse(this.#url, `it has ${bytes} bytes of thread-local variables: ${STACK_BYTES / 2} are the most`);
    }
    if (bytes > 0 && __wasm_init_tls !== undefined) {
      const alignment = Math.max(__tls_align?.value ?? 1, ALIGNMENT);
      this.#stackTop = Math.floor((this.#stackTop - bytes) / alignment) * alignment;
      this.#attempt('its __wasm_init_tls() failed', () => __wasm_init_tls(this.#stackTop));
    }
    if (__stack_pointer !== undefined) __stack_pointer.value = this.#stackTop;
  }

  /** Returns the metadata that the module asks for. */
  #begin(): number {
    const { twinpath_abi, twinpath_metadata, init } = this.#exports;
    const version = this.#attempt('its twinpath_abi() failed', () => twinpath_abi());
    if (version !== WASM_ABI) {
      const detail = `it is for version ${version} of the ABI, and this is version ${WASM_ABI}`;
      const hint =
        'Compile it with the files in wasm/include of this Twinpath: docs/wasm-abi.md says what has changed.';
      refuse(this.#url, detail, hint);
    }
    const metadata = this.#attempt('its twinpath_metadata() failed', () => twinpath_metadata?.() ?? 0);
    if ((metadata & ~ALL_METADATA) !== 0) {
      refuse(this.#url, `its twinpath_metadata() returns ${metadata}: ${ALL_METADATA} is all that there is`);
    }
    this.#attempt('its init() failed', () => init?.());
    this.#running = true;
    return metadata;
  }

  /** @throws the module's error: the datapath counts it */
  #call(burst: Burst, exported: WasmFunction, at: number, length: number): void {
    this.#source = burst.source;
    try {
      exported(at, length);
    } catch (error) {
      this.#clearStack();
      throw error;
    } finally {
      this.#leave();
    }
  }

  /** @throws the module's error */
  #callInPlace(
    source: FrameSource,
    exported: WasmFunction,
    at: number,
    from: number,
    to: number,
    count: number,
  ): void {
    this.#source = source;
    try {
      exported(at, from, to, count);
    } catch (error) {
      this.#clearStack();
      throw error;
    } finally {
      this.#leave();
    }
  }

  /** A trap does not reset the stack pointer. */
  #clearStack(): void {
    const { __stack_pointer } = this.#exports;
    if (__stack_pointer !== undefined) __stack_pointer.value = this.#stackTop;
  }

  #leave(): void {
    if (this.#held >= 0) this.#put(this.#held);
    this.#source = undefined;
  }

  /** One frame at a time: a second `take` returns the same. */
  #take(): number {
    if (this.#held < 0) this.#held = this.#source?.take() ?? -1;
    return this.#held;
  }

  #post(offset: number, length: number, offload: number, tag: number): number {
    const source = this.#release(offset);
    const { frames, geometry } = this.#memory.layout;
    const headroom = (offset - frames) & (geometry.frameSize - 1);
    if (length > geometry.frameSize - headroom) {
      source.put(offset);
      return 0;
    }
    return source.post(offset, length, offload, tag) ? 1 : 0;
  }

  #put(offset: number): number {
    this.#release(offset).put(offset);
    return 0;
  }

  /** @throws Error if it is not the frame that was taken */
  #release(offset: number): FrameSource {
    const { frames } = this.#memory.layout;
    const source = this.#source;
    const same = ((offset - frames) & this.#frameMask) === ((this.#held - frames) & this.#frameMask);
    if (source === undefined || this.#held < 0 || !same) {
      throw new Error(`the frame at ${offset} was not taken`);
    }
    this.#held = -1;
    return source;
  }

  #fail(at: number, length: number): never {
    const detail = this.#text(at, Math.min(length >>> 0, MAX_TEXT), 'utf8');
    if (this.#running) throw new Error(detail);
    throw new TwinpathError('ERR_OPTION_INVALID', { device: this.#url, detail });
  }

  /** AssemblyScript's strings are UTF-16 behind their number of bytes; 0 is no string. */
  #abort(message: number, file: number, line: number, column: number): never {
    const text = (at: number): string =>
      at === 0
        ? 'abort'
        : this.#text(at, Math.min(this.#memory.words[(at - 4) >>> 2] ?? 0, MAX_TEXT), 'utf16le');
    throw new Error(`${text(message)} in ${text(file)}:${line}:${column}`);
  }

  #text(at: number, length: number, encoding: BufferEncoding): string {
    const start = at >>> 0;
    // A copy: shared memory may change while it is decoded.
    return Buffer.from(this.#memory.bytes.slice(start, start + length)).toString(encoding);
  }

  /** @throws ERR_HANDLER with the step that failed and why; a TwinpathError as it is */
  #attempt<Result>(what: string, run: () => Result): Result {
    try {
      return run();
    } catch (error) {
      if (error instanceof TwinpathError) throw error;
      return refuse(this.#url, `${what}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}

function json(url: string, options: Record<string, unknown>): string {
  try {
    return JSON.stringify(options);
  } catch (error) {
    return refuse(url, `its options cannot be written as JSON: ${(error as Error).message}`);
  }
}
