import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Handler } from '../../src/datapath/handler.ts';
import { DROP, PASS, TX } from '../../src/datapath/verdict.ts';
import { create } from '../../src/handlers/firewall.ts';
import { Path } from '../../src/memory/layout.ts';
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
} from '../fixtures/frames.ts';

const made = (options: Record<string, unknown>): Handler => create(options);
const tcp = (to: number, from = 40_000) => [...be16(from), ...be16(to), ...Array(16).fill(0)];

interface Incoming {
  src?: number[];
  fragment?: number;
  path?: number;
}

/** The verdict for a TCP segment to a port. */
function segment(
  handler: Handler,
  to: number,
  { src = [10, 1, 2, 3], fragment, path }: Incoming = {},
): number {
  const frame = ethernet(ipv4(tcp(to), { protocol: 6, src, fragment }));
  const [verdict, after] = handled(handler, frame, path);
  expect(after).toEqual(frame);
  return verdict;
}

const datagram = (handler: Handler, to: number, src = [10, 1, 2, 3]) =>
  handled(handler, ethernet(ipv4(udp([], { to }), { protocol: 17, src })))[0];
const six = (handler: Handler, payload: number[], next: number, src = PEER_IP6) =>
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

  it('drops what no allow rule matches, and denies before it allows', () => {
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

  it('drops packets that contradict themselves, whatever the rules', () => {
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

  it('leaves what is neither IP nor ARP to otherwise', () => {
    const lldp = ethernet(Array(46).fill(0), { type: 0x88cc });
    expect(handled(made({ deny: 'any' }), lldp)[0]).toBe(PASS);
    expect(handled(made({ allow: 'any' }), lldp)[0]).toBe(DROP);
  });

  it('sends what the machine sends, but for what matches out, by destination', () => {
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
    ['10.1.0.0/8', 'has bits behind its prefix of 8'],
    ['2001:db8::1/64', 'has bits behind'],
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
