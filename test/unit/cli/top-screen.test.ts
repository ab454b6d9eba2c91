import { describe, expect, it } from 'vitest';
import type { FailoverEntry } from '../../../src/cli/failovers.ts';
import { type TopView, topScreen } from '../../../src/cli/top-screen.ts';
import { initial } from '../../../src/configuration.ts';

const FLOW = { rxPackets: 14_880_000, rxBits: 1e11, txPackets: 14_880_000, txBits: 1e11 };
const failover = (detectedNanos: number): FailoverEntry => ({
  ...{ from: 'synthetic', to: 'vf', reason: 'coordinator replaced', surprise: false },
  ...{
    detectMicros: null,
    switchMicros: 12_345.6,
    rescued: 64,
    drained: 0,
    queues: 64,
    detectedNanos,
  },
});

/** Everything as long as it gets. */
function view(queues: number, failovers: number): TopView {
  return {
    pid: 4_194_304,
    every: 3600,
    missed: 100,
    row: {
      ...{
        port: 0,
        device: 'enP12345p0s0np0',
        mac: '02:00:00:00:00:01',
        netns: null,
        handler: 'file:///h.mjs',
      },
      ...{ queues, mode: 'interrupt', configuration: initial({}) },
      link: { up: true, speedMbps: 200_000, duplex: 'full' },
      paths: { vf: { device: 'enP12345p0s0np1' } as never },
    },
    rates: {
      paths: { vf: FLOW, synthetic: FLOW, host: FLOW },
      queues: Array.from({ length: queues }, (_, queue) => ({
        ...{ queue, owner: 'synthetic', packets: 999_999, burst: 63.9, nanosPerPacket: 123_456, idle: 1 },
        ...{ sleeps: 123_456, kicks: 123_456, handedOver: 999_999 },
      })),
      drops: { verdict: 1 },
      handlerErrors: 0,
    },
    failovers: Array.from({ length: failovers }, (_, i) => ({ entry: failover(i), ago: 7000 - i })),
  };
}

describe('the screen of top', () => {
  it.each([
    [1, 0],
    [2, 2],
    [8, 20],
    [64, 200],
  ])('of %i queues and %i failovers fits 80 × 24', (queues, failovers) => {
    const lines = topScreen(view(queues, failovers), 24);
    expect(lines.length).toBeLessThan(24); // a panel ends with a line of its own
    for (const line of lines) expect(line.length, line).toBeLessThan(80); // a panel cuts the last column
    const shown = lines.filter((line) => line.includes('synthetic → vf'));
    expect(shown.length).toBeGreaterThanOrEqual(Math.min(3, failovers));
  });

  it('shows all queues and more failovers in a higher window, and else says how many are missing', () => {
    const low = topScreen(view(64, 3), 24).join('\n');
    expect(low).toMatch(/and \d+ more queues/);
    const high = topScreen(view(64, 40), 100);
    expect(high.filter((line) => /^ {2,4}\d+ +synthetic/.test(line))).toHaveLength(64);
    expect(high.filter((line) => line.includes('synthetic → vf')).length).toBeGreaterThan(10);
    expect(high.length).toBeLessThan(100);
  });
});
