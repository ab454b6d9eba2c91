/**
 * The kernel's programs and the TypeScript matcher agree about flow rules on every packet: the XDP program, that of a tcx
 * link, both also with metadata before the packet, that of a tc filter, and one whose packets have their outermost VLAN tag in the
 * sk_buff. The metadata name the rule that decided. The kernel runs each over
 * frames without a device (BPF_PROG_TEST_RUN).
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PortMacFilter } from '../../src/coordinator/port-mac-filter.ts';
import { TwinpathError } from '../../src/errors.ts';
import { Assembler } from '../../src/kernel/assembler.ts';
import { Bpf } from '../../src/kernel/bpf.ts';
import { classify } from '../../src/kernel/classifier.ts';
import { KernelRules } from '../../src/kernel/kernel-rules.ts';
import { tcCapture, tcCaptureWhilePresent, xdpRedirect } from '../../src/kernel/programs.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { METADATA_BYTES } from '../../src/memory/metadata.ts';
import { checkRules } from '../../src/rules/check.ts';
import { Matcher, type Verdict } from '../../src/rules/matcher.ts';
import { MAX_STEPS, MAX_TRIES, stepsOf } from '../../src/rules/plan.ts';
import type { DefaultAction, FlowRule, GivenRules, RuleSet } from '../../src/rules/rule.ts';
import { flowFrame, flowRule } from '../support/flow-frames.ts';
import { be16, ethernet, ipv4, ipv6, udp } from '../support/frames.ts';

const shim = loadShim();
const bpf = new Bpf(shim);

/** XDP_TX: the action for a packet that would be redirected, which nothing else answers. */
const TAKEN = 3;
const VLAN_PUSH = 18;
const LOOPBACK = 1;
const PUSHED = [0x81, 0, 0, 5];

interface Classifying {
  readonly name: string;
  readonly rules: KernelRules;
  readonly fd: number;
  /** What it answers for each action. */
  readonly answers: Readonly<Record<Verdict['action'], number>>;
  /** Bytes that it puts behind the addresses of the frame first. */
  readonly pushed?: readonly number[];
  /** Whether it puts metadata before the packets that it takes. */
  readonly writesMetadata: boolean;
  close(): void;
}

function xskMaps(): [number, number, number] {
  const maps: [number, number, number] = [bpf.xskMap(1), bpf.valueMap(), bpf.valueMap()];
  bpf.setValue(maps[1], TAKEN);
  return maps;
}

/** The programs for these rules, each with its own counters. */
function programsOf(given: GivenRules): Classifying[] {
  const make = (
    name: string,
    type: 'xdp' | 'sched_cls',
    code: (rules: KernelRules) => Uint8Array,
    answers: Classifying['answers'],
    pushed?: readonly number[],
  ): Classifying => {
    const rules = KernelRules.open(shim, given);
    const fd = bpf.load(type, 'tp_rules', code(rules));
    const close = (): void => {
      shim.close(fd);
      rules.close();
    };
    return { name, rules, fd, answers, pushed, writesMetadata: name.endsWith('with metadata'), close };
  };
  const maps = xskMaps();
  // As the programs of a port have it; it accepts everything.
  const filter = new PortMacFilter(shim, () => []);
  filter.open();
  const macFilter = filter.of('vf');
  const taken = { handler: TAKEN, kernel: 2, drop: 1 };
  const xdp = make('xdp', 'xdp', (rules) => xdpRedirect(...maps, { macFilter, rules }), taken);
  const metadata = { time: 0, hash: 0 };
  const more = (rules: KernelRules): Uint8Array => xdpRedirect(...maps, { macFilter, rules, metadata });
  const xdpMore = make('xdp with metadata', 'xdp', more, taken);
  for (const fd of maps) shim.close(fd);
  const tc = { kernel: -1, drop: 2 };
  const loopback = bpf.presenceMap(LOOPBACK);
  const made = [
    xdp,
    xdpMore,
    make(
      'tcx with metadata',
      'sched_cls',
      (rules) => tcCapture(LOOPBACK, { macFilter, rules, metadata: true, maxPacketBytes: 1787 }),
      { ...tc, handler: 7 },
    ),
    make('tcx', 'sched_cls', (rules) => tcCapture(LOOPBACK, { macFilter, rules }), { ...tc, handler: 7 }),
    make('filter', 'sched_cls', (rules) => tcCaptureWhilePresent(LOOPBACK, { macFilter, rules }, loopback), {
      ...tc,
      handler: 4,
    }),
    make('tag in the sk_buff', 'sched_cls', pushing, { handler: 10, kernel: 11, drop: 12 }, PUSHED),
  ];
  shim.close(loopback);
  filter.close();
  return made;
}

/** Takes a tag into the sk_buff first. */
function pushing(rules: KernelRules): Uint8Array {
  const program = new Assembler().mov(6, 1).movImm(2, 0x81).movImm(3, 5).call(VLAN_PUSH).mov(1, 6);
  return classify(program, rules, 'skb')
    .label('to handler')
    .movImm(0, 10)
    .exit()
    .label('to kernel')
    .movImm(0, 11)
    .exit()
    .label('to drop')
    .movImm(0, 12)
    .exit()
    .assemble();
}

/** A test run of a sched_cls program refuses an untagged IP frame without a whole IP header (since Linux 6.18 or earlier). */
function isRunnable({ name }: Classifying, frame: Uint8Array): boolean {
  if (name.startsWith('xdp')) return true;
  const type = frame[12]! * 256 + frame[13]!;
  return frame.length >= (type === 0x0800 ? 34 : type === 0x86dd ? 54 : 15);
}

function packetOf(bytes: Uint8Array) {
  return {
    view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
    offset: 0,
    length: bytes.length,
  };
}

function withBytes(frame: Uint8Array, pushed: readonly number[] = []): Uint8Array {
  return Uint8Array.from([...frame.subarray(0, 12), ...pushed, ...frame.subarray(12)]);
}

interface Tally {
  rules: { packets: number; bytes: number }[];
  otherwise: { packets: number; bytes: number };
  overtagged: { packets: number; bytes: number };
}

const nothing = () => ({ packets: 0, bytes: 0 });

function tally(into: Tally, { matched, overtagged }: Verdict, set: RuleSet, bytes: number): void {
  const last = set.rules.find(({ index }) => index === matched.at(-1));
  const counters = matched.map((index) => into.rules[index]!);
  if (overtagged) counters.push(into.overtagged);
  else if (last === undefined || last.action === 'count') counters.push(into.otherwise);
  for (const counter of counters) {
    counter.packets++;
    counter.bytes += bytes;
  }
}

/** What the metadata say of the rule that decided. */
function ruleNumber({ matched }: Verdict, { rules }: RuleSet): number {
  const last = rules.find(({ index }) => index === matched.at(-1));
  return last?.action === 'handler' ? last.index + 1 : 0;
}

/** Compares all programs on all frames; returns how many packets each action had. */
function compare(given: GivenRules, frames: readonly Uint8Array[]): Record<Verdict['action'], number> {
  const set = checkRules('rules', given.rules, given.otherwise);
  const matcher = new Matcher(set);
  const seen = { handler: 0, kernel: 0, drop: 0 };
  const programs = programsOf(given);
  try {
    for (const program of programs) {
      const expected: Tally = { rules: set.rules.map(nothing), otherwise: nothing(), overtagged: nothing() };
      for (const frame of frames.filter((one) => isRunnable(program, one))) {
        const whole = withBytes(frame, program.pushed);
        const verdict = matcher.match(packetOf(whole));
        const { result, frame: after } = bpf.testRun(program.fd, frame);
        const hex = Buffer.from(frame).toString('hex');
        expect([program.name, hex, result]).toEqual([program.name, hex, program.answers[verdict.action]]);
        if (program.writesMetadata && verdict.action === 'handler') {
          // A tag that the program has put in front is in the sk_buff.
          const bytes = after.length - frame.length;
          const found = Buffer.from(after).readUInt16LE(bytes - 2);
          expect([METADATA_BYTES, METADATA_BYTES - 4]).toContain(bytes);
          expect([program.name, hex, found]).toEqual([program.name, hex, ruleNumber(verdict, set)]);
          expect(after.subarray(bytes)).toEqual(frame);
        }
        tally(expected, verdict, set, whole.length);
        seen[verdict.action]++;
      }
      expect([program.name, program.rules.counts()]).toEqual([program.name, expected]);
    }
  } finally {
    for (const program of programs) program.close();
  }
  return seen;
}

/** Rules without those that contradict themselves. */
function possible(rules: readonly FlowRule[], otherwise: DefaultAction): GivenRules {
  const good = rules.filter((rule) => {
    try {
      return checkRules('rules', [rule], otherwise).rules.length === 1;
    } catch (error) {
      if (error instanceof TwinpathError) return false;
      throw error;
    }
  });
  return { rules: good, otherwise };
}

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
  it('agree on verdicts and counters for random rules and packets', { timeout: 240_000 }, () => {
    const seen = { handler: 0, kernel: 0, drop: 0 };
    fc.assert(
      fc.property(
        fc.array(flowRule, { maxLength: 8 }),
        fc.constantFrom<DefaultAction>('handler', 'kernel'),
        fc.array(flowFrame, { minLength: 40, maxLength: 60 }),
        (rules, otherwise, frames) => {
          const found = compare(possible(rules, otherwise), frames);
          for (const action of ['handler', 'kernel', 'drop'] as const) seen[action] += found[action];
        },
      ),
      { numRuns: 120 },
    );
    for (const packets of Object.values(seen)) expect(packets).toBeGreaterThan(1000);
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
