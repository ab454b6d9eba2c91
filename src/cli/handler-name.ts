/** The handler a person named: one of ours by its name, or a module by its path. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { TwinpathError } from '../errors.ts';
import { nearest } from '../options.ts';

export const BUILT_IN = ['reflect', 'echo', 'host', 'dns', 'balance', 'firewall', 'count', 'drop'] as const;

/** @throws ERR_HANDLER when it is neither */
export function handlerUrl(name: string, folder = process.cwd()): URL {
  if ((BUILT_IN as readonly string[]).includes(name)) {
    const extension = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
    return new URL(`../handlers/${name}${extension}`, import.meta.url);
  }
  const file = resolve(folder, name);
  const isPath = name.includes('/') || /\.([cm]?[jt]s|wasm)$/.test(name);
  if (isPath && existsSync(file)) return pathToFileURL(file);
  const near = isPath ? undefined : nearest(name, BUILT_IN);
  throw new TwinpathError('ERR_HANDLER', {
    device: name,
    detail: isPath ? 'there is no such file' : 'there is no built-in handler of that name',
    hint:
      near === undefined
        ? `Give ${BUILT_IN.join(', ')}, or the path of a module such as ./handler.js.`
        : `Did you mean "${near}"?`,
  });
}
