import { spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DeviceSettings } from '../../src/kernel/device-settings.ts';
import { EthtoolNetlink } from '../../src/kernel/ethtool-netlink.ts';
import { Flow, hashFields, rssOf, setHashFields, setRss } from '../../src/kernel/ethtool-rss.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { type Link, RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { SettingsStore } from '../../src/kernel/settings-store.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { spreadDevice } from '../../src/paths/af-xdp/spread.ts';
import { ALL_HASHED } from '../../src/rss/configuration.ts';
import { DEFAULT_KEY } from '../../src/rss/key.ts';
import { spread } from '../../src/rss/redirection.ts';
import { privileged } from '../support/requirements.ts';

const HERE = `tp-rss-${process.pid}`;
const EOPNOTSUPP = -95;
const ENODEV = -19;
const shim = loadShim();
/** No device's. */
const ABSENT = 123_456;

function ip(...words: string[]): void {
  const run = spawnSync('ip', words, { encoding: 'utf8' });
  if (run.status !== 0) throw new Error(`ip ${words.join(' ')}: ${run.stderr}`);
}

function linkOf(name: string): Link {
  const links = RtNetlink.open(shim);
  try {
    return links.link(name)!;
  } finally {
    links.close();
  }
}

const index = (name: string): number => linkOf(name).ifindex;

// No device of a test machine has RSS to set: this is about the kernel's refusals.
describe('a veth, which has queues but no RSS', () => {
  const here = (work: (ethtool: EthtoolNetlink) => void): void =>
    inNamespace(shim, HERE, () => {
      const ethtool = EthtoolNetlink.open(shim);
      try {
        work(ethtool);
      } finally {
        ethtool.close();
      }
    });

  beforeAll(
    privileged(() => {
      ip('netns', 'add', HERE);
      const queues = ['numrxqueues', '2', 'numtxqueues', '2'];
      ip('-n', HERE, 'link', 'add', 'veth0', ...queues, 'type', 'veth', 'peer', 'name', 'far0', ...queues);
    }),
  );
  afterAll(
    privileged(() => {
      spawnSync('ip', ['netns', 'del', HERE]);
    }),
  );

  it('reports no RSS settings, and refuses new ones', () => {
    here((ethtool) => {
      expect(rssOf(ethtool, index('veth0'))).toBeUndefined();
      expect(setRss(ethtool, index('veth0'), { key: DEFAULT_KEY })).toBe(EOPNOTSUPP);
      expect(hashFields(ethtool, index('veth0'), Flow.TCP4)).toBeUndefined();
      expect(setHashFields(ethtool, index('veth0'), Flow.TCP4, 0xf0)).toBe(EOPNOTSUPP);
    });
  });

  it('is not there under another number', () => {
    here((ethtool) => {
      expect(rssOf(ethtool, ABSENT)).toBeUndefined();
      expect(setRss(ethtool, ABSENT, { table: 'default' })).toBe(ENODEV);
    });
  });

  it('does not settle with two queues, and does with one', () => {
    here((ethtool) => {
      const settings = new DeviceSettings(SettingsStore.open(shim), linkOf('veth0'));
      const two = spreadDevice(
        ethtool,
        index('veth0'),
        { key: DEFAULT_KEY, table: spread([0, 1]), hashTypes: ALL_HASHED, queues: 2, isUp: true },
        settings,
      );
      expect(two).toBe('it has no RSS table that can be set');
      const one = spreadDevice(
        ethtool,
        index('veth0'),
        { key: DEFAULT_KEY, table: spread([0]), hashTypes: ALL_HASHED, queues: 1, isUp: true },
        settings,
      );
      expect(one).toBeUndefined();
      settings.restore();
    });
  });
});
