/** The files of deploy/, checked with the tools of those who read them where they are installed. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { parseAllDocuments } from 'yaml';
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
    const { status, text } = analyze('security', '--offline=true', '--threshold=30');
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

describe('the Kubernetes manifest', () => {
  const text = read('deploy/kubernetes/twinpath.yaml');
  const documents = parseAllDocuments(text);
  const [namespace, daemonSet] = documents.map((one) => one.toJS());
  const { spec, metadata } = daemonSet.spec.template;
  const [container] = spec.containers;

  it('is a namespace and a DaemonSet that selects its own pods', () => {
    expect(documents.flatMap(({ errors, warnings }) => [...errors, ...warnings])).toEqual([]);
    expect([namespace.kind, daemonSet.kind, spec.containers.length]).toEqual(['Namespace', 'DaemonSet', 1]);
    expect(daemonSet.metadata.namespace).toBe(namespace.metadata.name);
    expect(metadata.labels).toMatchObject(daemonSet.spec.selector.matchLabels);
  });

  it('gives the capabilities of the systemd unit and no others, without privileges', () => {
    const { capabilities, ...security } = container.securityContext;
    expect(security).toMatchObject({ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true });
    expect(security).not.toHaveProperty('privileged');
    expect(capabilities.drop).toEqual(['ALL']);
    const unit = settings(read('deploy/systemd/twinpath@.service'), 'AmbientCapabilities');
    expect(capabilities.add.map((name: string) => `CAP_${name}`).sort()).toEqual(unit.sort());
  });

  it('runs a command that exists, and probes where that listens', () => {
    const [command, , ...options] = container.args as string[];
    expect(command).toBe('run');
    const names = options.filter((word) => word.startsWith('--')).map((word) => word.slice(2));
    expect(names.filter((name) => !(name in run.table.options))).toEqual([]);
    const given = (name: string): string => options[options.indexOf(name) + 1]!;
    const { host, port, path } = container.readinessProbe.httpGet;
    expect([`${host}:${port}`, path]).toEqual([given('--health'), '/health']);
    // Nobody is invited to scrape what listens on the node's own loopback address.
    expect([given('--metrics').split(':')[0], metadata.annotations]).toEqual(['127.0.0.1', undefined]);
    expect(spec.terminationGracePeriodSeconds).toBeGreaterThan(Number(given('--drain')) + 30);
    const { periodSeconds, failureThreshold } = container.readinessProbe;
    expect(Number(given('--drain'))).toBeGreaterThan(2 * periodSeconds * failureThreshold);
  });

  it('mounts each of its volumes, and names the image of this version', () => {
    const named = (list: { name: string }[]): string[] => list.map(({ name }) => name).sort();
    expect(named(container.volumeMounts)).toEqual(named(spec.volumes));
    expect(container.image).toBe(`twinpath:${JSON.parse(read('package.json')).version}`);
  });
});

describe('the container file', () => {
  it('copies what builds the package and ends with the command', () => {
    const lines = read('deploy/container/Containerfile').split('\n');
    const instructions = lines.filter((line) => /^[A-Z]/.test(line)).map((line) => line.split(' ')[0]);
    const known = ['FROM', 'RUN', 'WORKDIR', 'COPY', 'ENTRYPOINT', 'CMD'];
    expect(instructions.filter((one) => !known.includes(one!))).toEqual([]);
    expect(lines).toContain('ENTRYPOINT ["twinpath"]');
    expect(Object.keys(JSON.parse(read('package.json')).bin)).toEqual(['twinpath']);
    for (const line of lines.filter((one) => one.startsWith('FROM')))
      expect(Number(/node:(\d+)/.exec(line)![1])).toBeGreaterThanOrEqual(20);
  });
});
