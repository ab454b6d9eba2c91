/** The package's folder: where the shim, WebAssembly, thread entries and package.json are found. Any thread. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TwinpathError } from './errors.ts';

/** The folder of package.json, above src/, dist/src/ and, for the bundles of threads, dist/workers/. */
export const packageRoot: string = rootAbove(dirname(fileURLToPath(import.meta.url)));

/**
 * The nearest folder with a package.json, from this one up to the root of the file system.
 *
 * @throws ERR_SHIM_MISSING if no folder has one: this file was copied or bundled without its package
 */
export function rootAbove(folder: string): string {
  if (existsSync(join(folder, 'package.json'))) return folder;
  const parent = dirname(folder);
  if (parent !== folder) return rootAbove(parent);
  throw new TwinpathError('ERR_SHIM_MISSING', {
    detail: 'no folder above this file has a package.json',
    hint: 'Install the package as it is; do not bundle it.',
  });
}
