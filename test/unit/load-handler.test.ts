/** What a handler module may export, and how it is called. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, it, onTestFinished } from 'vitest';
import type { Burst } from '../../src/datapath/burst.ts';
import { loadHandler } from '../../src/datapath/load-handler.ts';
import { Memory } from '../../src/memory/shared.ts';

function load(text: string) {
  const folder = mkdtempSync(join(tmpdir(), 'tp-handler-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'handler.mjs');
  writeFileSync(file, text);
  const geometry = {
    pageSize: 4096,
    ports: 1,
    queues: 1,
    frameSize: 2048,
    framesPerWorker: 64,
    ringEntries: 64,
  };
  const context = { queue: 0, queues: 1, macs: ['02:00:00:00:00:01'], memory: Memory.create(geometry) };
  return loadHandler(pathToFileURL(file).href, {}, context);
}

it('calls the methods of an object with a state of its own on that object', async () => {
  const { handle, tick } = await load(`
    class Counting {
      #bursts = 0;
      #ticks = 0;
      handle(burst) { burst.seen = ++this.#bursts; }
      tick(burst) { burst.seen = 100 + ++this.#ticks; }
    }
    export const create = () => new Counting();
  `);
  const burst = { seen: 0 };
  const call = { handle };
  call.handle(burst as unknown as Burst);
  call.handle(burst as unknown as Burst);
  expect(burst.seen).toBe(2);
  tick!(burst as unknown as Burst, 0);
  expect(burst.seen).toBe(101);
});

it('refuses a tick that comes too often or too rarely', async () => {
  const text = (millis: number): string =>
    `export const create = () => ({ handle() {}, tick() {}, tickMillis: ${millis} });`;
  await expect(load(text(0))).rejects.toMatchObject({ code: 'ERR_HANDLER' });
  await expect(load(text(5000))).rejects.toMatchObject({ code: 'ERR_HANDLER' });
  await expect(load(text(5))).resolves.toMatchObject({ tickMillis: 5 });
});
