/** The modules of the tutorial, as they are printed there, answer frames as the text says. */
import fs, { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import fc from 'fast-check';
import { afterAll, describe, expect, it, onTestFinished } from 'vitest';
import type { Handler, HandlerModule } from '../../../src/handler/handler.ts';
import { DROP, TX } from '../../../src/handler/handler.ts';
import { A, AAAA, asked, type Decoded, decode, messageOf, query } from '../../support/dns.ts';
import {
  arp,
  BROADCAST,
  ethernet,
  handled,
  icmpEcho,
  ipv4,
  OUR_IP,
  OUR_MAC,
  PEER_IP,
  PEER_MAC,
  udp,
  workerContext,
} from '../../support/frames.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const text = readFileSync(join(root, 'docs/tutorial-dns.md'), 'utf8');

/** Code blocks that begin with their file's name, by that name. */
const programs = new Map(
  [...text.matchAll(/^```js\n(\/\/ (\S+)\n[\s\S]*?)^```$/gm)].map(([, program, name]) => [name!, program!]),
);

/** A folder in which 'twinpath' is this package, as it was built. */
const folder = mkdtempSync(join(tmpdir(), 'tp-tutorial-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
mkdirSync(join(folder, 'node_modules'));
symlinkSync(root, join(folder, 'node_modules', 'twinpath'));
for (const [name, program] of programs) writeFileSync(join(folder, name), program);

const context = workerContext();
const names = { 'www.example.test': '203.0.113.7', 'Mail.example.test': '203.0.113.8' };

/** Also for modules that have imported it by its name. */
function replaceWriteSync(write: typeof fs.writeSync): void {
  fs.writeSync = write;
  syncBuiltinESMExports();
}

async function handlerOf(name: string): Promise<Handler> {
  const module: HandlerModule = await import(pathToFileURL(join(folder, name)).href);
  return (module.create?.({ names }, context) ?? module.default) as Handler;
}

const [, second, third, fourth, fifth] = await Promise.all(
  [1, 2, 3, 4, 5].map((step) => handlerOf(`dns-${step}.mjs`)),
);
const handlers = [second!, third!, fourth!, fifth!];

function answer(handler: Handler, message: number[]): Decoded {
  const [verdict, frame] = handled(handler, asked(message));
  expect(verdict).toBe(TX);
  expect(frame.slice(0, 12)).toEqual([...PEER_MAC, ...OUR_MAC]);
  expect(frame.slice(26, 34)).toEqual([...OUR_IP, ...PEER_IP]);
  expect(frame.slice(34, 38)).toEqual([0, 53, 0x9c, 0x40]);
  return decode(messageOf(frame));
}

describe('the tutorial', () => {
  it('has five steps and a way to ask', () => {
    expect([...programs.keys()]).toEqual(['ask.mjs', ...[1, 2, 3, 4, 5].map((step) => `dns-${step}.mjs`)]);
    const lines = programs.get('dns-5.mjs')!.split('\n').length;
    expect(lines).toBeLessThan(130);
  });

  it('sees a query in step 1, says so, and drops it', async () => {
    const first = await handlerOf('dns-1.mjs');
    const { writeSync } = fs;
    const written: string[] = [];
    onTestFinished(() => replaceWriteSync(writeSync));
    replaceWriteSync(((_: number, line: string) => written.push(line)) as typeof writeSync);
    expect(handled(first, ethernet(ipv4(icmpEcho([]))))[0]).toBe(DROP);
    expect(handled(first, asked(query('www.example.test')))).toEqual([
      DROP,
      asked(query('www.example.test')),
    ]);
    expect(written).toEqual(['a query of 76 bytes\n']);
  });

  it('refuses in step 2', () => {
    const message = query('www.example.test');
    expect(answer(second!, message)).toMatchObject({ id: 0xbeef, flags: 0x8105, answers: [] });
    expect(answer(second!, query('www.example.test', { edns: 1232 })).additional).toHaveLength(1);
  });

  it('answers no answer and no service from step 2 on, which would answer in turn (CVE-2024-2169)', () => {
    for (const handler of handlers) {
      for (const from of [0, 7, 13, 17, 19, 53, 69, 1023]) {
        const frame = asked(query('www.example.test'), { from });
        expect(handled(handler, frame)).toEqual([DROP, frame]);
      }
      const response = asked(query('www.example.test', { flags: 0x8180 }));
      expect(handled(handler, response)).toEqual([DROP, response]);
      expect(handled(handler, asked(query('www.example.test'), { from: 1024 }))[0]).toBe(TX);
    }
  });

  it('answers for one name in step 3', () => {
    for (const edns of [undefined, 1232]) {
      const { flags, answers } = answer(third!, query('www.example.test', { edns }));
      expect(flags).toBe(0x8500);
      expect(answers).toEqual([
        { name: 'www.example.test.', type: A, class: 1, ttl: 300, data: '203.0.113.7' },
      ]);
      for (const name of ['example.test', 'WWW.example.test', 'www.example.test.a']) {
        expect(answer(third!, query(name, { edns }))).toMatchObject({ code: 5, answers: [] });
      }
    }
  });

  it('answers for any names in any case from step 4 on', () => {
    for (const handler of [fourth!, fifth!]) {
      expect(answer(handler, query('WWW.example.test')).answers).toMatchObject([
        { name: 'WWW.example.test.', data: '203.0.113.7' },
      ]);
      expect(answer(handler, query('mail.example.test')).answers).toMatchObject([{ data: '203.0.113.8' }]);
      expect(answer(handler, query('nix.example.test'))).toMatchObject({ code: 3, answers: [] });
      expect(answer(handler, query('www.example.test', { type: AAAA }))).toMatchObject({
        code: 0,
        answers: [],
      });
      expect(answer(handler, query('www.example.test').slice(0, -3)).code).toBe(1);
    }
  });

  it('answers EDNS, and not for ever, in step 5', () => {
    const { answers, additional } = answer(fifth!, query('www.example.test', { edns: 4096 }));
    expect(answers).toHaveLength(1);
    expect(additional).toMatchObject([{ type: 41, class: 1232, ttl: 0 }]);
    expect(answer(fifth!, query('x', { flags: 0x2000 })).code).toBe(4);
    expect(answer(fifth!, query('x', { counts: [2, 0, 0, 0] })).code).toBe(1);
    expect(answer(fifth!, query([0xc0, 12])).code).toBe(1);
    const dropped = [
      asked(query('x', { flags: 0x8000 })),
      asked(query('x'), { from: 53 }),
      asked(query('x'), { from: 0 }),
      ethernet(ipv4(udp(query('x'), { to: 53 }), { protocol: 17, fragment: 0x2000 })),
      ethernet(ipv4(udp(query('x'), { to: 53 }), { protocol: 17 }), { dst: BROADCAST }),
    ];
    for (const frame of dropped) expect(handled(fifth!, frame)).toEqual([DROP, frame]);
  });

  it('leaves other packets alone in every step', () => {
    const others = [ethernet(arp(), { type: 0x0806 }), ethernet(ipv4(icmpEcho([]))), [1, 2, 3]];
    others.push(ethernet(ipv4(udp(query('x'), { to: 54 }), { protocol: 17 })));
    for (const handler of handlers)
      for (const frame of others) expect(handled(handler, frame)).toEqual([DROP, frame]);
  });

  it('does not throw in step 5 for any packet', () => {
    const whole = asked(query('www.example.test', { edns: 1232 }));
    const change = fc.tuple(fc.nat(100), fc.nat(255));
    fc.assert(
      fc.property(fc.array(change, { maxLength: 3 }), fc.option(fc.nat(90)), (changes, cut) => {
        const frame = whole.slice(0, cut ?? undefined);
        for (const [at, value] of changes) if (at < frame.length) frame[at] = value;
        expect([DROP, TX]).toContain(handled(fifth!, frame)[0]);
      }),
      { numRuns: 2000 },
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), (noise) => void handled(fifth!, noise)));
  });
});
