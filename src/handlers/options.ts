/**
 * A handler's options, checked once in `create`: a mistake throws there, and each packet is handled with plain numbers.
 *
 * Values come from a program, or as text from the command line, which parses those that are JSON. So a list may be an array
 * or a text with commas or spaces: '10.0.0.1, 10.0.0.2'. See validation.ts.
 */
import { isDeepStrictEqual } from 'node:util';
import { DROP, PASS } from '../handler/handler.ts';
import { invalid, onlyKnown } from '../validation.ts';

export type Options = Readonly<Record<string, unknown>>;

/** @throws ERR_OPTION_UNKNOWN for an option with another name than these */
export function checkNames(handler: string, options: Options, names: readonly string[]): void {
  onlyKnown(options, names, `${handler} has ${names.map((name) => `'${name}'`).join(', ')}.`);
}

/** The option `otherwise`: the verdict on packets that the handler does not handle. */
export function otherwiseOf(options: Options, byDefault: 'pass' | 'drop'): typeof PASS | typeof DROP {
  const value = options.otherwise ?? byDefault;
  if (value === 'pass') return PASS;
  if (value === 'drop') return DROP;
  return invalid('otherwise', `${String(value)} is not known`, "Give 'pass' or 'drop'.");
}

/** One value, an array of values, or a text that lists them with commas or spaces; undefined is an empty list. */
export function list(value: unknown): readonly unknown[] {
  if (value === undefined) return [];
  if (typeof value === 'string') return value.split(/[\s,]+/).filter((item) => item !== '');
  return Array.isArray(value) ? value : [value];
}

/** Refuses other values of options that stay as they are while the handler runs. @throws ERR_OPTION_INVALID */
export function requireSame(handler: string, before: Options, now: Options, names: readonly string[]): void {
  const changed = names.find((name) => !isDeepStrictEqual(before[name], now[name]));
  if (changed === undefined) return;
  invalid(changed, `${handler} cannot change it while it runs`, 'Open the port again with the other value.');
}
