/** `twinpath try` leaves nothing, whichever way it ends. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { processesIn } from '../../src/lab/cleanup.ts';
import { until } from '../support/harness.ts';
import { type Run, start, temporary } from '../support/process.ts';

/** Until it is killed. Says its process id first. */
const STAY = 'echo "at $$"; exec sleep 600';

const namespacesOf = ({ child }: Run): string[] =>
  readdirSync('/run/netns').filter((name) => name.startsWith(`tp-${child.pid}-`));

/** What its port has saved of a VF's settings. */
function settingsOf({ child }: Run): string[] {
  const folder = '/run/twinpath';
  return readdirSync(folder).filter((file) =>
    readFileSync(join(folder, file), 'utf8').includes(`"pid":${child.pid},`),
  );
}

/** Children of a process that have not ended: the guard, and what runs in the namespace. */
function childrenOf(pid: number): number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && parentOf(entry) === pid)
    .map(Number);
}

/** Undefined for what has ended, reaped or not. */
function parentOf(pid: number | string): number | undefined {
  try {
    const [state, parent] = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    return state === 'Z' ? undefined : Number(parent);
  } catch {
    return undefined;
  }
}

/** A handler module of these words. */
function module(text: string): string {
  const file = join(temporary(), 'handler.mjs');
  writeFileSync(file, text);
  return file;
}

/** The command with something that stays in the peer's namespace, its children and the id of what stays. */
async function staying(line = STAY, ...options: string[]) {
  const run = start(['try', 'echo', ...options, '--exec', line]);
  await until('the command', () => {
    if (run.child.exitCode !== null) throw new Error(run.stderr);
    return /at \d+\n/.test(run.stdout);
  });
  const pid = Number(/at (\d+)/.exec(run.stdout)![1]);
  expect(processesIn(namespacesOf(run))).toContain(pid);
  return { run, pid, children: [...childrenOf(run.child.pid!), pid] };
}

async function expectNothingLeft(run: Run, processes: readonly number[]): Promise<void> {
  await until('the namespaces gone', () => namespacesOf(run).length === 0);
  await until('the processes gone', () => processes.every((pid) => parentOf(pid) === undefined));
}

describe('nothing is left of twinpath try', () => {
  it('when the command ends and leaves a process behind', async () => {
    const run = start(['try', 'drop', '--exec', 'sleep 600 & echo "at $!"']);
    const { code, stdout } = await run.outcome;
    expect(code).toBe(0);
    await expectNothingLeft(run, [Number(/at (\d+)/.exec(stdout)![1])]);
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)('after %s', async (signal, code) => {
    const { run, children } = await staying();
    run.child.kill(signal);
    const outcome = await run.outcome;
    expect(outcome.code, outcome.stderr).toBe(code);
    expect(outcome.stderr).toContain('0 packets in');
    await expectNothingLeft(run, children);
  });

  it('after SIGTERM to a command that ignores it', async () => {
    const { run, children } = await staying('trap "" INT TERM HUP; echo "at $$"; while :; do sleep 1; done');
    run.child.kill('SIGTERM');
    expect((await run.outcome).code).toBe(143);
    await expectNothingLeft(run, children);
  });

  it('after a second Ctrl-C, which waits for nothing', async () => {
    const { run, children } = await staying('trap "" INT TERM HUP; echo "at $$"; while :; do sleep 1; done');
    run.child.kill('SIGINT');
    run.child.kill('SIGTERM');
    expect([130, 143]).toContain((await run.outcome).code);
    await expectNothingLeft(run, children);
  });

  it('after kill -9 of the command, with a VF', async () => {
    const { run, children } = await staying(STAY, '--vf');
    expect(settingsOf(run)).toHaveLength(1);
    run.child.kill('SIGKILL');
    await run.outcome;
    await expectNothingLeft(run, children);
    await until('the saved settings gone', () => settingsOf(run).length === 0);
  });

  it('after kill -9 of what it runs', async () => {
    const { run, pid, children } = await staying();
    process.kill(pid, 'SIGKILL');
    expect((await run.outcome).code).toBe(137);
    await expectNothingLeft(run, children);
  });

  it('when it is interrupted while the handler loads', async () => {
    const run = start([
      'try',
      module("process.stderr.write('loading\\n'); await new Promise(() => setInterval(() => {}, 1000));"),
      '--json',
    ]);
    await run.said('loading');
    const children = childrenOf(run.child.pid!);
    run.child.kill('SIGINT');
    const { code, stdout } = await run.outcome;
    expect(code).toBe(130);
    expect(JSON.parse(stdout)).toEqual({ ok: false, problems: ['interrupted'] });
    await expectNothingLeft(run, children);
  });
});
