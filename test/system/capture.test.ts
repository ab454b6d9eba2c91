/** `twinpath capture` on a running port: what its file has, and how it ends. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { buildLab, expectUnharmed, type Port, passed, Scene, until } from '../support/harness.ts';
import { hold, kill } from '../support/held.ts';
import { blocksOf, type PcapngPacket, readPacket, textOf } from '../support/pcapng.ts';
import { type Run, start, temporary, twinpath } from '../support/process.ts';

const PID = String(process.pid);
const [INBOUND, OUTBOUND] = [1, 2];
const XDP_TX = 3;

const listens = (port: Port): Promise<void> =>
  until('the control socket', () => port.controlSocket !== undefined);

interface File {
  readonly interfaces: readonly { name: string; filter: string | undefined }[];
  readonly packets: readonly PcapngPacket[];
  /** By interface: packets accepted by the filter, dropped, delivered. */
  readonly statistics: readonly (readonly number[])[];
}

function read(path: string): File {
  const blocks = blocksOf(readFileSync(path));
  const statistics = blocks.filter(({ type }) => type === 5);
  return {
    interfaces: blocks
      .filter(({ type }) => type === 1)
      .map((block) => ({ name: textOf(block, 2)!, filter: textOf(block, 11) })),
    packets: blocks.filter(({ type }) => type === 6).map(readPacket),
    statistics: statistics.map(({ options }) =>
      [6, 5, 8].map((code) => Number(options.get(code)!.readBigUInt64LE())),
    ),
  };
}

async function ended(run: Run): Promise<void> {
  run.child.kill('SIGINT');
  const { code, stderr } = await run.outcome;
  expect(code, stderr).toBe(0);
}

const udpOf = ({ data }: PcapngPacket): string => Buffer.from(data).subarray(42).toString('hex');

describe('a capture', () => {
  it('has the packets of both paths and directions with verdict, queue and time, and harms none', async () => {
    const scene = await Scene.open();
    await listens(scene.port);
    const traffic = await scene.drive({ rate: 20_000 });
    const folder = temporary();
    const path = join(folder, 'both.pcapng');
    const before = BigInt(Date.now()) * 1_000_000n;
    const run = start(['capture', PID, '-w', path, 'udp']);
    await run.said('Capturing on');
    await passed(traffic);
    await scene.plug();
    await passed(traffic);
    await ended(run);
    const after = BigInt(Date.now()) * 1_000_000n;

    const { interfaces, packets, statistics } = read(path);
    expect(interfaces.map(({ name }) => name)).toEqual([
      ...['synthetic rx', 'synthetic tx', 'vf rx', 'vf tx', 'host rx', 'host tx'],
    ]);
    expect(new Set(interfaces.map(({ filter }) => filter))).toEqual(new Set(['\0udp']));
    const byName = (name: string): PcapngPacket[] =>
      packets.filter((packet) => interfaces[packet.interface]!.name === name);
    for (const path of ['synthetic', 'vf']) {
      const [received, sent] = [byName(`${path} rx`), byName(`${path} tx`)];
      expect(received.length).toBeGreaterThan(100);
      expect(sent.length).toBeGreaterThan(100);
      expect(new Set(received.map(({ direction }) => direction))).toEqual(new Set([INBOUND]));
      expect(new Set(sent.map(({ direction }) => direction))).toEqual(new Set([OUTBOUND]));
      expect(new Set(received.map(({ verdict }) => verdict))).toEqual(new Set([XDP_TX]));
      expect(new Set(received.map(({ queue }) => queue))).toEqual(new Set([0, 1]));
      expect(sent.every(({ verdict }) => verdict === undefined)).toBe(true);
    }
    expect(packets.every(({ data, length }) => data.length === length && data[23] === 17)).toBe(true);
    expect(packets.every(({ nanos }) => nanos > before && nanos < after)).toBe(true);
    // Each received packet was sent again, and no other: the handler echoes them.
    const received = [...byName('synthetic rx'), ...byName('vf rx')].map(udpOf).sort();
    const sent = [...byName('synthetic tx'), ...byName('vf tx')].map(udpOf).sort();
    expect(sent).toEqual(received);
    expect(statistics).toHaveLength(interfaces.length);
    for (const [number, [accepted, dropped, delivered]] of statistics.entries()) {
      const there = packets.filter((packet) => packet.interface === number).length;
      expect([accepted, dropped, delivered]).toEqual([there, 0, there]);
    }

    const few = await twinpath(['capture', PID, '-w', join(folder, 'few'), '-c', '25', '-s', '60', '--json']);
    expect(few.code, few.stderr).toBe(0);
    expect(JSON.parse(few.stdout)).toMatchObject({ device: 'eth0', packets: 25, end: 'asked' });
    const cut = read(join(folder, 'few')).packets;
    expect(cut).toHaveLength(25);
    for (const { data, length } of cut) expect(data.length).toBe(Math.min(length, 60));

    const rotated = join(temporary(), 'all.pcapng');
    const ring = ['-b', 'packets:10', '-b', 'files:2', '-a', 'packets:35'];
    const all = await twinpath(['capture', PID, '-w', rotated, ...ring, '--json']);
    expect(all.code, all.stderr).toBe(0);
    const { files } = JSON.parse(all.stdout) as { files: string[] };
    expect(files.map((file) => /all_0000(\d)_\d{14}\.pcapng$/.exec(file)?.[1])).toEqual(['3', '4']);
    expect(readdirSync(join(rotated, '..')).length).toBe(2);
    expect(files.map((file) => read(file).packets.length)).toEqual([10, 5]);
    expect(read(files[1]!).interfaces).toHaveLength(6);

    const two = [1, 2].map((n) => start(['capture', PID, '-w', join(folder, String(n))]));
    for (const run of two) await run.said('Capturing on');
    const third = await twinpath(['capture', PID, '-w', join(folder, '3'), '--json']);
    expect([third.code, JSON.parse(third.stdout).error.code]).toEqual([1, 'ERR_CAPTURE']);
    for (const run of two) await ended(run);
    const full = await twinpath(['capture', PID, '-w', '/dev/full', '--json']);
    expect([full.code, JSON.parse(full.stdout).error.code]).toEqual([1, 'ERR_OUTPUT']);
    const slow = start(['capture', PID, '-w', join(folder, 'slow')]);
    await slow.said('Capturing on');
    slow.child.kill('SIGSTOP');
    await passed(traffic, 45_000);
    slow.child.kill('SIGCONT');
    await ended(slow);
    expect(slow.stderr).toContain('more were missed');
    const part = read(join(folder, 'slow'));
    const [accepted, dropped, delivered] = [0, 1, 2].map((i) =>
      part.statistics.reduce((sum, numbers) => sum + numbers[i]!, 0),
    ) as [number, number, number];
    expect(dropped).toBeGreaterThan(0);
    expect([delivered, accepted]).toEqual([part.packets.length, part.packets.length + dropped]);

    const live = start(['capture', PID, '-w', '-', 'udp']);
    await until('its first packets', () => live.stdout.length > 10_000);
    live.child.stdout!.destroy();
    const quiet = await live.outcome;
    expect([quiet.code, quiet.stderr.trim().split('\n')]).toEqual([
      0,
      [expect.stringMatching(/^Capturing on/)],
    ]);

    const shown = await twinpath(['extcap', '--extcap-interfaces', '--extcap-version=4.4']);
    const name = `twinpath-${scene.nic.mac.replaceAll(':', '')}`;
    expect(shown.stdout).toMatch(/^extcap \{version=[\d.]+\}\{help=.+\}\{display=Twinpath\}\n/);
    expect(shown.stdout).toContain(`interface {value=${name}}{display=Twinpath port eth0, process ${PID}}\n`);
    const fifo = join(folder, 'fifo');
    const options = ['--capture', '--extcap-interface', name, '--fifo', fifo, '--extcap-capture-filter=udp'];
    const wireshark = start(['extcap', ...options]);
    await until('packets', () => existsSync(fifo) && readFileSync(fifo).length > 10_000);
    wireshark.child.kill('SIGTERM');
    expect(await wireshark.outcome).toMatchObject({ code: 0, stdout: '', stderr: '' });
    expect(read(fifo).statistics).toHaveLength(6);
    expectUnharmed((await scene.finish())[0]!);
  });

  it('ends with the port, and with its process, and leaves a whole file', async () => {
    const lab = await buildLab();
    for (const end of ['closed', 'died'] as const) {
      const held = await hold(lab);
      const pid = String(held.child.pid);
      await until('its socket', () => existsSync(`/run/twinpath/${pid}.sock`));
      const path = join(temporary(), `${end}.pcapng`);
      const run = start(['capture', pid, '-w', path]);
      await run.said('Capturing on');
      if (end === 'died') await kill(held);
      else await twinpath(['stop', pid]);
      const { code, stderr } = await run.outcome;
      expect([code, stderr]).toEqual([
        end === 'died' ? 1 : 0,
        expect.stringMatching(`${end}.*\\. 0 packets`),
      ]);
      const { interfaces, statistics } = read(path);
      expect([interfaces.length, statistics.length]).toEqual([6, end === 'died' ? 0 : 6]);
    }
  });
});
