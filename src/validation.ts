/**
 * Checks of options: those of a port, of a handler, and of a command. Each names the option, and says what it must be and
 * what comes nearest. Throw TwinpathError ERR_OPTION_INVALID, or ERR_OPTION_UNKNOWN. Pure; any thread.
 *
 * An option whose name begins with a dash is from the command line: a suggestion shows words as they are typed there.
 */
import { TwinpathError } from './errors.ts';

/** @throws ERR_OPTION_INVALID */
export function invalid(option: string, detail: string, hint?: string): never {
  throw new TwinpathError('ERR_OPTION_INVALID', { device: option, detail, hint });
}

/** Refuses options with other names than these. @param hint if no name is near */
export function onlyKnown(options: object, names: readonly string[], hint: string): void {
  const unknown = Object.keys(options).find((name) => !names.includes(name));
  if (unknown !== undefined) unknownOption(unknown, names, hint);
}

/** @param hint if no name is near. @throws ERR_OPTION_UNKNOWN */
export function unknownOption(option: string, names: readonly string[], hint: string): never {
  const dashes = option.startsWith('-') ? '--' : '';
  const near = nearest(option.replace(/^-+/, ''), names);
  throw new TwinpathError('ERR_OPTION_UNKNOWN', {
    device: option,
    hint: near === undefined ? hint : didYouMean(option, `${dashes}${near}`),
  });
}

/** @param what kind of number it is, such as 'a UDP port' */
export function wholeNumber(option: string, value: unknown, least: number, most: number, what = ''): number {
  if (Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most) {
    return value as number;
  }
  const range = `a whole number from ${least} to ${most}`;
  if (what !== '') invalid(option, `${String(value)} is not ${what}`, `Give ${range}.`);
  return invalid(option, `it must be ${range}, not ${String(value)}`);
}

/** A value that must be one of these words or numbers. */
export function oneOf<const T extends string | number>(
  option: string,
  value: unknown,
  allowed: readonly T[],
): T {
  if (allowed.includes(value as T)) return value as T;
  const words = allowed.filter((word) => typeof word === 'string');
  const near = typeof value === 'string' ? nearest(value, words) : undefined;
  const hint = near === undefined ? undefined : didYouMean(option, near);
  return invalid(option, `it must be one of ${allowed.join(', ')}, not ${String(value)}`, hint);
}

export function flag(option: string, value: unknown): boolean {
  return typeof value === 'boolean' ? value : invalid(option, 'it must be true or false');
}

/** Whether it can go to another thread. @throws ERR_OPTION_INVALID */
export function cloneable(option: string, value: Record<string, unknown>): Record<string, unknown> {
  try {
    structuredClone(value);
    return value;
  } catch (error) {
    return invalid(option, `it must survive a structured clone: ${(error as Error).message}`);
  }
}

export function nonEmptyText(option: string, value: unknown): string {
  return typeof value === 'string' && value !== '' ? value : invalid(option, 'it must be a non-empty string');
}

export function plainObject(option: string, value: unknown): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  return invalid(option, 'it must be an object');
}

function didYouMean(option: string, near: string): string {
  return option.startsWith('-') ? `Did you mean ${near}?` : `Did you mean "${near}"?`;
}

/** No misspelt word is longer, and the search takes time by the product of two lengths. */
const MAX_LENGTH = 128;

/**
 * The candidate that begins with `wanted`, or that needs the fewest single-character edits to become it, if it is near: at
 * most two edits or half of the longer word's characters, and not all of them.
 */
export function nearest(wanted: string, candidates: readonly string[]): string | undefined {
  if (wanted === '' || wanted.length > MAX_LENGTH) return undefined;
  const word = wanted.toLowerCase();
  const ranked = candidates
    .map((candidate) => {
      const name = candidate.toLowerCase();
      const edits = distance(word, name);
      const longer = Math.max(word.length, name.length);
      const begins = word.length > 1 && name.startsWith(word);
      const near = begins || (edits <= Math.max(2, longer / 2) && edits < longer);
      return { candidate, near, edits: begins ? Math.min(edits, 1) : edits };
    })
    .filter(({ near }) => near)
    .sort((a, b) => a.edits - b.edits);
  return ranked[0]?.candidate;
}

/** Levenshtein's. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      next[j] = Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + same);
    }
    row = next;
  }
  return row[b.length]!;
}
