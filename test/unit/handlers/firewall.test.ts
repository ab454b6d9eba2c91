import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { HandlerObject } from '../../../src/handler/handler.ts';
import { DROP, PASS, TX } from '../../../src/handler/handler.ts';
import { create } from '../../../src/handlers/firewall.ts';
import { Path, type PathId } from '../../../src/memory/layout.ts';
import {
  arp,
  BROADCAST,
  be16,
  ethernet,
  handled,
  icmpEcho,
  ipv4,
  ipv6,
  PEER_IP6,
  udp,
} from '../../support/frames.ts';

const made = (options: Record<string, unknown>): HandlerObject => create(options);
const tcp = (to: number, from = 40_000) => [...be16(from), ...be16(to), ...Array(16).fill(0)];

interface Incoming {
  src?: number[];
  fragment?: number;
  path?: PathId;
}

/** The verdict for a TCP segment to a port. */
function segment(
  handler: HandlerObject,
  to: number,
  { src = [10, 1, 2, 3], fragment, path }: Incoming = {},
): number {
  const frame = ethernet(ipv4(tcp(to), { protocol: 6, src, fragment }));
  const [verdict, after] = handled(handler, frame, path);
  expect(after).toEqual(frame);
  return verdict;
}

const datagram = (handler: HandlerObject, to: number, src = [10, 1, 2, 3]) =>
  handled(handler, ethernet(ipv4(udp([], { to }), { protocol: 17, src })))[0];
const six = (handler: HandlerObject, payload: number[], next: number, src = PEER_IP6) =>
  handled(handler, ethernet(ipv6(payload, { next, src }), { type: 0x86dd }))[0];

describe('firewall', () => {
  it('passes everything without a rule, and drops it on request', () => {
    const open = made({});
    const closed = made({ otherwise: 'drop' });
    expect([segment(open, 22), datagram(open, 53), six(open, tcp(22), 6)]).toEqual([PASS, PASS, PASS]);
    expect([segment(closed, 22), datagram(closed, 53), six(closed, tcp(22), 6)]).toEqual([DROP, DROP, DROP]);
  });

  it('denies by source, by port, and by both', () => {
    const source = made({ deny: '10.1.0.0/16' });
    expect(segment(source, 22)).toBe(DROP);
    expect(segment(source, 22, { src: [10, 2, 0, 1] })).toBe(PASS);
    const port = made({ deny: ['tcp/22'] });
    expect([segment(port, 22), segment(port, 23), datagram(port, 22)]).toEqual([DROP, PASS, PASS]);
    const both = made({ deny: '10.1.0.0/16:tcp/443' });
    expect(segment(both, 443)).toBe(DROP);
    expect(segment(both, 444)).toBe(PASS);
    expect(segment(both, 443, { src: [10, 0, 255, 255] })).toBe(PASS);
  });

  it('drops packets that no allow rule matches, and applies deny rules first', () => {
    const handler = made({ allow: 'tcp/22, udp/1000-2000 icmp', deny: '10.9.9.9' });
    expect([segment(handler, 22), segment(handler, 80)]).toEqual([PASS, DROP]);
    expect([999, 1000, 1500, 2000, 2001].map((port) => datagram(handler, port))).toEqual([
      DROP,
      PASS,
      PASS,
      PASS,
      DROP,
    ]);
    expect(handled(handler, ethernet(ipv4(icmpEcho([]))))[0]).toBe(PASS);
    expect(segment(handler, 22, { src: [10, 9, 9, 9] })).toBe(DROP);
    expect(segment(made({ allow: 'tcp/22', otherwise: 'pass' }), 80)).toBe(PASS);
  });

  it('knows IPv6 by the same rules, and icmp as ICMPv6', () => {
    const handler = made({ allow: ['2001:db8::/32:tcp/443', 'icmp', 'udp/53'] });
    expect(six(handler, tcp(443), 6)).toBe(PASS);
    expect(six(handler, tcp(443), 6, [0x20, 1, 0x0d, 0xb9, ...Array(12).fill(0)])).toBe(DROP);
    expect(six(handler, udp([], { to: 53 }), 17)).toBe(PASS);
    expect(six(handler, [128, 0, 0, 0], 58)).toBe(PASS);
    expect(six(handler, [128, 0, 0, 0], 1)).toBe(DROP);
    const denies = made({ deny: '2001:db8:0:0:0:0:0:1' });
    expect([six(denies, [], 59), six(denies, [], 59, [...PEER_IP6.slice(0, 15), 2])]).toEqual([DROP, PASS]);
    const all = made({ deny: 'any:tcp' });
    expect([six(all, tcp(1), 6), segment(all, 1), datagram(all, 1)]).toEqual([DROP, DROP, PASS]);
    expect(segment(made({ deny: 'any' }), 1)).toBe(DROP);
  });

  it('looks behind the extension headers of IPv6', () => {
    const handler = made({ deny: 'tcp/22' });
    const options = [60, 0, 1, 4, 0, 0, 0, 0];
    const authentication = [6, 1, 0, 0, ...Array(8).fill(0)];
    expect(six(handler, [...options, 51, 0, ...Array(6).fill(0), ...authentication, ...tcp(22)], 0)).toBe(
      DROP,
    );
    expect(six(handler, [...options, 51, 0, ...Array(6).fill(0), ...authentication, ...tcp(23)], 0)).toBe(
      PASS,
    );
  });

  it('always passes ARP and neighbour discovery', () => {
    const closed = made({ deny: ['any'], otherwise: 'drop', out: 'any' });
    const frames = [
      ethernet(arp(), { dst: BROADCAST, type: 0x0806 }),
      ...[133, 134, 135, 136, 137].map((type) =>
        ethernet(ipv6([type, 0, 0, 0], { next: 58 }), { type: 0x86dd }),
      ),
    ];
    for (const frame of frames) {
      expect(handled(closed, frame)).toEqual([PASS, frame]);
      expect(handled(closed, frame, Path.HOST)).toEqual([TX, frame]);
    }
    expect(six(closed, [128, 0, 0, 0], 58)).toBe(DROP);
  });

  it('drops a later fragment that a denied port could hide in, and passes it by rules without ports alone', () => {
    const fragment = 0x0010;
    expect(segment(made({ deny: 'tcp/22' }), 80, { fragment })).toBe(DROP);
    expect(segment(made({ deny: 'udp/22' }), 80, { fragment })).toBe(PASS);
    expect(segment(made({ deny: '10.2.0.0/16:tcp/22' }), 80, { fragment })).toBe(PASS);
    expect(segment(made({ allow: 'tcp/80' }), 80, { fragment })).toBe(DROP);
    expect(segment(made({ allow: 'tcp' }), 80, { fragment })).toBe(PASS);
    expect(segment(made({ allow: 'tcp/80' }), 80, { fragment: 0x2000 })).toBe(PASS);
    const later = [6, 0, 0, 9, 0, 0, 0, 1, ...Array(20).fill(0)];
    expect(six(made({ deny: 'tcp/22' }), later, 44)).toBe(DROP);
    expect(six(made({ deny: 'udp/22' }), later, 44)).toBe(PASS);
    expect(six(made({ deny: 'udp/22' }), [60, ...later.slice(1)], 44)).toBe(DROP);
    expect(six(made({ allow: 'udp' }), [60, ...later.slice(1)], 44)).toBe(DROP);
  });

  it('drops an IPv6 packet that hides what it carries, if a rule could mean it', () => {
    const hidden = Array.from({ length: 9 }, () => [60, 0, 1, 4, 0, 0, 0, 0]).flat();
    expect(six(made({ deny: 'tcp/22' }), [...hidden, ...tcp(80)], 60)).toBe(DROP);
    expect(six(made({}), [...hidden, ...tcp(80)], 60)).toBe(PASS);
  });

  it('drops malformed packets under any rules', () => {
    const open = made({});
    const bad = (frame: number[]) => expect(handled(open, frame)[0]).toBe(DROP);
    bad([]);
    bad(Array(13).fill(0));
    bad(ethernet(ipv4(tcp(1), { protocol: 6 })).slice(0, 40));
    bad(ethernet(ipv4([0, 1, 0], { protocol: 17 })));
    bad(ethernet([0x54, ...ipv4([]).slice(1)]));
    bad(ethernet([0x44, ...ipv4([]).slice(1)]));
    bad(ethernet(ipv6([0, 1], { next: 6 }), { type: 0x86dd }));
    bad(ethernet(ipv6([6, 9, 0, 0, 0, 0, 0, 0], { next: 60 }), { type: 0x86dd }));
    bad(ethernet(ipv4([]), { type: 0x86dd }));
  });

  describe('behind VLAN tags', () => {
    const tag = (type: number, tci: number) => [...be16(type), ...be16(tci)];

    it('denies a datagram that three tags of VLAN 0 hide (CERT VU#855201)', () => {
      const frame = Buffer.from(
        '02000000000202000000009988a8000081000000810000000800' +
          '4500002012344000111142fd0a4d00010a4d00029c4008ae000c424501020304',
        'hex',
      );
      expect(handled(made({ deny: 'udp/2222' }), frame)).toEqual([DROP, [...frame]]);
      expect(handled(made({ deny: 'udp/2223' }), frame)).toEqual([PASS, [...frame]]);
      expect(handled(made({ allow: 'udp/2222' }), frame)).toEqual([PASS, [...frame]]);
    });

    it('decides as without them, for any number and kind', () => {
      const tags = fc.array(
        fc.tuple(fc.constantFrom(0x8100, 0x88a8), fc.constantFrom(0, 0x2000, 1, 5, 0x0fff)),
        { minLength: 1, maxLength: 20 },
      );
      const handlers = [
        made({ deny: 'udp/2222,tcp/22' }),
        made({ allow: 'udp/2222' }),
        made({ deny: '2001:db8::/32' }),
        made({ out: 'udp/2222' }),
      ];
      const frames = [2222, 2223].flatMap((to) => [
        ethernet(ipv4(udp([1], { to }), { protocol: 17 })),
        ethernet(ipv6(udp([1], { to })), { type: 0x86dd }),
        ethernet(ipv6([60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0, ...udp([1], { to })], { next: 0 }), {
          type: 0x86dd,
        }),
        ethernet(arp(), { type: 0x0806 }),
      ]);
      fc.assert(
        fc.property(fc.constantFrom(...frames), tags, (bare, tags) => {
          const tagged = [
            ...bare.slice(0, 12),
            ...tags.flatMap(([type, tci]) => tag(type, tci)),
            ...bare.slice(12),
          ];
          for (const handler of handlers) {
            for (const path of [Path.VF, Path.HOST]) {
              expect(handled(handler, tagged, path)).toEqual([handled(handler, bare, path)[0], tagged]);
            }
          }
        }),
      );
    });

    it('drops a frame that ends inside a tag', () => {
      const frame = ethernet([], { tags: [...tag(0x8100, 0), ...tag(0x88a8, 0)] });
      for (const length of [14, 15, 17, 19, 21])
        expect(handled(made({}), frame.slice(0, length))[0]).toBe(DROP);
    });
  });

  describe('where a header that it does not know may hide IP', () => {
    const packet = ipv4(udp([], { to: 2222 }), { protocol: 17 });
    const behind = (head: number[], tags: number[] = []) =>
      ethernet([...head, ...packet], { tags, type: head.length + packet.length });
    const snap = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0];
    it.each<[string, number[]]>([
      ['SNAP', behind(snap)],
      ['SNAP inside a tag of VLAN 0', behind(snap, [0x81, 0, 0, 0])],
      ['SNAP with a wrong length', ethernet([...snap, ...packet], { type: 9 })],
      ['SNAP to a group, as a response', behind([0xab, 0xab, 3, 0, 0, 0, 8, 0])],
      ['SNAP as 802.1H has it', behind([0xaa, 0xaa, 3, 0, 0, 0xf8, 8, 0])],
      ['the LLC address of IP', behind([6, 6, 3])],
      ['the tags of QinQ before 802.1ad', ethernet(packet, { tags: [0x91, 0, 0, 0] })],
    ])('drops %s if there is a deny rule', (_, frame) => {
      expect(handled(made({ deny: 'udp/2222' }), frame)[0]).toBe(DROP);
      expect(handled(made({}), frame)[0]).toBe(PASS);
      expect(handled(made({ allow: 'any' }), frame)[0]).toBe(DROP);
      expect(handled(made({ out: 'udp/2222' }), frame, Path.HOST)[0]).toBe(DROP);
      expect(handled(made({ deny: 'any' }), frame, Path.HOST)[0]).toBe(TX);
    });

    it('leaves other protocols behind an 802.3 length to otherwise', () => {
      const handler = made({ deny: 'any' });
      const spanningTree = ethernet([0x42, 0x42, 3, ...Array(43).fill(0)], { type: 38 });
      const discovery = ethernet([0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0, ...Array(40).fill(0)], { type: 48 });
      for (const frame of [spanningTree, discovery, ethernet([0xaa, 0xaa, 3], { type: 3 })]) {
        expect(handled(handler, frame)[0]).toBe(PASS);
      }
    });
  });

  it('sees as far as fragments show, and drops what they hide from a rule', () => {
    const whole = udp(Array(24).fill(1), { to: 2222 });
    const deny = made({ deny: 'udp/2222' });
    const part = (from: number, to: number, more: number) =>
      handled(deny, ethernet(ipv4(whole.slice(from, to), { protocol: 17, fragment: more | (from / 8) })))[0];
    expect([part(0, 16, 0x2000), part(0, 8, 0x2000), part(8, 16, 0x2000), part(16, 32, 0)]).toEqual([
      ...[DROP, DROP, DROP, DROP],
    ]);
    const tiny = ethernet(ipv4([], { protocol: 17, fragment: 0x2000 }));
    expect(handled(made({}), tiny)[0]).toBe(DROP);
    const six = (next: number, place: number, payload: number[]) =>
      handled(
        deny,
        ethernet(ipv6([next, 0, ...be16(place), 0, 0, 0, 9, ...payload], { next: 44 }), { type: 0x86dd }),
      )[0];
    expect(six(17, 0, whole)).toBe(DROP); // atomic: RFC 6946
    expect(six(17, 6, whole)).toBe(DROP);
    expect(six(17, 1, whole.slice(0, 16))).toBe(DROP);
    expect(six(17, 16, whole.slice(16))).toBe(DROP);
    // The first fragment's next header is the one that counts (RFC 8200, 4.5), and it is dropped.
    expect(six(60, 1, [17, 0, 1, 4, 0, 0, 0, 0])).toBe(DROP);
    expect(six(44, 0, [17, 0, 0, 0, 0, 0, 0, 8, ...whole])).toBe(DROP);
  });

  it('looks behind the authentication header of IPv4, and at no fragment of one', () => {
    const header = (next: number) => [next, 4, 0, 0, ...Array(20).fill(0)];
    const sent = (payload: number[], fragment = 0) =>
      handled(made({ deny: 'tcp/22' }), ethernet(ipv4(payload, { protocol: 51, fragment })))[0];
    expect([sent([...header(6), ...tcp(22)]), sent([...header(6), ...tcp(23)])]).toEqual([DROP, PASS]);
    expect(sent([...header(51), ...header(6), ...tcp(22)])).toBe(DROP);
    expect(sent([...header(6), ...tcp(23)], 0x2000)).toBe(DROP);
    expect(sent([...Array(8).fill(header(51)).flat(), ...header(6), ...tcp(23)])).toBe(DROP);
    expect(handled(made({}), ethernet(ipv4(header(6).slice(0, 12), { protocol: 51 })))[0]).toBe(DROP);
  });

  it('drops what the machine sends as IP and cannot be read, if there is an out rule', () => {
    const broken = ethernet([0x44, ...ipv4([]).slice(1)]);
    expect(handled(made({ out: 'tcp/25' }), broken, Path.HOST)[0]).toBe(DROP);
    expect(handled(made({ deny: 'tcp/25' }), broken, Path.HOST)[0]).toBe(TX);
  });

  it('applies the option otherwise to packets that are neither IP nor ARP', () => {
    const lldp = ethernet(Array(46).fill(0), { type: 0x88cc });
    expect(handled(made({ deny: 'any' }), lldp)[0]).toBe(PASS);
    expect(handled(made({ allow: 'any' }), lldp)[0]).toBe(DROP);
  });

  it('sends packets of the machine except those whose destination matches out', () => {
    const handler = made({ deny: 'any', out: '10.77.0.2:tcp/25' });
    expect(segment(handler, 80, { path: Path.HOST })).toBe(TX);
    expect(segment(handler, 25, { path: Path.HOST })).toBe(DROP);
    expect(segment(made({ out: '10.1.2.3' }), 25, { path: Path.HOST })).toBe(TX);
    expect(handled(handler, [1, 2, 3], Path.HOST)[0]).toBe(TX);
  });

  it.each([
    ['tcp/', 'is not a rule'],
    ['tcp/70000', 'is not a rule'],
    ['tcp/2-1', 'is not a rule'],
    ['icmp/8', 'is not a rule'],
    ['sctp/5', 'is not a rule'],
    ['10.0.0.0/33', 'is not a rule'],
    ['10.0.0', 'is not a rule'],
    ['10.0.0.0/8tcp/22', 'is not a rule'],
    ['10.0.0.0/8:', 'is not a rule'],
    ['2001:db8::/129', 'is not a rule'],
    ['!', 'is not a rule'],
    ['10.1.0.0/8', 'has bits after its prefix of 8'],
    ['2001:db8::1/64', 'has bits after'],
  ])('refuses the rule "%s"', (rule, words) => {
    for (const option of ['allow', 'deny', 'out']) {
      const refusal = { code: 'ERR_OPTION_INVALID', device: option, message: expect.stringContaining(words) };
      expect(() => made({ [option]: [rule] })).toThrow(expect.objectContaining(refusal));
    }
  });

  it('refuses options it does not know', () => {
    expect(() => made({ alow: 'tcp' })).toThrow(expect.objectContaining({ code: 'ERR_OPTION_UNKNOWN' }));
    expect(() => made({ otherwise: 'reject' })).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION_INVALID' }),
    );
  });

  it('decides about prefixes, protocols and ports as a slow reading of the rules does', () => {
    const address = fc.tuple(fc.constantFrom(10, 11), fc.constantFrom(0, 128), fc.nat(3), fc.nat(3));
    const bits = fc.constantFrom(0, 1, 7, 8, 9, 16, 24, 30, 31, 32);
    const rule = fc.record({
      prefix: fc.option(fc.tuple(address, bits)),
      what: fc.constantFrom('', 'tcp', 'udp', 'tcp/5', 'udp/5-7', 'icmp'),
    });
    const rules = fc.array(
      rule.filter(({ prefix, what }) => prefix !== null || what !== ''),
      { maxLength: 4 },
    );
    const binary = (bytes: readonly number[]) =>
      bytes.map((byte) => byte.toString(2).padStart(8, '0')).join('');
    const text = ({ prefix, what }: { prefix: [number[], number] | null; what: string }) => {
      if (prefix === null) return what;
      const network = binary(prefix[0]).slice(0, prefix[1]).padEnd(32, '0');
      const dotted = network
        .match(/.{8}/g)!
        .map((byte) => Number.parseInt(byte, 2))
        .join('.');
      return `${dotted}/${prefix[1]}${what === '' ? '' : `:${what}`}`;
    };
    const verdicts = new Set<number>();
    fc.assert(
      fc.property(
        rules,
        rules,
        address,
        fc.constantFrom(1, 6, 17),
        fc.integer({ min: 4, max: 8 }),
        (deny, allow, src, protocol, port) => {
          const matches = ({ prefix, what }: { prefix: [number[], number] | null; what: string }) => {
            if (prefix !== null && !binary(src).startsWith(binary(prefix[0]).slice(0, prefix[1])))
              return false;
            const isRight = { '': true, icmp: protocol === 1, tcp: protocol === 6, udp: protocol === 17 };
            if (what === 'tcp/5') return protocol === 6 && port === 5;
            if (what === 'udp/5-7') return protocol === 17 && port >= 5 && port <= 7;
            return isRight[what as keyof typeof isRight];
          };
          const expected = deny.some(matches)
            ? DROP
            : allow.some(matches)
              ? PASS
              : allow.length > 0
                ? DROP
                : PASS;
          const handler = made({ deny: deny.map(text), allow: allow.map(text) });
          const frame = ethernet(ipv4(tcp(port), { protocol, src: [...src] }));
          expect(handled(handler, frame)).toEqual([expected, frame]);
          verdicts.add(expected);
        },
      ),
      { numRuns: 1000 },
    );
    expect(verdicts.size).toBe(2);
  });

  it('takes frames of any length and any change, unchanged', () => {
    const handler = made({ deny: 'tcp/22,2001:db8::/33:udp', allow: '10.0.0.0/8,udp/53', out: 'tcp/25' });
    const whole = [
      ethernet(ipv4(tcp(80), { protocol: 6 })),
      ethernet(ipv6([60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0, ...udp([1, 2, 3])], { next: 0 }), {
        type: 0x86dd,
      }),
      ethernet(ipv6([17, 0, 0, 1, 0, 0, 0, 9, ...udp([1, 2, 3])], { next: 44 }), { type: 0x86dd }),
    ];
    const looked = (frame: number[] | Uint8Array) => {
      const [verdict, after] = handled(handler, frame);
      expect([PASS, DROP]).toContain(verdict);
      expect(after).toEqual([...frame]);
      expect([TX, DROP]).toContain(handled(handler, frame, Path.HOST)[0]);
    };
    for (const frame of whole)
      for (let length = 0; length <= frame.length; length++) looked(frame.slice(0, length));
    fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), looked));
    const change = fc.tuple(fc.nat(90), fc.nat(255));
    fc.assert(
      fc.property(fc.nat(2), fc.array(change, { maxLength: 4 }), (which, changes) => {
        const frame = [...whole[which]!];
        for (const [at, value] of changes) if (at < frame.length) frame[at] = value;
        looked(frame);
      }),
      { numRuns: 2000 },
    );
  });
});
