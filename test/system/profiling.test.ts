/**
 * The profiling programs as a person starts them, with stand-ins for clinic: what clinic itself draws, the command
 * checks whenever it is used.
 *
 * @module-tag unprivileged
 */
import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));

function scratch(): string {
  const folder = mkdtempSync(join(tmpdir(), 'tp-profiling-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function start(program: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env) {
  const file = join(root, 'dist/perf/profile', `${program}.js`);
  const child = spawn(process.execPath, [file, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const output = { out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (text) => {
    output.out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    output.err += text;
  });
  const exited = new Promise<number | null>((resolve) => child.once('close', resolve));
  onTestFinished(() => void child.kill('SIGKILL'));
  return { child, output, exited };
}

/** A folder in which something that is not clinic is installed in its place. */
function standIn(text: string): string {
  const folder = scratch();
  mkdirSync(join(folder, 'node_modules/clinic'), { recursive: true });
  writeFileSync(join(folder, 'node_modules/clinic/package.json'), '{}');
  writeFileSync(join(folder, 'node_modules/clinic/bin.js'), text);
  return folder;
}

const ENDED = `console.log('{"kind":"ended","seconds":1,"packets":7}');`;
const page = (tool: string, text: string) =>
  `${ENDED} require('fs').writeFileSync('report.clinic-${tool}.html', ${JSON.stringify(text)});`;

describe('perf:clinic', () => {
  test('names the command that installs clinic if it is missing', async () => {
    const folder = scratch();
    const { output, exited } = start('clinic', ['flame', '--prefix', folder]);
    expect(await exited).toBe(1);
    expect(output.err).toContain(`Run "npm ci --prefix ${folder}"`);
    expect(output.out).toBe('');
  });

  test('refuses a wrong command line with 2, and explains itself', async () => {
    const wrong = start('clinic', ['flaem']);
    expect(await wrong.exited).toBe(2);
    expect(wrong.output.err).toContain('Did you mean "flame"?');
    const help = start('clinic', ['--help']);
    expect(await help.exited).toBe(0);
    expect(help.output.out).toContain('heapprofiler');
  });

  test.each([
    ['writes no page', ENDED, 'wrote no page'],
    ['writes a page without data', page('flame', '<html></html>'), 'holds no data'],
    [
      'profiles nothing',
      `require('fs').writeFileSync('report.clinic-flame.html', '')`,
      'did not run to its end',
    ],
    ['fails', 'process.exit(3)', 'Clinic failed (3)'],
  ])('fails, and leaves nothing, when clinic %s', async (_, text, why) => {
    const out = scratch();
    const options = ['--seconds', '1', '--out', out];
    const { output, exited } = start('clinic', ['flame', '--prefix', standIn(text), ...options]);
    expect(await exited).toBe(1);
    expect(output.err).toContain(why);
    expect(readdirSync(out)).toEqual([]);
  });

  test('passes Ctrl-C on once, and ends everything at the second', async () => {
    const out = scratch();
    const deaf = `const { writeFileSync } = require('fs');
      process.on('SIGINT', () => { console.log('heard'); writeFileSync('heard', ''); });
      setInterval(() => {}, 1000);
      writeFileSync('here', '');`;
    const { child, output, exited } = start('clinic', ['flame', '--prefix', standIn(deaf), '--out', out]);
    const wrote = async (file: string): Promise<void> => {
      const there = () => readdirSync(out).some((name) => existsSync(join(out, name, file)));
      while (!there() && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 5));
    };
    await wrote('here');
    child.kill('SIGINT');
    await wrote('heard');
    child.kill('SIGINT');
    expect(await exited).toBe(130);
    expect(output.err).toContain('interrupted twice');
    expect(output.err.split('heard').length - 1).toBe(1);
    expect(readdirSync(out)).toEqual([]);
  });

  test('keeps a page with data, and says what it shows and what ran', async () => {
    const out = scratch();
    const text = '"dist/src/datapath/port-queue.js:1:2" "dist/workers/queue.js:3:4"';
    const standing = standIn(page('flame', text));
    const { output, exited } = start('clinic', ['flame', '--prefix', standing, '--json', '--out', out]);
    expect(await exited).toBe(0);
    const { report, evidence, load } = JSON.parse(output.out);
    expect(evidence).toEqual({ what: 'functions of ours', count: 2 });
    expect(load.packets).toBe(7);
    expect(readdirSync(out)).toEqual([report.slice(out.length + 1)]);
    expect(readFileSync(report, 'utf8')).toBe(text);
  });
});

test('perf:profile leaves a profile of each thread, and says so when Linux perf is not there', async () => {
  const out = scratch();
  // Nothing is found by this PATH: no perf.
  const env = { ...process.env, PATH: out };
  const { output, exited } = start('profile', ['--seconds', '1', '--json', '--out', out], env);
  expect(await exited).toBe(0);
  expect(output.err).toContain('Linux perf is not installed');
  const { threads, load, flame } = JSON.parse(output.out);
  expect(load.packets).toBeGreaterThan(0);
  expect(flame).toBeUndefined();
  const names = threads.map(({ thread }: { thread: string }) => thread);
  expect(names).toEqual(['main', 'supervisor', 'coordinator', 'queue-worker']);
  const worker = threads.find(({ thread }: { thread: string }) => thread === 'queue-worker');
  // The poll loop, in whichever of its functions V8 has put it.
  expect(worker.functions.map(({ name }: { name: string }) => name).join()).toMatch(
    /(?:path-order|port-queue|descriptor-rings|dispatch|worker)\.js/,
  );
  const [folder] = readdirSync(out);
  expect(readdirSync(join(out, folder!)).sort()).toEqual(
    names.map((name: string) => `${name}.cpuprofile`).sort(),
  );
});
