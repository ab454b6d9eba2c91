/** The programs of the README and of docs/ run as they are printed there, and the pages name every option of every command. */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
// Built, not source: Node 20 starts no worker from a .ts file.
import { Lab } from '../../dist/src/lab/host.js';
import { Traffic } from '../../dist/src/lab/traffic.js';
import { commandLines } from '../support/process.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const read = (page: string): string => readFileSync(join(root, page), 'utf8');
const PATIENCE_MILLIS = 15_000;

const PAGES = [
  'README.md',
  'docs/handlers.md',
  'docs/api.md',
  'docs/from-pcap.md',
  'docs/talking-to-your-handler.md',
];

/** Code blocks that begin with their file's name, by that name. */
const programs = new Map(
  PAGES.flatMap((page) => [...read(page).matchAll(/^```js\n\/\/ (\S+)\n([\s\S]*?)^```$/gm)]).map(
    ([, name, text]) => [name!, text!],
  ),
);

const DEVICE = "netvsc: 'eth1'";

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + PATIENCE_MILLIS;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${PATIENCE_MILLIS} ms`);
    await sleep(5);
  }
}

/** A folder with the programs, in which 'twinpath' is this package, and another device takes the place of theirs. */
function project(device: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'tp-readme-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(root, join(folder, 'node_modules', 'twinpath'));
  for (const [name, text] of programs) writeFileSync(join(folder, name), text.replace(DEVICE, device));
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

/** A program of the pages, started in a lab, whose port has as many queues as the lab's devices. */
async function inLab(program: string) {
  const lab = await Lab.create();
  onTestFinished(() => lab.close());
  const device = `netvsc: '${lab.nic.netvsc}', force: true, netns: '${lab.guest}', queues: ${lab.queues}`;
  return { lab, nic: lab.nic, ...start(join(project(device), program)) };
}

async function trafficIn(lab: Lab, options: Parameters<typeof Traffic.start>[2]): Promise<Traffic> {
  const traffic = await Traffic.start(lab, lab.nic, options);
  onTestFinished(() => traffic[Symbol.asyncDispose]());
  return traffic;
}

const times = (text: string, part: string): number => text.split(part).length - 1;

describe('the programs of the README', () => {
  test('answer ping over a failover, and end on Ctrl-C with statistics', async () => {
    const { lab, nic, child, exited, output } = await inLab('open.mjs');
    await until('the port', () => output.out.includes('eth0 '));
    const traffic = await trafficIn(lab, { rate: 100, icmpRate: 500 });
    await nic.plug();
    await until('both queues on the VF', () => times(output.out, 'synthetic -> vf') === lab.queues);
    await nic.moveDataPath('vf');
    // Fewer packets between two moves may be reordered: see docs/limits.md.
    const { icmpReceived } = traffic.progress();
    await until('pings by the VF', () => traffic.progress().icmpReceived > icmpReceived + 200);
    await nic.unplug();
    await until('both queues back', () => times(output.out, 'vf -> synthetic') === lab.queues);
    const { icmp } = await traffic.stop();

    child.kill('SIGINT');
    expect(await exited).toBe(0);
    expect(output.err).toBe('');
    expect(icmp).toMatchObject({ lost: 0, duplicated: 0, reordered: 0, unknown: 0 });
    // The guest's kernel answers none of them: what is not a ping is passed to it, and counted as that.
    expect(output.out).toContain(`transmitted: ${icmp.sent}`);
  });

  test('say which device is not there', async () => {
    const { exited, output } = start(join(project("netvsc: 'tp-nowhere'"), 'open.mjs'));
    expect(await exited).toBe(1);
    expect(output.err).toContain('There is no such network device: tp-nowhere');
    expect(output.out).toBe('');
  });
});

describe('the programs of docs/', () => {
  test('name the device that a reader replaces', () => {
    const opening = [...programs].filter(([, text]) => text.includes('openPort('));
    expect(opening.map(([name]) => name)).toEqual(['open.mjs', 'port.mjs', 'read.mjs', 'watch.mjs']);
    for (const [, text] of opening) expect(text).toContain(DEVICE);
  });

  test('echo UDP over a failover, and end on Ctrl-C with statistics that add up', async () => {
    const { lab, nic, child, exited, output } = await inLab('port.mjs');
    await until('the port', () => output.out.includes('eth0 '));
    const traffic = await trafficIn(lab, { icmpRate: 0 });
    await nic.plug();
    await until('both queues on the VF', () => times(output.out, 'synthetic -> vf') === lab.queues);
    await nic.moveDataPath('vf');
    const before = traffic.progress().received;
    await until('traffic through the VF', () => traffic.progress().received > before + 500);
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

  test('read what a handler delivers, until Ctrl-C', async () => {
    const { lab, child, exited, output } = await inLab('read.mjs');
    const traffic = await trafficIn(lab, { rate: 1000, icmpRate: 0 });
    await until('packets', () => times(output.out, ', synthetic: 106 bytes') > 100);
    await traffic.stop({ settleMillis: 0 });
    child.kill('SIGINT');
    expect(await exited).toBe(0);
    expect(output.err).toBe('');
  });

  test('share counters with a handler, and have it count from 0 again', async () => {
    const { lab, child, exited, output } = await inLab('watch.mjs');
    const udp = (): number => Number(/udp (\d+)\n$/.exec(output.out)?.[1] ?? 0);
    const traffic = await trafficIn(lab, { rate: 200, icmpRate: 0 });
    await until('counts', () => udp() > 300);
    const counted = udp();
    child.kill('SIGUSR2'); // a worker sees it with its next burst
    await until('a new count', () => udp() < counted);
    await traffic.stop({ settleMillis: 0 });
    child.kill('SIGINT');
    expect(await exited).toBe(0);
    expect(output.err).toBe('');
  });
});

describe('the pages about commands', { tags: 'unprivileged' }, () => {
  async function helps(...commands: string[]): Promise<string[]> {
    const outcomes = await commandLines(
      commands.map((name) => (name === '' ? ['--help'] : [name, '--help'])),
    );
    for (const { code } of outcomes) expect(code).toBe(0);
    return outcomes.map(({ stdout }) => stdout);
  }

  test('name every command and every option of it, and no option that it has not', async () => {
    const page = read('docs/cli.md');
    const text = ['README.md', 'docs/tutorial-dns.md', ...PAGES].map(read).join('\n') + page;
    const [general] = await helps('');
    const [, list] = /Commands:\n([\s\S]*?)\n\n/.exec(general!)!;
    const commands = [...list!.matchAll(/^ {2}([a-z]+)/gm)].map(([, name]) => name!);
    expect(commands.length).toBeGreaterThan(2);
    const texts = await helps(...commands);
    for (const [i, name] of commands.entries()) {
      expect(page).toContain(`| \`twinpath ${name}`);
      const options = [...texts[i]!.matchAll(/^ {2}(?:-[a-z], )?(--[a-z-]+)/gm)].map(([, option]) => option!);
      expect(options.length).toBeGreaterThanOrEqual(2); // --json and --help
      for (const option of options) expect(page).toContain(`\`${option}`);
      const typed = [...text.matchAll(new RegExp(`(?:twinpath|main\\.js) ${name}\\b([^\`\\n]*)`, 'g'))];
      const used = typed.flatMap(([, rest]) => [...rest!.matchAll(/--[a-z-]+/g)].map(([option]) => option));
      expect(used.filter((option) => !options.includes(option))).toEqual([]);
    }
  });
});
