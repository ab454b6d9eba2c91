/**
 * The kernel's programs and the TypeScript matcher agree about flow rules on every packet: the XDP program, that of a tcx
 * link, both also with metadata before the packet, that of a tc filter, and one whose packets have their outermost VLAN tag
 * in the sk_buff: support/rule-programs.ts. faults/random-rules.test.ts compares them for longer.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Bpf } from '../../src/kernel/bpf.ts';
import { KernelRules } from '../../src/kernel/kernel-rules.ts';
import { tcCaptureWhilePresent } from '../../src/kernel/programs.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { checkRules } from '../../src/rules/check.ts';
import { MAX_STEPS, MAX_TRIES, stepsOf } from '../../src/rules/plan.ts';
import type { FlowRule, GivenRules } from '../../src/rules/rule.ts';
import { flowFrame } from '../support/flow-frames.ts';
import { be16, ethernet, ipv4, ipv6, udp } from '../support/frames.ts';
import { compare, compareRandom, LOOPBACK } from '../support/rule-programs.ts';

const shim = loadShim();
const bpf = new Bpf(shim);

describe('a tc filter whose tap is gone', () => {
  it('passes what its rules drop or count to the kernel, and counts nothing', () => {
    const rules = KernelRules.open(shim, { rules: ['ip count', 'ip drop'], otherwise: 'handler' });
    const present = bpf.presenceMap(LOOPBACK);
    const fd = bpf.load('sched_cls', 'tp_rules', tcCaptureWhilePresent(LOOPBACK, { rules }, present));
    const overtagged = Uint8Array.from(
      ethernet([...Array.from({ length: 50 }, () => 0)], { tags: Array(9).fill([0x81, 0, 0, 5]).flat() }),
    );
    const frames = [ipv4Frame([10, 0, 0, 1]), overtagged];
    const answers = (): number[] => frames.map((frame) => bpf.testRun(fd, frame).result);
    try {
      expect(answers()).toEqual([2, 2]);
      const counts = rules.counts();
      expect([...counts.rules, counts.overtagged].map(({ packets }) => packets)).toEqual([1, 1, 1]);
      bpf.deleteMap(present, 0); // as the kernel does with the device
      expect(answers()).toEqual([-1, -1]);
      expect(rules.counts()).toEqual(counts);
    } finally {
      for (const each of [fd, present]) shim.close(each);
      rules.close();
    }
  });
});

describe('the programs in the kernel and the matcher', () => {
  it('agree on verdicts and counters for random rules and packets', () => {
    for (const packets of Object.values(compareRandom(30))) expect(packets).toBeGreaterThan(250);
  });

  it('agree where hundreds of rules differ only in their prefixes, whatever contains what', {
    timeout: 120_000,
  }, () => {
    const action = fc.constantFrom('handler' as const, 'kernel' as const, 'drop' as const);
    const octet = fc.constantFrom(0, 1, 10, 128, 255);
    const prefix = fc
      .tuple(fc.constantFrom(10, 11), octet, octet, octet, fc.integer({ min: 0, max: 32 }))
      .map(([a, b, c, d, bits]) => cut([a, b, c, d], bits));
    const addresses = fc.array(fc.tuple(fc.constantFrom(10, 11), octet, octet, octet), {
      minLength: 60,
      maxLength: 60,
    });
    const rules = fc.array(fc.record({ src: prefix, action }), { minLength: 2, maxLength: 300 });
    fc.assert(
      fc.property(rules, addresses, (list, sources) => {
        const given: GivenRules = { rules: list, otherwise: 'handler' };
        expect(stepsOf('rules', checkRules('rules', list, 'handler'))).toHaveLength(1);
        compare(
          given,
          sources.map((source) => ipv4Frame(source)),
        );
      }),
      { numRuns: 25 },
    );
  });

  it('agree on 10,000 prefixes, in one rule or in as many rules', { timeout: 60_000 }, () => {
    const networks = Array.from({ length: 10_000 }, (_, n) => `10.${n >> 8}.${n & 255}.0/${24 + (n % 3)}`);
    const one: GivenRules = { rules: [{ action: 'drop', src: networks }], otherwise: 'kernel' };
    const many: GivenRules = { rules: networks.map((src) => `src ${src} drop`), otherwise: 'kernel' };
    const frames = [0, 1, 255, 256, 9_999, 10_000].flatMap((n) =>
      [0, 63, 64, 127, 128, 255].map((last) => ipv4Frame([10, n >> 8, n & 255, last])),
    );
    const expected = { handler: 0, kernel: 6 * 10, drop: 6 * 26 }; // by each program
    expect(compare(one, frames)).toEqual(expected);
    expect(compare(many, frames)).toEqual(expected);
  });

  it('agree on the largest set of long rules, which the verifier accepts', { timeout: 60_000 }, () => {
    const host = (n: number): string => `2001:db8:${n.toString(16)}::1`;
    const long = (n: number): FlowRule => ({
      action: n % 2 === 0 ? 'count' : 'drop',
      vlan: 5,
      protocol: 'tcp',
      src: host(n),
      dst: n < MAX_TRIES ? ['fe80::/10', host(n)] : host(n),
      srcPort: [n, 60_000],
      dstPort: [0, 1000 + n],
      port: [n, 50_000],
      tcpFlags: 'syn/syn,ack',
      fragment: 'none',
    });
    const rules = Array.from({ length: MAX_STEPS }, (_, n) => long(n));
    expect(stepsOf('rules', checkRules('rules', rules, 'handler'))).toHaveLength(MAX_STEPS);
    const frames = rules.map((_, n) => tcpFrame(n));
    // Those that a program pushes another tag onto match nothing.
    expect(
      compare({ rules, otherwise: 'handler' }, [...frames, ...fc.sample(flowFrame, { numRuns: 50, seed: 1 })])
        .drop,
    ).toBeGreaterThanOrEqual(96);
  });
});

/** From and to 2001:db8:N::1, port 1000 to 1000, SYN, in VLAN 5. */
function tcpFrame(n: number): Uint8Array {
  const address = [0x20, 0x01, 0x0d, 0xb8, ...be16(n), 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
  const header = [...be16(1000), ...be16(1000), 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0];
  const packet = ipv6(header, { src: address, dst: address, next: 6 });
  return Uint8Array.from(ethernet(packet, { tags: [0x81, 0, 0, 5], type: 0x86dd }));
}

/** A prefix of an address, with the bits after it cleared. */
function cut(address: readonly number[], bits: number): string {
  const bytes = address.map((byte, i) => byte & (0xff00 >> Math.min(Math.max(bits - 8 * i, 0), 8)) & 0xff);
  return `${bytes.join('.')}/${bits}`;
}

function ipv4Frame(source: readonly number[]): Uint8Array {
  return Uint8Array.from(ethernet(ipv4(udp([]), { src: [...source], protocol: 17 })));
}
