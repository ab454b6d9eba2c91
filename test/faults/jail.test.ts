/** A port under the restrictions that deploy/ puts it under, as far as this machine can impose them. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { buildLab, drive, expectUnharmed, type Lab, passed, TAP_MODE } from '../support/harness.ts';
import { jail, type SeccompRule } from '../support/jail.ts';
import { ROOT } from '../support/nobody.ts';
import { type Outcome, Run } from '../support/process.ts';

const PROFILE: { syscalls: SeccompRule[] } = JSON.parse(
  readFileSync(join(ROOT, 'deploy/container/seccomp.json'), 'utf8'),
);
const UNIT = readFileSync(join(ROOT, 'deploy/systemd/twinpath@.service'), 'utf8');

/** The capabilities that the unit and the containers give. */
const CAPABILITIES = /^AmbientCapabilities=(.*)$/m
  .exec(UNIT)![1]!
  .split(' ')
  .map((name) => `+${name.slice(4).toLowerCase()}`);

/** Runs a port with these rules and capabilities and no others, moves packets on both paths, and ends it. */
async function runJailed(lab: Lab, rules: readonly SeccompRule[]): Promise<Outcome> {
  const { nic } = lab;
  const caps = ['-all', ...CAPABILITIES].join(',');
  const privileges = ['setpriv', '--bounding-set', caps, '--inh-caps', caps, '--ambient-caps', caps];
  const port = [process.execPath, 'dist/src/cli/main.js', 'run', 'echo', '--netvsc', nic.netvsc, '--force'];
  const options = ['--queues', '2', '--protect', 'platform', '--option', `address=${nic.guestAddress}`];
  const readOnly = 'mount -o bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"';
  const namespace = ['ip', 'netns', 'exec', lab.guest, 'unshare', '-m', 'sh', '-c', readOnly, 'sh'];
  const run = new Run([...namespace, ...privileges, jail(rules), ...port, ...options, '--json']);
  await run.said('queue 1: none → synthetic');
  const traffic = await drive(lab, nic);
  await passed(traffic);
  await nic.plug();
  await run.said('queue 1: synthetic → vf');
  await nic.moveDataPath('vf');
  await passed(traffic);
  expectUnharmed(await traffic.stop({ settleMillis: 400 }));
  run.child.kill('SIGTERM'); // `ip netns exec` and the jail have become the command
  return run.outcome;
}

it('a port does all its work with the capabilities of deploy/ and the system calls of its seccomp profile', async ({
  skip,
}) => {
  skip(spawnSync('setpriv', ['--version']).status !== 0, 'needs setpriv of util-linux');
  const lab = await buildLab();
  const { code, stdout, stderr } = await runJailed(lab, PROFILE.syscalls);
  expect(code, stderr).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ ok: true, problems: [] });
  expect(stderr).toContain(TAP_MODE.split(' ')[0]);
  expect(stderr).not.toContain('EPERM');
});

/** The names in a set of systemd's, and in the sets that it has. */
function systemCalls(set: string): string[] {
  const text = execFileSync('systemd-analyze', ['syscall-filter', set], { encoding: 'utf8' });
  const names = [...text.matchAll(/^ {4}(@?\w[\w-]*)$/gm)].map(([, name]) => name!);
  return names.flatMap((name) => (name.startsWith('@') ? systemCalls(name) : [name]));
}

it('a port does all its work with the system calls that the unit allows', async ({ skip }) => {
  const { status } = spawnSync('systemd-analyze', ['syscall-filter', '@default']);
  skip(status !== 0, 'needs systemd-analyze');
  const words = /^SystemCallFilter=(.*)$/m.exec(UNIT)![1]!.split(' ');
  const names = words.flatMap((word) => (word.startsWith('@') ? systemCalls(word) : [word]));
  const lab = await buildLab();
  const { code, stdout, stderr } = await runJailed(lab, [{ names, action: 'SCMP_ACT_ALLOW' }]);
  expect(code, stderr).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ ok: true, problems: [] });
  expect(stderr).not.toContain('EPERM');
});
