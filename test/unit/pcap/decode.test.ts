/** Packets as objects, with the names and texts that programs for npm's `pcap` expect. */
import { EventEmitter } from 'node:events';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decode, headerOf, type PcapPacket } from '../../../src/pcap/decode/decode.ts';
import { DNS } from '../../../src/pcap/decode/dns.ts';
import { arp, ethernet, icmpEcho, ipv4, ipv6, udp } from '../../support/frames.ts';

const NANOS = 1_700_000_000_123_456_789n;

function raw(bytes: readonly number[] | Uint8Array, link = 'LINKTYPE_ETHERNET') {
  const buf = Buffer.from(bytes);
  return { buf, header: headerOf(NANOS, buf.length, buf.length + 7), link_type: link };
}

const decoded = (bytes: readonly number[], link?: string): PcapPacket => decode.packet(raw(bytes, link));
const ip = (bytes: readonly number[]): Record<string, unknown> =>
  (decoded(ethernet(bytes)).payload as unknown as { payload: Record<string, unknown> }).payload;
const hex = (text: string): number[] => [...Buffer.from(text.replace(/\s/g, ''), 'hex')];
const MACS = '02:00:00:00:00:99 -> 02:00:00:00:00:02';
const ADDRESSES = '10.77.0.1 -> 10.77.0.2';

// Ports 46557 and 80, SYN, CWR and ECE, an MSS of 536.
const SYN = hex('b5dd00500aaf604e0000000060c2102044b2000002040218');

describe('pcap.decode.packet', () => {
  it('has the packet header, and the layers as payloads of each other', () => {
    const packet = decoded(ethernet(ipv4(udp([104, 105], { bare: true }), { protocol: 17 })));
    expect(packet).toMatchObject({
      link_type: 'LINKTYPE_ETHERNET',
      pcap_header: { tv_sec: 1_700_000_000, tv_usec: 123_456, caplen: 44, len: 51 },
      payload: {
        ...{ dhost: { addr: [2, 0, 0, 0, 0, 2] }, shost: { addr: [2, 0, 0, 0, 0, 0x99] } },
        ...{ ethertype: 0x0800, vlan: null },
        payload: {
          ...{ version: 4, headerLength: 20, diffserv: 0, length: 30, identification: 0x1234 },
          ...{ flags: { reserved: false, doNotFragment: true, moreFragments: false }, fragmentOffset: 0 },
          ...{ ttl: 17, protocol: 17, saddr: { addr: [10, 77, 0, 1] }, daddr: { addr: [10, 77, 0, 2] } },
          payload: { sport: 40_000, dport: 7, length: 10, checksum: 0, data: Buffer.from('hi') },
        },
      },
    });
    expect(String(packet)).toBe(
      `LINKTYPE_ETHERNET ${MACS} IPv4 ${ADDRESSES} flags [d] UDP UDP 40000->7 len 10`,
    );
  });

  it('has the flags, the options and the data of TCP', () => {
    expect(ip(ipv4(SYN, { protocol: 6 })).payload).toMatchObject({
      ...{ sport: 46_557, dport: 80, seqno: 179_265_614, ackno: 0, headerLength: 24, windowSize: 4128 },
      ...{ checksum: 17_586, urgentPointer: 0, data: null, dataLength: 0 },
      flags: {
        ...{ nonce: false, cwr: true, ece: true, urg: false, ack: false },
        ...{ psh: false, rst: false, syn: true, fin: false },
      },
      options: { mss: 536, window_scale: null, sack_ok: null, sack: null, timestamp: null, echo: null },
    });
    expect(String(ip(ipv4(SYN, { protocol: 6 })).payload)).toBe(
      '46557->80 seq 179265614 ack 0 flags [ces] win 4128 csum 17586 [mss:536] len 0',
    );
    const all = '0402 080a0000000100000002 01030307 050a0000000500000009 0000';
    const options = [...SYN.slice(0, 12), 0xc0, 0x10, ...SYN.slice(14, 20), ...hex(all), 1, 2, 3];
    const { payload } = ip(ipv4(options, { protocol: 6 })) as { payload: { options: unknown; data: Buffer } };
    expect(payload.options).toMatchObject({
      ...{ sack_ok: true, timestamp: 1, echo: 2, window_scale: 7, sack: [[5, 9]] },
    });
    expect(String(payload.options)).toBe('[scale:7(128) sack_ok sack:5,9]');
    expect([...payload.data.subarray(-3)]).toEqual([1, 2, 3]);
  });

  it.each([
    [arp(), 0x0806, 'ARP request sender 02:00:00:00:00:99 10.77.0.1 target 00:00:00:00:00:00 10.77.0.2'],
    [
      arp({ operation: 2 }),
      0x0806,
      'ARP reply sender 02:00:00:00:00:99 10.77.0.1 target 00:00:00:00:00:00 10.77.0.2',
    ],
    [ipv4(icmpEcho([])), 0x0800, `IPv4 ${ADDRESSES} flags [d] ICMP Echo Request`],
    [ipv4([3, 4, 0, 0]), 0x0800, `IPv4 ${ADDRESSES} flags [d] ICMP Fragmentation required, and DF flag set`],
    [
      ipv4([3, 99, 0, 0]),
      0x0800,
      `IPv4 ${ADDRESSES} flags [d] ICMP Destination Unreachable (unknown code 99)`,
    ],
    [ipv4([77, 1, 0, 0]), 0x0800, `IPv4 ${ADDRESSES} flags [d] ICMP type 77 code 1`],
    [
      ipv4(hex('1600fa04effffffa'), { protocol: 2, fragment: 0 }),
      0x0800,
      `IPv4 ${ADDRESSES} IGMP Membership Report`,
    ],
    [
      ipv4([], { protocol: 255, fragment: 0xe000 }),
      0x0800,
      `IPv4 ${ADDRESSES} flags [rdm] proto 255 undefined`,
    ],
    [
      ipv4(ipv4(SYN, { protocol: 6 }), { protocol: 4, fragment: 0 }),
      0x0800,
      `IPv4 ${ADDRESSES} IPv4 ${ADDRESSES} flags [d] TCP 46557->80`,
    ],
    [
      ipv6(hex('1100000000000000 9c40000700080000'), { next: 0 }),
      0x86dd,
      'IPv6 2001:0db8:0000:0000:0000:0000:0000:0001 -> 2001:0db8:0000:0000:0000:0000:0000:0002 HeaderExtension UDP UDP 40000->7 len 8',
    ],
    [ipv6([], { next: 59 }), 0x86dd, '0002 NoNext '],
    [[2, 7], 0x88cc, 'LLDP need to implement LLDP'],
    [[1], 0x1234, 'ethertype 4660 '],
  ])('shows %j', (payload, type, text) => {
    expect(String(decoded(ethernet(payload, { type })))).toContain(text);
  });

  it('has the tag of a VLAN, and the types behind it', () => {
    const packet = decoded(ethernet(ipv4(icmpEcho([])), { tags: [0x81, 0, 0x60, 0x64] }));
    expect(packet.payload).toMatchObject({
      ethertype: 0x0800,
      vlan: { priority: 3, canonical_format: 0, id: 100 },
    });
    expect(String(packet)).toContain(`${MACS} vlan 3 0 100 IPv4`);
  });

  it.each([
    ['LINKTYPE_NULL', [2, 0, 0, 0], `LINKTYPE_NULL 2 ${ADDRESSES} flags [d] ICMP Echo Request`],
    ['LINKTYPE_NULL', [0, 0, 0, 2], `LINKTYPE_NULL 2 ${ADDRESSES} flags [d] ICMP Echo Request`],
    ['LINKTYPE_RAW', [], `LINKTYPE_RAW ${ADDRESSES} flags [d] ICMP Echo Request`],
    [
      'LINKTYPE_LINUX_SLL',
      hex('0004 0001 0006 0200000000990000 0800'),
      `LINKTYPE_LINUX_SLL sent_us addrtype 1 02:00:00:00:00:99 IPv4 ${ADDRESSES} flags [d] ICMP Echo Request`,
    ],
    ['LINKTYPE_OTHER', [], 'LINKTYPE_OTHER null'],
  ])('reads %s', (link, before, text) => {
    expect(String(decoded([...before, ...ipv4(icmpEcho([]))], link))).toBe(text);
  });

  it('shows a DNS message behind its UDP header', () => {
    const question = '1234 8180 0001 0001 0000 0000 03777777 076578616d706c65 0474657374 00 0001 0001';
    const answer = 'c00c 0001 0001 0000003c 0004 cb007107';
    const message = hex(question + answer);
    const packet = decoded(ethernet(ipv4(udp(message, { from: 53 }), { protocol: 17 })));
    expect(String(packet)).toContain(' DNS { isResponse:true opcode:0 isAuthority:false isTruncated:false');
    expect(String(packet)).toContain(
      '\n  question:www.example.test A IN\n  answer:www.example.test A IN 60 203.0.113.7',
    );
    const dns = new DNS().decode(Buffer.from(message));
    expect(dns).toMatchObject({
      id: 0x1234,
      qdcount: 1,
      ancount: 1,
      nscount: 0,
      arcount: 0,
      _error: undefined,
    });
    expect(dns.answer.rrs).toMatchObject([
      { name: 'www.example.test', type: 1, class: 1, ttl: 60, rdlength: 4 },
    ]);
    const loop = new DNS().decode(Buffer.from(hex('0000 0000 0001 0000 0000 0000 c00c 0001 0001')));
    expect(loop._error).toContain('a name leads forwards');
  });

  it('announces each layer, inner ones first', () => {
    const emitter = new EventEmitter();
    const seen: string[] = [];
    for (const name of ['udp', 'ipv4', 'tcp', 'arp', 'icmp', 'igmp', 'ipv6'])
      emitter.on(name, () => seen.push(name));
    const frame = ethernet(ipv4(udp([1]), { protocol: 17 }));
    decode.packet(raw(frame), emitter);
    decode(raw(ethernet(arp(), { type: 0x0806 })), emitter);
    expect(seen).toEqual(['udp', 'ipv4', 'arp']);
  });

  it('reads no header that is cut, and never beyond what was captured', () => {
    const frame = ethernet(ipv4(udp([1, 2, 3]), { protocol: 17 }));
    const layers = (bytes: readonly number[]): number => {
      let [count, layer] = [0, decoded(bytes).payload as unknown as { payload?: unknown } | null];
      for (; layer !== null && layer !== undefined; layer = layer.payload as typeof layer) count++;
      return count;
    };
    const counted = frame.map((_, length) => layers(frame.slice(0, length)));
    expect(counted).toEqual(
      frame.map((_, length) => (length < 14 ? 0 : length < 34 ? 1 : length < 42 ? 2 : 3)),
    );
    const packet = decode.packet({ ...raw(frame), header: headerOf(0n, 30, 99) });
    expect(packet.payload).toMatchObject({ payload: null });
    const later = ip(ipv4(udp([1]), { protocol: 17, fragment: 0x2003 }));
    expect(later).toMatchObject({ fragmentOffset: 24, payload: null });
  });

  it('never throws, and shows whatever comes', () => {
    const frames = [
      ethernet(ipv4(SYN, { protocol: 6 })),
      ethernet(ipv4(udp(hex('123401000001000000000000037777770000010001'), { to: 53 }), { protocol: 17 })),
      ethernet(ipv6(hex('1100000000000000 9c40000700080000'), { next: 0 }), { type: 0x86dd }),
      ethernet(arp(), { type: 0x0806 }),
    ];
    const links = ['LINKTYPE_ETHERNET', 'LINKTYPE_NULL', 'LINKTYPE_RAW', 'LINKTYPE_LINUX_SLL'];
    const changes = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 8 });
    fc.assert(
      fc.property(
        fc.constantFrom(...frames),
        changes,
        fc.constantFrom(...links),
        fc.nat(80),
        (frame, list, link, cut) => {
          const bytes = [...frame];
          for (const [at, value] of list) bytes[at % bytes.length] = value;
          expect(typeof String(decoded(bytes.slice(0, cut), link))).toBe('string');
        },
      ),
      { numRuns: 3000 },
    );
    const deep = Array.from({ length: 200 }, () => [60, 0, 0, 0, 0, 0, 0, 0]).flat();
    expect(typeof String(decoded(ethernet(ipv6(deep, { next: 60 }), { type: 0x86dd })))).toBe('string');
  });
});
