/** A running port from other processes: `twinpath ps`, `stats`, `top` and `stop`, and what they leave alone. */
import { existsSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { PortRow } from '../../dist/src/control/protocol.js';
import { holderOf } from '../../dist/src/kernel/device-lock.js';
import { inNamespace } from '../../dist/src/kernel/namespace.js';
import { RtNetlink } from '../../dist/src/kernel/rtnetlink.js';
import { loadShim } from '../../dist/src/kernel/shim.js';
import { openPort } from '../../dist/src/port.js';
import { buildLab, ECHO, expectUnharmed, type Port, passed, Scene, until } from '../support/harness.ts';
import { hold, kill } from '../support/held.ts';
import { linkIn } from '../support/machine-state.ts';
import { start, twinpath } from '../support/process.ts';

interface Listed extends PortRow {
  readonly pid: number;
  readonly socket: string;
}

/** The running ports of a process. */
async function running(pid = process.pid): Promise<Listed[]> {
  const { code, stdout, stderr } = await twinpath(['ps', '--json']);
  expect(code, stderr).toBe(0);
  return (JSON.parse(stdout) as Listed[]).filter((row) => row.pid === pid);
}

/** Who has locked a device of this thread's namespace. */
function holderIn(device: string): ReturnType<typeof holderOf> {
  const netlink = RtNetlink.open(loadShim());
  try {
    return holderOf(netlink, netlink.links().find(({ name }) => name === device)!.ifindex);
  } finally {
    netlink.close();
  }
}

const listens = (port: Port): Promise<void> =>
  until('the control socket', () => port.controlSocket !== undefined);

describe('a running port', () => {
  it('is configured by `set` on both paths, and refuses what cannot be', async () => {
    const scene = await Scene.open();
    const { port, lab } = scene;
    await listens(port);
    await scene.plug();
    const pid = String(process.pid);
    const change = ['mtu=1400', 'promiscuous=true', 'rules=["src 198.51.100.0/24 drop"]'];
    const done = await twinpath(['set', pid, ...change, '--json']);
    expect(done.code, done.stderr).toBe(0);
    expect(JSON.parse(done.stdout)).toMatchObject({ device: 'eth0', configuration: { mtu: 1400 } });
    expect(port.configuration).toMatchObject({ mtu: 1400, promiscuous: true });
    for (const device of ['eth0', 'vf0']) expect(linkIn(lab.guest, device)!.mtu).toBe(1400);
    for (const [wrong, code] of [
      ['mtu=5', 'ERR_OPTION_INVALID'],
      ['mto=1400', 'ERR_OPTION_UNKNOWN'],
      ['rules=["bogus"]', 'ERR_OPTION_INVALID'],
    ] as const) {
      const refused = await twinpath(['set', pid, wrong, '--json']);
      expect([refused.code, JSON.parse(refused.stdout).error.code]).toEqual([2, code]);
    }
    await twinpath(['set', pid, 'mtu=null', 'promiscuous=false', 'rules=[]']);
    expect(port.configuration).toMatchObject({ mtu: null, promiscuous: false, rules: [] });
    expect((await twinpath(['set', pid])).code).toBe(2);
    await scene.finish();
  });

  it('is listed, counted and closed by other processes, and its packets pass meanwhile', async () => {
    const scene = await Scene.open();
    const { port, nic } = scene;
    await listens(port);
    const traffic = await scene.drive();
    await scene.plug();
    const [row] = await running();
    expect(row).toMatchObject({ device: 'eth0', mac: nic.mac, queues: 2, link: { up: true } });
    expect(row).toMatchObject({ paths: { vf: { device: 'vf0' } }, socket: port.controlSocket });
    const name = String(process.pid);
    const { received } = port.stats();
    const counted = await twinpath(['stats', name, '--json', '--extended']);
    const { statistics, extended } = JSON.parse(counted.stdout);
    expect(statistics.received).toBeGreaterThan(received);
    expect(extended.synthetic.link.rx_packets).toBeGreaterThan(0);
    expect((await twinpath(['stats', name])).stdout).toMatch(/packets in, [\d,]+ out/);
    const [pictures, rates] = await Promise.all([
      twinpath(['top', name, '--count', '2']),
      twinpath(['top', name, '--count', '1', '--json']),
    ]);
    expect(pictures.code, pictures.stderr).toBe(0);
    expect(pictures.stdout.match(/^queue +owner/gm)).toHaveLength(2);
    expect(pictures.stdout).toMatch(/^ {4}1 +vf +\d/m);
    expect(pictures.stdout).toContain('synthetic → vf');
    expect(JSON.parse(rates.stdout)).toMatchObject({ device: 'eth0', queues: [{ queue: 0 }, { queue: 1 }] });
    await passed(traffic);
    const [report] = await scene.finish();
    expectUnharmed(report!);
    expect(await running()).toEqual([]);
  });

  it('that is stopped closes in order, and tells its own process', async () => {
    const lab = await buildLab();
    const port = await openPort({
      ...{ netns: lab.guest, netvsc: lab.nic.netvsc, force: true, handler: ECHO, queues: 1 },
      handlerOptions: { address: [lab.nic.guestAddress] },
    });
    onTestFinished(() => port.close());
    await listens(port);
    const socket = port.controlSocket!;
    expect(statSync(socket).mode & 0o777).toBe(0o600);
    let closed = false;
    port.on('close', () => {
      closed = true;
    });
    const watching = start(['stats', String(process.pid), '--watch', '1']);
    await until('a line of rates', () => watching.stdout.includes('packets/s'));
    const { code, stdout } = await twinpath(['stop', String(process.pid)]);
    expect([code, stdout]).toEqual([0, 'The port on eth0 is closed.\n']);
    await until('word of it', () => closed);
    const ended = await watching.outcome;
    expect([ended.code, ended.stderr]).toEqual([1, 'twinpath: the port on eth0 has ended\n']);
    expect(existsSync(socket)).toBe(false);
    await port.close();
  });

  it('that was killed is no longer listed, and its socket is removed', async () => {
    const lab = await buildLab();
    const held = await hold(lab);
    await until('the port listed', async () => (await running(held.child.pid)).length === 1);
    const [{ socket }] = (await running(held.child.pid)) as [Listed];
    const holder = (): unknown => inNamespace(loadShim(), lab.guest, () => holderIn(lab.nic.netvsc));
    expect(holder()).toEqual({ pid: held.child.pid });
    await kill(held);
    expect(holder()).toBeUndefined();
    expect(existsSync(socket)).toBe(true);
    expect(await running(held.child.pid)).toEqual([]);
    expect(existsSync(socket)).toBe(false);
  });

  it('has no socket where it was told so, and no other user can use that of another', async () => {
    const lab = await buildLab({ nics: 2 });
    const open = async (nic: number, control?: boolean): Promise<Port> => {
      const port = await openPort({
        ...{ netns: lab.guest, netvsc: lab.nics[nic]!.netvsc, force: true, handler: ECHO, queues: 1 },
        ...(control === undefined ? {} : { control }),
        handlerOptions: { address: [lab.nics[nic]!.guestAddress] },
      });
      onTestFinished(() => port.close());
      return port;
    };
    const silent = await open(0, false);
    const port = await open(1);
    await listens(port);
    expect(silent.controlSocket).toBeUndefined();
    expect((await running()).map(({ device }) => device)).toEqual(['eth1']);
    const seen = await twinpath(['ps'], { nobody: true });
    expect(seen.stdout + seen.stderr).not.toContain('eth1');
    const missing = await twinpath(['stats', 'eth7']);
    expect([missing.code, missing.stderr]).toEqual([1, expect.stringContaining('eth1')]);
  });

  it('answers while its application is busy, and fails over while clients stall', async () => {
    const scene = await Scene.open();
    const { port } = scene;
    await listens(port);
    const stalled = Array.from({ length: 8 }, () => {
      const socket = connect(port.controlSocket!).pause();
      onTestFinished(() => void socket.destroy());
      socket.on('error', () => {});
      socket.write('{"id":1,"request":"stats"}\n'.repeat(2000));
      return socket;
    });
    const traffic = await scene.drive();
    await scene.plug();
    await passed(traffic);
    const asked = start(['stats', String(process.pid), '--json']);
    // This thread does nothing until the answer is there.
    const bell = new Int32Array(new SharedArrayBuffer(4));
    const asks = (): boolean => existsSync(`/proc/${asked.child.pid}/exe`);
    for (let i = 0; i < 1200 && asks(); i++) Atomics.wait(bell, 0, 0, 50); // a minute: it would never come
    expect(asks()).toBe(false);
    expect(JSON.parse((await asked.outcome).stdout).device).toBe('eth0');
    await scene.unplug();
    await passed(traffic);
    for (const socket of stalled) socket.destroy();
    const [report] = await scene.finish();
    expectUnharmed(report!);
    expect(scene.errors).toEqual([]);
  });
});

describe('twinpath run', () => {
  it('serves metrics and health while it runs, and has no socket with --no-control', async () => {
    const lab = await buildLab();
    const { netvsc, guestAddress } = lab.nic;
    const where = ['--netns', lab.guest, '--netvsc', netvsc, '--force', '--queues', '1'];
    const pages = ['--metrics', '127.0.0.1:0', '--health', '[::1]:0', '--no-control'];
    const run = start(['run', 'echo', ...where, '--option', `address=${guestAddress}`, ...pages]);
    await run.said('/health');
    const [metrics, health] = ['metrics', 'health'].map(
      (name) => new RegExp(`http://\\S+/${name}`).exec(run.stderr)![0],
    );
    expect(await (await fetch(metrics!)).text()).toContain('twinpath_link_up{port="eth0"} 1\n');
    const healthy = await fetch(health!);
    expect([healthy.status, await healthy.text()]).toEqual([200, 'ok\n']);
    expect(await running(run.child.pid)).toEqual([]);
    run.child.kill('SIGINT');
    expect((await run.outcome).code).toBe(0);
    const stopped = start(['run', 'echo', ...where, '--option', `address=${guestAddress}`]);
    await stopped.said('is open');
    await until('its socket', async () => (await running(stopped.child.pid)).length === 1);
    expect((await twinpath(['stop', String(stopped.child.pid)])).code).toBe(0);
    const { code, stderr } = await stopped.outcome;
    expect(code, stderr).toBe(0);
    const wrong = await twinpath(['run', 'echo', ...where, '--metrics', 'nowhere']);
    expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining('--metrics')]);
  });
});
