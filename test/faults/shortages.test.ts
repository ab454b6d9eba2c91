/**
 * What a process may lack: a capability, io_uring, a compiler, a place for the shim. Twinpath does without, or
 * says what is missing in one sentence and changes nothing. The plain refusals are in refusals.test.ts.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openPort } from '../../dist/src/port.js';
import {
  buildLab,
  drive,
  ECHO,
  expectUnharmed,
  type Lab,
  nothingLeft,
  passed,
  until,
} from '../support/harness.ts';
import { linkIn } from '../support/machine-state.ts';
import { asNobody, publicCopy, ROOT } from '../support/nobody.ts';
import { type Outcome, Run, temporary } from '../support/process.ts';

const OPEN = join(ROOT, 'test/fixtures/open-port.mjs');
const NODE = process.execPath;
const MEMORY = { network: 'memory', queues: 2, handler: ECHO.href, handlerOptions: { address: '10.0.0.1' } };

const outcome = (command: readonly string[], env?: NodeJS.ProcessEnv): Promise<Outcome> =>
  new Run(command, { env }).outcome;

/** The fixture's command line, for a port on the lab's NIC. */
function opening(lab: Lab, options: object = {}): string[] {
  const { netvsc, guestAddress } = lab.nic;
  const given = { handler: ECHO.href, handlerOptions: { address: guestAddress }, netvsc, force: true };
  return [NODE, OPEN, ROOT, JSON.stringify({ ...given, queues: 2, ...options })];
}

/** A line and no stack. */
function expectSentence(message: string, ...words: (string | RegExp)[]): void {
  expect(message.trim().split('\n')).toHaveLength(1);
  expect(message).not.toMatch(/ at .*:\d+:\d+/);
  for (const word of words) expect(message).toMatch(word);
}

describe('root without a capability', () => {
  it.each([
    ['CAP_NET_ADMIN', '-net_admin', /EPERM.* lacks CAP_NET_ADMIN\./],
    ['CAP_BPF', '-sys_admin,-bpf', /bpf\(.*EPERM.* lacks CAP_BPF\./],
  ])('%s is refused by name, and the device is as it was', async (_, names, words) => {
    const lab = await buildLab();
    const before = { ...linkIn(lab.guest, 'eth0'), statistics: null };
    const lacking = ['setpriv', '--bounding-set', names, '--inh-caps', names, '--'];
    const command = ['ip', 'netns', 'exec', lab.guest, ...lacking, ...opening(lab)];
    const { code, stdout, stderr } = await outcome(command);
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
    const error = JSON.parse(stdout);
    expect(error.code).toBe('ERR_PERMISSION');
    expectSentence(error.message, words, 'CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_IPC_LOCK');
    await nothingLeft(lab);
    expect({ ...linkIn(lab.guest, 'eth0'), statistics: null }).toEqual(before);
  });
});

describe('a port without io_uring', () => {
  it.each([
    ['the whole of it', 'read/write (io_uring refused: EPERM)', []],
    ['what is registered with it', 'io_uring (file and frames not registered)', ['-DREFUSED=427']],
  ])('lacking %s drives the tap all the same, says how, and loses nothing', async (_, mode, flags) => {
    const lab = await buildLab();
    const jail = join(temporary(), 'no-io-uring');
    execFileSync('cc', [...flags, '-o', jail, join(ROOT, 'test/fixtures/no-io-uring.c')]);
    const run = new Run([jail, ...opening(lab, { netns: lab.guest })], { input: true });
    await until('the port open', () => run.stdout.includes('\n') || run.child.exitCode !== null);
    expect(JSON.parse(run.stdout).paths.synthetic).toMatchObject({
      driver: 'tap',
      mode,
    });
    const traffic = await drive(lab, lab.nic);
    await passed(traffic);
    expectUnharmed(await traffic.stop({ settleMillis: 400 }));
    run.child.stdin!.end();
    expect(await run.outcome).toMatchObject({ code: 0, stderr: '' });
    await nothingLeft(lab);
  });
});

describe('a port without its device', () => {
  it.each([
    ['a device that is not Ethernet', { netvsc: 'lo' }, 'ERR_DEVICE_NOT_NETVSC', 'no Ethernet device'],
    ['no name where there is no NetVSC', { netvsc: undefined }, 'ERR_NO_NETVSC', '--device'],
    ['a VF that is none of it', { netvsc: 'eth0', vf: 'lo' }, 'ERR_OPTION_INVALID', 'not the VF of eth0'],
    ['a device that is down', { netvsc: 'sleepy' }, 'ERR_DEVICE_DOWN', 'ip link set sleepy up'],
  ])('given %s is refused, and nothing changes', async (_, wanted, code, words) => {
    const lab = await buildLab();
    execFileSync('ip', ['-n', lab.guest, 'link', 'add', 'sleepy', 'type', 'bridge']);
    const options = { handler: ECHO, handlerOptions: { address: lab.nic.guestAddress }, netns: lab.guest };
    const opened = openPort({ force: true, ...wanted, ...options, queues: 2 });
    const error = await opened.then(
      () => undefined,
      (reason) => reason,
    );
    expect(error).toMatchObject({ name: 'TwinpathError', code });
    expectSentence(error.message, words);
    await nothingLeft(lab);
  });
});

/** The package as its users have it, but without a shim for this machine. */
class Unbuilt {
  readonly folder = temporary();
  readonly cache = join(this.folder, 'cache');
  /** A PATH with nothing on it. */
  readonly nothing = join(this.folder, 'nothing');
  readonly #main = join(this.folder, 'dist/src/cli/main.js');
  /** The least that needs the shim. */
  readonly list = [NODE, this.#main, 'list', '--json'];
  readonly run = [NODE, this.#main, 'run', 'drop', '--json', '--netvsc', 'nix0'];

  constructor() {
    for (const part of ['dist/src', 'dist/workers', 'native', 'package.json']) {
      cpSync(join(ROOT, part), join(this.folder, part), { recursive: true });
    }
    symlinkSync(join(publicCopy().root, 'node_modules'), join(this.folder, 'node_modules'));
    for (const folder of [this.cache, this.nothing]) mkdirSync(folder);
  }

  env(path = this.nothing, cache = this.cache): NodeJS.ProcessEnv {
    return { PATH: path, XDG_CACHE_HOME: cache };
  }

  get cached(): string[] {
    return readdirSync(join(this.cache, 'twinpath'));
  }
}

function expectRefusal(
  { code, stdout, stderr }: Outcome,
  error: string,
  ...words: (string | RegExp)[]
): void {
  expect(code, stderr).toBe(1);
  expectSentence(stderr, /^twinpath: /, ...words);
  expect(JSON.parse(stdout)).toMatchObject({ error: { code: error } });
}

describe('the command line of a package without a shim', () => {
  it('names what to install if there is no compiler, for every command', async () => {
    const unbuilt = new Unbuilt();
    for (const command of [unbuilt.list, unbuilt.run]) {
      const answer = await outcome(command, unbuilt.env());
      expectRefusal(answer, 'ERR_SHIM_MISSING', 'make ENOENT', 'apt-get install gcc make');
    }
    for (const tool of ['make', 'sh', 'mkdir']) {
      const found = execFileSync('which', [tool], { encoding: 'utf8' }).trim();
      symlinkSync(found, join(unbuilt.nothing, tool));
    }
    const answer = await outcome(unbuilt.list, unbuilt.env());
    expectRefusal(answer, 'ERR_SHIM_MISSING', /cc: (not found|No such)/);
    expect(unbuilt.cached).toEqual([]);
  });

  it('repeats what the compiler did not like, and leaves nothing half made', async () => {
    const unbuilt = new Unbuilt();
    const script = '#!/bin/sh\necho "shim.c:9:10: fatal error: stdint.h: gone" >&2; exit 1\n';
    writeFileSync(join(unbuilt.nothing, 'cc'), script, { mode: 0o755 });
    const env = unbuilt.env(`${unbuilt.nothing}:${process.env.PATH}`);
    const answer = await outcome(unbuilt.list, env);
    expectRefusal(answer, 'ERR_SHIM_MISSING', 'shim.c:9:10: fatal error: stdint.h: gone');
    expect(unbuilt.cached).toEqual([]);
  });

  it.each([
    ['is full', '-o size=4k', 'ERR_SHIM_MISSING', /No space left/],
    ['is read-only', '-o ro', 'ERR_SHIM_MISSING', /EROFS.*XDG_CACHE_HOME/],
    ['may hold no programs', '-o noexec', 'ERR_SHIM_LOAD', 'noexec'],
  ])('says so when the cache %s', async (_, how, code, words) => {
    const unbuilt = new Unbuilt();
    const mount = `mount -t tmpfs ${how} tp-cache '${unbuilt.cache}' && exec "$@"`;
    const command = ['unshare', '--mount', 'sh', '-c', mount, 'sh', ...unbuilt.list];
    expectRefusal(await outcome(command, unbuilt.env(process.env.PATH)), code, words);
  });

  it('says so when the cache is a file, or belongs to somebody else', async () => {
    const unbuilt = new Unbuilt();
    const file = unbuilt.env(process.env.PATH, join(unbuilt.folder, 'package.json'));
    expectRefusal(await outcome(unbuilt.list, file), 'ERR_SHIM_MISSING', 'XDG_CACHE_HOME', 'ENOTDIR');
    const answer = await outcome(asNobody(unbuilt.list), unbuilt.env(process.env.PATH));
    expectRefusal(answer, 'ERR_SHIM_MISSING', 'EACCES');
  });

  it('does not load a damaged shim, for list, run or a port', async () => {
    const unbuilt = new Unbuilt();
    expect(await outcome(unbuilt.list, unbuilt.env(process.env.PATH))).toMatchObject({ code: 0, stderr: '' });
    const file = join(unbuilt.cache, 'twinpath', unbuilt.cached[0]!);
    writeFileSync(file, '');
    for (const command of [unbuilt.list, unbuilt.run]) {
      expectRefusal(await outcome(command, unbuilt.env()), 'ERR_SHIM_LOAD', file, 'Delete that file');
    }
    const port = await outcome([NODE, OPEN, unbuilt.folder, JSON.stringify(MEMORY)], unbuilt.env());
    expect(JSON.parse(port.stdout)).toMatchObject({ code: 'ERR_SHIM_LOAD', device: file });
    expect(port).toMatchObject({ code: 1, stderr: '' });
  });

  it('does not load a shim of another version', async () => {
    const unbuilt = new Unbuilt();
    const source = join(unbuilt.folder, 'other.c');
    const shim = join(unbuilt.folder, 'build', 'shim.so');
    mkdirSync(join(unbuilt.folder, 'build'));
    writeFileSync(source, 'int tp_abi(void) { return -1; }\n');
    execFileSync('cc', ['-shared', '-fPIC', '-o', shim, source]);
    expectRefusal(await outcome(unbuilt.list, unbuilt.env()), 'ERR_SHIM_ABI', shim, 'ABI -1');
  });
});
