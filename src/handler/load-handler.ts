/** Loads a handler module, JavaScript or WebAssembly, and makes the handler of one worker. */
import { readFileSync } from 'node:fs';
import { TwinpathError } from '../errors.ts';
import { atLeast, newHandlerMemory } from '../memory/handler-memory.ts';
import { macsOf } from '../memory/macs.ts';
import { METADATA, type MetadataName, metadataBits } from '../memory/metadata.ts';
import type { Memory } from '../memory/shared.ts';
import type { Burst } from './burst.ts';
import { Clock } from './clock.ts';
import type {
  Created,
  Handler,
  HandlerContext,
  HandlerModule,
  HandlerObject,
  InPlaceHandler,
} from './handler.ts';
import { bound } from './jit.ts';
import { wasmHandler } from './wasm-handler.ts';
import { isWasm } from './wasm-module.ts';

export interface LoadContext {
  readonly queue: number;
  readonly queues: number;
  /** The port's memory: a WebAssembly module imports it, and it has the MAC addresses. */
  readonly memory: Memory;
  /** The worker's. Gets the metadata that the handler asks for, beside what those of other ports ask for. */
  readonly burst: Burst;
  /** What it is given in addition. Default none. */
  readonly metadata?: readonly MetadataName[];
  /** The memory that its workers share. Default: memory of its own. */
  readonly shared?: SharedArrayBuffer;
  /** What its clock reads. Default `nowNanos`. */
  readonly now?: (() => number) | undefined;
  /** Its `postMessage`: false if the message was refused. Default: refuses all. */
  readonly post?: ((value: unknown) => boolean) | undefined;
}

/** The handler of one worker, for the datapath. */
export interface LoadedHandler {
  /** Only for the burst it was loaded with. */
  readonly handle: Handler;
  readonly tick: HandlerObject['tick'] | undefined;
  readonly tickMillis: number;
  readonly configure?: HandlerObject['configure'] | undefined;
  readonly message?: HandlerObject['message'] | undefined;
  readonly isWasm?: boolean;
  /** Only of a handler in WebAssembly. */
  readonly inPlace?: InPlaceHandler | undefined;
}

const TICK_MILLIS = 10;
const HINT = 'Write: export default (burst) => { … }';

/**
 * @param foundWasm called before a handler in WebAssembly is made, with its URL. May throw
 * @throws ERR_HANDLER if the module cannot be loaded, exports no handler, or its `create` throws; a TwinpathError of
 *   `create` as it is
 */
export async function loadHandler(
  url: string,
  options: Record<string, unknown>,
  load: LoadContext,
  foundWasm: (url: string) => void = () => {},
): Promise<LoadedHandler> {
  const wasm = wasmBytes(url);
  if (wasm !== undefined) {
    foundWasm(url);
    const { memory, burst, metadata: given = [] } = load;
    const { handle, tick, inPlace, metadata } = wasmHandler(url, wasm, options, contextOf(load), memory);
    burst.metadata |= metadata | metadataBits(given);
    return { handle, tick, tickMillis: TICK_MILLIS, inPlace, isWasm: true };
  }
  const module = await imported(url);
  return loadedHandler(await exported(module, url, options, load), url, load.burst);
}

/**
 * The handler of a module that has been imported.
 *
 * @param url for error messages
 * @throws as {@link loadHandler}; ERR_HANDLER also if its `create` returns a promise
 */
export function handlerOf(
  module: HandlerModule,
  url: string,
  options: Record<string, unknown>,
  load: LoadContext,
): LoadedHandler {
  const handler = exported(module, url, options, load);
  if (!(handler instanceof Promise)) return loadedHandler(handler, url, load.burst);
  const detail = 'its create() returns a promise: load the module by its URL';
  throw new TwinpathError('ERR_HANDLER', { device: url, detail });
}

const METHODS = ['tick', 'configure', 'message'] as const;

const isHandler = (made: Created | undefined): made is Created =>
  typeof made === 'function' ||
  (typeof made?.handle === 'function' &&
    METHODS.every((name) => made[name] === undefined || typeof made[name] === 'function'));

/** @throws ERR_HANDLER if it is none */
function loadedHandler(handler: Created | undefined, url: string, burst: Burst): LoadedHandler {
  if (!isHandler(handler))
    throw new TwinpathError('ERR_HANDLER', {
      device: url,
      detail: 'its create() returns neither a function nor an object of functions, { handle, tick … }',
      hint: HINT,
    });
  if (typeof handler === 'function') {
    return { handle: bound(handler, burst), tick: undefined, tickMillis: TICK_MILLIS };
  }
  const { tickMillis = TICK_MILLIS } = handler;
  // The handler may be an object with state.
  const handle = bound(handler.handle.bind(handler), burst);
  const [tick, configure, message] = [
    handler.tick?.bind(handler),
    handler.configure?.bind(handler),
    handler.message?.bind(handler),
  ];
  if (tickMillis >= 1 && tickMillis <= 1000) return { handle, tick, tickMillis, configure, message };
  const detail = `its tickMillis is ${tickMillis}: it takes 1 to 1000`;
  throw new TwinpathError('ERR_HANDLER', { device: url, detail });
}

function contextOf({
  queue,
  queues,
  memory,
  burst,
  now,
  shared = newHandlerMemory(),
  post: postMessage = () => false,
}: LoadContext): HandlerContext {
  const macs = macsOf(memory);
  const clock = new Clock(now);
  return { queue, queues, macs, burst, clock, shared: (bytes) => atLeast(shared, bytes), postMessage };
}

/** @throws ERR_HANDLER if it asks for something else */
function metadataOf({ metadata = [] }: HandlerModule, url: string): readonly MetadataName[] {
  const wrong = Array.isArray(metadata) ? metadata.find((name) => !METADATA.includes(name)) : metadata;
  if (Array.isArray(metadata) && wrong === undefined) return metadata;
  const detail = `its metadata has ${String(wrong)}: it is a list of ${METADATA.join(', ')}`;
  throw new TwinpathError('ERR_HANDLER', { device: url, detail });
}

/** The file, if its name or first bytes show WebAssembly. `import` reports a file that cannot be read. */
function wasmBytes(url: string): Uint8Array | undefined {
  if (!url.startsWith('file:')) return undefined;
  const location = new URL(url);
  const named = location.pathname.endsWith('.wasm');
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(location);
  } catch (error) {
    if (!named) return undefined;
    const detail = (error as Error).message;
    throw new TwinpathError('ERR_HANDLER', { device: url, detail });
  }
  return named || isWasm(bytes) ? bytes : undefined;
}

async function imported(url: string): Promise<HandlerModule> {
  try {
    return (await import(url)) as HandlerModule;
  } catch (error) {
    throw new TwinpathError('ERR_HANDLER', {
      device: url,
      detail: (error as Error).message.split('\n')[0],
      hint: url.endsWith('.ts') ? 'Node before 22.18 imports JavaScript only: compile it first.' : undefined,
    });
  }
}

/** What the module's `create` returns, or its default export. */
function exported(
  module: HandlerModule,
  url: string,
  options: Record<string, unknown>,
  load: LoadContext,
): Created | Promise<Created> | undefined {
  const { burst, metadata = [] } = load;
  burst.metadata |= metadataBits([...metadataOf(module, url), ...metadata]);
  if (module.create === undefined) {
    if (isHandler(module.default)) return module.default;
    const detail = 'it exports neither a default function nor create()';
    throw new TwinpathError('ERR_HANDLER', { device: url, detail, hint: HINT });
  }
  try {
    const made = module.create(options, contextOf(load));
    return made instanceof Promise ? made.catch((error: unknown) => rethrow(error, url)) : made;
  } catch (error) {
    return rethrow(error, url);
  }
}

function rethrow(error: unknown, url: string): never {
  if (error instanceof TwinpathError) throw error;
  const message = error instanceof Error ? error.message : String(error);
  throw new TwinpathError('ERR_HANDLER', { device: url, detail: `its create() threw: ${message}` });
}
