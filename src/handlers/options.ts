/**
 * A handler's options, read once in `create`: a person's mistake is told there, packets meet plain numbers.
 *
 * Values come from a program, or from the command line as text (as JSON where they parse). So a list may be
 * an array or one text with commas or spaces in it: '10.0.0.1, 10.0.0.2'. All of these throw TwinpathError
 * ERR_OPTION_UNKNOWN or ERR_OPTION_INVALID.
 */

import { TwinpathError } from '../errors.ts';
import { DROP, PASS } from '../handler/handler.ts';
import { nearest } from '../options.ts';

export type Options = Readonly<Record<string, unknown>>;

export function invalid(option: string, detail: string, hint?: string): never {
  throw new TwinpathError('ERR_OPTION_INVALID', { device: option, detail, hint });
}

/** Refuses options other than these. */
export function onlyKnown(handler: string, options: Options, names: readonly string[]): void {
  const unknown = Object.keys(options).find((name) => !names.includes(name));
  if (unknown === undefined) return;
  const near = nearest(unknown, names);
  const quoted = names.map((name) => `'${name}'`).join(', ');
  throw new TwinpathError('ERR_OPTION_UNKNOWN', {
    device: unknown,
    hint: near === undefined ? `${handler} has ${quoted}.` : `Did you mean "${near}"?`,
  });
}

export interface NumberRange {
  readonly least: number;
  readonly most: number;
  readonly otherwise: number;
  /** 'a UDP port'. */
  readonly what: string;
}

export function wholeNumber(options: Options, name: string, range: NumberRange): number {
  const { least, most, otherwise, what } = range;
  const value = options[name] ?? otherwise;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= least && value <= most) {
    return value;
  }
  return invalid(name, `${String(value)} is not ${what}`, `Give a whole number from ${least} to ${most}.`);
}

export function flag(options: Options, name: string, otherwise: boolean): boolean {
  const value = options[name] ?? otherwise;
  return typeof value === 'boolean' ? value : invalid(name, 'it must be true or false');
}

/** The option `otherwise`: what becomes of packets that a handler has no opinion on. */
export function otherwiseOf(options: Options, byDefault: 'pass' | 'drop'): typeof PASS | typeof DROP {
  const value = options.otherwise ?? byDefault;
  if (value === 'pass') return PASS;
  if (value === 'drop') return DROP;
  return invalid('otherwise', `${String(value)} is not known`, "Give 'pass' or 'drop'.");
}

/** One value, an array of them, or a text that lists them; nothing is an empty list. */
export function list(value: unknown): readonly unknown[] {
  if (value === undefined) return [];
  if (typeof value === 'string') return value.split(/[\s,]+/).filter((item) => item !== '');
  return Array.isArray(value) ? value : [value];
}
