import { describe, expect, it } from 'vitest';
import { parseZone } from '../../../src/handlers/zone.ts';
import { ipv6Bytes } from '../../../src/net/addresses.ts';

const summary = (text: string) =>
  parseZone(text, 'test').records.map(({ name, type, ttl, data, target, line }) =>
    [line, name, ttl, type, type === 'CNAME' ? target : [...data].join('.')].join(' '),
  );

describe('a zone file', () => {
  it('gives names, times and addresses as RFC 1035 reads them', () => {
    const text = `
; a comment, and a line of blanks
   \t
$ORIGIN Example.ORG.
@              IN A 203.0.113.1   ; the zone itself
$TTL 300
www            A    203.0.113.2
       60 IN   AAAA 2001:db8::2
       IN 300  a    203.0.113.3
other.example.org. 5 A 203.0.113.4
ftp            CNAME www
out            cname elsewhere.net.
$ORIGIN sub
deep           A    203.0.113.5
`;
    expect(parseZone(text, 'test').origin).toBe('example.org.');
    expect(summary(text)).toEqual([
      '5 example.org. 3600 A 203.0.113.1',
      '7 www.example.org. 300 A 203.0.113.2',
      `8 www.example.org. 60 AAAA 32.1.13.184${'.0'.repeat(11)}.2`,
      '9 www.example.org. 300 A 203.0.113.3',
      '10 other.example.org. 5 A 203.0.113.4',
      '11 ftp.example.org. 300 CNAME www.example.org.',
      '12 out.example.org. 300 CNAME elsewhere.net.',
      '14 deep.sub.example.org. 300 A 203.0.113.5',
    ]);
  });

  it('may say a thing twice, which counts once (RFC 2181, 5)', () => {
    const text = `$ORIGIN example.org.
www   A     203.0.113.1
WWW   A     203.0.113.2
www.example.org. 3600 IN A 203.0.113.1
www   AAAA  2001:db8::1
      AAAA  2001:DB8:0:0::0.0.0.1
ftp   CNAME www
ftp   CNAME WWW.example.org.
`;
    expect(summary(text)).toEqual([
      '2 www.example.org. 3600 A 203.0.113.1',
      '3 www.example.org. 3600 A 203.0.113.2',
      `5 www.example.org. 3600 AAAA 32.1.13.184${'.0'.repeat(11)}.1`,
      '7 ftp.example.org. 3600 CNAME www.example.org.',
    ]);
  });

  it('may come with the line ends of Windows, and be the root', () => {
    expect(summary('$ORIGIN .\r\nhost A 10.0.0.1\r\n')).toEqual(['2 host. 3600 A 10.0.0.1']);
  });
});

describe('a zone file is refused, with the line,', () => {
  it.each([
    ['without $ORIGIN', 'www.example.org. A 10.0.0.1', /\$ORIGIN is missing/],
    ['when it is empty', '', /\$ORIGIN is missing/],
    ['for a relative name before $ORIGIN', 'www A 10.0.0.1', /line 1: www is relative/],
    ['for a relative $ORIGIN', '$ORIGIN example.org', /line 1: example.org is relative/],
    ['for a name outside the zone', '$ORIGIN a.org.\nb.org. A 10.0.0.1', /line 2: b.org. is not in the zone/],
    [
      'for a name that only ends like the zone',
      '$ORIGIN a.org.\nba.org. A 10.0.0.1',
      /line 2: ba.org. is not/,
    ],
    [
      'for a name to be repeated that is not there',
      '$ORIGIN a.org.\n A 10.0.0.1',
      /line 2: the record has no name/,
    ],
    ['for another type', '$ORIGIN a.org.\n\n@ MX 10', /line 3: records of type MX are not supported/],
    ['for another class', '$ORIGIN a.org.\n@ CH A 10.0.0.1', /line 2: CH takes one value/],
    ['without a type', '$ORIGIN a.org.\n@ 60 IN', /line 2: the record has no type/],
    ['for a bad IPv4 address', '$ORIGIN a.org.\n@ A 10.0.0.256', /line 2: 10.0.0.256 is not an IPv4 address/],
    ['for a bad IPv6 address', '$ORIGIN a.org.\n@ AAAA 10.0.0.1', /line 2: 10.0.0.1 is not an IPv6 address/],
    [
      'for an address with a zone',
      '$ORIGIN a.org.\n@ AAAA fe80::1%eth0',
      /line 2: .* is not an IPv6 address/,
    ],
    ['for two values', '$ORIGIN a.org.\n@ A 10.0.0.1 10.0.0.2', /line 2: A takes one value/],
    ['for a wildcard', '$ORIGIN a.org.\n* A 10.0.0.1', /line 2: \* is not a name.*Wildcards/],
    ['for an escape', '$ORIGIN a.org.\na\\.b A 10.0.0.1', /line 2: .* is not a name/],
    ['for an empty label', '$ORIGIN a.org.\na..b A 10.0.0.1', /line 2: a..b is not a name/],
    ['for a long label', `$ORIGIN a.org.\n${'x'.repeat(64)} A 10.0.0.1`, /line 2: .* more than 63/],
    ['for a long name', `$ORIGIN a.org.\n${'x.'.repeat(125)}x A 10.0.0.1`, /line 2: .* longer than 255/],
    ['for a long time', '$ORIGIN a.org.\n$TTL 2147483648', /line 2: 2147483648 is not a time/],
    ['for a time with a unit', '$ORIGIN a.org.\n$TTL 1h', /line 2: 1h is not a time/],
    [
      'for two times in one set of records',
      '$ORIGIN a.org.\nw 60 A 10.0.0.1\nx A 10.0.0.1\nw A 10.0.0.2',
      /line 4: w.a.org. has an A record of 3600 seconds here and one of 60 in line 2.*same time/,
    ],
    [
      'for two times of one record',
      '$ORIGIN a.org.\nw AAAA ::5\n$TTL 60\nw AAAA 0::5',
      /line 4: w.a.org. has an AAAA record of 60 seconds here and one of 3600 in line 2/,
    ],
    [
      'for two CNAMEs of one name',
      '$ORIGIN a.org.\nw CNAME x\nw CNAME y',
      /line [23]: w.a.org. has a CNAME and so can have no other record/,
    ],
    ['for another directive', '$ORIGIN a.org.\n$INCLUDE x', /line 2: \$INCLUDE is not known/],
    [
      'for a CNAME beside an address',
      '$ORIGIN a.org.\nw A 10.0.0.1\nw CNAME x',
      /line 3: w.a.org. has a CNAME/,
    ],
    ['for a CNAME of the zone', '$ORIGIN a.org.\n@ CNAME x', /line 2: the zone itself/],
    ['for a circle of CNAMEs', '$ORIGIN a.org.\nx CNAME y\ny CNAME x', /line 2: .* in a circle/],
  ])('%s', (_, text, message) => {
    expect(() => parseZone(text, 'test')).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION_INVALID', message: expect.stringMatching(message) }),
    );
  });
});

it('IPv6 addresses are read in all their forms', () => {
  const hex = (text: string) => Buffer.from(ipv6Bytes(text) ?? []).toString('hex');
  expect(hex('::')).toBe('0'.repeat(32));
  expect(hex('::1')).toBe(`${'0'.repeat(31)}1`);
  expect(hex('2001:db8::')).toBe(`20010db8${'0'.repeat(24)}`);
  expect(hex('1:2:3:4:5:6:7:8')).toBe('00010002000300040005000600070008');
  expect(hex('1:2:3:4:5:6:7::')).toBe('00010002000300040005000600070000');
  expect(hex('::ffff:10.0.0.1')).toBe(`${'0'.repeat(20)}ffff0a000001`);
  expect(hex('FE80::ABCD')).toBe(`fe80${'0'.repeat(24)}abcd`);
  expect(ipv6Bytes('10.0.0.1')).toBeUndefined();
  expect(ipv6Bytes('1::2::3')).toBeUndefined();
});
