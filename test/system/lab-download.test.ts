/** A download from kernel to kernel: no port, so that what is measured is the instrument. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
// Built, not source: Node 20 starts no worker from a .ts file.
import { Download } from '../../dist/src/lab/download.js';
import type { Lab } from '../../dist/src/lab/host.js';
import { buildLab, monotonicNanos, until } from '../support/harness.ts';

async function download(lab: Lab): Promise<Download> {
  const one = await Download.start(lab, lab.nic);
  onTestFinished(() => one[Symbol.asyncDispose]());
  return one;
}

/** Until so many more bytes have arrived. */
async function arrived(one: Download, bytes = 5e6): Promise<void> {
  const enough = one.progress().bytes + bytes;
  await until(`${bytes} more bytes`, () => one.progress().bytes >= enough);
}

describe('a download in a lab', () => {
  it('arrives complete, shows its progress, and returns one report', async () => {
    const one = await download(await buildLab());
    await arrived(one);
    await arrived(one);
    const seen = one.progress();
    const report = await one.stop();
    expect(report).toMatchObject({ survived: true, failure: undefined });
    expect(report.bytes).toBeGreaterThanOrEqual(seen.bytes);
    expect(report.bytes).toBe(one.progress().bytes);
    expect(report.gbitPerSecond).toBeCloseTo((report.bytes * 8) / report.seconds / 1e9);
    expect(report.longestStallMillis).toBeGreaterThan(0);
    expect(report.longestStallMillis).toBeLessThanOrEqual(report.seconds * 1000);
    expect(await one.stop()).toBe(report);
  });

  it('survives an outage, and reports its time and length and the retransmitted bytes', async () => {
    const lab = await buildLab();
    const one = await download(lab);
    await arrived(one);
    await lab.nic.setCarrier('synthetic', false);
    await sleep(200);
    const before = monotonicNanos();
    await lab.nic.setCarrier('synthetic', true);
    await arrived(one);
    const report = await one.stop();
    expect(report.survived).toBe(true);
    expect(report.retransmits).toBeGreaterThan(0);
    // Nothing can have arrived at that moment.
    expect(report.longestStallAtNanos).toBeLessThan(before);
    expect(report.longestStallAtNanos + report.longestStallMillis * 1e6).toBeGreaterThan(before);
  });

  it('does not survive if its stream does not end', async () => {
    const lab = await buildLab();
    const one = await download(lab);
    await arrived(one);
    await lab.nic.setCarrier('synthetic', false);
    const report = await one.stop({ settleMillis: 100 });
    expect(report.survived).toBe(false);
    expect(report.failure).toContain('did not end within 100 ms');
    expect(report.bytes).toBeGreaterThan(0);
  });

  it('says why it cannot start', async () => {
    const lab = await buildLab();
    const elsewhere = { outsideAddress: '10.99.0.1' };
    await expect(Download.start(lab, elsewhere)).rejects.toThrow('EADDRNOTAVAIL');
    await expect(Download.start({ ...lab, outside: 'tp-nix' }, lab.nic)).rejects.toThrow('tp-nix');
    await expect(Download.start({ ...lab, guest: lab.host }, lab.nic)).rejects.toThrow('ENETUNREACH');
  });
});
