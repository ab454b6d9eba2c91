/** `npm run perf` as a person has it, but for measuring, which takes longer: faults/perf.test.ts. */
import { cpSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { stream } from '../../perf/rigs/iperf.ts';
import { BENCHMARKS } from '../../perf/runner/benchmarks.ts';
import { lockMachine } from '../../perf/runner/results.ts';
import type { Line } from '../../perf/runner/verdict.ts';
import { ROOT } from '../support/nobody.ts';
import { type Outcome, Run, type RunOptions, temporary } from '../support/process.ts';

const program = (name: string): string =>
  fileURLToPath(new URL(`../../dist/perf/${name}.js`, import.meta.url));
const perf = (args: readonly string[], options?: RunOptions): Promise<Outcome> =>
  new Run([process.execPath, program('run'), ...args], options).outcome;

describe('npm run perf', () => {
  it('says which benchmark a wrong name may mean, and which there are', async () => {
    const near = await perf(['--only', 'handof']);
    expect(near).toMatchObject({ code: 2, stdout: '' });
    expect(near.stderr).toContain('Did you mean handoff?');
    const far = await perf(['--only', 'nothing-like-it']);
    expect(far.code).toBe(2);
    for (const { name } of BENCHMARKS) expect(far.stderr).toContain(name);
  });

  it('judges the samples of an earlier run again, and refuses other files', async () => {
    const file = join(temporary(), 'run.json');
    const sample = { ns: 40 };
    const machine = { cpus: '2 × test' };
    const runs = { handoff: [0, 1].map((turn) => ({ variant: 'handoff32', turn, sample })) };
    writeFileSync(file, JSON.stringify({ rows: [], machine, runs }));
    const { stdout } = await perf(['--again', file, '--json'], { nobody: true });
    const { rows } = JSON.parse(stdout) as { rows: Line[] };
    expect(rows[0]).toMatchObject({ name: 'handoff', ours: 40, runs: 2, spread: 0 });
    expect(rows[1]).toMatchObject({
      name: 'handoff:batch-1',
      ours: null,
      note: expect.stringMatching(/^failed/),
    });
    writeFileSync(file, '{}');
    const wrong = await perf(['--again', file]);
    expect(wrong).toMatchObject({ code: 2, stdout: '' });
    expect(wrong.stderr).toContain('perf/results');
  });

  it('refuses users other than root in one sentence', async () => {
    const { code, stderr } = await perf(['--only', 'handoff'], { nobody: true });
    expect(code).toBe(1);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(stderr).toMatch(/root/);
  });

  it.each([
    ['dpdk-testpmd', ['ring', 'testpmd64']],
    ['cc, a C compiler,', ['veth', 'c']],
  ])('says how to get what a benchmark needs when %s is missing', async (peer, variant) => {
    rmSync(join(ROOT, 'build/peers'), { recursive: true, force: true }); // compiled when they are needed
    const env = { PATH: join(temporary(), 'nothing') };
    const { code, stderr } = await new Run([process.execPath, program('runner/variant'), ...variant, '1'], {
      env,
    }).outcome;
    expect(code).toBe(1);
    expect(stderr).toBe(`${peer} is not installed here: run perf/peers/install, as root (Debian, Ubuntu).\n`);
  });

  it('says how to get what a benchmark needs when the package pcap or iperf3 is missing', async () => {
    const folder = temporary();
    for (const part of ['package.json', 'dist', 'build']) {
      cpSync(join(ROOT, part), join(folder, part), { recursive: true });
    }
    symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
    const pcap = await new Run([process.execPath, join(folder, 'dist/perf/peers/pcap.js'), 'lo', '1'])
      .outcome;
    expect(pcap.code).toBe(1);
    expect(pcap.stderr).toContain(
      'run perf/peers/install, as root (Debian, Ubuntu), then npm ci --prefix perf.\n',
    );
    const from = { from: 'tp-nowhere', to: 'tp-nowhere', address: '10.0.0.1', seconds: 1 };
    const path = process.env.PATH;
    process.env.PATH = join(folder, 'nothing');
    onTestFinished(() => {
      process.env.PATH = path;
    });
    await expect(stream(from)).rejects.toThrow(/^iperf3 is not installed here: run perf\/peers\/install/);
  });

  it('refuses to measure while another process measures', async () => {
    const held = await lockMachine();
    const { code, stderr } = await perf(['--only', 'handoff']).finally(() => held.close());
    expect(code).toBe(1);
    expect(stderr).toMatch(/another measurement is running/);
  });
});
