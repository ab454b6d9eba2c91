/** A port in a container of an OCI runtime, with the capabilities and the seccomp profile of deploy/. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { buildLab, drive, expectUnharmed, type Lab, passed, TAP_MODE } from '../support/harness.ts';
import { publicCopy, ROOT } from '../support/nobody.ts';
import { Run, temporary } from '../support/process.ts';

const read = (file: string): string => readFileSync(join(ROOT, 'deploy', file), 'utf8');

/** The process's security settings in the DaemonSet: docs/deploying.md gives Docker the same. */
const { capabilities } = parseAllDocuments(read('kubernetes/twinpath.yaml'))[1]!.toJS().spec.template.spec
  .containers[0].securityContext as { capabilities: { add: string[] } };

/** Starts a container that runs the command, in the network of the lab's guest. Its root is this machine's, read-only. */
function contain(lab: Lab, args: readonly string[]): Run {
  const bundle = temporary();
  mkdirSync(join(bundle, 'rootfs'));
  const named = capabilities.add.map((name) => `CAP_${name}`);
  const bind = (destination: string, source: string, ...options: string[]) => ({
    ...{ destination, source, type: 'bind', options: ['bind', ...options] },
  });
  const memory = (destination: string) => ({ destination, source: 'tmpfs', type: 'tmpfs' });
  const configuration = {
    ociVersion: '1.0.0',
    process: {
      user: { uid: 0, gid: 0 },
      args,
      cwd: '/',
      env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'],
      capabilities: { bounding: named, effective: named, permitted: named },
      noNewPrivileges: true,
    },
    root: { path: 'rootfs', readonly: true },
    mounts: [
      { destination: '/proc', source: 'proc', type: 'proc' },
      bind('/srv', publicCopy().root, 'ro'),
      bind('/mnt', join(process.execPath, '..'), 'ro'),
      ...['/dev', '/run', '/tmp'].map(memory),
      bind('/dev/net/tun', '/dev/net/tun', 'rw'),
      { destination: '/sys', source: 'sysfs', type: 'sysfs', options: ['ro'] },
    ],
    linux: {
      namespaces: [
        { type: 'pid' },
        { type: 'mount' },
        { type: 'ipc' },
        { type: 'network', path: `/run/netns/${lab.guest}` },
      ],
      readonlyPaths: ['/proc/sys'],
      seccomp: JSON.parse(read('container/seccomp.json')),
    },
  };
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(configuration));
  // crun wants control groups of version 2 alone, which not every machine has mounted there.
  const script = `mount -t tmpfs t /sys/fs/cgroup && mount -t cgroup2 c /sys/fs/cgroup && mount --bind / rootfs &&
    exec crun --root ${join(bundle, 'state')} --cgroup-manager=disabled run twinpath-${process.pid}`;
  const namespace = [
    'unshare',
    '--mount',
    '--propagation',
    'private',
    'sh',
    '-c',
    `cd ${bundle} && ${script}`,
  ];
  return new Run(namespace);
}

/** Why there is no container; undefined if there can be one. */
function whyNone(): string | undefined {
  if (spawnSync('crun', ['--version']).status !== 0) return 'needs crun: test/peers.sh installs it';
  const { status } = spawnSync('unshare', ['--mount', 'sh', '-c', 'mount -t cgroup2 c /sys/fs/cgroup']);
  return status === 0 ? undefined : 'needs to mount control groups of version 2';
}

it('a port does all its work in a container with the capabilities and the seccomp profile of deploy/', async ({
  skip,
}) => {
  const missing = whyNone();
  skip(missing !== undefined, missing);
  const lab = await buildLab();
  const { nic } = lab;
  const program = [
    '/mnt/node',
    '/srv/dist/src/cli/main.js',
    'run',
    'echo',
    '--netvsc',
    nic.netvsc,
    '--force',
  ];
  const run = contain(lab, [
    ...program,
    '--option',
    `address=${nic.guestAddress}`,
    '--seconds',
    '600',
    '--json',
  ]);
  await run.said('queue 1: none → synthetic');
  const traffic = await drive(lab, nic);
  await passed(traffic);
  await nic.plug();
  await run.said('queue 1: synthetic → vf');
  await nic.moveDataPath('vf');
  await passed(traffic);
  expectUnharmed(await traffic.stop({ settleMillis: 400 }));
  run.child.kill('SIGTERM'); // crun hands it on
  const { code, stdout, stderr } = await run.outcome;
  expect(code, stderr).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ ok: true, problems: [] });
  expect(stderr).toContain(TAP_MODE.split(' ')[0]);
  expect(stderr).not.toContain('EPERM');
});

it('a system call that is not in the profile is refused in the container', async ({ skip }) => {
  const missing = whyNone();
  skip(missing !== undefined, missing);
  const lab = await buildLab();
  const outcome = (command: string) => contain(lab, ['/bin/sh', '-c', command]).outcome;
  const allowed = await outcome('echo done');
  expect([allowed.code, allowed.stdout]).toEqual([0, 'done\n']);
  const refused = await outcome('exec unshare --user true');
  expect(refused.code).not.toBe(0);
  expect(refused.stderr).toContain('Operation not permitted');
});
