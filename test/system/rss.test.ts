import { spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Flow, hashFields, rssOf, setHashFields, setRss } from '../../src/kernel/ethtool-rss.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { spreadDevice } from '../../src/paths/af-xdp/spread.ts';
import { DEFAULT_KEY } from '../../src/rss/key.ts';
import { spread } from '../../src/rss/redirection.ts';

const HERE = `tp-rss-${process.pid}`;
const EOPNOTSUPP = -95;
const ENODEV = -19;
const shim = loadShim();
const root = process.getuid?.() === 0;

function ip(...words: string[]): void {
  const run = spawnSync('ip', words, { encoding: 'utf8' });
  if (run.status !== 0) throw new Error(`ip ${words.join(' ')}: ${run.stderr}`);
}

// No device of a test machine has RSS to set: this is about the kernel's refusals.
describe.skipIf(!root)('a veth, which has queues but no RSS (needs root)', () => {
  const here = <T>(work: () => T): T => inNamespace(shim, HERE, work);

  beforeAll(() => {
    ip('netns', 'add', HERE);
    const queues = ['numrxqueues', '2', 'numtxqueues', '2'];
    ip('-n', HERE, 'link', 'add', 'veth0', ...queues, 'type', 'veth', 'peer', 'name', 'far0', ...queues);
  });
  afterAll(() => {
    spawnSync('ip', ['netns', 'del', HERE]);
  });

  it('does not say what it has, and refuses what it is told', () => {
    here(() => {
      expect(rssOf(shim, 'veth0')).toBeUndefined();
      expect(setRss(shim, 'veth0', { key: DEFAULT_KEY })).toBe(EOPNOTSUPP);
      expect(hashFields(shim, 'veth0', Flow.TCP4)).toBeUndefined();
      expect(setHashFields(shim, 'veth0', Flow.TCP4, 0xf0)).toBe(EOPNOTSUPP);
    });
  });

  it('is not there under another name', () => {
    here(() => {
      expect(rssOf(shim, 'none')).toBeUndefined();
      expect(setRss(shim, 'none', { table: 'default' })).toBe(ENODEV);
    });
  });

  it('does not settle with two queues, and does with one', () => {
    here(() => {
      const two = spreadDevice(shim, 'veth0', { key: DEFAULT_KEY, table: spread([0, 1]), queues: 2 });
      expect(two.settled).toBe(false);
      two.restore();
      const one = spreadDevice(shim, 'veth0', { key: DEFAULT_KEY, table: spread([0]), queues: 1 });
      expect(one.settled).toBe(true);
      one.restore();
    });
  });
});
