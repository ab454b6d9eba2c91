/**
 * The command line: each command has a table, by which arguments are parsed and checked, and from which its help is made.
 *
 * An error names the wrong word and suggests the nearest right one. Pure; any thread.
 */
import { parseArgs } from 'node:util';
import { TwinpathError } from '../errors.ts';
import { invalid, nearest, oneOf as oneOfWords, unknownOption, wholeNumber } from '../validation.ts';

export interface OptionRow {
  /** The value's name in the help; absent for a flag. */
  readonly value?: string;
  readonly help: string;
  /** One letter that means the same: `-w` for `--write`. */
  readonly short?: string;
  /** The default, in words. */
  readonly otherwise?: string;
  readonly repeatable?: boolean;
}

export interface CommandTable {
  /** The program of which it is a command. Default: twinpath. */
  readonly program?: string;
  readonly name: string;
  readonly summary: string;
  /** Names of its arguments, all required. */
  readonly positionals: readonly string[];
  /** The name of one more, which may be left out. */
  readonly optional?: string;
  /** The name of further ones, one or more. */
  readonly rest?: string;
  /** The name of further ones, which may be left out. */
  readonly optionalRest?: string;
  readonly options: Readonly<Record<string, OptionRow>>;
  /** Paragraphs between the options and the examples. */
  readonly notes: readonly string[];
  readonly examples: readonly (readonly [command: string, meaning: string])[];
  readonly exits: readonly (readonly [code: number, meaning: string])[];
}

/** Parsed arguments of a command. Options that were not given are absent. */
export interface Arguments {
  readonly positionals: readonly string[];
  readonly flags: ReadonlySet<string>;
  readonly texts: ReadonlyMap<string, readonly string[]>;
}

/** Options that every command has. */
export const COMMON: Readonly<Record<string, OptionRow>> = {
  json: { help: 'print one JSON document on standard output, and nothing else there' },
  help: { help: 'print this text' },
};

/** A command with its program, as in a shell. */
export const typed = ({ program = 'twinpath', name }: CommandTable): string =>
  [program, name].filter(Boolean).join(' ');

/** The names of its arguments, as the help shows them. */
export const argumentNames = ({ positionals, optional, rest, optionalRest }: CommandTable): string[] => [
  ...positionals,
  ...(rest === undefined ? [] : [`${rest}…`]),
  ...(optional === undefined ? [] : [`[${optional}]`]),
  ...(optionalRest === undefined ? [] : [`[${optionalRest}…]`]),
];

/** @throws ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID */
export function parse(table: CommandTable, args: readonly string[]): Arguments {
  const rows = { ...table.options, ...COMMON };
  const { tokens } = parseArgs({
    args: [...args],
    options: {
      ...Object.fromEntries(
        Object.entries(rows).map(([name, { value, short }]) => [
          name,
          {
            type: value === undefined ? ('boolean' as const) : ('string' as const),
            multiple: true,
            ...(short === undefined ? {} : { short }),
          },
        ]),
      ),
      help: { type: 'boolean', multiple: true, short: 'h' },
    },
    allowPositionals: true,
    strict: false,
    tokens: true,
  });
  const positionals: string[] = [];
  const flags = new Set<string>();
  const texts = new Map<string, string[]>();
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value);
    if (token.kind !== 'option') continue;
    const { name, rawName, value, inlineValue } = token;
    const row = Object.hasOwn(rows, name)
      ? rows[name]!
      : unknownOption(rawName, Object.keys(rows), `"${typed(table)} --help" lists them.`);
    if (row.value === undefined) {
      if (value !== undefined) invalid(rawName, 'it takes no value');
      flags.add(name);
      continue;
    }
    if (value === undefined || value === '' || (!inlineValue && value.startsWith('--'))) {
      invalid(rawName, 'it needs a value', `Write ${rawName} ${row.value}.`);
    }
    const before = texts.get(name) ?? [];
    if (before.length > 0 && !row.repeatable) invalid(rawName, 'it may be given once');
    texts.set(name, [...before, value]);
  }
  if (!flags.has('help')) checkPositionals(table, positionals);
  return { positionals, flags, texts };
}

/** The value of an option that may be given once. */
export function text({ texts }: Arguments, name: string): string | undefined {
  return texts.get(name)?.[0];
}

/** @throws ERR_OPTION_INVALID if it is not a whole number from `least` to `most` */
export function whole(args: Arguments, name: string, least: number, most: number): number | undefined {
  const given = text(args, name);
  if (given === undefined) return undefined;
  return wholeNumber(`--${name}`, /^\d+$/.test(given) ? Number(given) : given, least, most);
}

/** @throws ERR_OPTION_INVALID */
export function oneOf<const T extends string>(
  args: Arguments,
  name: string,
  allowed: readonly T[],
): T | undefined {
  const given = text(args, name);
  return given === undefined ? undefined : oneOfWords(`--${name}`, given, allowed);
}

/**
 * `key=value` pairs as an object. A value that is JSON (7, true, ["a","b"]) is taken as such, every other
 * as text. A key that is there twice is an error: the second list of rules would silently replace the first.
 *
 * @throws ERR_OPTION_INVALID
 */
export function pairs({ texts }: Arguments, name: string): Record<string, unknown> {
  return pairsOf(texts.get(name) ?? [], `--${name}`, (key) => `${key}=A,B`);
}

/**
 * @param what they are, for an error
 * @param list how several values of a key are written
 * @throws ERR_OPTION_INVALID
 */
export function pairsOf(
  texts: readonly string[],
  what: string,
  list: (key: string) => string,
): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const given of texts) {
    const equals = given.indexOf('=');
    if (equals < 1) invalid(what, `${given} is not of the form key=value`);
    const key = given.slice(0, equals);
    if (Object.hasOwn(result, key)) {
      invalid(what, `${key} is there twice`, `Give several values as a list: ${list(key)}.`);
    }
    result[key] = jsonOrText(given.slice(equals + 1));
  }
  return result;
}

export function unknownCommand(name: string, known: readonly string[]): TwinpathError {
  const near = nearest(name, known);
  return new TwinpathError('ERR_COMMAND_UNKNOWN', {
    device: name,
    hint: near === undefined ? `There are ${known.join(', ')}.` : `Did you mean "${near}"?`,
  });
}

function checkPositionals(table: CommandTable, given: readonly string[]): void {
  const { positionals, rest, optionalRest } = table;
  const names = argumentNames(table);
  const wanted = rest === undefined ? positionals : [...positionals, rest];
  if (given.length < wanted.length) {
    const missing = wanted[given.length]!;
    invalid(missing, `"${typed(table)}" needs one`, `"${typed(table)} --help" explains.`);
  }
  if (rest === undefined && optionalRest === undefined && given.length > names.length) {
    invalid(
      given[names.length]!,
      `"${typed(table)}" takes ${names.length === 0 ? 'no argument' : names.join(' ')}`,
    );
  }
}

function jsonOrText(value: string): unknown {
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}
