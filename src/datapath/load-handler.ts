/** Imports a handler module and makes the handler of one worker. */
import { TwinpathError } from '../errors.ts';
import type { Handler, HandlerContext, HandlerModule, TickingHandler } from './handler.ts';

export interface LoadContext {
  readonly queue: number;
  readonly queues: number;
  readonly macs: readonly string[];
}

/** The handler of one worker, as the datapath calls it. */
export interface LoadedHandler {
  readonly handle: Handler;
  readonly tick: TickingHandler['tick'] | undefined;
  readonly tickMillis: number;
}

const TICK_MILLIS = 10;

/** @throws ERR_HANDLER if the module cannot be imported, is none, or its `create` throws; a TwinpathError of `create` as it is */
export async function loadHandler(
  url: string,
  options: Record<string, unknown>,
  { queue, queues, macs }: LoadContext,
): Promise<LoadedHandler> {
  let module: HandlerModule;
  try {
    module = (await import(url)) as HandlerModule;
  } catch (error) {
    throw new TwinpathError('ERR_HANDLER', {
      device: url,
      detail: (error as Error).message.split('\n')[0],
      hint: url.endsWith('.ts') ? 'Node before 22.18 imports JavaScript only: compile it first.' : undefined,
    });
  }
  const bytes = macs.map((mac) => Uint8Array.from(mac.split(':'), (byte) => Number.parseInt(byte, 16)));
  const handler = module.create
    ? made(module.create, url, options, { queue, queues, macs: bytes })
    : module.default;
  if (typeof handler === 'function') return { handle: handler, tick: undefined, tickMillis: TICK_MILLIS };
  if (typeof handler?.handle === 'function' && typeof handler.tick === 'function') {
    const { handle, tick, tickMillis = TICK_MILLIS } = handler;
    if (tickMillis >= 1 && tickMillis <= 1000) return { handle, tick, tickMillis };
    const detail = `its tickMillis is ${tickMillis}: it takes 1 to 1000`;
    throw new TwinpathError('ERR_HANDLER', { device: url, detail });
  }
  throw new TwinpathError('ERR_HANDLER', {
    device: url,
    detail: module.create
      ? 'its create() returns neither a function nor { handle, tick }'
      : 'it exports neither a default function nor create()',
    hint: 'Write: export default (burst) => { … }',
  });
}

function made(
  create: NonNullable<HandlerModule['create']>,
  url: string,
  options: Record<string, unknown>,
  context: HandlerContext,
): Handler | TickingHandler {
  try {
    return create(options, context);
  } catch (error) {
    if (error instanceof TwinpathError) throw error;
    const message = error instanceof Error ? error.message : String(error);
    throw new TwinpathError('ERR_HANDLER', { device: url, detail: `its create() threw: ${message}` });
  }
}
