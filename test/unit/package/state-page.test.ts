/** The modules of docs/state.md, as they are printed there, do what the text says. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { type Burst, DROP, PASS } from '../../../src/handler.ts';
import { HandlerTest } from '../../../src/testing.ts';
import { ethernet, ipv4, OUR_MAC, PEER_MAC, udp } from '../../support/frames.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const text = readFileSync(join(root, 'docs/state.md'), 'utf8');
const [limit, hello] = [...text.matchAll(/^```js\n([\s\S]*?)^```$/gm)].map(([, program]) => program!);

/** A folder in which 'twinpath' is this package, as it was built. */
const folder = mkdtempSync(join(tmpdir(), 'tp-state-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
mkdirSync(join(folder, 'node_modules'));
symlinkSync(root, join(folder, 'node_modules', 'twinpath'));
writeFileSync(join(folder, 'limit.mjs'), limit!);
writeFileSync(join(folder, 'hello.mjs'), hello!);
const url = (name: string): string => pathToFileURL(join(folder, name)).href;

const datagram = (from: number) => ethernet(ipv4(udp([1, 2], { from }), { protocol: 17 }));

it('lets each flow have its packets a second, and no more', async () => {
  let nanos = 1e12;
  const test = await HandlerTest.load(url('limit.mjs'), { now: () => nanos });
  const passed = (from: number, packets: number): number => {
    const outcomes = test.run(Array.from({ length: packets }, () => datagram(from)));
    for (const { verdict } of outcomes) expect([PASS, DROP]).toContain(verdict);
    return outcomes.filter(({ verdict }) => verdict === PASS).length;
  };
  expect(passed(5000, 150)).toBe(100);
  expect(passed(5001, 150)).toBe(100);
  nanos += 5e6;
  expect(passed(5000, 64)).toBe(5);
  nanos += 31e9; // forgotten, and as new
  expect(passed(5000, 150)).toBe(100);
});

it('sends a greeting whose checksums are right', async () => {
  const { sendHello } = (await import(url('hello.mjs'))) as {
    sendHello: (burst: Burst, to: Uint8Array, from: Uint8Array) => void;
  };
  const module = {
    default: (burst: Burst): void => sendHello(burst, Uint8Array.from(PEER_MAC), Uint8Array.from(OUR_MAC)),
  };
  const test = HandlerTest.of(module);
  test.run([[]]);
  const ends = { src: [10, 77, 0, 2], dst: [10, 77, 0, 1] };
  const payload = udp([...Buffer.from('hello')], { ...ends, from: 7000, to: 7001 });
  const right = ethernet(ipv4(payload, { ...ends, protocol: 17, ttl: 64 }), { dst: PEER_MAC, src: OUR_MAC });
  const sent = [...test.sent[0]!.bytes];
  right.splice(18, 2, sent[18]!, sent[19]!); // the identification, and the checksum that covers it
  right.splice(24, 2, sent[24]!, sent[25]!);
  expect(sent).toEqual(right);
});
