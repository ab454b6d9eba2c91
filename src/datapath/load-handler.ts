/** Imports a handler module and makes the handler of one worker. */
import { TwinpathError } from '../errors.ts';
import type { Handler, HandlerContext, HandlerModule } from './handler.ts';

export interface LoadContext {
  readonly queue: number;
  readonly queues: number;
  readonly macs: readonly string[];
}

/** @throws ERR_HANDLER if the module cannot be imported, is none, or its `create` throws; a TwinpathError of `create` as it is */
export async function loadHandler(
  url: string,
  options: Record<string, unknown>,
  { queue, queues, macs }: LoadContext,
): Promise<Handler> {
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
  if (typeof handler === 'function') return handler;
  throw new TwinpathError('ERR_HANDLER', {
    device: url,
    detail: module.create
      ? 'its create() returns no function'
      : 'it exports neither a default function nor create()',
    hint: 'Write: export default (burst) => { … }',
  });
}

function made(
  create: NonNullable<HandlerModule['create']>,
  url: string,
  options: Record<string, unknown>,
  context: HandlerContext,
): Handler {
  try {
    return create(options, context);
  } catch (error) {
    if (error instanceof TwinpathError) throw error;
    const message = error instanceof Error ? error.message : String(error);
    throw new TwinpathError('ERR_HANDLER', { device: url, detail: `its create() threw: ${message}` });
  }
}
