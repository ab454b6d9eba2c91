/**
 * What cannot work is refused in one sentence, under a code that stays the same, by a process that ends by
 * itself and leaves the machine as it was. Each case is a program of its own: fixtures/open-and-say.mjs.
 */
import { execFile, execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Lab } from '../../dist/src/lab/host.js';
import { nothingLeft } from '../support/harness.ts';
import { asNobody } from '../support/nobody.ts';
import { privileged } from '../support/requirements.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const handlers = join(root, 'test/fixtures/handlers');
const reflect = join(root, 'dist/src/handlers/reflect.js');

interface Said {
  exit: number;
  code?: string;
  message: string;
  paths?: { synthetic?: { mode: string } };
}

/** Runs a program to its end. One that does not end is one that left a thread behind. */
function run(command: readonly string[], env = process.env): Promise<Said> {
  return new Promise((resolve, reject) => {
    execFile(command[0]!, command.slice(1), { env, timeout: 20_000 }, (error, stdout, stderr) => {
      if (error?.killed) return reject(new Error(`it did not end: ${stdout}${stderr}`));
      try {
        resolve({ exit: typeof error?.code === 'number' ? error.code : 0, ...JSON.parse(stdout) });
      } catch {
        reject(new Error(`${error?.message ?? ''}\n${stdout}\n${stderr}`));
      }
    });
  });
}

const program = (options: object, package_ = root): string[] => [
  process.execPath,
  join(package_, 'test/fixtures/open-and-say.mjs'),
  JSON.stringify({ handler: reflect, queues: 1, ...options }),
];

function expectRefused(said: Said, code: string): void {
  expect(said, JSON.stringify(said)).toMatchObject({ exit: 1, code });
  expect(said.message).toMatch(/^[^\n]+[.}]$/); // a line, and to its end
}

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tp-refusals-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('a handler that cannot be used', () => {
  it.each([
    ['is not there', 'missing', {}, 'ERR_HANDLER', /missing\.mjs/],
    ['is no function', 'not-a-function', {}, 'ERR_HANDLER', /neither a default function nor create/],
    ['exports something else', 'empty', {}, 'ERR_HANDLER', /export default \(burst\)/],
    ['is not JavaScript', '../no-io-uring.c', {}, 'ERR_HANDLER', /no-io-uring/],
    ['makes no function', 'picky', { what: 'nothing' }, 'ERR_HANDLER', /create\(\) returns neither/],
    ['throws when it is made', 'picky', { what: 'other' }, 'ERR_HANDLER', /out of sorts/],
    ['refuses its options', 'picky', { what: 'twinpath' }, 'ERR_OPTION_INVALID', /what: as told/],
    ['ends its thread when it is made', 'picky', { what: 'exit' }, 'ERR_WORKER', /exited with code: 3/],
  ])('%s', async (_, name, handlerOptions, code, text) => {
    const handler = join(handlers, name.includes('.') ? name : `${name}.mjs`);
    const said = await run(program({ network: 'memory', queues: 2, handler, handlerOptions }));
    expectRefused(said, code);
    expect(said.message).toMatch(text);
  });
});

describe('on a machine with the device', () => {
  let lab: Lab;
  beforeAll(
    privileged(async () => {
      lab = await Lab.create({ queues: 1 });
      await lab.nic.plug();
    }),
  );
  afterAll(privileged(() => lab.close()));
  const here = (options: object = {}): object => ({
    netns: lab.guest,
    netvsc: 'eth0',
    force: true,
    ...options,
  });

  it('the name of a device that is not there brings the nearest', async () => {
    const said = await run(program(here({ netvsc: 'eht0' })));
    expectRefused(said, 'ERR_DEVICE_NOT_FOUND');
    expect(said.message).toMatch(/eht0.*eth0/);
    await nothingLeft(lab);
  });

  it('a device that is no NetVSC is taken only by force', async () => {
    const said = await run(program(here({ force: false })));
    expectRefused(said, 'ERR_DEVICE_NOT_NETVSC');
    expect(said.message).toMatch(/force/);
    await nothingLeft(lab);
  });

  it('a namespace that is not there is named', async () => {
    const said = await run(program(here({ netns: 'tp-nowhere' })));
    expect(said.exit).toBe(1);
    expect(said.message).toMatch(/^[^\n]*tp-nowhere[^\n]*\.$/);
  });

  it('openPort names the required capabilities to an ordinary user', async () => {
    const command = asNobody(program(here({ netns: undefined })));
    const said = await run(['ip', 'netns', 'exec', lab.guest, ...command]);
    expectRefused(said, 'ERR_PERMISSION');
    expect(said.message).toMatch(/root|CAP_NET_ADMIN/);
    await nothingLeft(lab);
  });

  it('an ordinary user has the memory network', async () => {
    expect(await run(asNobody(program({ network: 'memory' })))).toMatchObject({ exit: 0 });
  });

  it('openPort says how to create a missing /dev/net/tun', async () => {
    const empty = join(folder, 'empty');
    mkdirSync(empty);
    const hidden = ['unshare', '--mount', 'sh', '-c', `mount --bind ${empty} /dev/net && exec "$@"`, 'sh'];
    const said = await run([...hidden, ...program(here())]);
    expectRefused(said, 'ERR_NO_TUN');
    expect(said.message).toMatch(/modprobe tun/);
    await nothingLeft(lab);
  });

  it('a kernel that refuses io_uring is driven by reads and writes, and the port says so', async () => {
    const jail = join(folder, 'no-io-uring');
    execFileSync('cc', ['-o', jail, join(root, 'test/fixtures/no-io-uring.c')]);
    const said = await run([jail, ...program(here())]);
    expect(said).toMatchObject({ exit: 0 });
    expect(said.paths!.synthetic!.mode).toMatch(/^read\/write \(io_uring refused: /);
    await nothingLeft(lab);
  });
});

describe('without a shim', () => {
  let bare: string;
  const memory = { network: 'memory' };
  /** A copy of the package as npm would install it where nothing is prebuilt. */
  beforeAll(() => {
    bare = join(folder, 'package');
    for (const part of ['dist', 'native', 'package.json', 'test/fixtures/open-and-say.mjs']) {
      cpSync(join(root, part), join(bare, part), { recursive: true });
    }
    symlinkSync(join(root, 'node_modules'), join(bare, 'node_modules'));
  });

  /** A cache of its own, and the commands the process may find. */
  const environment = (cache: string, commands = process.env.PATH): NodeJS.ProcessEnv => ({
    ...process.env,
    PATH: commands,
    XDG_CACHE_HOME: join(folder, cache),
  });
  const cached = (cache: string): string[] => {
    try {
      return readdirSync(join(folder, cache, 'twinpath'));
    } catch {
      return [];
    }
  };

  it('and without a compiler, it names what to install', async () => {
    for (const commands of ['/nonexistent', onlyMake()]) {
      const said = await run(program(memory, bare), environment('none', commands));
      expectRefused(said, 'ERR_SHIM_MISSING');
      expect(said.message).toMatch(/apt-get install gcc make/);
      expect(cached('none')).toEqual([]);
    }
  });

  it('it is compiled on first use, once', async () => {
    expect(await run(program(memory, bare), environment('some'))).toMatchObject({ exit: 0 });
    expect(cached('some')).toEqual([expect.stringMatching(/^[0-9a-f]{16}\.so$/)]);
    const again = await run(program(memory, bare), environment('some', '/nonexistent'));
    expect(again).toMatchObject({ exit: 0 });
  });

  it('two first uses at once do not disturb each other', async () => {
    const both = [1, 2, 3].map(() => run(program(memory, bare), environment('shared')));
    for (const said of await Promise.all(both)) expect(said).toMatchObject({ exit: 0 });
    expect(cached('shared')).toHaveLength(1);
  });

  it('a cache that cannot be written is named', async () => {
    writeFileSync(join(folder, 'file'), '');
    const said = await run(program(memory, bare), environment('file/below'));
    expectRefused(said, 'ERR_SHIM_MISSING');
    expect(said.message).toContain(join(folder, 'file/below'));
  });

  it('a cache that is full is left as it was', async () => {
    const full = join(folder, 'full');
    mkdirSync(full);
    const fill = `mount -t tmpfs -o size=8k none ${full} && "$@"; status=$?; [ -z "$(ls ${full}/twinpath)" ] || exit 97; exit $status`;
    const small = ['unshare', '--mount', 'sh', '-c', fill, 'sh'];
    const said = await run([...small, ...program(memory, bare)], environment('full'));
    expectRefused(said, 'ERR_SHIM_MISSING');
  });

  /** A folder of commands in which there is make, and no compiler. */
  function onlyMake(): string {
    const commands = join(folder, 'commands');
    mkdirSync(commands);
    for (const name of ['make', 'mkdir', 'sh', 'mv']) {
      symlinkSync(
        execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim(),
        join(commands, name),
      );
    }
    return commands;
  }
});
