import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { HandlerObject } from '../../../src/handler/handler.ts';
import { DROP, PASS, TX } from '../../../src/handler/handler.ts';
import { create } from '../../../src/handlers/dns.ts';
import { Path } from '../../../src/memory/layout.ts';
import {
  A,
  AAAA,
  ANY,
  asked,
  CNAME,
  type Decoded,
  decode,
  messageOf,
  type QueryFields,
  query,
  SOA,
  wire,
} from '../../support/dns.ts';
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
  PEER_IP6,
  PEER_MAC,
  udp,
  workerContext,
} from '../../support/frames.ts';

const ZONE = `$ORIGIN example.org.
$TTL 300
@          A     203.0.113.1
www    60  A     203.0.113.2
       60  A     203.0.113.3
           AAAA  2001:db8::2
six        AAAA  2001:db8::6
a.b.deep   A     203.0.113.4
ftp        CNAME www
far        CNAME ftp
out        CNAME elsewhere.net.
lost       CNAME nothing
void       CNAME six
${Array.from({ length: 40 }, (_, i) => `many A 198.51.100.${i}`).join('\n')}
`;
const context = workerContext();
const made = (options: object = {}) =>
  create({ zone: ZONE, address: [OUR_IP.join('.'), '2001:db8::2'], ...options }, context) as HandlerObject;
const dns = made();
const AA = 0x8400;

/** The decoded answer to a question. */
function answer(name: string | number[], fields: QueryFields = {}): Decoded {
  const [verdict, frame] = handled(dns, asked(query(name, fields)));
  expect(verdict).toBe(TX);
  return decode(messageOf(frame));
}

const brief = (records: Decoded['answers']) =>
  records.map(({ name, type, ttl, data }) => `${name} ${ttl} ${type} ${data}`);

describe('dns answers', () => {
  it('with the addresses of a name, and turns the packet round', () => {
    const [verdict, frame] = handled(dns, asked(query('www.example.org')));
    expect(verdict).toBe(TX);
    expect(frame.slice(0, 14)).toEqual([...PEER_MAC, ...OUR_MAC, 8, 0]);
    expect(frame.slice(22, 24)).toEqual([64, 17]);
    expect(frame.slice(26, 34)).toEqual([...OUR_IP, ...[10, 77, 0, 1]]);
    expect(frame.slice(34, 38)).toEqual([...be16(53), ...be16(40_000)]);
    const { id, flags, questions, answers, authorities, additional } = decode(messageOf(frame));
    expect({ id, flags, questions }).toEqual({
      id: 0xbeef,
      flags: AA | 0x0100,
      questions: ['www.example.org. 1 1'],
    });
    expect(brief(answers)).toEqual([
      'www.example.org. 60 1 203.0.113.2',
      'www.example.org. 60 1 203.0.113.3',
    ]);
    expect([...authorities, ...additional]).toEqual([]);
  });

  it('with IPv6 addresses, and both for ANY', () => {
    const data = `20010db8${'0'.repeat(23)}2`;
    expect(brief(answer('www.example.org', { type: AAAA }).answers)).toEqual([
      `www.example.org. 300 28 ${data}`,
    ]);
    expect(answer('www.example.org', { type: ANY }).answers.map(({ type }) => type)).toEqual([A, A, AAAA]);
  });

  it('in the upper and lower case of the question', () => {
    const { questions, answers } = answer('wWw.EXAMPLE.Org');
    expect(questions).toEqual(['wWw.EXAMPLE.Org. 1 1']);
    expect(answers.map(({ name }) => name)).toEqual(['wWw.EXAMPLE.Org.', 'wWw.EXAMPLE.Org.']);
  });

  it('with the whole way along CNAMEs', () => {
    expect(brief(answer('far.example.org').answers)).toEqual([
      'far.example.org. 300 5 ftp.example.org.',
      'ftp.example.org. 300 5 www.example.org.',
      'www.example.org. 60 1 203.0.113.2',
      'www.example.org. 60 1 203.0.113.3',
    ]);
    const out = answer('out.example.org');
    expect(brief(out.answers)).toEqual(['out.example.org. 300 5 elsewhere.net.']);
    expect(out).toMatchObject({ code: 0, authorities: [] });
    for (const type of [CNAME, ANY]) {
      const only = answer('far.example.org', { type });
      expect(brief(only.answers)).toEqual(['far.example.org. 300 5 ftp.example.org.']);
      expect(only.authorities).toEqual([]);
    }
  });

  it('with the SOA record of the zone where a CNAME leads to nothing', () => {
    expect(answer('lost.example.org')).toMatchObject({
      code: 3,
      answers: [{ type: CNAME }],
      authorities: [{ type: SOA }],
    });
    expect(answer('void.example.org')).toMatchObject({
      code: 0,
      answers: [{ type: CNAME }],
      authorities: [{ type: SOA }],
    });
  });

  it('that a name has no such record, is not there, or is not its own', () => {
    const soa = 'example.org. hostmaster.example.org. 1 3600 600 86400 300';
    for (const [name, type] of [
      ['six.example.org', A],
      ['www.example.org', 15],
      ['deep.example.org', A],
      ['b.deep.example.org', ANY],
      ['www.example.org', CNAME],
    ] as const) {
      const { code, flags, answers, authorities } = answer(name, { type });
      expect({ code, answers, aa: flags & AA }).toEqual({ code: 0, answers: [], aa: AA });
      expect(brief(authorities)).toEqual([`example.org. 300 6 ${soa}`]);
    }
    for (const name of [
      'no.example.org',
      'b.www.example.org',
      'x.b.deep.example.org',
      `${'y.'.repeat(100)}example.org`,
    ]) {
      const { code, flags, answers, authorities } = answer(name);
      expect({ code, answers, aa: flags & AA }).toEqual({ code: 3, answers: [], aa: AA });
      expect(brief(authorities)).toEqual([`example.org. 300 6 ${soa}`]);
    }
    for (const name of ['org', '', 'example.net', 'badexample.org', 'org.example', 'elsewhere.net']) {
      expect(answer(name)).toMatchObject({
        code: 5,
        flags: 0x8105,
        answers: [],
        authorities: [],
        questions: [expect.any(String)],
      });
    }
  });

  it('with its own SOA, but with no zone transfer and nothing of other classes', () => {
    expect(answer('example.org', { type: SOA })).toMatchObject({
      code: 0,
      answers: [{ type: SOA, name: 'example.org.' }],
      authorities: [],
    });
    expect(answer('www.example.org', { type: SOA })).toMatchObject({
      code: 0,
      answers: [],
      authorities: [{ type: SOA }],
    });
    for (const type of [251, 252]) expect(answer('example.org', { type }).code).toBe(5);
    expect(answer('www.example.org', { class: 3 }).code).toBe(5);
  });

  it('with an OPT record if there was one, and copies DO', () => {
    const { code, additional } = answer('www.example.org', { edns: 4096, dnssec: true });
    expect(code).toBe(0);
    expect(additional).toEqual([{ name: '.', type: 41, class: 1232, ttl: 0x8000, data: '' }]);
    expect(answer('no.example.org', { edns: 4096 }).additional).toEqual([
      expect.objectContaining({ ttl: 0 }),
    ]);
  });

  it('BADVERS to a version of EDNS that there is not yet', () => {
    const { code, answers, additional } = answer('www.example.org', { edns: 1232, version: 1 });
    expect({ code, answers }).toEqual({ code: 0, answers: [] });
    expect(additional).toMatchObject([{ ttl: 1 << 24 }]);
  });

  it('empty and cut when the asker takes no more, and whole when it does', () => {
    expect(answer('many.example.org')).toMatchObject({
      flags: AA | 0x0300,
      answers: [],
      questions: ['many.example.org. 1 1'],
    });
    expect(answer('many.example.org', { edns: 100 })).toMatchObject({
      flags: AA | 0x0300,
      additional: [{ type: 41 }],
    });
    // 12 + 18 + 4, an OPT of 11 and 40 records of 16.
    expect(answer('many.example.org', { edns: 685 }).answers).toHaveLength(40);
    expect(answer('many.example.org', { edns: 684 }).answers).toHaveLength(0);
  });

  it('NOTIMP to other operations, and copies which it was', () => {
    expect(answer('www.example.org', { flags: 0x2900 })).toMatchObject({
      flags: 0xa904,
      questions: [],
      id: 0xbeef,
    });
  });

  it.each<[string, number[]]>([
    ['no question', query('www.example.org', { counts: [0, 0, 0, 0] })],
    ['two questions', query('www.example.org', { counts: [2, 0, 0, 0] })],
    ['an answer in a question', query('www.example.org', { counts: [1, 1, 0, 0] })],
    ['an authority in a question', query('www.example.org', { counts: [1, 0, 1, 0] })],
    ['an OPT record that is not there', query('www.example.org', { counts: [1, 0, 0, 1] })],
    ['an OPT record cut off', query('www.example.org', { edns: 512 }).slice(0, -1)],
    [
      'an additional record of another type',
      [...query('x', { counts: [1, 0, 0, 1] }), 0, 0, 16, ...Array(8).fill(0)],
    ],
    ['a compressed name', query([0xc0, 12])],
    ['a label of an unknown kind', query([0x41, 97, 0])],
    ['a name without an end', query('www').slice(0, -5)],
    ['a name longer than 255 bytes', query(wire(`${'x.'.repeat(128)}`))],
    ['a question without a class', query('www.example.org').slice(0, -2)],
    ['no question but a header', query('x').slice(0, 12)],
  ])('FORMERR, with the header alone, to %s', (_, message) => {
    const [verdict, frame] = handled(dns, asked(message));
    expect(verdict).toBe(TX);
    expect(messageOf(frame)).toEqual([0xbe, 0xef, 0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
  });

  describe('with an OPT record whatever is wrong, if the query had one (RFC 6891)', () => {
    const OPT = [0, 0, 41, ...be16(4096), 0, 0, 0x80, 0, 0, 0];
    const question = [...wire('www.example.org'), 0, 1, 0, 1];
    const record = [...wire('x'), 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4];
    const pointed = [0xc0, 12, ...record.slice(3)];
    const message = (flags: number, counts: number[], ...parts: number[][]) => [
      ...[0xbe, 0xef, ...be16(flags), ...counts.flatMap(be16)],
      ...parts.flat(),
    ];
    const answered = (bytes: number[]) => {
      const [verdict, frame] = handled(dns, asked(bytes));
      expect(verdict).toBe(TX);
      return decode(messageOf(frame));
    };
    const kept = ['www.example.org. 1 1'];

    it.each<[string, number, number[], string[]]>([
      ['NOTIMP, to another operation', 4, message(0x2900, [1, 0, 0, 1], question, OPT), kept],
      [
        'NOTIMP, to an update with records',
        4,
        message(0x2800, [1, 1, 1, 2], question, record, pointed, record, OPT),
        kept,
      ],
      ['NOTIMP, to an operation without a question', 4, message(0x1000, [0, 0, 0, 1], OPT), []],
      ['FORMERR, to no question', 1, message(0x0100, [0, 0, 0, 1], OPT), []],
      ['FORMERR, to two questions', 1, message(0x0100, [2, 0, 0, 1], question, question, OPT), []],
      ['FORMERR, to an answer in a question', 1, message(0x0100, [1, 1, 0, 1], question, pointed, OPT), kept],
      ['FORMERR, to two OPT records', 1, message(0x0100, [1, 0, 0, 2], question, OPT, OPT), kept],
      ['FORMERR, to two additional records', 1, message(0x0100, [1, 0, 0, 2], question, OPT, record), kept],
      ['FORMERR, to a record too few', 1, message(0x0100, [1, 0, 0, 2], question, OPT), kept],
      [
        'FORMERR, to an OPT record longer than the message',
        1,
        [...message(0, [1, 0, 0, 1], question, OPT).slice(0, -1), 1],
        kept,
      ],
      [
        'FORMERR, to an OPT record of another name',
        1,
        message(0, [1, 0, 0, 1], question, [1, 97], OPT),
        kept,
      ],
      [
        'FORMERR, to an option that is cut off',
        1,
        message(0, [1, 0, 0, 1], question, OPT.slice(0, -1), [5, 0, 10, 0, 9, 1]),
        kept,
      ],
      [
        'FORMERR, to a compressed name in the question',
        1,
        message(0, [1, 0, 0, 1], [0xc0, 12, 0, 1, 0, 1], OPT),
        [],
      ],
    ])('%s', (_, code, bytes, questions) => {
      const flags = bytes[2]! * 256 + bytes[3]!;
      const reply = answered(bytes);
      expect(reply).toMatchObject({ id: 0xbeef, code, questions, answers: [], authorities: [] });
      expect(reply.flags).toBe(0x8000 | (flags & 0x7900) | code);
      expect(reply.additional).toEqual([{ name: '.', type: 41, class: 1232, ttl: 0x8000, data: '' }]);
    });

    it('BADVERS, before NOTIMP and FORMERR', () => {
      const later = [...OPT.slice(0, 6), 1, ...OPT.slice(7)];
      for (const bytes of [
        message(0x2900, [1, 0, 0, 1], question, later),
        message(0x0100, [2, 0, 0, 1], question, question, later),
      ]) {
        const { flags, additional } = answered(bytes);
        expect(flags & 15).toBe(0);
        expect(additional).toMatchObject([{ type: 41, ttl: 0x0100_8000 }]);
      }
    });

    it('and with its answer, past options that it does not know', () => {
      const options = [...OPT.slice(0, -2), ...be16(12), 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
      const { code, answers, additional } = answered(message(0x0100, [1, 0, 0, 1], question, options));
      expect([code, answers.length, additional.length]).toEqual([0, 2, 1]);
    });

    it('and never without one, however much is counted', () => {
      for (const bytes of [
        message(0x2900, [1, 0, 0, 0], question),
        message(0, [0xffff, 0xffff, 0xffff, 0xffff], Array(1000).fill(0)),
        message(0, [1, 1, 0, 0], question, OPT),
        message(0x2800, [1, 0, 0, 1], question, OPT.slice(0, 9)),
        message(0, [0, 0, 0, 1], Array(300).fill(1), [0], OPT.slice(1)),
      ]) {
        expect(answered(bytes)).toMatchObject({ questions: [], additional: [] });
      }
    });
  });

  it('a name of 255 bytes', () => {
    const name = `${'x.'.repeat(121)}example.org`;
    expect(wire(name)).toHaveLength(255);
    expect(answer(name).code).toBe(3);
  });

  it('over IPv6', () => {
    const message = query('www.example.org', { type: AAAA });
    const sumOf = (datagram: number[], ...addresses: number[][]) =>
      naiveChecksum([...addresses.flat(), ...be16(0), ...be16(datagram.length), 0, 0, 0, 17, ...datagram]);
    const datagram = udp(message, { to: 53, bare: true });
    const [verdict, frame] = handled(dns, ethernet(ipv6(datagram), { type: 0x86dd }));
    expect(verdict).toBe(TX);
    expect(frame.slice(14, 22)).toEqual([0x60, 0, 0, 0, ...be16(frame.length - 54), 17, 64]);
    expect(frame.slice(22, 54)).toEqual([...OUR_IP6, ...PEER_IP6]);
    const reply = frame.slice(54);
    expect(reply.slice(0, 6)).toEqual([...be16(53), ...be16(40_000), ...be16(reply.length)]);
    expect(sumOf(reply, PEER_IP6, OUR_IP6)).toBe(0);
    expect(decode(reply.slice(8)).answers).toHaveLength(1);
  });

  it('inside VLAN tags, and without the padding of a short frame', () => {
    const tags = [0x81, 0, 0x20, 5];
    const message = query('www.example.org');
    const frame = [...ethernet(ipv4(udp(message, { to: 53 }), { protocol: 17 }), { tags }), 9, 9, 9];
    const [verdict, reply] = handled(dns, frame);
    expect(verdict).toBe(TX);
    expect(reply.slice(12, 16)).toEqual(tags);
    expect(decode(messageOf(reply.slice(4))).answers).toHaveLength(2);
  });

  it('on another port, from a file', () => {
    const folder = mkdtempSync(join(tmpdir(), 'tp-zone-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const zone = join(folder, 'example.zone');
    writeFileSync(zone, ZONE);
    const other = made({ zone, port: 5300 });
    const [verdict, frame] = handled(other, asked(query('www.example.org'), { to: 5300 }));
    expect(verdict).toBe(TX);
    expect(decode(messageOf(frame)).answers).toHaveLength(2);
    expect(handled(other, asked(query('www.example.org')))[0]).toBe(PASS);
    expect(handled(other, asked(query('www.example.org'), { from: 5300, to: 5300 }))[0]).toBe(DROP);
  });

  it('for a zone that is the root', () => {
    const root = made({ zone: '$ORIGIN .\nhost A 10.0.0.1\n' });
    const found = decode(messageOf(handled(root, asked(query('host')))[1]));
    expect(brief(found.answers)).toEqual(['host. 3600 1 10.0.0.1']);
    const missing = decode(messageOf(handled(root, asked(query('a.b')))[1]));
    expect(missing).toMatchObject({
      code: 3,
      authorities: [{ name: '.', data: '. hostmaster. 1 3600 600 86400 300' }],
    });
  });
});

describe('dns leaves to the machine, unchanged,', () => {
  const message = query('www.example.org');
  const datagram = udp(message, { to: 53 });
  it.each<[string, number[]]>([
    ['ARP', ethernet(arp(), { dst: BROADCAST, type: 0x0806 })],
    ['a ping', ethernet(ipv4(icmpEcho([])))],
    ['TCP', ethernet(ipv4([...be16(40_000), ...be16(53), ...message], { protocol: 6 }))],
    ['another port', asked(message, { to: 54 })],
    ['another address', ethernet(ipv4(datagram, { protocol: 17, dst: [10, 77, 0, 3] }))],
    ['another MAC address', ethernet(ipv4(datagram, { protocol: 17 }), { dst: BROADCAST })],
    ['a fragment', ethernet(ipv4(datagram, { protocol: 17, fragment: 0x2000 }))],
    ['IP options', ethernet(ipv4(datagram, { protocol: 17, options: [1, 1, 1, 1] }))],
    ['another IPv6 address', ethernet(ipv6(datagram, { dst: PEER_IP6 }), { type: 0x86dd })],
    ['a response', asked(query('www.example.org', { flags: 0x8180 }))],
    ['neighbour discovery', ethernet(ipv6([135, 0, 0, 0], { next: 58 }), { type: 0x86dd })],
    ['what is no frame', [1, 2, 3]],
  ])('%s', (_, frame) => {
    expect(handled(dns, frame)).toEqual([PASS, frame]);
  });
});

describe('dns drops', () => {
  it.each<[string, number[]]>([
    ['what claims to come from port 53, which could be a server, too', asked(query('x'), { from: 53 })],
    ['what comes from port 0', asked(query('x'), { from: 0 })],
    [
      'a question from its own MAC address',
      ethernet(ipv4(udp(query('x'), { to: 53 }), { protocol: 17 }), { src: OUR_MAC }),
    ],
    ['a message without a header', asked(query('x').slice(0, 11))],
    [
      'a question from its own address',
      ethernet(ipv4(udp(query('x'), { to: 53 }), { protocol: 17, src: OUR_IP })),
    ],
    [
      'a question from multicast',
      ethernet(ipv4(udp(query('x'), { to: 53 }), { protocol: 17, src: [224, 0, 0, 1] })),
    ],
    [
      'a question from a group',
      ethernet(ipv4(udp(query('x'), { to: 53 }), { protocol: 17 }), { src: [1, 0, 0, 0, 0, 1] }),
    ],
    [
      'an IPv6 question from its own address',
      ethernet(ipv6(udp(query('x'), { to: 53 }), { src: OUR_IP6 }), { type: 0x86dd }),
    ],
    [
      'an IPv6 question from nobody',
      ethernet(ipv6(udp(query('x'), { to: 53 }), { src: Array(16).fill(0) }), { type: 0x86dd }),
    ],
    [
      'an IPv6 question from multicast',
      ethernet(ipv6(udp(query('x'), { to: 53 }), { src: [255, ...Array(15).fill(1)] }), { type: 0x86dd }),
    ],
  ])('%s', (_, frame) => {
    expect(handled(dns, frame)).toEqual([DROP, frame]);
  });

  it('what comes from the port of a service, which would answer the answer (CVE-2024-2169)', () => {
    const line = [...Buffer.from('Saturday, November 28, 2026 20:00:00-UTC\r\n')];
    for (const message of [query('www.example.org'), query('x', { flags: 0x2000 }), line]) {
      for (const from of [7, 13, 17, 19, 37, 69, 123, 161, 1023, 1900, 5353, 11_211]) {
        expect(handled(dns, asked(message, { from }))).toEqual([DROP, asked(message, { from })]);
        const six = ethernet(ipv6(udp(message, { from, to: 53 })), { type: 0x86dd });
        expect(handled(dns, six)).toEqual([DROP, six]);
      }
    }
    expect(handled(dns, asked(query('www.example.org'), { from: 1024 }))[0]).toBe(TX);
  });

  it('a question with a damaged IP header or a wrong UDP length', () => {
    for (const [at, bit] of [
      [22, 1],
      [39, 0x80],
      [38, 1],
    ] as const) {
      const frame = asked(query('www.example.org'));
      frame[at]! ^= bit;
      expect(handled(dns, frame)).toEqual([DROP, frame]);
    }
  });

  it("everything else with otherwise: 'drop', but answers ARP itself", () => {
    const alone = made({ address: OUR_IP.join('.'), otherwise: 'drop' });
    const who = ethernet(arp(), { dst: BROADCAST, type: 0x0806 });
    const [verdict, reply] = handled(alone, who);
    expect(verdict).toBe(TX);
    expect(reply.slice(0, 12)).toEqual([...PEER_MAC, ...OUR_MAC]);
    expect(reply.slice(20, 32)).toEqual([0, 2, ...OUR_MAC, ...OUR_IP]);
    expect(
      handled(alone, ethernet(arp({ target: [10, 77, 0, 9] }), { dst: BROADCAST, type: 0x0806 }))[0],
    ).toBe(DROP);
    for (const frame of [[1, 2, 3], ethernet(ipv4(icmpEcho([]))), asked(query('x', { flags: 0x8180 }))]) {
      expect(handled(alone, frame)).toEqual([DROP, frame]);
    }
    expect(handled(alone, asked(query('www.example.org')))[0]).toBe(TX);
  });
});

it('dns sends every packet of the machine unchanged', () => {
  for (const handler of [dns, made({ address: '10.77.0.2', otherwise: 'drop' })]) {
    for (const frame of [[1, 2, 3], asked(query('www.example.org')), ethernet(arp(), { type: 0x0806 })]) {
      expect(handled(handler, frame, Path.HOST)).toEqual([TX, frame]);
    }
  }
});

describe('dns never throws', () => {
  const whole = [
    asked(query('www.example.org', { edns: 1232 })),
    asked(query('far.example.org')),
    ethernet(ipv6(udp(query('six.example.org', { type: ANY }), { to: 53 })), { type: 0x86dd }),
  ];
  const known = (handler: HandlerObject, frame: number[] | Uint8Array) => {
    const [verdict, reply] = handled(handler, frame);
    expect([DROP, TX, PASS]).toContain(verdict);
    if (verdict !== TX) expect(reply).toEqual([...frame]);
    return verdict;
  };

  it('at noise of any length', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), (noise) => void known(dns, noise)));
  });

  it('at a question cut short anywhere, by its frame or by its message', () => {
    for (const frame of whole) {
      for (let length = 0; length < frame.length; length++)
        expect(known(dns, frame.slice(0, length))).toBe(PASS);
    }
    const message = query('www.example.org', { edns: 1232 });
    for (let length = 12; length < message.length; length++) {
      expect(decode(messageOf(handled(dns, asked(message.slice(0, length)))[1])).code).toBe(1);
    }
  });

  it('at a changed message, and what it answers can be read and repeats the question', () => {
    let answered = 0;
    const change = fc.tuple(fc.nat(60), fc.nat(255));
    fc.assert(
      fc.property(
        fc.array(change, { maxLength: 3 }),
        fc.constantFrom('www', 'far', 'nix', 'many'),
        (changes, host) => {
          const message = query(`${host}.example.org`, { edns: 1232 });
          for (const [at, value] of changes) if (at < message.length) message[at] = value;
          const frame = asked(message);
          if (known(dns, frame) !== TX) return;
          answered++;
          const reply = messageOf(handled(dns, frame)[1]);
          const { code, questions } = decode(reply);
          expect(reply.length).toBeLessThanOrEqual(1232);
          expect(reply.slice(0, 2)).toEqual(message.slice(0, 2));
          if (questions.length > 0) expect(reply.slice(12, 24)).toEqual(message.slice(12, 24));
          else expect([1, 4]).toContain(code);
        },
      ),
      { numRuns: 2000 },
    );
    expect(answered).toBeGreaterThan(500);
  });

  it('at a changed frame', () => {
    const change = fc.tuple(fc.nat(110), fc.nat(255));
    fc.assert(
      fc.property(fc.nat(2), fc.array(change, { maxLength: 3 }), (which, changes) => {
        const frame = [...whole[which]!];
        for (const [at, value] of changes) if (at < frame.length) frame[at] = value;
        known(dns, frame);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('dns refuses', () => {
  it.each<[object, string, RegExp]>([
    [{ zone: undefined }, 'ERR_OPTION_INVALID', /has no zone/],
    [{ zone: './there-is-none.zone' }, 'ERR_OPTION_INVALID', /ENOENT/],
    [{ zone: '$ORIGIN a.org.\nx B y' }, 'ERR_OPTION_INVALID', /line 2/],
    [{ address: undefined }, 'ERR_OPTION_INVALID', /no address/],
    [{ address: '10.77.0.300' }, 'ERR_OPTION_INVALID', /10.77.0.300/],
    [{ address: '2001:db8::2', otherwise: 'drop' }, 'ERR_OPTION_INVALID', /neighbour discovery/],
    [{ port: 0 }, 'ERR_OPTION_INVALID', /port/],
    [{ otherwise: 'reflect' }, 'ERR_OPTION_INVALID', /'pass' or 'drop'/],
    [{ zoen: 'x' }, 'ERR_OPTION_UNKNOWN', /Did you mean "zone"/],
  ])('%o', (options, code, message) => {
    expect(() => made(options)).toThrow(
      expect.objectContaining({ name: 'TwinpathError', code, message: expect.stringMatching(message) }),
    );
  });
});
