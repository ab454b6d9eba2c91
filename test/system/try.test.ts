/** `twinpath try`: what it runs, and what it passes on. What it leaves, nothing: faults/try-left.test.ts. */
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { isExecutable } from '../../src/cli/try-hints.ts';
import { until } from '../support/harness.ts';
import { Run as Program, type Run, start, temporary, twinpath } from '../support/process.ts';

/** Sends a datagram to UDP port 7 of the guest and prints the answer. */
const ASK = `"${process.execPath}" -e "
  const socket = require('node:dgram').createSocket('udp4');
  socket.on('message', (data) => { console.log(String(data)); socket.close(); });
  socket.send('hello', 7, '10.77.0.2');"`;

/** Until it is killed. Says its process id first. */
const STAY = 'echo "at $$"; exec sleep 600';

const namespacesOf = ({ child }: Run): string[] =>
  readdirSync('/run/netns').filter((name) => name.startsWith(`tp-${child.pid}-`));

/** A handler module of these words. */
function module(text: string): string {
  const file = join(temporary(), 'handler.mjs');
  writeFileSync(file, text);
  return file;
}

describe('twinpath try', () => {
  it('runs a command that reaches the handler, and passes on its output and exit code', async () => {
    const { code, stdout, stderr } = await twinpath(['try', 'echo', '--exec', `${ASK}; exit 7`]);
    expect(code, stderr).toBe(7);
    expect(stdout).toBe('hello\n');
    expect(stderr).toMatch(/^1 packets in, 1 out.*\n[\s\S]*every one accounted for in 1 of 1 queues\n$/);
  });

  it('prints one JSON document with --json, and the output of the command to standard error', async () => {
    const args = ['try', 'echo', '--json', '--queues', '2', '--exec', `${ASK}; exit 3`];
    const { code, stdout, stderr } = await twinpath(args);
    expect(code).toBe(3);
    expect(stderr).toBe('hello\n');
    const result = JSON.parse(stdout);
    expect(result).toMatchObject({ ok: true, problems: [], exitCode: 3, device: 'eth0' });
    expect(result.statistics).toMatchObject({ received: 1, transmitted: 1 });
    expect(result.frames).toHaveLength(2);
  });

  it('runs commands from standard input without a terminal, by /bin/sh if SHELL is wrong', async () => {
    const env = { PATH: process.env.PATH, SHELL: '/nowhere/zsh' };
    const run = start(['try', 'drop'], { input: true, env });
    run.child.stdin!.end('echo "$0"\nip -brief address show dev u0\nexit 4\n');
    const { code, stdout } = await run.outcome;
    expect(code).toBe(4);
    expect(stdout).toMatch(/^\/bin\/sh\nu0@\S+ +UP +10\.77\.0\.1\/24 *\n$/);
  });

  it('delivers packets that the handler passes to the guest, in which programs can run', async () => {
    const guest = 'ip netns exec $(ip netns identify | sed s/out/guest/)';
    const answer = `require('node:dgram').createSocket('udp4').bind(7, () => console.log('up')).on('message', function (data, from) { this.send('from the guest', from.port, from.address, () => process.exit()); })`;
    const line = `${guest} "${process.execPath}" -e "${answer}" | { read -r up; ${ASK}; }`;
    const { code, stdout, stderr } = await twinpath(['try', 'host', '--exec', line]);
    expect(code, stderr).toBe(0);
    expect(stdout).toBe('from the guest\n');
    expect(stderr).toMatch(/machine +1 passed to it/);
  });

  it('unplugs the VF and plugs it in again with --vf-cycle', async () => {
    const run = start(['try', 'echo', '--json', '--vf-cycle', '1', '--exec', STAY]);
    await run.said('vf → synthetic');
    await until('the VF back', () => run.stderr.split('synthetic → vf').length === 3);
    run.child.kill('SIGTERM');
    const { code, stdout } = await run.outcome;
    expect(code).toBe(143);
    expect(JSON.parse(stdout)).toMatchObject({ ok: false, problems: ['interrupted'], exitCode: 143 });
  });

  it('runs twice at the same time', async () => {
    const [first, second] = [start(['try', 'echo', '--exec', ASK]), start(['try', 'echo', '--exec', ASK])];
    expect(await first.outcome).toMatchObject({ code: 0, stdout: 'hello\n' });
    expect(await second.outcome).toMatchObject({ code: 0, stdout: 'hello\n' });
  });

  it('exits with 1 when the handler throws, although the command succeeds', async () => {
    const handler = module("export default () => { throw new Error('not today'); };");
    const run = start(['try', handler, '--exec', `${ASK} & cat`], { input: true });
    await run.said('not today');
    run.child.stdin!.end();
    const { code, stderr } = await run.outcome;
    expect(code).toBe(1);
    expect(stderr).toContain('twinpath: the handler threw');
  });

  const throwing = "throw new Error('not loaded');";
  it.each([
    ['a handler that is not there', () => ['./missing.mjs'], 2, 'there is no file ./missing.mjs'],
    ['a handler that throws while it loads', () => [module(throwing)], 1, 'not loaded'],
    ['a handler that exports none', () => [module('export const x = 1;')], 1, 'exports neither'],
    ['an option that the handler has not', () => ['echo', '--option', 'adress=1'], 2, '"address"'],
    ['an option that a handler needs', () => ['balance'], 2, 'balance has no address'],
  ])('answers %s with one sentence, before the command runs', async (_, args, code, words) => {
    const run = start(['try', ...args(), '--exec', 'echo ran']);
    const outcome = await run.outcome;
    expect(outcome).toMatchObject({ code, stdout: '' });
    expect(outcome.stderr).toContain(words);
    expect(outcome.stderr.trim().split('\n')).toHaveLength(1);
    expect(namespacesOf(run)).toEqual([]);
  });

  it('names the required rights and the alternative to users other than root', async () => {
    const { code, stdout, stderr } = await twinpath(['try', 'echo', '--exec', 'true'], { nobody: true });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^twinpath: The kernel refused this user: .*root.*sudo.*twinpath demo.*\n$/);
  });
});

describe('a terminal', () => {
  it('gets what to type, and a shell whose prompt says where it is', async ({ skip }) => {
    skip(!isExecutable('/usr/bin/script'), 'needs script(1), of util-linux');
    const [node, main] = [process.execPath, join(import.meta.dirname, '../../dist/src/cli/main.js')];
    const env = { PATH: process.env.PATH, HOME: temporary(), SHELL: '/bin/sh', TERM: 'dumb' };
    const words = ['script', '--quiet', '--return', '--command', `"${node}" "${main}" try echo`, '/dev/null'];
    const run = new Program(words, { input: true, env });
    await until('the prompt', () => run.stdout.includes('(twinpath peer) # '));
    expect(run.stdout).toContain('echo is at 10.77.0.2.');
    expect(run.stdout).toMatch(/ip netns exec tp-\d+-0-guest CMD/);
    run.child.stdin!.write('exit 6\n');
    const { code, stdout } = await run.outcome;
    expect(code).toBe(6);
    expect(stdout).toContain('0 packets in');
  });
});
