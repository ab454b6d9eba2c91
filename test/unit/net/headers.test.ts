/** What the parser finds above IP is what a slow model finds, which cuts one header after the other off the front. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Flow } from '../../../src/net/flow.ts';
import { Headers } from '../../../src/net/headers.ts';
import { be16, ethernet } from '../../support/frames.ts';

const IPV4 = 0x0800;
const IPV6 = 0x86dd;
const TCP = 6;
const UDP = 17;
const FRAGMENT = 44;
const AUTHENTICATION = 51;

const u16 = (bytes: readonly number[], at: number): number => bytes[at]! * 256 + bytes[at + 1]!;

interface Upper {
  /** -1 where it cannot be known. */
  protocol: number;
  /** Bytes of IP before the protocol's header; -1 if that is not in the packet. */
  at: number;
  fragment: boolean;
}

/** What an IPv6 packet carries behind the extension headers of these types; undefined if it ends inside one. */
function upperOfIpv6(packet: readonly number[], follows: readonly number[], most: number): Upper | undefined {
  let fragment = false;
  let next = packet[6]!;
  let at = 40;
  for (let read = 0; follows.includes(next); read++) {
    if (read === most) return { protocol: -1, at: -1, fragment };
    const header = packet.slice(at);
    if (header.length < 8) return undefined;
    const [following, length] = header as [number, number];
    if (next === FRAGMENT) {
      const place = u16(header, 2);
      fragment ||= place >= 8 || place % 2 === 1;
      if (place >= 8) return { protocol: follows.includes(following) ? -1 : following, at: -1, fragment };
      at += 8;
    } else at += next === AUTHENTICATION ? 4 * (length + 2) : 8 * (length + 1);
    next = following;
  }
  return { protocol: next, at, fragment };
}

/** The same of IPv4, whose authentication headers are followed. */
function upperOfIpv4(packet: readonly number[]): Upper | undefined {
  const fragment = u16(packet, 6) % 0x4000 !== 0;
  const isLater = u16(packet, 6) % 0x2000 !== 0;
  let protocol = packet[9]!;
  let at = (packet[0]! % 16) * 4;
  if (fragment && protocol === AUTHENTICATION) return { protocol: -1, at: -1, fragment };
  if (isLater) return { protocol, at: -1, fragment };
  for (let read = 0; protocol === AUTHENTICATION; read++) {
    if (read === 8) return { protocol: -1, at: -1, fragment };
    if (packet.length < at + 8) return undefined;
    [protocol, at] = [packet[at]!, at + 4 * (packet[at + 1]! + 2)];
  }
  return { protocol, at, fragment };
}

/** Where the network header is, what it says it is, and the packet as long as it says; undefined if it is no whole one. */
function network(frame: readonly number[]): { type: number; l3: number; packet: number[] | undefined } {
  let l3 = 14;
  while ([0x8100, 0x88a8].includes(u16(frame, l3 - 2)) && frame.length >= l3 + 4) l3 += 4;
  const type = u16(frame, l3 - 2);
  const rest = frame.slice(l3);
  const version = type === IPV4 ? 4 : type === IPV6 ? 6 : 0;
  const least = version === 4 ? Math.max(20, (rest[0]! % 16) * 4) : 40;
  const isIp = version !== 0 && rest.length >= least && rest[0]! >> 4 === version;
  const bytes = version === 4 ? u16(rest, 2) : 40 + u16(rest, 4);
  const isWhole = isIp && !(version === 4 && rest[0]! < 0x45) && bytes >= least && bytes <= rest.length;
  return { type, l3, packet: isWhole ? rest.slice(0, bytes) : undefined };
}

function flowModel(frame: readonly number[]): Partial<Flow> | undefined {
  const { type, l3, packet } = network(frame);
  if (packet === undefined) return undefined;
  const upper = type === IPV4 ? upperOfIpv4(packet) : upperOfIpv6(packet, [0, 43, 44, 51, 60], 8);
  if (upper === undefined || upper.at > packet.length) return undefined;
  const { protocol, at, fragment } = upper;
  const hasPorts = at >= 0 && [TCP, UDP].includes(protocol);
  if (hasPorts && packet.length < at + 4) return undefined;
  return {
    ...{ type, l3, protocol, fragment, l4: at < 0 ? -1 : l3 + at, end: l3 + packet.length },
    ...(type === IPV4 ? { addresses: l3 + 12, addressBytes: 4 } : { addresses: l3 + 8, addressBytes: 16 }),
    ...(hasPorts ? { from: u16(packet, at), to: u16(packet, at + 2) } : { from: -1, to: -1 }),
  };
}

function segmentModel(frame: readonly number[]): Partial<Headers> | undefined {
  const { type, l3, packet } = network(frame);
  if (packet === undefined) return undefined;
  const upper =
    type === IPV4 && packet[9] === AUTHENTICATION
      ? undefined
      : type === IPV4
        ? upperOfIpv4(packet)
        : upperOfIpv6(packet, [0, 43, 60, 135, 139, 140], Number.POSITIVE_INFINITY);
  if (upper === undefined || upper.fragment) return undefined;
  const { protocol, at } = upper;
  const version = type === IPV4 ? 4 : 6;
  const rest = packet.slice(at);
  const places = { version, protocol, l3, l4: l3 + at, end: l3 + packet.length } as const;
  if (protocol === UDP && rest.length >= 8) return { ...places, check: l3 + at + 6, payload: l3 + at + 8 };
  const header = protocol === TCP && rest.length >= 20 ? (rest[12]! >> 4) * 4 : 0;
  if (header < 20 || header > rest.length) return undefined;
  return { ...places, check: l3 + at + 16, payload: l3 + at + header };
}

const byte = fc.integer({ min: 0, max: 255 });
const bytes = (count: number): fc.Arbitrary<number[]> =>
  fc.array(byte, { minLength: count, maxLength: count });
/** Numbers that mean something to the walk. */
const number = fc.constantFrom(0, 1, TCP, UDP, 43, FRAGMENT, AUTHENTICATION, 58, 59, 60, 135, 139, 140, 255);
const place = fc.oneof(
  fc.constantFrom(0, 1, 6, 8, 0x1000, 0x2000, 0x4000, 0x8000),
  fc.integer({ max: 0xffff, min: 0 }),
);

/** The rest of an extension header of this type: what follows its first byte. */
function restOf(type: number): fc.Arbitrary<number[]> {
  if (type === FRAGMENT) return fc.tuple(place, bytes(4)).map(([at, id]) => [0, ...be16(at), ...id]);
  return fc.nat(2).chain((units) => {
    const count = type === AUTHENTICATION ? 4 * (units + 2) : 8 * (units + 1);
    return bytes(count - 2).map((data) => [units, ...data]);
  });
}

const transport = fc
  .tuple(fc.constantFrom(TCP, TCP, UDP, UDP, 1, 59), fc.constantFrom(5, 5, 8, 15, 4), fc.nat(70))
  .chain(([protocol, words, count]) =>
    bytes(count).map((data) => ({
      protocol,
      data: protocol === TCP && count > 12 ? data.with(12, words * 16) : data,
    })),
  );

/** Headers in a row, each of which names the next: `[type of the first, all bytes]`. */
const chain = (types: fc.Arbitrary<number>): fc.Arbitrary<[number, number[]]> =>
  fc
    .tuple(
      fc
        .array(types, { maxLength: 11 })
        .chain((all) => fc.tuple(...all.map((type) => restOf(type).map((rest) => ({ type, rest }))))),
      transport,
    )
    .map(([extensions, { protocol, data }]) => {
      const types = [...extensions.map(({ type }) => type), protocol];
      return [types[0]!, [...extensions.flatMap(({ rest }, i) => [types[i + 1]!, ...rest]), ...data]];
    });

const extensions = fc.oneof(
  chain(fc.constantFrom(0, 43, 60)),
  chain(fc.constantFrom(0, 43, 60, 135, 139, 140)),
  chain(fc.constantFrom(0, FRAGMENT, AUTHENTICATION, 60)),
);
/** How many bytes more than there are the header says, or fewer. */
const wrong = fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fc.integer({ min: -30, max: 10 }));
/** What is added to the byte of version and header length. */
const wrongFirst = fc.constantFrom(0, 0, 0, 0, 0, 0, -1, -5, 1, 0x20);

const ipv6 = fc.tuple(extensions, bytes(32), wrong).map(([[next, rest], addresses, error]) => {
  const header = [0x60, 0, 0, 0, ...be16(Math.max(0, rest.length + error)), next, 64, ...addresses];
  return ethernet([...header, ...rest], { type: IPV6 });
});
const ipv4 = fc
  .tuple(
    fc.oneof(
      chain(fc.constant(AUTHENTICATION)),
      transport.map((one) => [one.protocol, one.data] as const),
    ),
    ...([bytes(8), fc.nat(10), place, wrong, wrongFirst] as const),
  )
  .map(([[protocol, rest], addresses, words, at, error, more]) => {
    const first = 0x45 + words + more;
    const length = Math.max(0, 20 + 4 * words + rest.length + error);
    const header = [first, 0, ...be16(length), 0, 0, ...be16(at), 64, protocol, 0, 0, ...addresses];
    return ethernet([...header, ...Array(4 * words).fill(1), ...rest], { type: IPV4 });
  });
const garbage = fc
  .tuple(fc.constantFrom(IPV4, IPV6), fc.constantFrom(0x45, 0x44, 0x4f, 0x60, 0x65), fc.array(number))
  .map(([type, first, rest]) => ethernet([first, ...rest], { type }));

const packets = fc
  .tuple(
    fc.oneof({ weight: 4, arbitrary: ipv6 }, { weight: 4, arbitrary: ipv4 }, garbage),
    fc.array(fc.constantFrom([0x81, 0, 0, 5], [0x88, 0xa8, 0x20, 1]), { maxLength: 3 }),
    fc.nat(12),
    fc.oneof({ weight: 3, arbitrary: fc.constant(0xffff) }, fc.nat(200)),
  )
  .map(([frame, tags, padding, length]) =>
    [...frame.slice(0, 12), ...tags.flat(), ...frame.slice(12), ...Array(padding).fill(0)].slice(
      0,
      Math.max(14, length),
    ),
  );

/** The frame between other bytes, and nothing behind it, so that reading beyond its end throws. */
const lying = (frame: readonly number[], before: number): DataView =>
  new DataView(Uint8Array.of(...Array(before).fill(0x45), ...frame).buffer);

describe('the parser', () => {
  it('finds the flow of any packet as the model does, and reads nothing behind it', () => {
    const flow = new Flow();
    fc.assert(
      fc.property(packets, fc.nat(9), (frame, before) => {
        const model = flowModel(frame);
        expect(flow.readAt(lying(frame, before), before, frame.length)).toBe(model !== undefined);
        const { type, l3 } = network(frame);
        expect(flow).toMatchObject(model ?? { type, l3 });
      }),
      { numRuns: 2000 },
    );
  });

  it('finds the segment of any packet as the model does, and reads nothing behind it', () => {
    const headers = new Headers();
    fc.assert(
      fc.property(packets, fc.nat(9), (frame, before) => {
        const model = segmentModel(frame);
        expect(headers.parse(lying(frame, before), before, frame.length)).toBe(model !== undefined);
        if (model !== undefined) expect(headers).toMatchObject(model);
      }),
      { numRuns: 2000 },
    );
  });

  it('refuses a frame shorter than an Ethernet header', () => {
    const frame = ethernet([]).slice(0, 13);
    const flow = new Flow();
    expect([flow.readAt(lying(frame, 0), 0, 13), flow.type]).toEqual([false, -1]);
    const headers = new Headers();
    expect([headers.parse(lying(frame, 0), 0, 13), headers.version]).toEqual([false, 0]);
  });
});
