/** Programs of the machine that use its interface, and notice nothing: what a test of a port asks of them. */
import { expect } from 'vitest';
import { buildLab, type Lab, until } from './harness.ts';
import { Station } from './stations.ts';

export const MIB = 1 << 20;

/** Programs at both ends, with two sessions and two bulk streams that go on until they are finished. */
export class Life {
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

  /** Datagrams from the outside to an echo service at the guest's address: see the station's call. */
  echo(port: number, count: number): Promise<number> {
    return this.#outside.call('echo', this.#lab.nic.guestAddress, port, count);
  }

  /** Until every connection has got so far again: bytes of a stream, lines of a session. */
  async goOn(bytes = MIB, lines = 3): Promise<void> {
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
export const arpLab = (standIn: 'veth' | 'bridge'): Promise<Lab> => buildLab({ standIn, arp: true });
