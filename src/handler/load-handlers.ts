/** Makes the handlers of one worker, of all its ports. */
import { TwinpathError } from '../errors.ts';
import type { HandlerSettings } from '../handler-settings.ts';
import { type LoadContext, type LoadedHandler, loadHandler } from './load-handler.ts';

/**
 * @param post sends a message of a handler, by its position in `modules`: false if it was refused
 * @throws as `loadHandler`; ERR_HANDLER for a second handler in WebAssembly
 */
export async function loadHandlers(
  modules: readonly HandlerSettings[],
  context: Omit<LoadContext, 'shared' | 'post'>,
  post: (handler: number, value: unknown) => boolean = () => false,
): Promise<LoadedHandler[]> {
  const loaded: LoadedHandler[] = [];
  let wasm: string | undefined;
  for (const [number, { url, options, memory: shared }] of modules.entries()) {
    const own = { ...context, shared, post: (value: unknown) => post(number, value) };
    const handler = await loadHandler(url, options, own, (found) => {
      if (wasm !== undefined) throw secondModule(found, wasm);
      wasm = found;
    });
    loaded.push(handler);
  }
  return loaded;
}

/**
 * A module's static data is in the first page of the memory, which all its instances share: the page holds one module, and with
 * one set of options, which a module may keep there.
 */
function secondModule(url: string, first: string): TwinpathError {
  return new TwinpathError('ERR_HANDLER', {
    device: url,
    detail: `another port of the same call has a handler in WebAssembly, ${first}, and the ports' memory has room for one`,
    hint: 'Open the ports with two calls, and forward between them with forwardTo.',
  });
}
