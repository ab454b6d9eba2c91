import { describe, expect, it } from 'vitest';
import type { StatisticsSample } from '../../../src/control/protocol.ts';
import { ratesBetween, short } from '../../../src/control/rates.ts';
import { pathCounters, queueCounters } from '../../../src/memory/counters.ts';
import { Path } from '../../../src/memory/layout.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { portStatistics } from '../../../src/statistics.ts';

const GEOMETRY = {
  pageSize: 4096,
  ports: 1,
  queues: 2,
  frameSize: 2048,
  framesPerWorker: 64,
  ringEntries: 64,
};

function stage(): { add(queue: number, counters: Record<string, number>): void; sample(): StatisticsSample } {
  const memory = Memory.create(GEOMETRY);
  let nanos = 0;
  const cpuNanos = [0, 0];
  return {
    /** Counters by name; those of a path with its name before. */
    add(queue, counters) {
      for (const [name, value] of Object.entries(counters)) {
        const [path, counter] = name.split(' ');
        if (name === 'cpu') cpuNanos[queue]! += value;
        else if (counter === undefined)
          memory.doubles[queueCounters(memory, 0, queue)[name as 'sent']]! += value;
        else {
          const id = path === 'vf' ? Path.VF : Path.SYNTHETIC;
          memory.doubles[pathCounters(memory, 0, queue, id)[counter as 'kicks']]! += value;
        }
      }
    },
    sample() {
      nanos += 2e9;
      return { nanos, ports: [portStatistics(memory, 0)], cpuNanos: [...cpuNanos] };
    },
  };
}

describe('rates', () => {
  it('are changes a second, by path and by queue', () => {
    const { add, sample } = stage();
    add(0, { 'vf rxPackets': 5000, 'vf kicks': 9, bursts: 100, cpu: 7e9 }); // before the first sample
    const before = sample();
    add(0, { 'vf rxPackets': 1000, 'vf rxBytes': 64_000, 'vf txPosted': 400, 'vf txBytes': 800 });
    add(0, { bursts: 90, handedOver: 100, cpu: 5e8, sleeps: 20, 'vf kicks': 6, 'synthetic kicks': 4 });
    add(1, {
      takenOver: 100,
      bursts: 5,
      cpu: 2e9,
      dropVerdict: 50,
      'synthetic txErrors': 8,
      handlerErrors: 2,
    });
    const rates = ratesBetween(before, sample(), 0);
    expect(rates.paths.vf).toEqual({ rxPackets: 500, rxBits: 256_000, txPackets: 200, txBits: 3200 });
    expect(rates.paths.host).toEqual({ rxPackets: 0, rxBits: 0, txPackets: 0, txBits: 0 });
    expect(rates.queues).toEqual([
      {
        ...{ queue: 0, owner: 'none', packets: 500, burst: 10, nanosPerPacket: 500_000, idle: 0.75 },
        ...{ sleeps: 10, kicks: 5, handedOver: 50 },
      },
      {
        ...{ queue: 1, owner: 'none', packets: 50, burst: 20, nanosPerPacket: 2e7, idle: 0 },
        ...{ sleeps: 0, kicks: 0, handedOver: 0 },
      },
    ]);
    expect(rates.drops).toEqual({ verdict: 25, 'synthetic.txErrors': 4 });
    expect(rates.handlerErrors).toBe(1);
  });

  it('of a port without packets are 0, also when its worker was replaced, whose CPU time begins at 0', () => {
    const { add, sample } = stage();
    add(0, { cpu: 5e9 });
    const before = sample();
    add(0, { cpu: -5e9 });
    const { queues, drops } = ratesBetween(before, sample(), 0);
    expect(queues[0]).toMatchObject({ packets: 0, burst: 0, nanosPerPacket: 0, idle: 1 });
    expect(drops).toEqual({});
  });

  it('have three digits and a unit', () => {
    const shown = [
      0, 7, 0.123, 12.34, 99.6, 123.4, 999, 999.7, 1000, 999_499, 999_999, 14_880_000, 999_999_999, 1.2e9,
    ].map(short);
    expect(shown).toEqual([
      '0',
      '7',
      '0.12',
      '12',
      '100',
      '123',
      '999',
      '1.00 k',
      '1.00 k',
      '999 k',
      '1.00 M',
      '14.9 M',
      '1.00 G',
      '1.20 G',
    ]);
  });
});
