import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RETA_ENTRIES } from '../../../src/memory/geometry.ts';
import { ALL_HASHED, HashBit } from '../../../src/rss/configuration.ts';
import { DEFAULT_KEY, keyOf, SYMMETRIC_KEY } from '../../../src/rss/key.ts';
import { respread, retaIndex, spread } from '../../../src/rss/redirection.ts';
import { RssHash } from '../../../src/rss/toeplitz.ts';
import { be16, ethernet, type Ipv4Fields, ipv4 } from '../../support/frames.ts';

const TCP = 6;
const UDP = 17;
const IPV6 = 0x86dd;

/** The hash of a frame that lies somewhere among other bytes. */
function hashOf(frame: readonly number[] | Uint8Array, key = DEFAULT_KEY, types = ALL_HASHED): number {
  const memory = new Uint8Array(frame.length + 400).fill(0xee);
  memory.set(frame, 100);
  return new RssHash(new DataView(memory.buffer), key, types).of(100, frame.length) >>> 0;
}

/** Bit by bit, as the specification has it. */
function toeplitz(input: readonly number[], key: Uint8Array): number {
  const bit = (bytes: ArrayLike<number>, i: number): number => ((bytes[i >> 3] ?? 0) >> (7 - (i & 7))) & 1;
  let hash = 0;
  for (let i = 0; i < input.length * 8; i++) {
    if (bit(input, i) === 0) continue;
    for (let k = 0; k < 32; k++) hash = (hash ^ (bit(key, i + k) << (31 - k))) >>> 0;
  }
  return hash;
}

/** What of a frame is hashed, by cutting pieces off its front. */
function inputOf(frame: readonly number[]): number[] {
  let type = frame.slice(12, 14);
  let rest = frame.slice(14);
  while (['129,0', '136,168'].includes(`${type}`) && rest.length >= 4) {
    type = rest.slice(2, 4);
    rest = rest.slice(4);
  }
  if (`${type}` === '8,0') return ipv4Input(rest);
  if (`${type}` === '134,221') return ipv6Input(rest);
  return [];
}

function ipv4Input(packet: number[]): number[] {
  if (packet.length < 20 || packet[0]! < 0x45 || packet[0]! > 0x4f) return [];
  const fragmented = packet[6]! % 64 !== 0 || packet[7] !== 0;
  const ports = packet.slice((packet[0]! % 16) * 4).slice(0, 4);
  const hashed = [TCP, UDP].includes(packet[9]!) && !fragmented && ports.length === 4;
  return [...packet.slice(12, 20), ...(hashed ? ports : [])];
}

function ipv6Input(packet: number[]): number[] {
  if (packet.length < 40 || Math.floor(packet[0]! / 16) !== 6) return [];
  const addresses = packet.slice(8, 40);
  let next = packet[6]!;
  let rest = packet.slice(40);
  for (let skipped = 0; [0, 43, 60].includes(next) && skipped < 8; skipped++) {
    if (rest.length < 2) return addresses;
    next = rest[0]!;
    rest = rest.slice(8 + 8 * rest[1]!);
  }
  return [...addresses, ...([TCP, UDP].includes(next) && rest.length >= 4 ? rest.slice(0, 4) : [])];
}

const model = (frame: readonly number[], key = DEFAULT_KEY): number => toeplitz(inputOf(frame), key);

const v4 = (text: string): number[] => text.split('.').map(Number);
const v6 = (text: string): number[] => {
  const [head = '', tail = ''] = text.split('::');
  const groups = (part: string): number[] =>
    (part === '' ? [] : part.split(':')).map((g) => Number(`0x${g}`));
  const zeros = Array(8 - groups(head).length - groups(tail).length).fill(0);
  return [...groups(head), ...zeros, ...groups(tail)].flatMap(be16);
};

interface Flow {
  src: number[];
  dst: number[];
  from: number;
  to: number;
}

const transport = ({ from, to }: Flow): number[] => [...be16(from), ...be16(to), 0, 8, 0, 0];

function frame4(flow: Flow, fields: Ipv4Fields = {}, tags: number[] = []): number[] {
  const { src, dst } = flow;
  return ethernet(ipv4(transport(flow), { protocol: TCP, ...fields, src, dst }), { tags });
}

/** `extensions`: pairs of a header's type and its bytes, the first of which is filled in. */
function frame6(flow: Flow, protocol = TCP, extensions: [number, number[]][] = []): number[] {
  const types = [...extensions.map(([type]) => type), protocol];
  const headers = extensions.flatMap(([, bytes], i) => [types[i + 1]!, ...bytes.slice(1)]);
  const payload = [...headers, ...transport(flow)];
  const fixed = [0x60, 0, 0, 0, ...be16(payload.length), types[0]!, 64, ...flow.src, ...flow.dst];
  return ethernet([...fixed, ...payload], { type: IPV6 });
}

const byte = fc.integer({ min: 0, max: 255 });
const port = fc.integer({ min: 0, max: 0xffff });
const address = (length: number) => fc.array(byte, { minLength: length, maxLength: length });
const flow = (length: number) =>
  fc.record({ src: address(length), dst: address(length), from: port, to: port });
const key = fc.uint8Array({ minLength: 40, maxLength: 52 });

describe("Microsoft's verification suite", () => {
  it.each([
    ['66.9.149.187', 2794, '161.142.100.80', 1766, 0x323e8fc2, 0x51ccc178],
    ['199.92.111.2', 14230, '65.69.140.83', 4739, 0xd718262a, 0xc626b0ea],
    ['24.19.198.95', 12898, '12.22.207.184', 38024, 0xd2d0a5de, 0x5c2b394a],
    ['38.27.205.30', 48228, '209.142.163.6', 2217, 0x82989176, 0xafc7327f],
    ['153.39.163.191', 44251, '202.188.127.2', 1303, 0x5d1809c5, 0x10e828a2],
  ])('holds for IPv4 from %s:%i to %s:%i', (source, from, destination, to, addresses, ports) => {
    const one = { src: v4(source), dst: v4(destination), from, to };
    for (const protocol of [TCP, UDP]) expect(hashOf(frame4(one, { protocol }))).toBe(ports);
    expect(hashOf(frame4(one, { protocol: 1 }))).toBe(addresses);
  });

  it.each([
    ['3ffe:2501:200:1fff::7', 2794, '3ffe:2501:200:3::1', 1766, 0x2cc18cd5, 0x40207d3d],
    ['3ffe:501:8::260:97ff:fe40:efab', 14230, 'ff02::1', 4739, 0x0f0c461c, 0xdde51bbf],
    [
      ...(['3ffe:1900:4545:3:200:f8ff:fe21:67cf', 44251] as const),
      ...(['fe80::200:f8ff:fe21:67cf', 38024, 0x4b61e985, 0x02d1feef] as const),
    ],
  ] as const)(
    'holds for IPv6 from %s port %i to %s port %i',
    (source, from, destination, to, addresses, ports) => {
      const one = { src: v6(source), dst: v6(destination), from, to };
      for (const protocol of [TCP, UDP]) expect(hashOf(frame6(one, protocol))).toBe(ports);
      expect(hashOf(frame6(one, 58))).toBe(addresses);
    },
  );
});

describe('the hash', () => {
  it('agrees with the one made bit by bit, with any key', () => {
    fc.assert(
      fc.property(flow(4), flow(16), key, fc.constantFrom(TCP, UDP, 1, 50), (four, six, secret, protocol) => {
        const frames = [frame4(four, { protocol }), frame6(six, protocol)];
        for (const frame of frames) expect(hashOf(frame, secret)).toBe(model(frame, secret));
        const ports = protocol === TCP || protocol === UDP ? 4 : 0;
        expect(frames.map((frame) => inputOf(frame).length)).toEqual([8 + ports, 32 + ports]);
      }),
    );
  });

  it('covers the types that it is to cover: the ports of those with ports, the addresses of the others, or nothing', () => {
    const types = fc.integer({ min: 0, max: ALL_HASHED });
    const protocols = fc.constantFrom(TCP, UDP, 1, 50);
    const options = fc.array(fc.constant([60, Array(8).fill(0)] as [number, number[]]), { maxLength: 2 });
    fc.assert(
      fc.property(
        flow(4),
        flow(16),
        key,
        protocols,
        types,
        options,
        (four, six, secret, protocol, bits, extensions) => {
          const typed = (frame: number[], ip: number, tcp: number, udp: number): number => {
            const whole = inputOf(frame);
            const own = protocol === TCP ? tcp : protocol === UDP ? udp : 0;
            if ((bits & own) !== 0) return toeplitz(whole, secret);
            const addresses = ip === HashBit.IPV4 ? 8 : 32;
            return (bits & ip) === 0 ? 0 : toeplitz(whole.slice(0, addresses), secret);
          };
          const frames = [frame4(four, { protocol }), frame6(six, protocol, extensions)] as const;
          expect(hashOf(frames[0], secret, bits)).toBe(
            typed(frames[0], HashBit.IPV4, HashBit.TCP4, HashBit.UDP4),
          );
          expect(hashOf(frames[1], secret, bits)).toBe(
            typed(frames[1], HashBit.IPV6, HashBit.TCP6, HashBit.UDP6),
          );
        },
      ),
    );
  });

  it('of a fragment is that of its addresses, if those are hashed at all', () => {
    fc.assert(
      fc.property(flow(4), fc.integer({ min: 0, max: ALL_HASHED }), (one, bits) => {
        const frame = frame4(one, { fragment: 0x2000 });
        const addresses = toeplitz([...one.src, ...one.dst], DEFAULT_KEY);
        expect(hashOf(frame, DEFAULT_KEY, bits)).toBe((bits & HashBit.IPV4) === 0 ? 0 : addresses);
      }),
    );
  });

  it('is an Int32', () => {
    const frame = frame4({ src: v4('199.92.111.2'), dst: v4('65.69.140.83'), from: 14230, to: 4739 });
    const view = new DataView(Uint8Array.from(frame).buffer);
    expect(new RssHash(view, DEFAULT_KEY).of(0, frame.length)).toBe(0xc626b0ea | 0);
  });

  it('is that of the packet behind its VLAN tags, however many, and 0 where the frame ends inside one', () => {
    fc.assert(
      fc.property(flow(4), port, (one, vlan) => {
        const tag = [0x81, 0, ...be16(vlan)];
        const service = [0x88, 0xa8, ...be16(vlan)];
        const plain = hashOf(frame4(one));
        expect(hashOf(frame4(one, {}, tag))).toBe(plain);
        expect(hashOf(frame4(one, {}, [...service, ...tag]))).toBe(plain);
        const many = Array.from({ length: 20 }, (_, i) => (i % 3 === 0 ? service : tag)).flat();
        expect(hashOf(frame4(one, {}, many))).toBe(plain);
        expect(hashOf(frame4(one, {}, many).slice(0, 14 + 79))).toBe(0);
      }),
    );
  });

  it('finds the ports behind IPv4 options', () => {
    fc.assert(
      fc.property(flow(4), fc.integer({ min: 1, max: 10 }), (one, words) => {
        expect(hashOf(frame4(one, { options: Array(words * 4).fill(1) }))).toBe(hashOf(frame4(one)));
      }),
    );
  });

  it('finds the ports behind IPv6 extension headers, up to eight', () => {
    const extension = fc.tuple(
      fc.constantFrom(0, 43, 60),
      fc.integer({ min: 0, max: 3 }).map((more) => [0, more, ...Array(6 + 8 * more).fill(0x5a)]),
    );
    fc.assert(
      fc.property(flow(16), fc.array(extension, { maxLength: 12 }), (one, extensions) => {
        const plain = extensions.length <= 8 ? frame6(one) : frame6(one, 59);
        expect(hashOf(frame6(one, TCP, extensions))).toBe(hashOf(plain));
      }),
    );
  });

  it('takes all fragments by their addresses alone, so that they stay together', () => {
    fc.assert(
      fc.property(flow(4), flow(16), fc.integer({ min: 1, max: 0x3fff }), port, (four, six, fragment, id) => {
        const alone = hashOf(frame4(four, { protocol: 1 }));
        expect(hashOf(frame4(four, { fragment }))).toBe(alone);
        expect(hashOf(frame4(four, { fragment: 0x2000 }))).toBe(alone);
        const header = [0, 0, ...be16(fragment), 0, 0, ...be16(id)];
        expect(hashOf(frame6(six, UDP, [[44, header]]))).toBe(hashOf(frame6(six, 59)));
      }),
    );
  });

  it('does not take "do not fragment" and the reserved bit for a fragment', () => {
    const one = { src: v4('66.9.149.187'), dst: v4('161.142.100.80'), from: 2794, to: 1766 };
    expect(hashOf(frame4(one, { fragment: 0x4000 }))).toBe(0x51ccc178);
    expect(hashOf(frame4(one, { fragment: 0xc000 }))).toBe(0x51ccc178);
  });

  it('of a packet cut off before its ports is that of its addresses, before those end 0', () => {
    fc.assert(
      fc.property(flow(4), flow(16), (four, six) => {
        const [four4, six6] = [frame4(four), frame6(six)];
        const [alone4, alone6] = [hashOf(frame4(four, { protocol: 1 })), hashOf(frame6(six, 59))];
        for (let length = 0; length < 38; length++) {
          expect(hashOf(four4.slice(0, length))).toBe(length < 34 ? 0 : alone4);
        }
        for (let length = 0; length < 58; length++) {
          expect(hashOf(six6.slice(0, length))).toBe(length < 54 ? 0 : alone6);
        }
        expect(hashOf(four4.slice(0, 38))).toBe(hashOf(four4));
        expect(hashOf(six6.slice(0, 58))).toBe(hashOf(six6));
      }),
    );
  });

  it('is 0 of what is not IP, and of what only says it is', () => {
    const payload = Array(60).fill(0x45);
    expect(hashOf(ethernet(payload, { type: 0x0806 }))).toBe(0);
    expect(hashOf(ethernet(payload, { type: 60 }))).toBe(0);
    expect(hashOf(ethernet([0x65, ...payload]))).toBe(0);
    expect(hashOf(ethernet([0x44, ...payload]))).toBe(0);
    expect(hashOf(ethernet([0x45, ...payload], { type: IPV6 }))).toBe(0);
  });

  /** Garbage that starts like a packet, so that the walk gets somewhere. */
  const starts = fc.constantFrom(
    ...[[], [8, 0, 0x45], [8, 0, 0x4f], [0x86, 0xdd, 0x60], [0x81, 0, 0, 0, 8, 0, 0x46]],
    [0x88, 0xa8, 0, 0, 0x81, 0, 0, 0, 0x86, 0xdd, 0x60],
    [0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 0],
    [0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 43],
  );
  /** Bytes that mean something to the walk come often. */
  const telling = fc.oneof(byte, fc.constantFrom(0, 1, 6, 17, 43, 44, 60, 0x45, 0x60));

  it('of garbage of every length is what the slow one finds, and nothing throws', () => {
    for (let length = 0; length <= 120; length++) {
      fc.assert(
        fc.property(starts, fc.array(telling, { minLength: length, maxLength: length }), (start, garbage) => {
          const frame = [...garbage.slice(0, 12), ...start, ...garbage.slice(12)].slice(0, length);
          expect(hashOf(frame)).toBe(model(frame));
        }),
        { numRuns: 40 },
      );
    }
  });

  it('reads nothing behind the packet, where the memory may end, wherever it is cut off', () => {
    const one = { src: v6('ff02::1'), dst: v6('ff02::2'), from: 1, to: 2 };
    const tags = [0x88, 0xa8, 0, 1, 0x81, 0, 0, 2];
    const long = [0, 1, ...Array(14).fill(0)];
    const whole = [
      frame4(
        { src: v4('10.0.0.1'), dst: v4('10.0.0.2'), from: 1, to: 2 },
        { options: Array(8).fill(1) },
        tags,
      ),
      frame6(one, UDP, [
        [0, long],
        [60, long],
      ]),
    ];
    for (const packet of whole) {
      for (let length = 0; length <= packet.length; length++) {
        const frame = packet.slice(0, length);
        const view = new DataView(Uint8Array.from(frame).buffer);
        expect(new RssHash(view, DEFAULT_KEY).of(0, length) >>> 0).toBe(model(frame));
      }
    }
  });
});

describe('a key', () => {
  it('is by default the one of the verification suite', () => {
    expect(keyOf(undefined)).toEqual(DEFAULT_KEY);
    expect(keyOf('default')).toEqual(DEFAULT_KEY);
    expect(DEFAULT_KEY).toHaveLength(40);
  });

  it('that is symmetric gives both directions of a flow one hash; the default does not', () => {
    expect(SYMMETRIC_KEY).toHaveLength(40);
    fc.assert(
      fc.property(flow(4), flow(16), (four, six) => {
        const back = (one: Flow): Flow => ({ src: one.dst, dst: one.src, from: one.to, to: one.from });
        const symmetric = keyOf('symmetric');
        expect(hashOf(frame4(four), symmetric)).toBe(hashOf(frame4(back(four)), symmetric));
        expect(hashOf(frame6(six), symmetric)).toBe(hashOf(frame6(back(six)), symmetric));
      }),
    );
    const one = { src: v4('66.9.149.187'), dst: v4('161.142.100.80'), from: 2794, to: 1766 };
    const back = { src: one.dst, dst: one.src, from: one.to, to: one.from };
    expect(hashOf(frame4(one))).not.toBe(hashOf(frame4(back)));
  });

  it('is read from bytes and from hexadecimal digits, with and without colons', () => {
    fc.assert(
      fc.property(key, (bytes) => {
        const digits = [...bytes].map((value) => value.toString(16).padStart(2, '0'));
        expect(keyOf(bytes)).toEqual(bytes);
        expect(keyOf(digits.join(''))).toEqual(bytes);
        expect(keyOf(digits.join(':').toUpperCase())).toEqual(bytes);
      }),
    );
  });

  it('is a copy, which the caller may change', () => {
    keyOf('default').fill(0);
    keyOf('symmetric').fill(0);
    const own = new Uint8Array(40);
    keyOf(own).fill(1);
    expect([DEFAULT_KEY[0], SYMMETRIC_KEY[0], own[0]]).toEqual([0x6d, 0x6d, 0]);
  });

  it.each([
    ['too short', '6d'.repeat(39)],
    ['too long', new Uint8Array(53)],
    ['empty', ''],
    ['half a byte', `${'6d'.repeat(40)}5`],
    ['colons here and there', `6d:5a${'6d'.repeat(40)}`],
    ['a colon at the end', `${'6d:'.repeat(40)}`],
    ['no hexadecimal digit', 'xy'.repeat(40)],
    ['an unknown name', 'symetric'],
    ['no string at all', 7 as unknown as string],
  ])('is refused if it is %s', (_, option) => {
    expect(() => keyOf(option)).toThrow(expect.objectContaining({ code: 'ERR_OPTION_INVALID' }));
  });
});

describe('the redirection table', () => {
  const queues = fc.uniqueArray(fc.integer({ min: 0, max: 63 }), { minLength: 1, maxLength: 64 });
  const counts = (table: Uint8Array, of: readonly number[]): number[] =>
    of.map((queue) => table.filter((entry) => entry === queue).length);
  const isBalanced = (table: Uint8Array, of: readonly number[]): boolean => {
    const all = counts(table, of);
    return Math.max(...all) - Math.min(...all) <= 1 && all.reduce((a, b) => a + b) === RETA_ENTRIES;
  };
  const moved = (a: Uint8Array, b: Uint8Array): number => a.filter((entry, i) => entry !== b[i]).length;

  /** Fewest entries that have to change: for every choice of who gets the odd ones, the best. */
  function fewest(table: Uint8Array, of: readonly number[]): number {
    const share = Math.floor(RETA_ENTRIES / of.length);
    const odd = RETA_ENTRIES % of.length;
    const have = counts(table, of);
    const stay = have.reduce((sum, count) => sum + Math.min(count, share), 0);
    const oddThatStay = Math.min(odd, have.filter((count) => count > share).length);
    return RETA_ENTRIES - stay - oddThatStay;
  }

  it('goes round the queues', () => {
    expect([...spread([4, 1, 7])].slice(0, 7)).toEqual([4, 1, 7, 4, 1, 7, 4]);
    expect(spread([0])).toEqual(new Uint8Array(128));
    fc.assert(fc.property(queues, (some) => isBalanced(spread(some), some)));
  });

  it('is looked up by the low bits of the hash, whatever its sign', () => {
    expect([retaIndex(0x51ccc178), retaIndex(-1), retaIndex(-128), retaIndex(0)]).toEqual([0x78, 127, 0, 0]);
  });

  it('stays balanced and changes in as few entries as can be, through any changes of the queues', () => {
    fc.assert(
      fc.property(queues, fc.array(queues, { minLength: 1, maxLength: 6 }), (first, changes) => {
        let table = spread(first);
        for (const some of changes) {
          const before = table.slice();
          const next = respread(table, some);
          expect(table).toEqual(before);
          expect(isBalanced(next, some)).toBe(true);
          expect(moved(table, next)).toBe(fewest(table, some));
          table = next;
        }
      }),
    );
  });

  it('is balanced from any table at all', () => {
    const any = fc.uint8Array({ minLength: RETA_ENTRIES, maxLength: RETA_ENTRIES });
    fc.assert(
      fc.property(any, queues, (table, some) => {
        const next = respread(table, some);
        return isBalanced(next, some) && moved(table, next) === fewest(table, some);
      }),
    );
  });

  it('does not change when the queues do not', () => {
    fc.assert(
      fc.property(queues, (some) => {
        expect(respread(spread(some), some)).toEqual(spread(some));
        expect(respread(spread(some), some.toReversed())).toEqual(spread(some));
      }),
    );
  });

  it('moves only what was the queue that left', () => {
    const table = spread([0, 1, 2, 3]);
    const next = respread(table, [0, 1, 3]);
    table.forEach((queue, i) => {
      if (queue === 2) expect([0, 1, 3]).toContain(next[i]);
      else expect(next[i]).toBe(queue);
    });
  });

  it('cannot be made of no queues', () => {
    expect(() => spread([])).toThrow(RangeError);
    expect(() => respread(spread([0]), [])).toThrow(RangeError);
  });
});
