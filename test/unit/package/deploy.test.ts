/** The files of deploy/, checked with the tools of those who read them where they are installed. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { run } from '../../../src/cli/run.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const read = (file: string): string => readFileSync(join(root, file), 'utf8');

/** The values of a setting in a unit, of all lines that have it. */
const settings = (unit: string, name: string): string[] =>
  [...unit.matchAll(new RegExp(`^${name}=(.*)$`, 'gm'))].flatMap(([, value]) => value!.split(' '));

describe('the systemd unit', () => {
  const unit = read('deploy/systemd/twinpath@.service');

  const analyze = (...args: string[]): { status: number | null; text: string } => {
    const folder = mkdtempSync(join(tmpdir(), 'twinpath-unit-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const file = join(folder, 'twinpath@eth1.service');
    // The programs where they are here.
    writeFileSync(
      file,
      unit.replaceAll('/usr/lib/node_modules/twinpath/', root).replaceAll('/usr/bin/node', process.execPath),
    );
    const { status, stdout, stderr } = spawnSync('systemd-analyze', [...args, file], { encoding: 'utf8' });
    return { status, text: stdout + stderr };
  };
  const installed = spawnSync('systemd-analyze', ['--version']).status === 0;

  it('is found correct by systemd-analyze', ({ skip }) => {
    skip(!installed, 'needs systemd-analyze');
    expect(analyze('verify')).toEqual({ status: 0, text: '' });
  });

  it('is rated as hardened by systemd-analyze', ({ skip }) => {
    skip(!installed, 'needs systemd-analyze');
    const { status, text } = analyze('security', '--offline=true', '--threshold=35');
    expect(status, text).toBe(0);
    expect(text).toMatch(/✓ User=/);
  });

  it('gives the capabilities that docs/requirements.md names, but for the one of netns', () => {
    const documented = [...read('docs/requirements.md').matchAll(/^\| (CAP_\w+) \|/gm)].map(
      ([, name]) => name!,
    );
    const wanted = documented.filter((name) => name !== 'CAP_SYS_ADMIN').sort();
    expect(wanted.length).toBe(6);
    for (const setting of ['AmbientCapabilities', 'CapabilityBoundingSet'])
      expect(settings(unit, setting).sort()).toEqual(wanted);
  });

  it('has variables in its file that are options of `twinpath run`', () => {
    const [, options] = /^TWINPATH_OPTIONS=(.*)$/m.exec(read('deploy/systemd/twinpath.env'))!;
    const names = [...options!.matchAll(/--([a-z-]+)/g)].map(([, name]) => name!);
    expect(names.length).toBeGreaterThan(2);
    for (const name of names) expect(Object.keys(run.table.options)).toContain(name);
  });
});

describe('the seccomp profile', () => {
  const profile: { syscalls: { names: string[]; action: string }[] } = JSON.parse(
    read('deploy/container/seccomp.json'),
  );
  const allowed = profile.syscalls
    .filter(({ action }) => action === 'SCMP_ACT_ALLOW')
    .flatMap(({ names }) => names);

  it('allows every system call of the shim but the one of netns', () => {
    const calls = new Set([...read('native/syscall.h').matchAll(/NR_(\w+) = \d+/g)].map(([, name]) => name!));
    expect(calls.size).toBeGreaterThan(20);
    expect([...calls].filter((call) => !allowed.includes(call))).toEqual(['setns']);
  });

  it('names each call once', () => {
    const names = profile.syscalls.flatMap((rule) => rule.names);
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
  });
});
