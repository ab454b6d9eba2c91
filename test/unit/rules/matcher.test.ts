/** What a rule matches, by packets made by hand. */
import { describe, expect, it } from 'vitest';
import { checkRules } from '../../../src/rules/check.ts';
import { Matcher } from '../../../src/rules/matcher.ts';
import { arp, be16, ethernet, ipv4, ipv6, udp } from '../../support/frames.ts';

function verdict(
  rules: readonly string[],
  frame: readonly number[],
  otherwise: 'handler' | 'kernel' = 'kernel',
) {
  const bytes = Uint8Array.from(frame);
  const matcher = new Matcher(checkRules('rules', rules, otherwise));
  return matcher.match({ view: new DataView(bytes.buffer), offset: 0, length: bytes.length });
}

const matches = (rule: string, frame: readonly number[]): boolean =>
  verdict([`${rule} count`], frame).matched.length === 1;

/** From 10.77.0.1 port 40000 to 10.77.0.2 port 53. */
const DNS = udp([1, 2, 3, 4], { to: 53 });
const inIpv4 = (fields = {}): number[] => ethernet(ipv4(DNS, { protocol: 17, ...fields }));
const inIpv6 = (next = 17, before: number[] = []): number[] =>
  ethernet(ipv6([...before, ...DNS], { next }), { type: 0x86dd });
const tag = (id: number, type = 0x8100): number[] => [...be16(type), ...be16(0x6000 | id)];
const tagged = (...tags: number[][]): number[] =>
  ethernet(ipv4(DNS, { protocol: 17 }), { tags: tags.flat() });
const tcp = (flags: number): number[] =>
  ethernet(
    ipv4([...be16(40_000), ...be16(22), 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0], {
      protocol: 6,
    }),
  );
/** An IPv6 fragment header in front of UDP. */
const fragment = (offset: number, more: number): number[] => [
  17,
  0,
  ...be16((offset << 3) | more),
  0,
  0,
  0,
  1,
];

describe('a rule matches', () => {
  it.each([
    ['udp dst port 53', 'the port', inIpv4()],
    ['udp dst port 53', 'the port behind IPv4 options', inIpv4({ options: [1, 1, 1, 1] })],
    ['udp dst port 53', 'the port behind three VLAN tags', tagged(tag(5), tag(6, 0x88a8), tag(7))],
    ['udp dst port 53', 'the port behind an IPv6 extension header', inIpv6(60, [17, 0, 1, 4, 0, 0, 0, 0])],
    ['udp dst port 53', 'the port in a first fragment', inIpv4({ fragment: 0x2000 })],
    ['port 40000-50000', 'either port', inIpv4()],
    ['src port 40000 dst port 50-60', 'both ports', inIpv4()],
    ['src 10.77.0.0/16 dst 10.77.0.2', 'both addresses', inIpv4()],
    ['src in {192.0.2.1, 10.77.0.0/30}', 'one of the prefixes', inIpv4()],
    ['src 2001:db8::/33', 'a prefix that ends inside a word', inIpv6()],
    ['ip6 udp', 'version and protocol', inIpv6()],
    ['vlan 5', 'the outermost tag', tagged(tag(5), tag(6))],
    ['vlan none', 'a packet without a tag', inIpv4()],
    ['ether type ipv4', 'the type behind the tags', tagged(tag(5))],
    ['ether type arp', 'what is not IP', ethernet(arp(), { type: 0x0806 })],
    ['flags syn/syn,ack', 'SYN alone', tcp(0x02)],
    ['flags syn', 'SYN with others', tcp(0x12)],
    ['flags none/syn,rst', 'neither of two flags', tcp(0x10)],
    ['fragment later', 'a later fragment', inIpv4({ fragment: 1 })],
    ['fragment any', 'a first fragment', inIpv4({ fragment: 0x2000 })],
    ['fragment none', 'a whole packet', inIpv4()],
    ['udp fragment later', 'the protocol in a later fragment', inIpv6(44, fragment(1, 0))],
    ['', 'everything', [...ethernet([], { type: 0x88cc })]],
  ])('%o: %s', (rule, _, frame) => {
    expect(matches(rule, frame)).toBe(true);
  });

  it.each([
    ['udp dst port 53', 'a later fragment, which shows no port', inIpv4({ fragment: 1 })],
    ['udp dst port 53', 'a source port', ethernet(ipv4(udp([], { from: 53 }), { protocol: 17 }))],
    ['udp dst port 53', 'another protocol', ethernet(ipv4(DNS, { protocol: 6 }))],
    ['ip', 'an IPv4 packet longer than its frame', inIpv4().slice(0, -1)],
    ['src 10.77.0.0/16', 'an address of the other version', inIpv6()],
    ['src 10.77.0.2', 'the destination address', inIpv4()],
    ['vlan 6', 'the inner tag', tagged(tag(5), tag(6))],
    ['vlan none', 'a tagged packet', tagged(tag(0))],
    ['flags syn/syn,ack', 'SYN with ACK', tcp(0x12)],
    ['flags none/syn', 'UDP', inIpv4()],
    ['fragment none', 'what is not IP', ethernet(arp(), { type: 0x0806 })],
    ['fragment later', 'a first fragment', inIpv6(44, fragment(0, 1))],
  ])('%o, but not %s', (rule, _, frame) => {
    expect(matches(rule, frame)).toBe(false);
  });
});

describe('rules in order', () => {
  it('the first that decides decides, and those that count before it count', () => {
    const rules = ['udp count', 'tcp drop', 'dst port 53 count', 'src 10.0.0.0/8 to handler', 'udp drop'];
    expect(verdict(rules, inIpv4())).toEqual({ action: 'handler', matched: [0, 2, 3], overtagged: false });
  });

  it.each(['handler', 'kernel'] as const)('what matches none gets the default action %s', (otherwise) => {
    expect(verdict(['tcp drop', 'udp count'], inIpv4(), otherwise)).toMatchObject({
      action: otherwise,
      matched: [1],
    });
  });

  it('a packet with nine tags is dropped, and one with eight is looked at', () => {
    const tags = (count: number): number[] => tagged(...Array.from({ length: count }, () => tag(0)));
    expect(verdict(['udp dst port 53 to handler'], tags(8))).toMatchObject({
      action: 'handler',
      overtagged: false,
    });
    expect(verdict(['udp dst port 53 to handler'], tags(9))).toEqual({
      action: 'drop',
      matched: [],
      overtagged: true,
    });
  });
});
