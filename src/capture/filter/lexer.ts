/** Cuts a filter into tokens, as the scanner of libpcap (scanner.l) does. Pure; any thread. */
import { isIPv6 } from 'node:net';
import { invalid } from '../../validation.ts';

/**
 * Kinds of tokens. `word` is a keyword or a name, `address` an IPv4 address or the first bytes of one, `mark` an operator or a
 * bracket. `and`, `or` and `not` are marks in either spelling.
 */
export type TokenKind = 'word' | 'number' | 'address' | 'address6' | 'mac' | 'mark' | 'end';

export interface Token {
  readonly kind: TokenKind;
  readonly text: string;
  /** Of a number, 0 to 2^32 - 1. */
  readonly value: number;
  /** Of its first character, from 0. */
  readonly at: number;
}

const SPACE = /[ \t\r\n]+/y;
/** At least two colons, so that `ip[6:2]` is none. */
const COLONS = /[\da-f]*(?::[\da-f.]*){2,}/iy;
const MAC = /^[\da-f]{1,2}([:-])(?:[\da-f]{1,2}\1){4}[\da-f]{1,2}$/i;
/** NB: `10-20` is one word here, as for libpcap: a difference needs spaces. */
const WORD = /\\?[a-z\d](?:[-_.a-z\d]*[.a-z\d])?/iy;
const NUMBER = /^(?:0x[\da-f]+|\d+)$/i;
const ADDRESS = /^\d+(?:\.\d+){1,3}$/;
const MARK = /&&|\|\||!=|==|<=|>=|<<|>>|[!=<>()[\]+\-*/&|:]/y;
const SPELLINGS: Readonly<Record<string, string>> = { '&&': 'and', '||': 'or', '!': 'not', '==': '=' };

/** @throws ERR_OPTION_INVALID, which names the place */
export function tokensOf(text: string): Token[] {
  const tokens: Token[] = [];
  const take = (pattern: RegExp, at: number): string | undefined => {
    pattern.lastIndex = at;
    return pattern.exec(text)?.[0];
  };
  let at = 0;
  const add = (kind: TokenKind, found: string, spelling = found, value = 0): void => {
    tokens.push({ kind, text: spelling, value, at });
    at += found.length;
  };
  for (;;) {
    at += take(SPACE, at)?.length ?? 0;
    if (at === text.length) break;
    const colons = take(COLONS, at);
    if (colons !== undefined) {
      if (MAC.test(colons)) add('mac', colons);
      else if (isIPv6(colons)) add('address6', colons);
      else misplaced(text, at, colons, 'it is neither an IPv6 nor a MAC address');
      continue;
    }
    const word = take(WORD, at);
    if (word !== undefined) {
      if (MAC.test(word)) add('mac', word);
      else if (NUMBER.test(word)) add('number', word, word, numberOf(text, at, word));
      else if (ADDRESS.test(word)) add('address', word);
      else if (word === 'and' || word === 'or' || word === 'not') add('mark', word);
      else add('word', word);
      continue;
    }
    const mark = take(MARK, at);
    if (mark === undefined) misplaced(text, at, text.charAt(at), 'it has no meaning in a filter');
    else add('mark', mark, SPELLINGS[mark] ?? mark);
  }
  tokens.push({ kind: 'end', text: '', value: 0, at });
  return tokens;
}

function numberOf(text: string, at: number, word: string): number {
  if (/^0\d/.test(word)) misplaced(text, at, word, 'it begins with 0', 'Write it as decimal, or as 0x….');
  const value = Number(word);
  return value <= 0xffffffff ? value : misplaced(text, at, word, 'it is more than 0xffffffff');
}

/**
 * Refuses a word of a filter.
 *
 * @param at of its first character, from 0
 * @throws ERR_OPTION_INVALID
 */
export function misplaced(text: string, at: number, word: string, why: string, hint?: string): never {
  const place = word === '' ? `at its end, in "${text}"` : `"${word}" at character ${at + 1} of "${text}"`;
  return invalid('filter', `${place}: ${why}`, hint);
}
