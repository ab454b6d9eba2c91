/**
 * The machine's own programs use the interface through a port, and do not notice: name look-ups, downloads, a
 * session, bulk streams, each way, while the VF comes and goes, and when the port's process is killed.
 */
import { describe, expect, it } from 'vitest';
import type { HostMode } from '../../dist/src/options.js';
import { buildLab, type Lab, nothingLeft, ownedBy, Scene, until } from './harness.ts';
import { hold, kill } from './held.ts';
import { kernelView } from './kernel-view.ts';
import { badChecksums, Station } from './stations.ts';

const HOST = new URL('../../dist/src/handlers/host.js', import.meta.url);
const MIB = 1 << 20;

/** Programs at both ends, with two sessions and two bulk streams that go on until they are finished. */
class Life {
  readonly #guest: Station;
  readonly #outside: Station;
  readonly #lab: Lab;
  readonly #streams: { from: Station; to: Station; name: number }[] = [];

  private constructor(lab: Lab, guest: Station, outside: Station) {
    this.#lab = lab;
    this.#guest = guest;
    this.#outside = outside;
  }

  static async begin(lab: Lab): Promise<Life> {
    const [guest, outside] = await Promise.all([Station.start(lab.guest), Station.start(lab.outside)]);
    const life = new Life(lab, guest, outside);
    await life.#each((from, _, address) => from.call('talk', address));
    return life;
  }

  /** A stream begun at each end, which sends to the other. */
  async stream(): Promise<void> {
    await this.#each(async (from, to, address) => {
      this.#streams.push({ from, to, name: await from.call('stream', address, 'to') });
    });
  }

  /** A look-up each way, and a file fetched each way. */
  async errands(): Promise<void> {
    await this.#each(async (from, to, address) => {
      expect(await from.call('ask', address, 3)).toEqual({ asked: 3, wrong: 0 });
      expect(await from.call('fetch', address)).toBe(to.file);
    });
  }

  /** Until every connection has got so far again: bytes of a stream, lines of a session. */
  async goOn(bytes = MIB, lines = 10): Promise<void> {
    const before = await this.#progress();
    await until('every connection going on', async () => {
      const now = await this.#progress();
      return now.every((value, i) => value >= before[i]! + (i < 2 ? lines : bytes));
    });
  }

  /** Ends the streams, silences the sessions and compares. */
  async settle(): Promise<void> {
    for (const { from, to, name } of this.#streams.splice(0)) {
      await from.call('finish', name);
      const { sent } = await from.call('streamed', name);
      expect(sent).toBeGreaterThan(MIB);
      expect(await to.call('streamed', name)).toEqual({ sent: 0, received: sent, wrong: 0, failed: '' });
    }
    await this.hush(true);
  }

  async hush(quiet: boolean): Promise<void> {
    await this.#each(async (from) => {
      await from.call('hush', quiet);
      expect(await from.call('said')).toMatchObject({ wrong: 0, failed: '' });
    });
  }

  async #progress(): Promise<number[]> {
    const stations = [this.#guest, this.#outside];
    return Promise.all([
      ...stations.map(async (station) => (await station.call('said')).lines),
      ...this.#streams.map(async ({ to, name }) => (await to.call('streamed', name)).received),
    ]);
  }

  async #each(work: (from: Station, to: Station, address: string) => Promise<unknown>): Promise<void> {
    const { guestAddress, outsideAddress } = this.#lab.nic;
    await Promise.all([
      work(this.#guest, this.#outside, outsideAddress),
      work(this.#outside, this.#guest, guestAddress),
    ]);
  }
}

/** A lab whose ends find each other by ARP, through the port like everything else. */
const arpLab = (standIn: 'veth' | 'bridge'): Promise<Lab> => buildLab({ standIn, arp: true });

const CASES: readonly { standIn: 'veth' | 'bridge'; host: HostMode; cycles: number }[] = [
  { standIn: 'veth', host: 'inline', cycles: 5 },
  { standIn: 'bridge', host: 'ingress', cycles: 5 },
  { standIn: 'veth', host: 'ingress', cycles: 1 },
  { standIn: 'bridge', host: 'inline', cycles: 1 },
];
/** Bulk streams probe for the room that there is, so they may meet its end; and nothing else. */
const CONGESTION = ['txFull', 'handoffFull', 'hostFull', 'noFrame'];
/** The cycle in which the VF goes by surprise. */
const SURPRISE = 2;

describe.skipIf(process.getuid?.() !== 0).each(CASES)(
  'over a $standIn, $host, the VF coming and going $cycles times,',
  ({ standIn, host, cycles }) => {
    it('the programs of the machine work on, and its stack keeps its ways', async () => {
      const lab = await arpLab(standIn);
      const life = await Life.begin(lab);
      await life.goOn();
      const view = kernelView(lab.guest);
      const scene = await Scene.openIn(lab, { handler: HOST, host });
      const { port, nic } = scene;
      await life.errands();
      await life.stream();
      await life.goOn();
      for (let cycle = 0; cycle < cycles; cycle++) {
        const before = port.stats().paths.vf;
        await scene.plug();
        await life.goOn();
        await life.errands();
        const { rxBytes, txBytes } = port.stats().paths.vf;
        expect(rxBytes).toBeGreaterThan(before.rxBytes + MIB);
        if (host === 'inline') expect(txBytes).toBeGreaterThan(before.txBytes + MIB);
        await scene.whole();
        expect(kernelView(lab.guest)).toEqual(view);
        if (cycle === SURPRISE) {
          nic.surprise();
          await nic.hostNotices();
          await ownedBy(port, 'synthetic');
        } else await scene.unplug();
        await life.goOn();
        await life.errands();
        await scene.whole();
      }
      await life.settle();

      const away = port.failovers().filter(({ from, to }) => from === 'vf' && to === 'synthetic');
      expect(away).toHaveLength(cycles * lab.queues);
      const { passed, fromHost, paths, queues, dropped } = port.stats();
      const dropping = Object.entries(dropped).filter(([, packets]) => packets > 0);
      expect(CONGESTION).toEqual(expect.arrayContaining(dropping.map(([reason]) => reason)));
      // Towards the stack in large segments; from it as well, which go uncut.
      expect(paths.host.txChains).toBeGreaterThan(0);
      expect(paths.host.txChains).toBeLessThan(passed);
      const cut = queues.reduce((sum, { segments }) => sum + segments, 0);
      const uncut = [paths.synthetic.txSegments, paths.vf.txSegments];
      if (host === 'inline') expect(Math.min(...uncut)).toBeGreaterThan(MIB / 2 / 65_536);
      else expect([fromHost, cut, ...uncut]).toEqual([0, 0, 0, 0]);
      expect(kernelView(lab.guest)).toEqual(view);

      await scene.finish(); // the ledgers
      expect(scene.errors).toEqual([]);
      expect(kernelView(lab.guest)).toEqual(view);
      await life.hush(false);
      await life.goOn(0);
      for (const namespace of [lab.guest, lab.outside]) expect(badChecksums(namespace)).toBe(0);
    });
  },
);

describe.skipIf(process.getuid?.() !== 0).each([
  { standIn: 'veth', host: 'inline' },
  { standIn: 'bridge', host: 'inline' },
  { standIn: 'bridge', host: 'ingress' },
] as const)('over a $standIn, $host, the process of the port killed in the middle,', ({ standIn, host }) => {
  it('every connection lives on by the plain NetVSC, and nothing is left', async () => {
    const lab = await arpLab(standIn);
    const life = await Life.begin(lab);
    await life.goOn();
    const view = kernelView(lab.guest);
    const held = await hold(lab, { host });
    await lab.nic.plug();
    await until('the VF in use', () => held.said().endsWith('vf vf\n'));
    await lab.nic.moveDataPath('vf');
    await life.stream();
    await life.goOn();
    await kill(held);
    // The host delivers to the VF as before: what comes by it reaches the stack all the same.
    await life.goOn();
    await nothingLeft(lab);
    await life.errands();
    await life.settle();
    expect(kernelView(lab.guest)).toEqual(view);
    for (const namespace of [lab.guest, lab.outside]) expect(badChecksums(namespace)).toBe(0);
  });
});
