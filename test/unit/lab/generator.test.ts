import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Wire } from '../../../src/lab/generator.ts';
import { Generator, type Pace } from '../../../src/lab/generator.ts';

/** A network in memory with a clock of its own: what happens to a packet is one function's decision. */
class Network implements Wire {
  now = 1e9;
  readonly #underWay: { flow: number; sequence: number; due: number }[] = [];
  /** How many nanoseconds each copy is under way; empty for a loss. */
  fate: (flow: number, sequence: number) => number[] = () => [1e5];

  send(flow: number, first: number, count: number): number {
    for (let sequence = first; sequence < first + count; sequence++) {
      for (const delay of this.fate(flow, sequence))
        this.#underWay.push({ flow, sequence, due: this.now + delay });
    }
    return count;
  }

  receive(onPacket: (flow: number, sequence: number) => void): number {
    const due = this.#underWay.filter((packet) => packet.due <= this.now).sort((a, b) => a.due - b.due);
    for (const packet of due) this.#underWay.splice(this.#underWay.indexOf(packet), 1);
    for (const { flow, sequence } of due) onPacket(flow, sequence);
    return due.length;
  }

  wait(millis: number): void {
    this.now += millis * 1e6;
  }

  close(): void {}
}

function run(network: Network, generator: Generator, millis: number): void {
  const end = network.now + millis * 1e6;
  while (network.now < end) {
    generator.receive();
    generator.send();
    network.wait(generator.pauseMillis());
  }
  generator.receive();
}

const setUp = (pace: Pace): { network: Network; generator: Generator } => {
  const network = new Network();
  return { network, generator: new Generator(network, pace, () => network.now) };
};

describe('a generator of numbered traffic', () => {
  it('sends at any given rate if everything comes back', () => {
    for (const rate of [50, 100, 1000, 5000, 20_000]) {
      const { network, generator } = setUp({ flows: 4, rate, window: 256 });
      run(network, generator, 2000);
      expect(generator.ledger.sentTotal).toBeGreaterThan(2 * rate * 0.97 - 2);
      expect(generator.ledger.sentTotal).toBeLessThanOrEqual(2 * rate);
      expect(generator.gaps.longest[0]!.nanos).toBeLessThanOrEqual(Math.max(3e6, 2.1e9 / rate));
    }
  });

  it('sends the same number of packets on each flow', () => {
    const { network, generator } = setUp({ flows: 3, rate: 10_000, window: 256 });
    run(network, generator, 500);
    const sent = [0, 1, 2].map((flow) => generator.ledger.tally(flow).sent);
    expect(Math.max(...sent) - Math.min(...sent)).toBeLessThanOrEqual(16);
  });

  it('slows down to its window when replies are slow', () => {
    const { network, generator } = setUp({ flows: 2, rate: 100_000, window: 64 });
    network.fate = () => [20e6];
    run(network, generator, 1000);
    // 64 packets every 20 ms, and the probes that go meanwhile
    expect(generator.ledger.sentTotal).toBeLessThan(64 * 50 * 1.5);
    expect(generator.ledger.sentTotal).toBeGreaterThan(64 * 50 * 0.8);
  });

  it('has no more than window and probes outstanding for a machine slower than a second, with a longer writeOffMillis', () => {
    for (const [writeOffMillis, windows] of [
      [60_000, 1],
      [1000, 3],
    ] as const) {
      const { network, generator } = setUp({ flows: 8, rate: 10_000, window: 256, writeOffMillis });
      network.fate = () => [3.5e9];
      run(network, generator, 3000);
      expect(generator.ledger.sentTotal).toBeGreaterThanOrEqual(windows * 256);
      expect(generator.ledger.sentTotal).toBeLessThan(windows * 256 + 100);
    }
  });

  it('finds a repaired path within an eighth of the outage, and loses few packets beyond its window', () => {
    for (const outage of [30, 300, 3000]) {
      const { network, generator } = setUp({ flows: 8, rate: 20_000, window: 256 });
      run(network, generator, 100);
      network.fate = () => [];
      const broken = network.now;
      run(network, generator, outage);
      network.fate = () => [1e5];
      run(network, generator, outage / 8 + 20);
      const { lost } = generator.ledger.tally();
      // What was written off after a second makes room for another window.
      expect(lost).toBeLessThanOrEqual((256 + 60) * Math.ceil(outage / 1000) + generator.outstanding);
      const lostMeanwhile = generator.ledger
        .lostAt()
        .filter((at) => at >= broken && at < broken + outage * 1e6);
      expect(lostMeanwhile.length).toBeGreaterThan(200);
      expect(generator.gaps.longest[0]!.nanos).toBeLessThan(outage * 1e6 * 1.125 + 10e6);
      expect(generator.outstanding).toBeLessThan(128);
    }
  });

  it('goes on with the other flows when one flow is dead', () => {
    const { network, generator } = setUp({ flows: 4, rate: 4000, window: 256 });
    network.fate = (flow) => (flow === 2 ? [] : [1e5]);
    run(network, generator, 4000);
    expect(generator.ledger.tally(0).received).toBeGreaterThan(700);
    expect(generator.ledger.tally(2).received).toBe(0);
  });

  it('has nothing outstanding once all packets are back or a second has passed', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.integer({ min: 0, max: 1_500_000_000 }), { maxLength: 2 }), {
          minLength: 1,
          maxLength: 20,
        }),
        fc.integer({ min: 1, max: 40 }),
        (fates, window) => {
          const { network, generator } = setUp({ flows: 3, rate: 2000, window });
          let packet = 0;
          network.fate = () => fates[packet++ % fates.length]!;
          run(network, generator, 100);
          expect(generator.outstanding).toBeGreaterThanOrEqual(0);
          network.now += 3e9;
          generator.receive();
          expect(generator.outstanding).toBeGreaterThanOrEqual(0);
          const before = generator.ledger.sentTotal;
          generator.send();
          expect(generator.outstanding).toBe(generator.ledger.sentTotal - before);
          const { sent, received, lost, unknown } = generator.ledger.tally();
          expect(sent).toBe(received + lost);
          expect(unknown).toBe(0);
        },
      ),
      { numRuns: 60 },
    );
  });
});
