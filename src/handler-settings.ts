/** Which handlers the ports of a call have: checked, each once, and for each port which of them is its own. */
import { fileURLToPath } from 'node:url';
import { newHandlerMemory } from './memory/handler-memory.ts';
import type { HandlerOptions } from './options.ts';
import { cloneable, invalid, plainObject } from './validation.ts';

/** A handler module, and what its `create` gets. */
export interface HandlerSettings {
  /** A file URL. */
  readonly url: string;
  readonly options: Record<string, unknown>;
  /** Memory that its workers share: `context.shared`. */
  readonly memory: SharedArrayBuffer;
}

export interface PortHandlers {
  readonly handlers: readonly HandlerSettings[];
  /** For each port the index of its handler. */
  readonly handlerOf: readonly number[];
}

/**
 * A port has the shared handler, or one of its own: another module, or the same module with other options. Each worker makes
 * each of them once.
 *
 * @param shared what ports without a handler of their own have
 * @throws ERR_OPTION_INVALID also for what no port would use
 */
export function handlersOf(shared: HandlerOptions, ports: readonly HandlerOptions[]): PortHandlers {
  const handlers: HandlerSettings[] = [];
  const add = (module: unknown, options: unknown): number => {
    const url = handlerUrl(module);
    return (
      handlers.push({
        url,
        options: cloneable('handlerOptions', plainObject('handlerOptions', options ?? {})),
        memory: newHandlerMemory(),
      }) - 1
    );
  };
  let sharedIndex: number | undefined;
  const handlerOf = ports.map(({ handler, handlerOptions }) => {
    if (handler !== undefined) return add(handler, handlerOptions);
    if (handlerOptions !== undefined) return add(shared.handler, handlerOptions);
    sharedIndex ??= add(shared.handler, shared.handlerOptions);
    return sharedIndex;
  });
  if (shared.handler !== undefined && ports.every(({ handler }) => handler !== undefined)) {
    invalid('handler', 'every port has a handler of its own, so none would have this one');
  }
  if (shared.handlerOptions !== undefined && sharedIndex === undefined) {
    invalid('handlerOptions', 'every port has a handler or options of its own, so none would have these');
  }
  return { handlers, handlerOf };
}

function handlerUrl(handler: unknown): string {
  if (handler === undefined)
    invalid('handler', 'every port needs one: a URL or an absolute path of a module');
  try {
    const url =
      handler instanceof URL
        ? handler
        : new URL(String(handler).startsWith('/') ? `file://${String(handler)}` : String(handler));
    fileURLToPath(url);
    return url.href;
  } catch {
    return invalid('handler', `${String(handler)} is neither a file URL nor an absolute path`);
  }
}
