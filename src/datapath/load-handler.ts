/** Imports a handler module and makes the handler of one worker. */
import { TwinpathError } from '../errors.ts';
import type { Handler, HandlerModule } from './handler.ts';

export interface LoadContext {
  readonly queue: number;
  readonly queues: number;
  readonly macs: readonly string[];
}

/** @throws ERR_HANDLER if the module cannot be imported or is none; whatever `create` throws */
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
  const handler = module.create ? module.create(options, { queue, queues, macs: bytes }) : module.default;
  if (typeof handler === 'function') return handler;
  throw new TwinpathError('ERR_HANDLER', {
    device: url,
    detail: module.create
      ? 'its create() returns no function'
      : 'it exports neither a default function nor create()',
    hint: 'Write: export default (burst) => { … }',
  });
}
