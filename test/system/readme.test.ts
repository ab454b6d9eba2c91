/** The README's programs run as they are printed there, and its tables name what the code has. */
import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
// Built, not source: Node 20 starts no worker from a .ts file.
import { Lab } from '../../dist/src/lab/host.js';
import { Traffic } from '../../dist/src/lab/traffic.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const PATIENCE_MILLIS = 15_000;

/** Code blocks that begin with their file's name, by that name. */
const programs = new Map(
  [...readme.matchAll(/^```js\n\/\/ (\S+)\n([\s\S]*?)^```$/gm)].map(([, name, text]) => [name!, text!]),
);

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + PATIENCE_MILLIS;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${PATIENCE_MILLIS} ms`);
    await sleep(5);
  }
}

/** A folder with the README's programs, in which 'twinpath' is this package. */
function project(change: (text: string) => string): string {
  const folder = mkdtempSync(join(tmpdir(), 'tp-readme-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(root, join(folder, 'node_modules', 'twinpath'));
  for (const [name, text] of programs) writeFileSync(join(folder, name), change(text));
  return folder;
}

function start(...args: string[]) {
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = new Promise<number | null>((resolve) => child.once('close', resolve));
  const output = { out: '', err: '' };
  child.stdout.on('data', (chunk) => {
    output.out += chunk;
  });
  child.stderr.on('data', (chunk) => {
    output.err += chunk;
  });
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  return { child, exited, output };
}

const times = (text: string, part: string): number => text.split(part).length - 1;

describe('the programs of the README', () => {
  test('echo UDP over a failover, and end on Ctrl-C with statistics that add up', async () => {
    const lab = await Lab.create();
    onTestFinished(() => lab.close());
    const { nic } = lab;
    const device = "netvsc: 'eth1'";
    const inLab = `netvsc: '${nic.netvsc}', force: true, netns: '${lab.guest}'`;
    const folder = project((text) => text.replace(device, inLab));
    expect(programs.get('open.mjs')).toContain(device);

    const { child, exited, output } = start(join(folder, 'open.mjs'));
    await until('the port', () => output.out.includes(' by '));
    const traffic = await Traffic.start(lab, nic, { icmpRate: 0 });
    onTestFinished(() => traffic[Symbol.asyncDispose]());
    await nic.plug();
    await until('both queues on the VF', () => times(output.out, 'synthetic -> vf') === lab.queues);
    await nic.moveDataPath('vf');
    const before = traffic.progress().received;
    await until('traffic by the VF', () => traffic.progress().received > before + 500);
    await nic.unplug();
    await until('both queues back', () => times(output.out, 'vf -> synthetic') === lab.queues);
    const { packets } = await traffic.stop();

    child.kill('SIGINT');
    expect(await exited).toBe(0);
    expect(output.err).toBe('');
    expect(packets).toMatchObject({ lost: 0, duplicated: 0, reordered: 0, unknown: 0 });
    expect(output.out).toContain(`received: ${packets.sent}`);
    expect(output.out).toContain(`transmitted: ${packets.sent}`);
  });

  test('say which device is not there', async () => {
    const folder = project((text) => text.replace("'eth1'", "'tp-nowhere'"));
    const { exited, output } = start(join(folder, 'open.mjs'));
    expect(await exited).toBe(1);
    expect(output.err).toContain('There is no such network device: tp-nowhere');
    expect(output.out).toBe('');
  });
});

describe('the tables of the README', () => {
  const source = (file: string): string => readFileSync(join(root, 'src', file), 'utf8');
  const row = (text: string): RegExp => new RegExp(`^\\|[^|]*\`${text}[\` ]`, 'm');

  test('name every error code', () => {
    const codes = [...source('errors.ts').matchAll(/^ {2}(ERR_\w+):/gm)].map(([, code]) => code!);
    expect(codes.length).toBeGreaterThan(15);
    for (const code of codes) expect(readme).toMatch(row(code));
  });

  test('name every option of openPort', () => {
    const lists = [...source('options.ts').matchAll(/const (?:PORT|SHARED)_KEYS = \[([^\]]*)\]/g)];
    const options = lists.flatMap(([, list]) => [...list!.matchAll(/'(\w+)'/g)].map(([, name]) => name!));
    expect(options.length).toBeGreaterThan(15);
    for (const option of options) expect(readme).toMatch(row(option));
  });

  test('name every option of every command', async () => {
    for (const command of ['demo', 'list', 'run']) {
      const { output, exited } = start(join(root, 'dist/src/cli/main.js'), command, '--help');
      expect(await exited).toBe(0);
      const options = [...output.out.matchAll(/^ {2}(--[a-z-]+)/gm)].map(([, name]) => name!);
      expect(options.length).toBeGreaterThan(2);
      for (const option of options) expect(readme).toContain(`\`${option}`);
    }
  });

  test('name every counter of a packet that went nowhere', () => {
    for (const reason of source('statistics.ts').matchAll(/^ {2}(\w+): 'drop/gm)) {
      expect(readme).toMatch(row(`dropped.${reason[1]!}`));
    }
  });

  test('link to files that exist', () => {
    const links = [...readme.matchAll(/\]\(((?:src|native)\/[^)]*)\)/g)].map(([, file]) => file!);
    expect(links.length).toBeGreaterThan(10);
    expect(links.filter((file) => !existsSync(join(root, file)))).toEqual([]);
  });
});
