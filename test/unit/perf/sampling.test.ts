import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Benchmark, Comparison } from '../../../perf/runner/benchmark.ts';
import { runGroup } from '../../../perf/runner/process-group.ts';
import { type CpuTime, sample } from '../../../perf/runner/sampling.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'twinpath-perf-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const program = new URL('../../fixtures/perf-variant.mjs', import.meta.url);
const plain: Comparison = { name: 'benchmark', about: '', ours: 'a.rate', unit: 'Mpps' };

function benchmark(variants: readonly string[], comparisons: readonly Comparison[]): Benchmark {
  return {
    ...{ name: folder, about: '', comparisons },
    variants: Object.fromEntries(variants.map((variant) => [variant, () => ({})])),
    ...{ full: { runs: 4, seconds: 0 }, quick: { runs: 2, seconds: 0 } },
  };
}

const calm = (): CpuTime => ({ total: 0, stolen: 0 });
const run = (of: Benchmark, quick = false, signal = new AbortController().signal, cpuTime = calm) =>
  sample(of, { quick, signal, program, cpuTime, onRun: () => {}, onProgress: () => {} });
const order = (): string => readFileSync(join(folder, 'order'), 'utf8').replaceAll('\n', ' ').trim();

describe('the runs of a benchmark', () => {
  it('take turns, and a variant prints what it likes before its figures', async () => {
    const { lines } = await run(benchmark(['a', 'b'], [{ ...plain, peer: 'b.rate' }]), true);
    expect(order()).toBe('a b a b');
    expect(lines[0]).toMatchObject({ ours: 7, peer: 7, ratio: 1, runs: 2 });
  });

  it('say why a variant failed, and do not try it for ever', async () => {
    const { lines } = await run(benchmark(['a', 'broken'], [{ ...plain, peer: 'broken.rate' }, plain]));
    expect(order()).toBe('a broken a broken a a');
    expect(lines[0]?.note).toBe('failed: broken: it is not installed');
    expect(lines[1]).toMatchObject({ ours: 7, runs: 4 });
  });

  it('take a variant that prints no figures for a failure', async () => {
    const { lines } = await run(benchmark(['mute'], [{ ...plain, ours: 'mute.rate' }]));
    expect(lines[0]?.note).toMatch(/^failed: mute: .*no result/);
  });

  it('are set aside while the hypervisor takes the CPUs away, but not those that failed', async () => {
    let looks = 0;
    const stormy = (): CpuTime => ({ total: 100 * looks, stolen: 7 * looks++ });
    const both = [plain, { ...plain, ours: 'mute.rate' }];
    const { lines } = await run(benchmark(['a', 'mute'], both), false, undefined, stormy);
    expect(lines[0]?.note).toMatch(/noisy: the hypervisor took 7 %/);
    expect(lines[1]?.note).toMatch(/^failed: mute: .*no result/);
  });

  it('get half as many more when they are noisy, and then give up', async () => {
    const { lines } = await run(benchmark(['wild'], [{ ...plain, ours: 'wild.rate' }]));
    expect(order().split(' ')).toHaveLength(6);
    expect(lines[0]).toMatchObject({ ours: null, ratio: null });
    expect(lines[0]?.note).toMatch(/^noisy/);
  });

  it('end at once when they are interrupted, with everything the variant had started', async () => {
    const stop = new AbortController();
    const running = run(benchmark(['endless'], [plain]), false, stop.signal);
    while (!existsSync(join(folder, 'ready'))) await sleep(10);
    stop.abort();
    await running;
    const pid = Number(readFileSync(join(folder, 'pid'), 'utf8'));
    // Its parent is gone: it may be a zombie until whoever adopted it looks.
    const state = (): string => {
      try {
        return /\) (\w)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1] ?? '';
      } catch {
        return '';
      }
    };
    while (!['', 'Z', 'X'].includes(state())) await sleep(10);
    expect(order()).toBe('endless');
  });
});

it('a program that does not end in time is killed, and what it had started as well', async () => {
  const child = `require('child_process').spawn('sleep', ['1000'], { stdio: 'inherit' }); setInterval(() => {}, 1000)`;
  const output = (): void => {};
  const { code, killed } = await runGroup(process.execPath, ['-e', child], { timeoutSeconds: 0.5, output });
  // Its output has ended: nobody has it open any more.
  expect({ code, killed }).toEqual({ code: null, killed: 'it had not ended after 0.5 s' });
});
