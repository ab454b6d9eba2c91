/** How the flows of a port are spread now. Application thread. */
import type { PortConfiguration } from './configuration.ts';
import { RssReader } from './memory/rss-block.ts';
import type { Memory } from './memory/shared.ts';
import type { RssMode } from './options.ts';
import { type HashType, hashTypesOf } from './rss/configuration.ts';

/** How the flows of a port are spread. null: by the device's own settings, which the port does not change. */
export interface PortRss {
  /** 'software': workers hand over packets that came to another queue; they check each packet's hash in any case. */
  readonly spreadBy: 'device' | 'software';
  /** Hexadecimal digits of the 40 bytes that are used. */
  readonly key: string | null;
  /** The queue of each of 128 entries. */
  readonly table: readonly number[] | null;
  /** What is hashed. */
  readonly hashTypes: readonly HashType[] | null;
}

/** @param vf what the VF's path says about itself */
export function portRss(
  memory: Memory,
  port: number,
  mode: RssMode,
  { rss, queues }: PortConfiguration,
  vf: PortRss['spreadBy'] | undefined,
): PortRss {
  const spreadBy = mode === 'device' ? 'device' : (vf ?? 'software');
  if (mode === 'device' && queues === null && Object.values(rss).every((value) => value === null)) {
    return { spreadBy, key: null, table: null, hashTypes: null };
  }
  const reader = new RssReader(memory, port);
  while (!reader.take()); // it is written within a microsecond
  const { key, table, hashTypes } = reader;
  return {
    spreadBy,
    key: Buffer.from(key).toString('hex'),
    table: [...table],
    hashTypes: hashTypesOf(hashTypes),
  };
}
