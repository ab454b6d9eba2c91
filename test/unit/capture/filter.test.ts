/** Filters mean what libpcap takes them for, on packets of every kind, cut off anywhere. */
import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compileFilter } from '../../../src/capture/filter/filter.ts';
import { FilterMachine } from '../../../src/capture/filter/machine.ts';
import { matcherOf } from '../../../src/capture/filter/matcher.ts';
import { libpcap } from '../../support/libpcap.ts';

const peer = libpcap();
const skip = typeof peer === 'string';

/** Ours, as a function. The packet is between other bytes, which no filter may read. */
function matcher(text: string): (packet: Uint8Array) => boolean {
  const program = compileFilter(text);
  const room = new Uint8Array(1024);
  const machine = new FilterMachine(room);
  const matches = matcherOf(program, room);
  return (packet) => {
    room.fill(0x45);
    room.set(packet, 40);
    const answer = machine.matches(program, 40, packet.length);
    if (matches(40, packet.length) !== answer) throw new Error(`the function of "${text}" differs`);
    return answer;
  };
}

const be16 = (value: number): number[] => [value >> 8, value & 0xff];

// Few values, so that packets and filters meet.
const mac = fc.constantFrom('02:00:00:00:00:01', 'ff:ff:ff:ff:ff:ff', '1:0:5e:0:0:fb');
const macBytes = mac.map((text) => text.split(':').map((byte) => Number.parseInt(byte, 16)));
const address = fc.constantFrom('10.0.0.1', '10.0.1.2', '192.168.7.9', '224.0.0.251', '255.255.255.255');
const addressBytes = address.map((text) => text.split('.').map(Number));
const address6 = fc.constantFrom('2001:db8::1', '2001:db8:1::2', 'fe80::1', 'ff02::fb', '::1');
const bytes6: Record<string, number[]> = {
  '2001:db8::1': [0x20, 1, 0xd, 0xb8, ...Array(11).fill(0), 1],
  '2001:db8:1::2': [0x20, 1, 0xd, 0xb8, 0, 1, ...Array(9).fill(0), 2],
  'fe80::1': [0xfe, 0x80, ...Array(13).fill(0), 1],
  'ff02::fb': [0xff, 2, ...Array(13).fill(0), 0xfb],
  '::1': [...Array(15).fill(0), 1],
};
const address6Bytes = address6.map((text) => bytes6[text]!);
const port = fc.constantFrom(53, 80, 443, 8080, 0, 65535);
const protocol = fc.constantFrom(1, 2, 6, 17, 50, 51, 58, 132, 44);

const ports = fc.tuple(port, port).map(([from, to]) => [...be16(from), ...be16(to)]);
const transport = fc
  .tuple(ports, fc.array(fc.oneof(fc.constantFrom(0, 2, 0x12, 8, 128), fc.nat(255)), { maxLength: 24 }))
  .map(([head, rest]) => [...head, ...rest]);
const ipv4 = fc
  .record({
    ...{ source: addressBytes, destination: addressBytes, protocol, transport },
    words: fc.constantFrom(5, 5, 5, 6, 15, 0),
    fragment: fc.constantFrom(0, 0, 0, 0x4000, 0x2000, 0x2001, 0x1fff),
  })
  .map(({ source, destination, protocol, transport, words, fragment }) => [
    ...[0x40 | words, 0, 0, 60, 0, 1, ...be16(fragment), 64, protocol, 0, 0, ...source, ...destination],
    ...Array(Math.max(0, words - 5) * 4).fill(1),
    ...transport,
  ]);
const ipv6 = fc
  .record({ source: address6Bytes, destination: address6Bytes, next: protocol, inner: protocol, transport })
  .map(({ source, destination, next, inner, transport }) => [
    ...[0x60, 0, 0, 0, 0, 20, next, 64, ...source, ...destination],
    ...(next === 44 ? [inner, 0, 0, 0, 0, 0, 0, 1] : []),
    ...transport,
  ]);
const arp = fc
  .tuple(macBytes, addressBytes, macBytes, addressBytes)
  .map((parts) => [0, 1, 8, 0, 6, 4, 0, 1, ...parts.flat()]);
const content = fc.oneof(
  ipv4.map((bytes) => ({ type: 0x0800, bytes })),
  ipv4.map((bytes) => ({ type: 0x0800, bytes })),
  ipv6.map((bytes) => ({ type: 0x86dd, bytes })),
  arp.map((bytes) => ({ type: 0x0806, bytes })),
  arp.map((bytes) => ({ type: 0x8035, bytes })),
  fc.array(fc.nat(255), { maxLength: 40 }).map((bytes) => ({ type: 0x88cc, bytes })),
);
const tags = fc.array(
  fc.tuple(fc.constantFrom(0x8100, 0x88a8, 0x9100), fc.constantFrom(1, 7, 0x2007, 4095)),
  { maxLength: 2 },
);
const whole = fc
  .tuple(macBytes, macBytes, tags, content)
  .map(([to, from, tags, { type, bytes }]) =>
    Uint8Array.from([
      ...[...to, ...from],
      ...tags.flatMap(([type, id]) => [...be16(type), ...be16(id)]),
      ...[...be16(type), ...bytes],
    ]),
  );
const packets = fc.oneof(
  { weight: 3, arbitrary: whole },
  { weight: 1, arbitrary: fc.tuple(whole, fc.nat(120)).map(([packet, end]) => packet.subarray(0, end)) },
);

const direction = fc.constantFrom(
  '',
  'src ',
  'dst ',
  'src or dst ',
  'src and dst ',
  'dst or src ',
  'dst and src ',
);
const joined = (...parts: fc.Arbitrary<unknown>[]): fc.Arbitrary<string> =>
  fc.tuple(...parts).map((all) => all.join(''));
const list = (value: fc.Arbitrary<unknown>): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 3, arbitrary: value.map(String) },
    {
      weight: 1,
      arbitrary: fc
        .tuple(value, fc.constantFrom(' or ', ' and '), fc.constantFrom('', 'not '), value)
        .map(([a, join, not, b]) => `(${a}${join}${not}${b})`),
    },
  );

const nets = fc.constantFrom(
  ...['10.0.0.0/8', '10.0.0.0/23', '10', '10.0.1', '192.168', '192.168.7.9', '0.0.0.0/0', '224.0.0.0/4'],
  ...['10.0.0.0 mask 255.255.0.0', '10.0.0.0 mask 255.0.0.0'],
);
const nets6 = fc.constantFrom(
  '2001:db8::/32',
  '2001:db8::/47',
  'fe80::/10',
  '::/0',
  '::1/128',
  'ff02::fb',
  '::/96',
);
const size = fc.constantFrom('', ':1', ':2', ':4');
const indexed = fc.constantFrom(
  'ether',
  'ip',
  'ip6',
  'arp',
  'rarp',
  'tcp',
  'udp',
  'sctp',
  'icmp',
  'igmp',
  'icmp6',
);
const constant = fc.constantFrom(
  ...['0', '1', '2', '6', '13', '20', '0xf', '0x45', '255', '4294967295', '100', '31'],
  ...['tcpflags', 'tcp-syn', 'tcp-ack', 'icmptype', 'icmp-echo', 'icmp6-echo'],
);
const { sum } = fc.letrec<{ sum: string }>((tie) => ({
  sum: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    constant,
    fc.constant('len'),
    joined(
      indexed,
      fc.constant('['),
      fc.constantFrom('0', '2', '6', '9', '12', '13', '0xd', '16'),
      size,
      fc.constant(']'),
    ),
    joined(indexed, fc.constant('['), tie('sum'), size, fc.constant(']')),
    joined(tie('sum'), fc.constantFrom(' + ', ' - ', ' * ', ' / ', ' & ', ' | ', ' << ', ' >> '), tie('sum')),
    joined(fc.constant('('), tie('sum'), fc.constant(')')),
    joined(fc.constant('- '), tie('sum')),
  ),
}));
const relation = joined(sum, fc.constantFrom(' = ', ' == ', ' != ', ' < ', ' > ', ' <= ', ' >= ', '='), sum);

const primitive = fc.oneof(
  fc.constantFrom('ip', 'ip6', 'arp', 'rarp', 'tcp', 'udp', 'sctp', 'icmp', 'icmp6', 'igmp', 'esp', 'ah'),
  joined(fc.constantFrom('', 'ip ', 'arp ', 'rarp '), direction, fc.constant('host '), list(address)),
  joined(fc.constantFrom('src ', 'ip dst ', 'src or dst '), address),
  joined(fc.constantFrom('', 'ip6 '), direction, fc.constant('host '), list(address6)),
  joined(direction, fc.constant('net '), list(nets)),
  joined(direction, fc.constant('net '), nets6),
  joined(fc.constantFrom('', 'tcp ', 'udp ', 'sctp '), direction, fc.constant('port '), list(port)),
  joined(
    ...[fc.constantFrom('', 'tcp '), direction, fc.constant('portrange ')],
    fc.constantFrom('53-80', '443-80', '0-65535', '80', '8080-8080'),
  ),
  joined(fc.constantFrom('ip ', 'ip6 ', ''), fc.constant('proto '), list(protocol)),
  joined(fc.constant('ether proto '), fc.constantFrom('0x800', '0x86dd', '2054', '0x88cc')),
  joined(fc.constant('ether '), fc.constantFrom('host ', 'src ', 'dst ', 'src and dst '), list(mac)),
  fc.constantFrom(
    'broadcast',
    'ether broadcast',
    'multicast',
    'ether multicast',
    'ip multicast',
    'ip6 multicast',
  ),
  joined(fc.constantFrom('less ', 'greater '), fc.constantFrom(14, 42, 60, 100)),
  fc.constantFrom('vlan', 'vlan 7', 'vlan 1', 'vlan (7)'),
  relation,
);
const { expression } = fc.letrec<{ expression: string }>((tie) => ({
  expression: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    primitive,
    joined(fc.constantFrom('not ', '! '), tie('expression')),
    joined(tie('expression'), fc.constantFrom(' and ', ' or ', ' && ', ' || '), tie('expression')),
    joined(fc.constant('('), tie('expression'), fc.constant(')')),
    // Values that take the words of those before.
    joined(fc.constant('port '), port, fc.constantFrom(' or ', ' and not '), port),
    joined(
      fc.constant('host '),
      address,
      fc.constant(' or '),
      address,
      fc.constant(' and '),
      tie('expression'),
    ),
  ),
}));

/** What libpcap takes, and no filter of ours. */
const REFUSED_HERE = /divides by zero|shifts by more|such a byte|too many parts|instructions/;

/** Filters that both have taken. */
let compared = 0;

function same(text: string, samples: readonly Uint8Array[], mayRefuse = false): void {
  if (typeof peer === 'string') return;
  let theirs: ReturnType<typeof peer.compile> | undefined;
  let refused = '';
  try {
    theirs = peer.compile(text);
  } catch (error) {
    refused = (error as Error).message;
  }
  let ours: ReturnType<typeof matcher> | undefined;
  try {
    ours = matcher(text);
  } catch (error) {
    if (refused === '' && !mayRefuse) expect((error as Error).message).toMatch(REFUSED_HERE);
    return;
  }
  // It takes the index of `1 / ip[0]` for the divisor, and of `1 << ip[40]` for the shift.
  if (/^(division by zero|shift by more than 31 bits)/.test(refused)) return;
  expect(refused, `libpcap refuses "${text}"`).toBe('');
  compared++;
  for (const packet of samples) {
    if (ours(packet) !== theirs!.matches(packet))
      expect.fail(`"${text}": ${ours(packet)} here for ${Buffer.from(packet).toString('hex')}`);
  }
}

const RUNS = Number(process.env.TWINPATH_RUNS ?? 500);

describe('a filter', () => {
  it.skipIf(skip)(`takes the packets that libpcap takes${skip ? `: ${peer}` : ''}`, () => {
    fc.assert(
      fc.property(expression, fc.array(packets, { minLength: 20, maxLength: 20 }), (text, samples) =>
        same(text, samples),
      ),
      {
        numRuns: RUNS,
      },
    );
    expect(compared).toBeGreaterThan(RUNS / 2);
  });

  it('takes the packets that it names', () => {
    const udp = packet('0800', '4500001c0001000040110000', '0a000001', '0a000102', '00350050', '00080000');
    const later = packet('0800', '4500001c0001000140110000', '0a000001', '0a000102', '00350050', '00080000');
    const tagged = packet(
      '8100',
      '0007',
      '0800',
      '4500001c0001000040110000',
      '0a000001',
      '0a000102',
      '00350050',
    );
    for (const [text, taken] of [
      ['', [udp, later, tagged]],
      ['udp', [udp, later]],
      ['udp port 80 or 443', [udp]],
      ['not udp port 80', [later, tagged]],
      ['src host 10.0.0.1 and dst net 10.0.1', [udp, later]],
      ['vlan 7 and udp dst port 80', [tagged]],
      ['udp and vlan', []],
      ['tcp or udp and port 53', [udp]],
      ['ip[6:2] & 0x1fff != 0', [later]],
      ['udp[2:2] = 80 && len <= 42', [udp]],
      ['ether dst ff:ff:ff:ff:ff:ff', []],
    ] as const) {
      const matches = matcher(text);
      expect([text, [udp, later, tagged].filter(matches)]).toEqual([text, taken]);
    }
  });

  it.each([
    ['tpc port 80', '"tpc" at character 1 of "tpc port 80": it is no word of filters. Did you mean'],
    ['tcp prot 80', '"prot" at character 5 of "tcp prot 80": "and" or "or" must come before it'],
    ['port http', '"http" at character 6'],
    ['host example.org', '"example.org" at character 6'],
    ['host 10.0.0', '"10.0.0" at character 6'],
    ['net 10.0.0.1/8', '"10.0.0.1" at character 5'],
    ['net 10.0.0.0/33', '"33" at character 14'],
    ['net 2001:db8::1/32', '"2001:db8::1" at character 5'],
    ['tcp port 70000', '"70000" at character 10'],
    ['icmp port 7', '"icmp" at character 1'],
    [
      'tcp and 80',
      '"80" at character 9 of "tcp and 80": a word such as host, net or port must come before it',
    ],
    ['(tcp', 'at its end, in "(tcp": ")" must be here'],
    ['tcp)', '")" at character 4 of "tcp)": no bracket is open'],
    ['tcp and', 'at its end, in "tcp and"'],
    ['tcp[13', 'at its end'],
    ['tcp[13:3] = 1', '"3" at character 8'],
    ['tcp[13] & 2', 'at its end, in "tcp[13] & 2": a comparison must be here'],
    ['ip[0] / 0 = 1', '"/" at character 7'],
    ['inbound', '"inbound" at character 1 of "inbound": this part of pcap-filter(7) is not taken'],
    ['vlan 5000', '"5000" at character 6'],
    ['host 1:2:3', '"1:2:3" at character 6'],
    ['tcp # 80', '"#" at character 5'],
    ['port 080', '"080" at character 6'],
    ['10.0.0.1', 'Write a word such as host, net or port before it'],
    [
      'ether host 10.0.0.1',
      '"10.0.0.1" at character 12 of "ether host 10.0.0.1": a MAC address must be here',
    ],
  ])('%s is refused, and the place is named', (text, place) => {
    expect(() => compileFilter(text)).toThrow(place);
    expect(() => compileFilter(text)).toThrow(expect.objectContaining({ code: 'ERR_OPTION_INVALID' }));
  });

  it('is refused if it is too long or too deep, and not by an overflow of the stack', () => {
    const many = Array.from({ length: 200 }, (_, i) => `port ${i}`).join(' or ');
    expect(() => compileFilter(many)).toThrow('instructions');
    expect(() => compileFilter(`${'('.repeat(2000)}tcp${')'.repeat(2000)}`)).toThrow('too deep');
    expect(() => compileFilter(`${'not '.repeat(1000)}tcp`)).toThrow('too deep');
    expect(() => compileFilter(`tcp${' '.repeat(5000)}port 80`)).toThrow('4096 characters');
    expect(() => compileFilter(`${'- '.repeat(1000)}1 = 1`)).toThrow('too deep');
  });

  it('means the same where Node may make no code from text, and where it is long', () => {
    const script = `
      import { compileFilter } from ${JSON.stringify(new URL('../../../dist/src/capture/filter/filter.js', import.meta.url))};
      import { matcherOf } from ${JSON.stringify(new URL('../../../dist/src/capture/filter/matcher.js', import.meta.url))};
      const frame = Uint8Array.from(Buffer.from('${Buffer.from(packet('0806', '00010800')).toString('hex')}', 'hex'));
      console.log(['arp', 'ip'].map((text) => matcherOf(compileFilter(text), frame)(0, frame.length)).join());
    `;
    const options = ['--disallow-code-generation-from-strings', '--input-type=module', '-e', script];
    expect(execFileSync(process.execPath, options, { encoding: 'utf8' })).toBe('true,false\n');
    const long = matcher(Array.from({ length: 290 }, (_, i) => `len=${2 * i}`).join(' or '));
    expect([long(new Uint8Array(40)), long(new Uint8Array(41))]).toEqual([true, false]);
  });

  it('never throws another error, and its program ends, whatever the text is', () => {
    const words = [
      'tcp',
      'port',
      '80',
      'or',
      'and',
      'not',
      '(',
      ')',
      '[',
      ']',
      ':',
      'host',
      '10.0.0.1',
      '::1',
      'net',
    ];
    const word = fc.constantFrom(
      ...words,
      'src',
      'dst',
      'ip',
      'vlan',
      '&',
      '=',
      '<<',
      '-',
      '/',
      'len',
      'ether',
      'proto',
    );
    fc.assert(
      fc.property(fc.array(word, { maxLength: 14 }), packets, (parts, packet) => {
        try {
          expect(matcher(parts.join(' '))(packet)).toBeTypeOf('boolean');
        } catch (error) {
          expect(error).toMatchObject({ code: 'ERR_OPTION_INVALID' });
        }
        if (typeof peer !== 'string') same(parts.join(' '), [packet], true);
      }),
      { numRuns: 1000 },
    );
  });
});

/** A frame from digits: its type, and what follows. */
function packet(...parts: string[]): Uint8Array {
  return Uint8Array.from(Buffer.from(`020000000002020000000001${parts.join('')}`, 'hex'));
}
