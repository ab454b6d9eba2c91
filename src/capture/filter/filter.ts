/** Filters of captures, from text to a program. Pure; any thread. */
import { invalid } from '../../validation.ts';
import { MAX_INSTRUCTIONS, Op } from './machine.ts';
import { parseFilter } from './parser.ts';
import { programOf } from './program.ts';

/** Characters of the longest filter. */
const MAX_TEXT = 4096;

/** Takes every packet. */
const ALL = Int32Array.of(Op.RETURN, 1, 0, 0);

/**
 * Compiles a filter, a subset of pcap-filter(7). The empty one takes every packet.
 *
 * @returns a program for `FilterMachine`, of `CAPTURE_PROGRAM_WORDS` at most
 * @throws ERR_OPTION_INVALID, which names the word that is not taken
 */
export function compileFilter(text: string): Int32Array {
  if (text.trim() === '') return ALL;
  if (text.length > MAX_TEXT) invalid('filter', `it has more than ${MAX_TEXT} characters`);
  const program = programOf(parseFilter(text));
  return program ?? invalid('filter', `it needs more than ${MAX_INSTRUCTIONS} instructions`);
}
