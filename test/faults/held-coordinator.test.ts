/** While the coordinator is held in a slow system call, or there is none, lost VFs are left all the same. */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { buildLab, drive, expectUnharmed, nothingLeft, passed, until } from '../support/harness.ts';
import { OrderedPort } from '../support/ordered-port.ts';
import { temporary } from '../support/process.ts';

/** Holds the coordinator, from `close` to `open`. */
class Gate {
  readonly file = `${temporary()}/gate`;

  close(): void {
    writeFileSync(this.file, '');
  }

  open(): void {
    rmSync(this.file);
  }

  /** Waits until a thread is held. */
  async holds(): Promise<void> {
    await until(
      'a thread that is held',
      () => existsSync(this.file) && readFileSync(this.file, 'utf8') !== '',
    );
  }
}

const accounted = async (process: OrderedPort): Promise<void> => {
  const { frames } = await process.ask('close');
  expect(frames.map((one) => one.accounted)).toEqual(frames.map(({ total }) => total));
};

describe('a VF that is unplugged', { timeout: 120_000 }, () => {
  it.each(['tp_xsk_bind', 'tp_bpf'])(
    'is left while another NIC of the group is being opened, which waits in %s',
    async (holds) => {
      const lab = await buildLab({ nics: 2 });
      const [nic, other] = [lab.nics[0]!, lab.nics[1]!];
      const process = OrderedPort.start();
      const gate = new Gate();
      const fault = { thread: 'twinpath-coord', call: 0, gate: gate.file, holds } as const;
      expect(await process.open(lab, fault)).toEqual({ opened: true });
      const traffic = await drive(lab, nic, { rate: 2000 });
      await nic.plug();
      await process.ownedBy('vf');
      await nic.moveDataPath('vf');
      await passed(traffic, 300);

      gate.close();
      await other.plug();
      await gate.holds();
      await nic.unplug();
      await process.ownedBy('synthetic');
      await passed(traffic, 300);
      // All of that before the call that opens the other NIC has returned.
      const { moves, links } = await process.look();
      expect(moves.slice(-lab.queues)).toEqual(
        Array.from({ length: lab.queues }, () => expect.stringMatching(/^vf to synthetic: (link|kick)/)),
      );
      expect(links.at(-1)).toMatch(/^vf up/);
      expect((await process.look(1)).owners).not.toContain('vf');
      expect(existsSync(gate.file)).toBe(true);

      gate.open();
      await process.ownedBy('vf', 1);
      await until('its path closed', async () => (await process.look()).links.length > links.length);
      expect((await process.look()).links.at(-1)).toMatch(/^vf (gone|down): (link|kick)/);
      await nic.plug();
      await process.ownedBy('vf');
      await nic.moveDataPath('vf');
      await passed(traffic, 300);
      const look = await process.look();
      expect([look.errors, look.closed]).toEqual([[], false]);
      expectUnharmed(await traffic.stop({ settleMillis: 400 }));
      await accounted(process);
      await nothingLeft(lab);
    },
  );

  it('is left while the coordinator is dead, and the next one closes its path', async () => {
    const lab = await buildLab();
    const { nic } = lab;
    const process = OrderedPort.start();
    const gate = new Gate();
    const fault = { thread: 'twinpath-coord', call: 0, gate: gate.file, dies: true } as const;
    expect(await process.open(lab, fault)).toEqual({ opened: true });
    const traffic = await drive(lab, nic, { rate: 2000 });
    await nic.plug();
    await process.ownedBy('vf');
    await nic.moveDataPath('vf');
    await passed(traffic, 300);

    gate.close();
    await gate.holds(); // the next coordinator, before it takes over
    await nic.unplug();
    await process.ownedBy('synthetic');
    await passed(traffic, 300);
    const { moves, links, errors } = await process.look();
    expect(moves.slice(-lab.queues)).toEqual(
      Array.from({ length: lab.queues }, () => expect.stringMatching(/^vf to synthetic: (link|kick)/)),
    );
    expect(links.at(-1)).toMatch(/^vf up/);
    expect(errors).toEqual([expect.objectContaining({ message: expect.stringMatching(/coordinator died/) })]);
    expect(existsSync(gate.file)).toBe(true);

    gate.open();
    await until('its path closed', async () => (await process.look()).links.length > links.length);
    expect((await process.look()).links.at(-1)).toMatch(/^vf (gone|down): (link|kick)/);
    await nic.plug();
    await process.ownedBy('vf');
    await nic.moveDataPath('vf');
    await passed(traffic, 300);
    expect((await process.look()).errors).toHaveLength(1);
    expectUnharmed(await traffic.stop({ settleMillis: 400 }));
    await accounted(process);
    await nothingLeft(lab);
  });
});

const MSG_DONTWAIT = 0x40;

it('the thread that orders failovers makes no system call that may wait, once the ports are open', async () => {
  const lab = await buildLab();
  const { nic } = lab;
  const process = OrderedPort.start();
  const trace = `${temporary()}/trace`;
  const calls = (): string[][] => {
    const lines = readFileSync(trace, 'utf8').trim().split('\n');
    return lines.map((line) => line.split(' '));
  };
  expect(await process.open(lab, { thread: 'twinpath-super', call: 0, trace })).toEqual({ opened: true });
  const opening = calls().length;
  await nic.plug();
  await process.ownedBy('vf');
  await nic.unplug();
  await process.ownedBy('synthetic');
  const made = calls().slice(opening);
  // The rings are eventfds that do not block; the messages are of rtnetlink.
  expect([...new Set(made.map(([name]) => name))].sort()).toEqual(['tp_read', 'tp_recv', 'tp_write']);
  const waits = made.filter(([name, flags]) => name === 'tp_recv' && (Number(flags) & MSG_DONTWAIT) === 0);
  expect(waits).toEqual([]);
  await accounted(process);
  await nothingLeft(lab);
});
