/**
 * Where a function of a bundle is from. Each thread runs one file (workers/bundle.mjs), whose source map names the module of
 * every function in it.
 */
import { existsSync, readFileSync } from 'node:fs';
import { SourceMap } from 'node:module';

/** A place in a file. Lines and columns count from 0. */
export interface Place {
  readonly url: string;
  readonly line: number;
  readonly column: number;
}

export class Sources {
  /** By the bundle's URL. */
  readonly #maps = new Map<string, SourceMap | undefined>();

  /** The place in the module; the same place if its file has no source map. */
  of(place: Place): Place {
    const { url, line, column } = place;
    if (!url.startsWith('file:')) return place;
    if (!this.#maps.has(url)) this.#maps.set(url, mapOf(url));
    const entry = this.#maps.get(url)?.findEntry(line, column);
    if (entry === undefined || !('originalSource' in entry)) return place;
    const { originalSource, originalLine, originalColumn } = entry;
    return { url: new URL(originalSource, url).href, line: originalLine, column: originalColumn };
  }
}

function mapOf(url: string): SourceMap | undefined {
  const file = new URL(`${url}.map`);
  return existsSync(file) ? new SourceMap(JSON.parse(readFileSync(file, 'utf8'))) : undefined;
}
