/**
 * The unit of deploy/, run by a real systemd in the network of a lab's guest, installed as docs/deploying.md says. In the unit
 * one thing is changed: how the device is named, because a veth is no NetVSC; and in some tests the watchdog's time.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildLab, drive, expectUnharmed, type Lab, passed, TAP_MODE, until } from '../support/harness.ts';
import { ROOT } from '../support/nobody.ts';
import { privileged } from '../support/requirements.ts';
import { installPackage, Manager, whyNoSystemd } from '../support/systemd/manager.ts';

const UNIT = 'twinpath@eth0';
const PROGRAM = 'node /usr/lib/node_modules/twinpath/dist/src/cli/main.js';
const ECHO = 'TWINPATH_HANDLER=echo\nTWINPATH_OPTIONS=--option address=10.77.0.2';
/** Seconds of the watchdog in these tests. */
const WATCHDOG = 4;
/** A handler that echoes; but a worker that finds this file removes it and never returns. */
const HANG = '/run/twinpath-eth0/hang';
const HANGING = `
import { unlinkSync } from 'node:fs';
import { create as createEcho } from '/usr/lib/node_modules/twinpath/dist/src/handlers/echo.js';
export const create = (options, context) => {
  const { handle: echo } = createEcho(options, context);
  return (burst) => {
    try { unlinkSync('${HANG}'); } catch { return echo(burst); }
    for (;;);
  };
};`;

const folder = mkdtempSync(join(tmpdir(), 'twinpath-systemd-'));
afterAll(() => rmSync(folder, { recursive: true }));
let missing: string | undefined;
let installed: string;
beforeAll(
  privileged(() => {
    missing = whyNoSystemd();
    if (missing === undefined) installed = installPackage(folder);
  }),
  300_000,
);

/** The commands of docs/deploying.md, for eth0: all but npm's, and the one that starts. */
function installation(): { install: string; start: string } {
  const page = readFileSync(join(ROOT, 'docs/deploying.md'), 'utf8');
  const [, block] = /## A service of systemd\n\n```sh\nnpm install -g twinpath.*\n([^`]*)```/.exec(page)!;
  const lines = block!.replaceAll('eth1', 'eth0').trim().split('\n');
  return { install: lines.slice(0, -1).join('\n'), start: lines.at(-1)! };
}

/** systemd with the unit installed, and not started. */
async function boot(lab: Lab, variables: string, settings: readonly string[] = []): Promise<Manager> {
  const manager = await Manager.boot(lab, installed);
  manager.shell(`set -e\n${installation().install}`);
  const unit = readFileSync(join(ROOT, 'deploy/systemd/twinpath@.service'), 'utf8');
  const start = /^ExecStart=.*$/m.exec(unit)![0].replace('--device %I', '--netvsc %I --force');
  const changes = ['[Service]', 'ExecStart=', start, ...settings].join('\n');
  manager.write('/etc/systemd/system/twinpath@.service.d/lab.conf', changes);
  manager.write('/etc/twinpath/eth0.env', variables);
  return manager;
}

/** Owners of the queues, as a command that attaches sees them. */
function owners(manager: Manager): string {
  const { stdout } = manager.run('sh', '-c', `${PROGRAM} stats eth0 --json`);
  const { statistics } = JSON.parse(stdout || '{}') as { statistics?: { queues: { owner: string }[] } };
  return (statistics?.queues ?? []).map(({ owner }) => owner).join(' '); // it is not running, or has an error to tell
}

describe('the unit under systemd', { timeout: 120_000 }, () => {
  it('is active once its port can be attached to; its user moves packets on both paths; reload and stop are tidy', async ({
    skip,
  }) => {
    skip(missing !== undefined, missing);
    const lab = await buildLab();
    const { nic } = lab;
    const options = '--health 127.0.0.1:8080 --drain 1 --metrics 127.0.0.1:9477';
    const manager = await boot(lab, `${ECHO} ${options}\nTWINPATH_SET=promiscuous=true\n`);
    // Started and attached to in one go: nothing waits between the two.
    manager.shell(`${installation().start} && systemctl reload ${UNIT}`);
    expect(manager.property(UNIT, 'ActiveState')).toBe('active');
    const [row] = JSON.parse(manager.shell(`${PROGRAM} ps --json`));
    const pid = manager.property(UNIT, 'MainPID');
    expect(row).toMatchObject({ device: 'eth0', configuration: { promiscuous: true } });
    expect([String(row.pid), row.socket]).toEqual([pid, `/run/twinpath-eth0/twinpath/${pid}.sock`]);

    const status = manager.shell(`cat /proc/${pid}/status`);
    expect(/^Uid:\s+(\d+)/m.exec(status)![1]).toBe(manager.shell('id -u twinpath'));
    // CAP_NET_ADMIN, NET_RAW, IPC_LOCK, SYS_NICE, PERFMON, BPF
    const capabilities = (2 ** 12 + 2 ** 13 + 2 ** 14 + 2 ** 23 + 2 ** 38 + 2 ** 39)
      .toString(16)
      .padStart(16, '0');
    for (const set of ['Prm', 'Eff', 'Bnd', 'Amb']) expect(status).toContain(`Cap${set}:\t${capabilities}\n`);
    expect(status).toContain('NoNewPrivs:\t1\nSeccomp:\t2\n');
    // What it may change of the machine, as itself, from where it is.
    const inside = `nsenter -t ${pid} -m setpriv --reuid=twinpath --regid=twinpath --clear-groups sh -c`;
    for (const path of ['/usr/lib/x', '/etc/twinpath/x', '/proc/sys/net/ipv4/ip_forward', '/sys/fs/cgroup/x'])
      expect(manager.run('sh', '-c', `${inside} 'echo 1 >${path}'`).code, path).not.toBe(0);
    expect(
      manager.run('sh', '-c', `${inside} 'echo 1 >/run/twinpath-eth0/x && rm /run/twinpath-eth0/x'`).code,
    ).toBe(0);
    // Another user sees nothing of it.
    const other = 'setpriv --reuid=65534 --regid=65534 --clear-groups';
    expect(manager.run('sh', '-c', `${other} ls /run/twinpath-eth0`).code).not.toBe(0);

    const traffic = await drive(lab, nic);
    await passed(traffic);
    await nic.plug();
    await until('the VF in use', () => owners(manager) === 'vf vf');
    await nic.moveDataPath('vf');
    await passed(traffic);
    await nic.moveDataPath('synthetic');
    await nic.unplug();
    await until('the VF left', () => owners(manager) === 'synthetic synthetic');
    await passed(traffic);
    await until('its status', () =>
      /^synthetic \S.* packets\/s in, \S.* out/.test(manager.property(UNIT, 'StatusText')),
    );
    expect(
      manager.shell(
        `node -e 'fetch("http://127.0.0.1:9477/metrics").then((answer) => answer.text()).then(console.log)'`,
      ),
    ).toContain('twinpath_packets_total');

    // What cannot be done changes nothing.
    manager.write('/etc/twinpath/eth0.env', `${ECHO} ${options}\nTWINPATH_SET=mtu=1\n`);
    expect(manager.run('systemctl', 'reload', UNIT).code).not.toBe(0);
    expect(manager.property(UNIT, 'MainPID')).toBe(pid);
    await passed(traffic);
    expectUnharmed(await traffic.stop({ settleMillis: 400 }));

    manager.shell(`systemctl stop ${UNIT}`);
    expect(manager.property(UNIT, 'Result')).toBe('success');
    const journal = manager.journal(UNIT);
    expect(journal).toContain(`synthetic: eth0 through tap, ${TAP_MODE}`);
    expect(journal).toMatch(/vf: vf0 is up/);
    expect(journal).toContain('twinpath: draining for 1 s');
    expect(journal).toContain('frames: every one accounted for in 2 of 2 queues');
    expect(journal).not.toMatch(/EPERM|EACCES|warn/i);
    const names = manager.shell(
      'journalctl --no-pager --output json --unit twinpath@eth0 | grep -o \'"SYSLOG_IDENTIFIER":"[^"]*"\' | sort -u',
    );
    expect(names.split('\n')).toEqual(['"SYSLOG_IDENTIFIER":"systemd"', `"SYSLOG_IDENTIFIER":"${UNIT}"`]);
    expect(manager.shell('ls /sys/class/net').split('\n').sort()).toEqual(['eth0', 'lo']);
  });

  it('is started again after a kill, and by the watchdog if a worker or the whole process hangs', async ({
    skip,
  }) => {
    skip(missing !== undefined, missing);
    const lab = await buildLab();
    const { nic } = lab;
    const variables = ECHO.replace('=echo', '=/etc/twinpath/hanging.mjs');
    const manager = await boot(lab, `${variables} --stuck-millis 60000\n`, [`WatchdogSec=${WATCHDOG}`]);
    manager.write('/etc/twinpath/hanging.mjs', HANGING);
    manager.shell(installation().start);
    await nic.plug();
    await nic.moveDataPath('vf');
    const traffic = await drive(lab, nic);
    await passed(traffic);
    const again = async (times: number): Promise<void> => {
      await until(`start ${times + 1}`, () => manager.property(UNIT, 'NRestarts') === String(times), 60_000);
      await until('the VF in use', () => owners(manager) === 'vf vf', 60_000);
      await passed(traffic);
    };
    const kill = (signal: string): void =>
      void manager.shell(`kill -${signal} ${manager.property(UNIT, 'MainPID')}`);

    kill('KILL');
    await again(1);
    expect(manager.journal(UNIT)).toContain("Failed with result 'signal'");

    kill('STOP');
    await again(2);
    expect(manager.journal(UNIT)).toContain("Failed with result 'watchdog'");

    const before = manager.property(UNIT, 'MainPID');
    manager.write(HANG, '');
    await until('its status', () =>
      /^not moving: the worker of queue \d$/.test(manager.property(UNIT, 'StatusText')),
    );
    await again(3);
    expect(manager.property(UNIT, 'MainPID')).not.toBe(before);
    expect(manager.journal(UNIT).split("Failed with result 'watchdog'").length - 1).toBe(2);
    await traffic.stop({ settleMillis: 0 });
    manager.shell(`systemctl stop ${UNIT}`);
    expect(manager.property(UNIT, 'Result')).toBe('success');
  });

  it('is not started again with a wrong command line, and is for a device that is missing', async ({
    skip,
  }) => {
    skip(missing !== undefined, missing);
    const manager = await boot(await buildLab(), `${ECHO} --qeues 2\n`);
    expect(manager.run('systemctl', 'start', UNIT).code).not.toBe(0);
    const state = (): string[] =>
      ['ActiveState', 'ExecMainStatus', 'NRestarts'].map((name) => manager.property(UNIT, name));
    expect(state()).toEqual(['failed', '2', '0']);
    expect(manager.journal(UNIT)).toContain('There is no such option: --qeues. Did you mean --queues?');
    manager.write('/etc/twinpath/eth0.env', `${ECHO} --vf nosuch\n`);
    manager.run('systemctl', 'start', UNIT);
    await until('another start', () => Number(manager.property(UNIT, 'NRestarts')) > 0);
    manager.shell(`systemctl stop ${UNIT}`);
  });

  it('starts when its device appears, and stays when the device goes and comes back', async ({ skip }) => {
    skip(missing !== undefined, missing);
    const lab = await buildLab();
    const manager = await Manager.boot(lab, installed);
    manager.shell(`set -e\n${installation().install}`);
    manager.write('/etc/twinpath/vf0.env', `${ECHO}\n`);
    manager.shell('systemctl enable --quiet twinpath@vf0'); // the unit as it is: a card alone
    const active = (): boolean => manager.property('twinpath@vf0', 'ActiveState') === 'active';
    expect(active()).toBe(false);
    await lab.nic.plug();
    await lab.nic.moveDataPath('vf');
    await until('the start', active);
    const pid = manager.property('twinpath@vf0', 'MainPID');
    await passed(await drive(lab, lab.nic));
    await lab.nic.moveDataPath('synthetic');
    await lab.nic.unplug();
    await until('word of it', () => manager.journal('twinpath@vf0').includes('link down'));
    await lab.nic.plug();
    await until('the card again', () => manager.journal('twinpath@vf0').includes('link up'));
    expect([active(), manager.property('twinpath@vf0', 'MainPID')]).toEqual([true, pid]);
  });
});
