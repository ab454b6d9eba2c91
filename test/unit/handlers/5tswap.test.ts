import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DROP, PASS, TX } from '../../../src/handler/handler.ts';
import { create } from '../../../src/handlers/5tswap.ts';
import { Path } from '../../../src/memory/layout.ts';
import {
  arp,
  BROADCAST,
  be16,
  ethernet,
  handled,
  icmpEcho,
  ipv4,
  ipv6,
  naiveChecksum,
  OUR_IP,
  OUR_IP6,
  OUR_MAC,
  PEER_IP,
  PEER_IP6,
  PEER_MAC,
} from '../../support/frames.ts';

const swap = create({});
const TAGS = [0x88, 0xa8, 0x00, 0x07, 0x81, 0x00, 0x20, 0x05];
const [TCP, UDP, ICMP, ICMP6] = [6, 17, 1, 58];

interface End {
  readonly mac: number[];
  readonly v4: number[];
  readonly v6: number[];
  readonly port: number;
}

interface Shape {
  readonly version: 4 | 6;
  readonly protocol: number;
  readonly data: number[];
  readonly tagged: boolean;
  readonly options: boolean;
}

/** A TCP segment, a datagram or an echo request from one end to the other, with right checksums. */
function packet({ version, protocol, data, tagged, options }: Shape, from: End, to: End): number[] {
  const [src, dst] = version === 4 ? [from.v4, to.v4] : [from.v6, to.v6];
  const ports = [...be16(from.port), ...be16(to.port)];
  const checksumAt = protocol === TCP ? 16 : protocol === UDP ? 6 : 2;
  let body: number[];
  if (protocol === TCP) body = [...ports, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 1, 0, 0, 0, 0, 0, ...data];
  else if (protocol === UDP) body = [...ports, ...be16(8 + data.length), 0, 0, ...data];
  else body = icmpEcho(data, protocol === ICMP ? 8 : 128);
  if (protocol !== ICMP) {
    body.splice(checksumAt, 2, 0, 0);
    const pseudo = [...src, ...dst, 0, protocol, ...be16(body.length)];
    body.splice(checksumAt, 2, ...be16(naiveChecksum([...pseudo, ...body])));
  }
  const tags = tagged ? TAGS : [];
  const macs = { src: from.mac, dst: to.mac, tags };
  if (version === 6) return ethernet(ipv6(body, { src, dst, next: protocol }), { ...macs, type: 0x86dd });
  return ethernet(ipv4(body, { src, dst, protocol, options: options ? [1, 1, 1, 0] : [] }), macs);
}

const US: End = { mac: OUR_MAC, v4: OUR_IP, v6: OUR_IP6, port: 7 };
const bytes = (length: number) => fc.array(fc.nat(255), { minLength: length, maxLength: length });
const end = fc.record<End>({
  mac: bytes(6).map(([first, ...rest]) => [first! & 0xfe, ...rest]),
  v4: bytes(4),
  v6: bytes(16),
  port: fc.nat(65_535),
});
const shape = fc
  .record({
    version: fc.constantFrom<4 | 6>(4, 6),
    protocol: fc.constantFrom(TCP, UDP, ICMP),
    data: fc.array(fc.nat(255), { maxLength: 60 }),
    tagged: fc.boolean(),
    options: fc.boolean(),
  })
  .map(
    (one): Shape => ({
      ...one,
      protocol: one.version === 6 && one.protocol === ICMP ? ICMP6! : one.protocol,
    }),
  );

describe('5tswap', () => {
  it('sends back the packet that the other end would have sent, its checksums included', () => {
    fc.assert(
      fc.property(shape, end, end, (one, from, to) => {
        const back = packet(one, to, from);
        expect(handled(swap, packet(one, from, to))).toEqual([TX, back]);
      }),
    );
  });

  it('exchanges the addresses alone of a later fragment, and of protocols without ports', () => {
    const data = Array.from({ length: 40 }, (_, i) => i);
    for (const fields of [{ protocol: 17, fragment: 0x2005 }, { protocol: 47 }]) {
      const there = { ...fields, src: PEER_IP, dst: OUR_IP };
      const back = { ...fields, src: OUR_IP, dst: PEER_IP };
      expect(handled(swap, ethernet(ipv4(data, there)))).toEqual([
        TX,
        ethernet(ipv4(data, back), { src: OUR_MAC, dst: PEER_MAC }),
      ]);
    }
  });

  it('passes multicast and non-IP packets unchanged, or drops them', () => {
    const datagram: Shape = { version: 4, protocol: UDP!, data: [1, 2], tagged: false, options: false };
    const frames = [
      ethernet(arp(), { dst: BROADCAST, type: 0x0806 }),
      packet(datagram, { ...US, mac: PEER_MAC }, { ...US, mac: BROADCAST }),
      [1, 2, 3],
    ];
    for (const frame of frames) {
      expect(handled(swap, frame)).toEqual([PASS, frame]);
      expect(handled(create({ otherwise: 'drop' }), frame)).toEqual([DROP, frame]);
    }
  });

  it('drops IP that contradicts itself', () => {
    for (const frame of [
      ethernet(ipv4([1, 2, 3, 4]).with(0, 0x4f)),
      ethernet(ipv4([1, 2, 3, 4]).slice(0, 19)),
      ethernet(ipv6([1, 2, 3, 4], { src: PEER_IP6 }).slice(0, 43), { type: 0x86dd }),
    ]) {
      expect(handled(swap, frame)).toEqual([DROP, frame]);
    }
  });

  it('sends packets of the machine unchanged', () => {
    const frame = ethernet(ipv4(icmpEcho([1, 2, 3])));
    expect(handled(swap, frame, Path.HOST)).toEqual([TX, frame]);
  });

  it('does not throw for any truncated or damaged frame', () => {
    fc.assert(
      fc.property(
        shape,
        end,
        end,
        fc.array(fc.tuple(fc.nat(120), fc.nat(255))),
        fc.nat(150),
        (one, from, to, hits, cut) => {
          const frame = packet(one, from, to);
          for (const [at, value] of hits) if (at < frame.length) frame[at] = value;
          const [verdict] = handled(swap, frame.slice(0, cut));
          expect([TX, PASS, DROP]).toContain(verdict);
        },
      ),
    );
  });

  it.each([
    [{ otherwise: 'tx' }, 'ERR_OPTION_INVALID'],
    [{ other: 'pass' }, 'ERR_OPTION_UNKNOWN'],
  ])('refuses %o', (options, code) => {
    expect(() => create(options)).toThrow(expect.objectContaining({ code }));
  });
});
