/**
 * The RSS of a port as it is asked for: the part `rss` of its configuration. Checked on the thread that asks; plain data.
 *
 * Pure functions; any thread.
 */
import { RETA_ENTRIES } from '../memory/geometry.ts';
import { invalid, onlyKnown, plainObject } from '../validation.ts';
import { keyOf } from './key.ts';

/** Headers that may enter the hash, by the names that drivers use. */
export const HASH_TYPES = ['ipv4', 'tcp4', 'udp4', 'ipv6', 'tcp6', 'udp6'] as const;
export type HashType = (typeof HASH_TYPES)[number];

/** One bit for each of {@link HASH_TYPES}, in their order. */
export const HashBit = { IPV4: 1, TCP4: 2, UDP4: 4, IPV6: 8, TCP6: 16, UDP6: 32 } as const;
export const ALL_HASHED = 63;

/** A port's RSS, complete. */
export interface RssConfiguration {
  /** Hexadecimal digits of 40 to 52 bytes; null: the key of the option `rssKey`. */
  readonly key: string | null;
  /** The queue of each of 128 entries; null: entries repeat the active queues in turn. */
  readonly table: readonly number[] | null;
  /**
   * What is hashed; null: all. `tcp4`, `udp4`, `tcp6`, `udp6`: addresses and ports of such packets. `ipv4`, `ipv6`: the
   * addresses of all other packets. A packet of no such type has the hash 0.
   */
  readonly hashTypes: readonly HashType[] | null;
}

/** What changes; absent properties stay as they are. */
export interface RssChange {
  /** 'default', 'symmetric', 40 to 52 bytes or their hexadecimal digits; null: the key of the option `rssKey`. */
  readonly key?: string | Uint8Array | null;
  /** Queue numbers: 128, or a power of two below, which repeat; null: the active queues in turn. */
  readonly table?: readonly number[] | null;
  /** null: all. */
  readonly hashTypes?: readonly HashType[] | null;
}

export const DEFAULT_RSS: RssConfiguration = { key: null, table: null, hashTypes: null };

const NAMES = ['key', 'table', 'hashTypes'] as const;

/** @param queues of the port. @throws ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID */
export function checkRss(change: RssChange | null, queues: number): Partial<RssConfiguration> {
  if (change === null) return DEFAULT_RSS;
  onlyKnown(plainObject('rss', change), NAMES, `Known are ${NAMES.join(', ')}.`);
  const { key, table, hashTypes } = change;
  return {
    ...(key === undefined ? {} : { key: key === null ? null : Buffer.from(keyOf(key)).toString('hex') }),
    ...(table === undefined ? {} : { table: table === null ? null : checkTable(table, queues) }),
    ...(hashTypes === undefined ? {} : { hashTypes: hashTypes === null ? null : checkHashTypes(hashTypes) }),
  };
}

/** The bits of these types. */
export function hashBits(hashTypes: RssConfiguration['hashTypes']): number {
  if (hashTypes === null) return ALL_HASHED;
  return hashTypes.reduce((bits, type) => bits | (1 << HASH_TYPES.indexOf(type)), 0);
}

/** The names of these bits. */
export const hashTypesOf = (bits: number): HashType[] => HASH_TYPES.filter((_, i) => (bits & (1 << i)) !== 0);

function checkTable(table: unknown, queues: number): number[] {
  const { length } = Array.isArray(table) ? table : [];
  if (length < 1 || length > RETA_ENTRIES || RETA_ENTRIES % length !== 0)
    return invalid(
      'rss.table',
      `it must be a list of ${RETA_ENTRIES} queue numbers, or a power of two below`,
    );
  const entries = table as unknown[];
  const wrong = entries.find((queue) => !isQueue(queue, queues));
  if (wrong !== undefined || entries.includes(undefined))
    return invalid(
      'rss.table',
      `there is no queue ${String(wrong)}: they are numbered from 0 to ${queues - 1}`,
    );
  return Array.from({ length: RETA_ENTRIES }, (_, i) => entries[i % length] as number);
}

function checkHashTypes(types: unknown): HashType[] {
  if (!Array.isArray(types)) return invalid('rss.hashTypes', `it must be a list of ${HASH_TYPES.join(', ')}`);
  const wrong = types.find((type) => !HASH_TYPES.includes(type));
  if (wrong !== undefined || types.includes(undefined))
    return invalid('rss.hashTypes', `${String(wrong)} is none of ${HASH_TYPES.join(', ')}`);
  return HASH_TYPES.filter((type) => types.includes(type));
}

/** The numbers of the queues that flows are spread over, each once and in ascending order. @throws ERR_OPTION_INVALID */
export function checkQueues(active: unknown, queues: number): number[] {
  if (!Array.isArray(active)) return invalid('queues', 'it must be a list of queue numbers, or null');
  if (active.length === 0) return invalid('queues', 'a port needs a queue: none is left');
  const wrong = active.find((queue) => !isQueue(queue, queues));
  if (wrong !== undefined || active.includes(undefined))
    return invalid('queues', `there is no queue ${String(wrong)}: they are numbered from 0 to ${queues - 1}`);
  return [...new Set(active as number[])].sort((a, b) => a - b);
}

const isQueue = (queue: unknown, queues: number): boolean =>
  Number.isInteger(queue) && (queue as number) >= 0 && (queue as number) < queues;
