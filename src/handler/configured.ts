/** Asks a handler to take other options. Any thread may call it. */
import type { HandlerObject } from './handler.ts';

type Configure = NonNullable<HandlerObject['configure']>;

/**
 * Calls a handler's `configure` and checks what it returns: a module in JavaScript may return anything.
 *
 * @param whose begins the sentence of the error
 * @returns what puts the options in place
 * @throws Error if that is no function; what `configure` throws
 */
export function configured(
  configure: Configure,
  options: Record<string, unknown>,
  whose = 'its',
): () => void {
  const apply: unknown = configure(options);
  if (typeof apply === 'function') return apply as () => void;
  const isPromise = apply instanceof Promise;
  if (isPromise) apply.catch(() => {}); // it is refused, so nobody waits for it
  const what = isPromise ? 'a promise' : String(apply);
  throw new Error(`${whose} configure() returned ${what} in place of a function that puts them in place`);
}
