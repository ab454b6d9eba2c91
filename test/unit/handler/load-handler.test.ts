/** What a handler module may export, and how it is called. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, it, onTestFinished } from 'vitest';
import { Burst } from '../../../src/handler/burst.ts';
import { loadHandler } from '../../../src/handler/load-handler.ts';
import { atLeast, newHandlerMemory } from '../../../src/memory/handler-memory.ts';
import { macOf, setMac } from '../../../src/memory/macs.ts';
import { Memory } from '../../../src/memory/shared.ts';

async function load(text: string) {
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
  const memory = Memory.create(geometry);
  const burst = new Burst(memory, 0);
  const context = { queue: 0, queues: 1, memory, burst };
  return { ...(await loadHandler(pathToFileURL(file).href, {}, context)), burst, memory };
}

it('calls the methods of an object with a state of its own on that object', async () => {
  const { handle, tick, burst } = await load(`
    class Counting {
      #bursts = 0;
      #ticks = 0;
      handle(burst) { burst.length = ++this.#bursts; }
      tick(burst) { burst.length = 100 + ++this.#ticks; }
    }
    export const create = () => new Counting();
  `);
  const call = { handle };
  call.handle(burst);
  call.handle(burst);
  expect(burst.length).toBe(2);
  tick!(burst, 0);
  expect(burst.length).toBe(101);
});

it.each([
  ['a default function', 'export default (burst) => { burst.length = 7; };'],
  ['one that takes it from rest parameters', 'export default (...all) => { all[0].length = 7; };'],
  ['what create() makes', 'export const create = () => (burst) => { burst.length = 7; };'],
  [
    'what the promise of create() resolves to',
    'export const create = async () => (burst) => { burst.length = 7; };',
  ],
  ['a closure over it', 'export const create = (_, { burst }) => () => { burst.length = 7; };'],
])('calls %s with the burst of its worker', async (_, text) => {
  const { handle, burst } = await load(text);
  handle(burst);
  expect(burst.length).toBe(7);
});

it('refuses a create() whose promise is rejected, or resolves to no handler', async () => {
  const [rejected, empty] = [
    `export const create = async () => { throw new Error('not today'); };`,
    'export const create = async () => undefined;',
  ];
  await expect(load(rejected)).rejects.toMatchObject({
    code: 'ERR_HANDLER',
    detail: 'its create() threw: not today',
  });
  await expect(load(empty)).rejects.toMatchObject({ code: 'ERR_HANDLER' });
});

it.each([
  ['export default 7;', 'it exports neither a default function nor create()'],
  ['export default { handle: 7 };', 'it exports neither a default function nor create()'],
  ['export const other = 7;', 'it exports neither a default function nor create()'],
  [
    'export const create = () => 7;',
    'its create() returns neither a function nor an object of functions, { handle, tick … }',
  ],
])('says of %s what is missing', async (text, detail) => {
  await expect(load(text)).rejects.toMatchObject({ code: 'ERR_HANDLER', detail });
});

it('gives all workers of a handler the same memory, which grows as they ask', async () => {
  const shared = newHandlerMemory();
  const sizes = [64, 8, 4096].map((bytes) => atLeast(shared, bytes).byteLength);
  expect(sizes).toEqual([64, 64, 4096]);
  expect(() => atLeast(shared, 2 ** 30 + 1)).toThrow(RangeError);
  expect(() => atLeast(shared, -1)).toThrow(RangeError);
});

it('an error that a handler throws while it loads is passed on unchanged', async () => {
  const { handle, burst } = await load('export default () => { throw new RangeError("no such byte"); };');
  expect(() => handle(burst)).toThrow(new RangeError('no such byte'));
  const { handle: again } = await load('export default (burst) => { burst.packet(0); };');
  expect(() => again(burst)).toThrow(RangeError);
});

it('refuses a tick that comes too often or too rarely', async () => {
  const text = (millis: number): string =>
    `export const create = () => ({ handle() {}, tick() {}, tickMillis: ${millis} });`;
  await expect(load(text(0))).rejects.toMatchObject({ code: 'ERR_HANDLER' });
  await expect(load(text(5000))).rejects.toMatchObject({ code: 'ERR_HANDLER' });
  await expect(load(text(5))).resolves.toMatchObject({ tickMillis: 5 });
});

it('sees the MAC address of its port change where it reads it for each packet', async () => {
  const { handle, burst, memory } = await load(`
    export const create = (options, { macs }) => (burst) => { burst.length = macs[burst.port[0]][5]; };
  `);
  setMac(memory, 0, '02:00:00:00:00:07');
  handle(burst);
  expect(burst.length).toBe(7);
  setMac(memory, 0, '02:00:00:00:00:2a');
  handle(burst);
  expect([burst.length, macOf(memory, 0)]).toEqual([42, '02:00:00:00:00:2a']);
});

it('gives the burst the metadata that the module asks for', async () => {
  const { burst } = await load(`
    export const metadata = ['rule', 'time'];
    export default () => {};
  `);
  expect(burst.metadata).toBe(8 | 1);
});

it.each(["['colour']", "'rule'", '7', "[['rule']]"])('refuses metadata that is %s', async (given) => {
  const loading = load(`export const metadata = ${given}; export default () => {};`);
  await expect(loading).rejects.toThrow('it is a list of time, hash, checksum, rule, tag, offload');
});
