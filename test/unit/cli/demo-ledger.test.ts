import { describe, expect, it } from 'vitest';
import { type DownloadEvidence, demoLedger, type Evidence } from '../../../src/cli/demo/ledger.ts';
import { downloadSeconds } from '../../../src/cli/demo/scenario.ts';
import { cyclesIn } from '../../../src/cli/demo/schedule.ts';
import { failoverLine, failoverTable, mergeFailovers } from '../../../src/cli/failovers.ts';
import type { Tally } from '../../../src/lab/reports.ts';
import { KERNEL_COUNTERS, PATH_COUNTERS } from '../../../src/memory/counters.ts';
import type { Failover } from '../../../src/memory/journal.ts';
import type { PathStatistics, PortStatistics } from '../../../src/statistics.ts';

const SECONDS = 3;
const CYCLES = cyclesIn(SECONDS);
/** The second cycle ends with a surprise. */
const SURPRISE_AT = 2.6e9;
const NOTICED_AT = 2.63e9;

const tally = (given: Partial<Tally> = {}): Tally => ({
  ...{ sent: 1000, received: 1000, lost: 0, duplicated: 0, reordered: 0, unknown: 0 },
  ...given,
});

function path(packets: number): PathStatistics {
  const zeros = (names: readonly string[]) => Object.fromEntries(names.map((name) => [name, 0]));
  return {
    ...zeros(PATH_COUNTERS),
    ...{ rxPackets: packets, txPackets: packets, kernel: zeros(KERNEL_COUNTERS) },
  } as PathStatistics;
}

function failover(queue: number, from: 'vf' | 'synthetic', detectedNanos: number, given = {}): Failover {
  return {
    ...{ sequence: 0, port: 0, queue, from, to: from === 'vf' ? 'synthetic' : 'vf' },
    reason: from === 'vf' ? 'link down' : 'path ready',
    ...{ detectedNanos, orderedNanos: detectedNanos + 1000, beganNanos: detectedNanos + 2000 },
    ...{ endedNanos: detectedNanos + 5000, drained: 1, rescued: 2 },
    ...given,
  };
}

/** Of a demo that kept every promise. */
function evidence(given: Partial<Evidence> = {}): Evidence {
  const cycles = Array.from({ length: CYCLES }, (_, i) => (i + 1) * 1e9);
  const statistics = {
    ...{ received: 2000, transmitted: 2000, sent: 0, handlerErrors: 0, queues: [] },
    dropped: { verdict: 0, handlerError: 0, noPath: 0, txFull: 0, badLength: 0 },
    paths: { vf: path(1000), synthetic: path(1000), host: path(0) },
  } as unknown as PortStatistics;
  return {
    ...{ network: 'kernel', seconds: SECONDS, cycles: CYCLES, errors: [], statistics },
    windows: [{ name: 'surprise', from: SURPRISE_AT, to: NOTICED_AT }],
    traffic: {
      ...{ seconds: SECONDS, packets: tally(), icmp: tally(), flows: [], gaps: [{ atNanos: 0, micros: 3 }] },
      ...{ latency: { p50: 100, p99: 900, max: 2000 }, windows: {}, icmpWindows: {}, refused: 0 },
      ...{ lostAt: new Float64Array(), icmpLostAt: new Float64Array() },
    },
    failovers: cycles.flatMap((at) => [
      ...[0, 1].map((queue) => failover(queue, 'synthetic', at + 0.1e9)),
      ...[0, 1].map((queue) => failover(queue, 'vf', at + 0.7e9)),
    ]),
    events: cycles.flatMap((at, i) => [
      { kind: 'plug' as const, atNanos: at, device: 'vf0' },
      {
        kind: i === CYCLES - 2 ? ('surprise' as const) : ('down' as const),
        atNanos: at + 0.6e9,
        device: 'vf0',
      },
    ]),
    frames: [
      {
        ...{ total: 8, accounted: 8, free: 4, fill: 4, rx: 0, tx: 0, completing: 0, inHand: 0 },
        ...{ lent: 0, borrowed: 0, duplicates: 0 },
      },
    ],
    ...given,
  };
}

/** Of a download that kept every promise: the same cycles on another port. */
function download(given: Partial<DownloadEvidence> = {}): DownloadEvidence {
  const { cycles, seconds, windows, failovers, events, frames, errors, statistics } = evidence();
  const carried = (rxBytes: number): PathStatistics => ({ ...path(10), txPosted: 10, rxBytes, txBytes: 500 });
  return {
    ...{ cycles, seconds, windows, failovers, events, frames, errors },
    statistics: { ...statistics, paths: { ...statistics.paths, vf: carried(9e6), synthetic: carried(2e6) } },
    download: {
      ...{ bytes: 10e6, seconds: 3.001, gbitPerSecond: 0.0267, longestStallMillis: 231.456 },
      ...{ longestStallAtNanos: 1e9, retransmits: 9, survived: true, failure: undefined },
    },
    samples: [{ millis: 100, bytes: 10e6, path: 'vf' }],
    ...given,
  };
}

function problems(given: Partial<Evidence>): readonly string[] {
  return demoLedger(evidence(given)).problems;
}

describe('the ledger of a demo', () => {
  it('reports no problem of a demo that kept every promise', () => {
    const ledger = demoLedger(evidence());
    expect(ledger).toMatchObject({ ok: true, problems: [], lostBy: { surprise: 0, unexplained: 0 } });
    expect(ledger.failovers).toHaveLength(2 * CYCLES);
    expect(ledger.failovers.filter(({ surprise }) => surprise)).toHaveLength(1);
    expect(ledger.frames).toMatchObject({ total: 8, accounted: 8 });
  });

  it('attributes losses in a vanished VF to the surprise, from one slowest round trip before it vanished', () => {
    const { traffic } = evidence();
    const lostAt = Float64Array.of(SURPRISE_AT - 1.9e6, SURPRISE_AT + 1e6, NOTICED_AT - 1);
    const ledger = demoLedger(evidence({ traffic: { ...traffic, packets: tally({ lost: 3 }), lostAt } }));
    expect(ledger.lostBy).toEqual({ surprise: 3, unexplained: 0 });
    expect(ledger.ok).toBe(true);
  });

  it('reports packets that were lost at any other time', () => {
    const { traffic } = evidence();
    for (const at of [SURPRISE_AT - 2.1e6, NOTICED_AT, 1e9]) {
      const lost = { ...traffic, packets: tally({ lost: 1 }), lostAt: Float64Array.of(at) };
      expect(problems({ traffic: lost })[0]).toMatch(/1 UDP packets were lost although/);
      const ping = { ...traffic, icmp: tally({ lost: 1 }), icmpLostAt: Float64Array.of(at) };
      expect(problems({ traffic: ping })[0]).toMatch(/1 ICMP packets were lost although/);
    }
  });

  it.each([
    ['a duplicated packet', { packets: tally({ duplicated: 1 }) }, /1 UDP packets were duplicated/],
    ['a packet out of order', { icmp: tally({ reordered: 1 }) }, /ICMP packets overtook/],
    ['a packet that was never sent', { packets: tally({ unknown: 1 }) }, /never sent/],
    ['no packets at all', { packets: tally({ received: 0 }) }, /no UDP packets came back/],
  ])('reports %s', (_, traffic, sentence) => {
    expect(problems({ traffic: { ...evidence().traffic, ...traffic } })[0]).toMatch(sentence);
  });

  it('reports a frame that is missing or in two places, and workers that do not answer', () => {
    const [frames] = evidence().frames;
    expect(problems({ frames: [{ ...frames!, accounted: 7 }] })[0]).toMatch(/7 of its 8 frames/);
    expect(problems({ frames: [{ ...frames!, duplicates: 1 }] })[0]).toMatch(/in two places/);
    expect(problems({ frames: [] })[0]).toMatch(/did not say/);
  });

  it('reports a missing failover, a path without packets, missing cycles, and errors', () => {
    const { failovers, statistics } = evidence();
    expect(problems({ failovers: failovers.slice(0, -2) })[0]).toMatch(/to the path synthetic 2 times/);
    const idle = { ...statistics, paths: { vf: path(0), synthetic: path(9), host: path(0) } };
    expect(problems({ statistics: idle })).toContain('no packets took the path vf');
    expect(problems({ cycles: 1 })[0]).toMatch(/only 1 of/);
    expect(problems({ errors: ['it burnt'] })).toEqual(['it burnt']);
  });
});

describe('the download scenario of a demo', () => {
  it('takes half the time of the first scenario, at least four seconds and at most thirty', () => {
    expect([3, 8, 12, 60, 61, 3600].map(downloadSeconds)).toEqual([4, 4, 6, 30, 30, 30]);
  });
});

describe('the ledger of a download', () => {
  it('is part of the ledger of a demo, and absent without a download', () => {
    const ledger = demoLedger(evidence({ download: download() }));
    expect(ledger).toMatchObject({ ok: true, problems: [] });
    expect(ledger.tcp).toMatchObject({
      ...{ seconds: 3, bytes: 10e6, gbitPerSecond: 0.03, longestStallMillis: 231.46, retransmits: 9 },
      ...{ survived: true, frames: { total: 8, accounted: 8 }, samples: [{ bytes: 10e6 }] },
      paths: { vf: { rxBytes: 9e6, txBytes: 500 }, synthetic: { rxBytes: 2e6, txBytes: 500 } },
    });
    expect(ledger.tcp?.failovers).toHaveLength(2 * CYCLES);
    expect(Object.keys(demoLedger(evidence()))).not.toContain('tcp');
  });

  it('counts: a problem of the second act is a problem of the demo', () => {
    const { download: report, statistics, frames, failovers } = download();
    const broken = { ...report, survived: false, failure: 'ECONNRESET' };
    const idle = { ...statistics.paths, synthetic: path(0) };
    const lopsided = { ...statistics.paths, vf: { ...statistics.paths.vf, txPosted: 11 } };
    for (const [given, sentence] of [
      [{ download: broken }, 'TCP: the connection did not survive: ECONNRESET'],
      [{ statistics: { ...statistics, paths: idle } }, 'TCP: no packets took the path synthetic'],
      [
        { statistics: { ...statistics, paths: idle } },
        'TCP: of 10000000 bytes only 9000000 came through the port',
      ],
      [{ statistics: { ...statistics, paths: lopsided } }, /TCP: the path vf was given 11 packets .* 10$/],
      [{ frames: [{ ...frames[0]!, accounted: 7 }] }, 'TCP: queue 0 accounts for 7 of its 8 frames'],
      [{ failovers: failovers.slice(2) }, /TCP: the port moved to the path vf 2 times/],
      [{ errors: ['it burnt'] }, 'TCP: it burnt'],
    ] as const) {
      const ledger = demoLedger(evidence({ download: download(given as Partial<DownloadEvidence>) }));
      expect(ledger.ok).toBe(false);
      expect(ledger.problems).toContainEqual(
        typeof sentence === 'string' ? sentence : expect.stringMatching(sentence),
      );
    }
  });
});

describe('a failover for people', () => {
  it('is one entry for all queues, with the time of the slowest queue and the sum of rescued packets', () => {
    const merged = mergeFailovers(
      [failover(0, 'vf', 2e9), failover(1, 'vf', 2e9, { endedNanos: 2e9 + 70_000 })],
      [{ kind: 'down', atNanos: 2e9 - 1_500_000, device: 'vf0' }],
    );
    expect(merged).toMatchObject([
      { queues: 2, detectMicros: 1500, switchMicros: 70, rescued: 4, drained: 2, surprise: false },
    ]);
  });

  it('has no detection time if the host was not observed', () => {
    expect(mergeFailovers([failover(0, 'vf', 2e9)])).toMatchObject([{ detectMicros: null, surprise: false }]);
  });

  it('fits into 80 columns, as a line with an indent of ten and in a table', () => {
    const [slow] = mergeFailovers(
      [failover(0, 'vf', 2e9, { endedNanos: 2.999e9, rescued: 999, reason: 'carrier lost', drained: 0 })],
      [{ kind: 'surprise', atNanos: 1.001e9, device: 'vf0' }],
    );
    expect(`          ${failoverLine(slow!)}`.length).toBeLessThan(80);
    const [header, row] = failoverTable([{ ...slow!, drained: 9999 }]);
    expect(header!.length).toBe(79);
    expect(row!.length).toBe(79);
    expect(row).toMatch(/vf → synthetic +carrier lost \(surprise\) +999,000 µs +999,000 µs +999 +9,999/);
  });

  it('has the switch time alone if nothing else is known', () => {
    expect(failoverLine(mergeFailovers([failover(0, 'vf', 2e9)])[0]!)).toMatch(
      /switched in 0\.0 ms +rescued 2/,
    );
  });
});
