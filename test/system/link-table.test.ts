/** The coordinator's view of the links when the calls it reads them by fail. */
import { spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { LinkTable } from '../../src/coordinator/link-table.ts';
import { Errno } from '../../src/errors.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { IFF, RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { loadShim, type Shim } from '../../src/kernel/shim.ts';
import { until } from '../support/harness.ts';
import { privileged } from '../support/requirements.ts';

const HERE = `tp-links-${process.pid}`;
const shim = loadShim();

function ip(words: string): void {
  const run = spawnSync('ip', ['-n', HERE, ...words.split(' ')], { encoding: 'utf8' });
  if (run.status !== 0) throw new Error(`ip ${words}: ${run.stderr}`);
}

/** A link table whose kernel fails to answer when it is told to. */
class Watched {
  readonly table: LinkTable;
  readonly gone = new Set<number>();
  readonly downed = new Set<number>();
  readonly errors: unknown[] = [];
  /** Of the coming calls of recv(2): how many go well, and how many fail after those. */
  well = 0;
  failing = 0;
  failed = 0;

  constructor(errno: number) {
    const faulty: Shim = {
      ...shim,
      recv: (...words) => {
        if (this.failing === 0) return shim.recv(...words);
        if (this.well-- > 0) return shim.recv(...words);
        this.failing--;
        this.failed++;
        return errno;
      },
    };
    this.table = inNamespace(shim, HERE, () => {
      return new LinkTable(faulty, {
        changed: (gone, downed) => {
          for (const ifindex of gone) this.gone.add(ifindex);
          for (const ifindex of downed) this.downed.add(ifindex);
        },
        settingsChanged: () => {},
        failed: (error) => this.errors.push(error),
      });
    });
    onTestFinished(() => this.table.close());
  }

  index(name: string): number | undefined {
    return this.table.links.find((link) => link.name === name)?.ifindex;
  }
}

describe('the links of a namespace', () => {
  let netlink: RtNetlink;

  beforeAll(
    privileged(() => {
      expect(spawnSync('ip', ['netns', 'add', HERE]).status).toBe(0);
      netlink = inNamespace(shim, HERE, () => RtNetlink.open(shim));
    }),
  );
  afterAll(
    privileged(() => {
      netlink.close();
      spawnSync('ip', ['netns', 'del', HERE]);
    }),
  );

  it.each([
    { errno: 'ENOMEM', well: 0, failing: 1 },
    { errno: 'ENOMEM', well: 1, failing: 1 },
    { errno: 'ENOMEM', well: 2, failing: 3 },
    { errno: 'EPERM', well: 0, failing: 4 },
    { errno: 'EIO', well: 3, failing: 2 },
    { errno: 'ENOBUFS', well: 0, failing: 1 }, // messages are lost: the dump is what counts
    { errno: 'ENOBUFS', well: 1, failing: 6 },
  ] as const)('are right in the end, and what went is told, when recv(2) fails as in %j', async (given) => {
    const watched = new Watched(Errno[given.errno]);
    ip('link add one type veth peer name two');
    ip('link set one up');
    ip('link set two up');
    await until('both links', () => watched.index('one') !== undefined && watched.index('two') !== undefined);
    const one = watched.index('one')!;
    await until('one up', () => ((watched.table.link(one)?.flags ?? 0) & IFF.UP) !== 0);
    watched.gone.clear();

    watched.well = given.well;
    watched.failing = given.failing;
    ip('link set one down');
    ip('link add three type veth peer name four');
    ip('link del one');
    await until('what went', () => watched.gone.has(one) && watched.failing === 0);
    await until('what came', () => watched.index('three') !== undefined);
    const names = () => watched.table.links.map(({ name }) => name).sort();
    const wanted = netlink.links().map(({ name }) => name);
    await until('the same links', () => JSON.stringify(names()) === JSON.stringify(wanted.sort()));
    expect(watched.failed).toBe(given.failing);
    if (given.errno !== 'ENOBUFS') expect(watched.errors.length).toBeGreaterThan(0);
    for (const error of watched.errors) expect((error as Error).message).toContain('recv');
    ip('link del three');
    await until('three gone', () => watched.index('three') === undefined);
  });

  it.each([40, 300, 490])(
    'hold a link with %i alternative names, as it comes and as it is',
    async (names) => {
      const watched = new Watched(0);
      ip('link add many type veth peer name other');
      const lines = Array.from(
        { length: names },
        (_, i) => `link property add dev many altname ${'x'.repeat(110)}${i}`,
      );
      const batch = spawnSync('ip', ['-n', HERE, '-batch', '-'], {
        input: lines.join('\n'),
        encoding: 'utf8',
      });
      const { stderr } = batch;
      ip('link set many up');
      await until('it is up', () =>
        watched.table.links.some(({ name, flags }) => name === 'many' && flags & 1),
      );
      const found = watched.table.links.find(({ name }) => name === 'many')!;
      expect(netlink.link(found.ifindex)).toMatchObject({ name: 'many' });
      expect(netlink.links().map(({ name }) => name)).toContain('many');
      expect({ stderr, errors: watched.errors }).toEqual({ stderr: '', errors: [] });
      ip('link del many');
      await until('it is gone', () => watched.gone.has(found.ifindex));
    },
  );
});
