/**
 * Frames and rules at random, from few values, so that a rule often matches: VLAN tags, IPv4 options, IPv6 extension headers,
 * authentication headers, fragments, wrong lengths, and frames cut off anywhere.
 */
import fc from 'fast-check';
import type { FlowRule } from '../../src/rules/rule.ts';
import { be16 } from './frames.ts';

const ADDRESSES = ['10.0.0.1', '10.1.2.3', '10.1.2.4', '192.0.2.7', '172.16.255.255'];
const PREFIXES = [
  '10.0.0.0/8',
  '10.1.0.0/16',
  '10.1.2.3',
  '10.1.2.0/30',
  '192.0.2.0/24',
  '0.0.0.0/0',
  '172.16.0.0/12',
];
const ADDRESSES6 = [
  [0x2001, 0x0db8, 0, 0, 0, 0, 0, 1],
  [0x2001, 0x0db8, 0xffff, 0, 0, 0, 0, 2],
  [0xfe80, 0, 0, 0, 0, 0, 0, 1],
];
const PREFIXES6 = [
  '2001:db8::/32',
  '2001:db8::1',
  '2001:db8::/33',
  '2001:db8:8000::/34',
  '::/0',
  'fe80::/10',
];
const PORTS = [0, 22, 53, 1000, 1500, 2000, 65535];
const VLANS = [0, 5, 6, 4095];
const TYPES = [0x0800, 0x0800, 0x0800, 0x86dd, 0x86dd, 0x86dd, 0x0806, 0x88cc];
const TAGS = [0x8100, 0x88a8];
const FLAGS = [0x02, 0x12, 0x10, 0x14, 0x00, 0xff];

const one = <T>(values: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...values);
const rarely = <T>(usual: T, unusual: fc.Arbitrary<T>): fc.Arbitrary<T> =>
  fc.oneof({ weight: 6, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary: unusual });

const upper = fc.record({
  protocol: one([6, 6, 17, 17, 17, 1, 58, 47]),
  from: one(PORTS),
  to: one(PORTS),
  flags: one(FLAGS),
});

function upperBytes({ from, to, flags }: { from: number; to: number; flags: number }): number[] {
  return [...be16(from), ...be16(to), 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0];
}

/** Extension headers: each one's type, its length in the units of that type, and the fields of a fragment header. */
const extension = fc.record({
  type: one([0, 43, 60, 44, 44, 51, 135]),
  length: fc.integer({ min: 0, max: 2 }),
  place: one([0, 1, 8, 9, 0x100]),
});

function extensionBytes(type: number, length: number, place: number, next: number): number[] {
  if (type === 44) return [next, 0, ...be16(place), 0, 0, 0, 1];
  const bytes = type === 51 ? (length + 2) * 4 : (length + 1) * 8;
  return [next, length, ...new Array<number>(bytes - 2).fill(0)];
}

const extensions = fc.oneof(
  { weight: 3, arbitrary: fc.constant([]) },
  { weight: 3, arbitrary: fc.array(extension, { maxLength: 3 }) },
  { weight: 1, arbitrary: fc.array(extension, { minLength: 7, maxLength: 10 }) },
);

const ipv4 = fc
  .record({
    src: one(ADDRESSES),
    dst: one(ADDRESSES),
    options: one([0, 0, 0, 4, 40]),
    first: rarely(0x40, one([0x60, 0x41, 0x00])),
    fragment: rarely(0x4000, one([0x2000, 1, 0x2001, 0x1fff, 0x8000])),
    authentications: fc.oneof(
      { weight: 4, arbitrary: fc.constant([]) },
      { weight: 1, arbitrary: fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 9 }) },
    ),
    wrong: rarely(0, one([-1000, -20, -1, 1, 7])),
    upper,
  })
  .map(({ src, dst, options, first, fragment, authentications, wrong, upper: above }) => {
    let payload = upperBytes(above);
    let next = above.protocol;
    for (const length of authentications) {
      payload = [...extensionBytes(51, length, 0, next), ...payload];
      next = 51;
    }
    const header = 20 + options;
    const total = Math.max(0, header + payload.length + wrong);
    const octets = (text: string): number[] => text.split('.').map(Number);
    return [
      ...[first | (header / 4), 0, ...be16(total), 0, 1, ...be16(fragment), 64, next, 0, 0],
      ...[...octets(src), ...octets(dst), ...new Array<number>(options).fill(1), ...payload],
    ];
  });

const ipv6 = fc
  .record({
    src: one(ADDRESSES6),
    dst: one(ADDRESSES6),
    extensions,
    version: rarely(0x60, fc.constant(0x40)),
    wrong: rarely(0, one([-1000, -20, -1, 1, 7])),
    upper,
  })
  .map(({ src, dst, extensions: headers, version, wrong, upper: above }) => {
    let payload = upperBytes(above);
    let next = above.protocol;
    for (const { type, length, place } of headers) {
      payload = [...extensionBytes(type, length, place, next), ...payload];
      next = type;
    }
    const words = (address: readonly number[]): number[] => address.flatMap(be16);
    const length = Math.max(0, payload.length + wrong);
    return [version, 0, 0, 0, ...be16(length), next, 64, ...words(src), ...words(dst), ...payload];
  });

const tags = fc.oneof(
  { weight: 12, arbitrary: fc.array(fc.tuple(one(TAGS), one(VLANS)), { maxLength: 3 }) },
  { weight: 1, arbitrary: fc.array(fc.tuple(one(TAGS), one(VLANS)), { minLength: 6, maxLength: 10 }) },
);

/** A frame of at least 14 bytes, as XDP gets it. */
export const flowFrame: fc.Arbitrary<Uint8Array> = fc
  .record({
    tags,
    type: one(TYPES),
    ipv4,
    ipv6,
    padding: one([0, 0, 0, 6]),
    cut: fc.oneof(
      { weight: 4, arbitrary: fc.constant(1) },
      { weight: 1, arbitrary: fc.double({ min: 0, max: 1, noNaN: true }) },
    ),
  })
  .map(({ tags: outer, type, ipv4: four, ipv6: six, padding, cut }) => {
    const payload = type === 0x86dd ? six : four;
    const bytes = [
      ...[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2],
      ...outer.flatMap(([tpid, vlan]) => [...be16(tpid), ...be16(0x6000 | vlan)]),
      ...[...be16(type), ...payload, ...new Array<number>(padding).fill(0)],
    ];
    return Uint8Array.from(bytes).subarray(0, Math.max(14, Math.floor(bytes.length * cut)));
  });

const prefixes = fc.oneof(
  { weight: 3, arbitrary: one(PREFIXES) },
  { weight: 2, arbitrary: one(PREFIXES6) },
  { weight: 2, arbitrary: fc.array(one([...PREFIXES, ...PREFIXES6]), { minLength: 1, maxLength: 6 }) },
);
const range = fc.oneof(
  one(PORTS),
  fc.tuple(one(PORTS), one(PORTS)).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const),
);
/** A field that a rule has once in `n` times. */
const seldom = <T>(n: number, field: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.oneof({ weight: n - 1, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: field });

/** A rule that may contradict itself. */
export const flowRule: fc.Arbitrary<FlowRule> = fc
  .record({
    action: one(['handler', 'kernel', 'drop', 'count', 'count'] as const),
    priority: seldom(5, fc.integer({ min: 998, max: 1002 })),
    etherType: seldom(10, one([0x0800, 0x86dd, 0x0806, 0x88cc, 0x8100])),
    vlan: seldom(5, one([...VLANS, 'none' as const])),
    ip: seldom(6, one([4, 6] as const)),
    protocol: seldom(3, one(['tcp', 'udp', 'icmp6', 47] as const)),
    src: seldom(3, prefixes),
    dst: seldom(4, prefixes),
    srcPort: seldom(8, range),
    dstPort: seldom(4, range),
    port: seldom(8, range),
    tcpFlags: seldom(8, one(['syn/syn,ack', 'syn', 'none/rst', 'ack,rst/ack,rst,fin'])),
    fragment: seldom(8, one(['any', 'later', 'none'] as const)),
  })
  .map(
    (fields) =>
      Object.fromEntries(
        Object.entries(fields).filter(([, value]) => value !== undefined),
      ) as unknown as FlowRule,
  );
