/**
 * Threads whose modules are one file (workers/bundle.mjs), and the handlers that load modules of the package beside it.
 *
 * @module-tag unprivileged
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { openPort } from '../../dist/src/index.js';
import { ROOT } from '../support/nobody.ts';

const HANDLER = new URL('../fixtures/handlers/own-classes.mjs', import.meta.url);
const open = (says: string) =>
  openPort({ network: 'memory', queues: 1, handler: HANDLER, handlerOptions: { says } });

it('a handler has the classes of the worker that calls it, and the worker knows its errors', async () => {
  // A copy of the class would be an error of any kind to the worker, which would wrap it and leave its hint out.
  await expect(open('classes')).rejects.toMatchObject({
    code: 'ERR_HANDLER',
    detail: 'strange: none',
    hint: 'A hint.',
  });
});

it('the stack of a thread names its modules with --enable-source-maps, and the file of the thread without', () => {
  const program = fileURLToPath(new URL('../fixtures/open-and-say.mjs', import.meta.url));
  const options = { network: 'memory', queues: 1, handler: HANDLER.href, handlerOptions: { says: 'stack' } };
  const filesWith = (...flags: string[]): string[] => {
    const { stdout } = spawnSync(process.execPath, [...flags, program, JSON.stringify(options)], {
      encoding: 'utf8',
    });
    const { message } = JSON.parse(stdout) as { message: string };
    const files = [...message.matchAll(/(\/[^ :()]+\.js):\d+:\d+/g)].map(([, file]) =>
      file!.replace(/^\/+/, '/'),
    );
    return files.filter((file) => file.startsWith(join(ROOT, 'dist/')));
  };
  const mapped = filesWith('--enable-source-maps');
  expect(mapped).toEqual(expect.arrayContaining([join(ROOT, 'dist/src/handler/load-handler.js')]));
  expect(mapped.filter((file) => !existsSync(file))).toEqual([]);
  const plain = filesWith();
  expect(new Set(plain)).toEqual(new Set([join(ROOT, 'dist/workers/queue.js')]));
});
