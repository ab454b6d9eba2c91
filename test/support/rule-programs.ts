/**
 * Flow rules in every program of a port that has them, run by the kernel over frames without a device (BPF_PROG_TEST_RUN),
 * and compared with the matcher in TypeScript: verdicts, counters, and the rule that the metadata name.
 */

import fc from 'fast-check';
import { expect } from 'vitest';
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
import type { DefaultAction, FlowRule, GivenRules, RuleSet } from '../../src/rules/rule.ts';
import { flowFrame, flowRule } from './flow-frames.ts';

const shim = loadShim();
const bpf = new Bpf(shim);

/** XDP_TX: the action for a packet that would be redirected, which nothing else answers. */
const TAKEN = 3;
const VLAN_PUSH = 18;
export const LOOPBACK = 1;
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
export function compare(given: GivenRules, frames: readonly Uint8Array[]): Record<Verdict['action'], number> {
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

/** Compares on random rules and packets; returns how many packets each action had. */
export function compareRandom(numRuns: number): Record<Verdict['action'], number> {
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
    { numRuns },
  );
  return seen;
}
