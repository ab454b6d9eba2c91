import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { BUILT_IN, handlerUrl } from '../../../src/cli/handler-name.ts';
import type { Handler, HandlerModule } from '../../../src/handler/handler.ts';
import { DROP, PASS, TX } from '../../../src/handler/handler.ts';
import * as countModule from '../../../src/handlers/count.ts';
import drop from '../../../src/handlers/drop.ts';
import * as echoModule from '../../../src/handlers/echo.ts';
import { FlowTable } from '../../../src/handlers/flow-table.ts';
import host from '../../../src/handlers/host.ts';
import * as reflectModule from '../../../src/handlers/reflect.ts';
import { Path } from '../../../src/memory/layout.ts';
import { Flow } from '../../../src/net/flow.ts';
import {
  arp,
  BROADCAST,
  be16,
  ethernet,
  handled,
  icmpEcho,
  ipv4,
  ipv6,
  loaded,
  naiveChecksum,
  OUR_IP,
  OUR_MAC,
  PEER_IP,
  PEER_MAC,
  udp,
  workerContext,
} from '../../support/frames.ts';

const context = workerContext({ queue: 3, queues: 4 });
const echo = echoModule.create({ address: OUR_IP.join('.') }, context);
/** Made for each burst, as a worker makes it for its one. */
const reflect: Handler = (burst) => reflectModule.create({}, { ...context, burst })(burst);
const VLAN = [0x81, 0x00, 0x20, 0x05];
const QINQ = [0x88, 0xa8, 0x00, 0x07, ...VLAN];
const data = (length: number) => Array.from({ length }, (_, i) => (i * 7 + 1) & 255);

const ping = (payload = data(30)) => ethernet(ipv4(icmpEcho(payload)));
const datagram = (payload = data(30)) => ethernet(ipv4(udp(payload), { protocol: 17 }));
const question = () => ethernet(arp(), { dst: BROADCAST, type: 0x0806 });

it('every built-in handler is a module as a port loads it', async () => {
  for (const name of BUILT_IN) {
    const module: HandlerModule = await import(`../../../src/handlers/${name}.ts`);
    expect(typeof (module.create ?? module.default)).toBe('function');
    expect(handlerUrl(name).pathname).toContain(`/handlers/${name}.`);
  }
});

it('host passes received packets to the machine and sends those of the machine, unchanged', () => {
  for (const frame of [[], [1, 2, 3], ping(), question()]) {
    expect(handled(host, frame, Path.SYNTHETIC)).toEqual([PASS, frame]);
    expect(handled(host, frame, Path.VF)).toEqual([PASS, frame]);
    expect(handled(host, frame, Path.HOST)).toEqual([TX, frame]);
  }
});

describe('reflect', () => {
  it('sends each packet back with its addresses exchanged', () => {
    const burst = loaded([ping(), datagram(), question()]);
    reflect(burst);
    expect([...burst.verdict.subarray(0, 3)]).toEqual([TX, TX, TX]);
    expect([...burst.packet(1).bytes()]).toEqual([...PEER_MAC, ...OUR_MAC, ...datagram().slice(12)]);
  });

  it('matches a model made of byte slices for any packet at any alignment', () => {
    const frames = fc.array(fc.tuple(fc.uint8Array({ minLength: 12, maxLength: 80 }), fc.nat(7)), {
      ...{ minLength: 1, maxLength: 64 },
    });
    fc.assert(
      fc.property(frames, (packets) => {
        const burst = loaded(
          packets.map(([bytes, cut]) => Uint8Array.of(...Array(cut).fill(0xee), ...bytes)),
        );
        packets.forEach(([, cut], i) => {
          burst.packet(i).trimFront(cut);
        });
        reflect(burst);
        packets.forEach(([bytes], i) => {
          const swapped = [...bytes.slice(6, 12), ...bytes.slice(0, 6), ...bytes.slice(12)];
          expect([...burst.packet(i).bytes()]).toEqual(swapped);
          expect(burst.verdict[i]).toBe(TX);
        });
      }),
    );
  });

  it('throws at a packet without addresses, which it looked at last, after those before it', () => {
    const burst = loaded([ping(), [1, 2, 3], ping()]);
    expect(() => reflect(burst)).toThrow(RangeError);
    expect(burst.cursor).toBe(1);
    expect([...burst.verdict.subarray(0, 3)]).toEqual([TX, DROP, DROP]);
  });
});

it('drop leaves every verdict and every byte as it was', () => {
  expect(handled(drop, ping())).toEqual([DROP, ping()]);
});

describe('count', () => {
  const written = vi.fn();
  const { writeSync } = fs;
  const write = (how: unknown): void => {
    Object.assign(fs, { writeSync: how });
    syncBuiltinESMExports();
  };
  beforeEach(() => {
    written.mockReset();
    write(written);
  });
  afterEach(() => write(writeSync));
  const lines = () => written.mock.calls.map(([, line]) => line);

  it('says what it saw after so many packets, and drops them', () => {
    const count = countModule.create({ every: 4, top: 0 }, context);
    const six = ethernet([0x60, 0, 0, 0, 0, 0, 58], { type: 0x86dd });
    const burst = loaded([ping(), question(), [1, 2], ethernet([], { type: 64 })]);
    count.handle(burst);
    count.handle(loaded([ping(), datagram(), six]));
    count.handle(loaded([ethernet(ipv4([]), { tags: QINQ, type: 0x88b5 })]));
    expect([...burst.verdict.subarray(0, 4)]).toEqual([DROP, DROP, DROP, DROP]);
    expect(lines()).toEqual([
      'queue 3: 4 packets, ipv4 1, arp 1, icmp 1, 802.3 1, runts 1\n',
      'queue 3: 8 packets, ipv4 3, arp 1, ipv6 1, 0x88b5 1, icmp 2, udp 1, icmpv6 1, 802.3 1, runts 1\n',
    ]);
  });

  it('says one line for a burst that passes the mark several times', () => {
    const count = countModule.create({ every: 2 }, context);
    count.handle(loaded(Array(7).fill(ping())));
    expect(lines()).toHaveLength(1);
    count.handle(loaded([ping()]));
    expect(lines()).toHaveLength(2);
  });

  it('prints nothing at every: 0, and continues to count if standard error is not read', () => {
    const silent = countModule.create({ every: 0 }, context);
    silent.handle(loaded([ping()]));
    expect(lines()).toHaveLength(0);
    written.mockImplementation(() => {
      throw Object.assign(new Error('full'), { code: 'EAGAIN' });
    });
    const count = countModule.create({ every: 1 }, context);
    expect(() => count.handle(loaded([ping()]))).not.toThrow();
  });

  it('names the flows with the most packets, most first, and no more than asked for', () => {
    const count = countModule.create({ every: 10, top: 3 }, context);
    const six = ethernet(ipv6(udp([1], { from: 5, to: 6 })), { type: 0x86dd });
    const other = ethernet(ipv4(data(8), { protocol: 99 }));
    count.handle(loaded([ping(), six, ping(), six, datagram(), ping(), other, other, six, ping()]));
    expect(lines()).toEqual([
      'queue 3: 10 packets, ipv4 7, ipv6 3, icmp 4, udp 4, protocol 99 2\n' +
        '  10.77.0.1 > 10.77.0.2 icmp: packets 4, bytes 288\n' +
        '  [2001:db8::1]:5 > [2001:db8::2]:6 udp: packets 3, bytes 189\n' +
        '  10.77.0.1 > 10.77.0.2 protocol 99: packets 2, bytes 84\n',
    ]);
  });

  it("passes everything both ways with otherwise: 'pass'", () => {
    const count = countModule.create({ otherwise: 'pass' }, context);
    for (const frame of [[1, 2], ping(), question()]) {
      expect(handled(count, frame)).toEqual([PASS, frame]);
      expect(handled(count, frame, Path.HOST)).toEqual([TX, frame]);
    }
    expect(handled(countModule.create({}, context), ping(), Path.HOST)).toEqual([DROP, ping()]);
  });

  it('counts on with other options, and reports after as many as they say from then on', () => {
    const count = countModule.create({ every: 0, top: 0 }, context);
    count.handle(loaded([ping()]));
    expect(() => count.configure!({ every: -1 })).toThrow(/every/);
    count.configure!({ every: 2, top: 1 })();
    count.handle(loaded([ping()]));
    expect(lines()).toEqual([]);
    count.handle(loaded([ping()]));
    expect(lines()).toEqual([
      'queue 3: 3 packets, ipv4 3, icmp 3\n  10.77.0.1 > 10.77.0.2 icmp: packets 2, bytes 144\n',
    ]);
  });

  it('takes frames of any length', () => {
    const count = countModule.create({ every: 1 }, context);
    for (let length = 0; length <= 80; length++)
      count.handle(loaded([data(length), ping().slice(0, length)]));
  });

  it.each([
    [{ evry: 3 }, 'ERR_OPTION_UNKNOWN'],
    [{ every: -1 }, 'ERR_OPTION_INVALID'],
    [{ every: 1.5 }, 'ERR_OPTION_INVALID'],
    [{ every: '9' }, 'ERR_OPTION_INVALID'],
    [{ top: -1 }, 'ERR_OPTION_INVALID'],
    [{ top: 501 }, 'ERR_OPTION_INVALID'],
    [{ otherwise: 'reflect' }, 'ERR_OPTION_INVALID'],
  ])('refuses %o', (options, code) => {
    expect(() => countModule.create(options, context)).toThrow(expect.objectContaining({ code }));
  });
});

describe('a table of flows', () => {
  const frameOf = (source: number, port: number) =>
    ethernet(
      ipv4(udp([], { from: port, src: [10, 0, source >> 8, source & 255] }), {
        protocol: 17,
        src: [10, 0, source >> 8, source & 255],
      }),
    );
  const flow = new Flow();
  const add = (table: FlowTable, frame: number[]) => {
    const packet = loaded([frame]).packet(0);
    expect(flow.read(packet)).toBe(true);
    table.add(packet, flow);
  };

  it('counts as a map does while there is room', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(20), fc.nat(3)), { maxLength: 200 }), (packets) => {
        const table = new FlowTable(4096);
        const model = new Map<string, number>();
        for (const [source, port] of packets) {
          add(table, frameOf(source, port));
          const name = `10.0.0.${source}:${port} > 10.77.0.2:7 udp`;
          model.set(name, (model.get(name) ?? 0) + 1);
        }
        const top = table.top(4096);
        expect(top.map(({ packets }) => packets)).toEqual([...model.values()].sort((a, b) => b - a));
        expect(new Map(top.map(({ name, packets }) => [name, packets]))).toEqual(model);
        for (const { packets, bytes, inherited } of top)
          expect([bytes, inherited]).toEqual([packets * 42, 0]);
      }),
      { numRuns: 20 },
    );
  });

  it('keeps the flow that sends most when far more flows come than it holds, and never counts too little', () => {
    const table = new FlowTable(16);
    for (let i = 0; i < 1000; i++) {
      add(table, frameOf(i, 9));
      add(table, frameOf(5000, 1));
    }
    const top = table.top(3);
    expect(top).toHaveLength(3);
    expect(top[0]!.name).toBe('10.0.19.136:1 > 10.77.0.2:7 udp');
    expect(top[0]!.packets).toBeGreaterThanOrEqual(1000);
    expect(top[0]!.packets - top[0]!.inherited).toBeLessThanOrEqual(1000);
    expect(table.top(100).reduce((sum, { packets }) => sum + packets, 0)).toBe(2000);
  });

  it('says how many packets of a flow may be those of another', () => {
    const table = new FlowTable(8);
    for (let i = 0; i < 9; i++) add(table, frameOf(i, 9));
    expect(table.top(1)).toEqual([
      { name: '10.0.0.8:9 > 10.77.0.2:7 udp', packets: 2, inherited: 1, bytes: 42 },
    ]);
  });
});

describe('echo answers', () => {
  const fields = { dst: PEER_MAC, src: OUR_MAC };
  const back = { src: OUR_IP, dst: PEER_IP, ttl: 64 };

  it('an ARP request to everybody or to its own address', () => {
    const reply = arp({ operation: 2, senderMac: OUR_MAC, sender: OUR_IP, target: PEER_IP });
    reply.splice(18, 6, ...PEER_MAC);
    const answer = [TX, ethernet(reply, { ...fields, type: 0x0806 })];
    expect(handled(echo, question())).toEqual(answer);
    expect(handled(echo, ethernet(arp(), { type: 0x0806 }))).toEqual(answer);
  });

  it('a ping of any length, with correct checksums', () => {
    for (const length of [0, 1, 2, 17, 56, 57, 1471, 1472]) {
      const reply = ethernet(ipv4(icmpEcho(data(length), 0), back), fields);
      expect(handled(echo, ping(data(length)))).toEqual([TX, reply]);
    }
  });

  it('a UDP datagram to its port, with a correct checksum or still without one', () => {
    for (const bare of [false, true]) {
      const reply = udp(data(33), { from: 7, to: 40_000, src: OUR_IP, dst: PEER_IP, bare });
      const request = ethernet(ipv4(udp(data(33), { bare }), { protocol: 17 }));
      expect(handled(echo, request)).toEqual([TX, ethernet(ipv4(reply, { ...back, protocol: 17 }), fields)]);
    }
  });

  it('inside the tags of the question', () => {
    for (const tags of [VLAN, QINQ, [...QINQ, ...VLAN, ...VLAN]]) {
      const [verdict, reply] = handled(echo, ethernet(ipv4(icmpEcho(data(9))), { tags }));
      expect(verdict).toBe(TX);
      expect(reply).toEqual(ethernet(ipv4(icmpEcho(data(9), 0), back), { ...fields, tags }));
      const who = ethernet(arp(), { dst: BROADCAST, tags, type: 0x0806 });
      expect(handled(echo, who)[0]).toBe(TX);
    }
  });

  it('a padded frame with one of the same length', () => {
    const [verdict, reply] = handled(echo, [...ping([1]), ...data(17)]);
    expect(verdict).toBe(TX);
    expect(reply).toEqual([...ethernet(ipv4(icmpEcho([1], 0), back), fields), ...data(17)]);
  });

  it('for each of its addresses and on another port', () => {
    const several = echoModule.create({ address: ['10.77.0.2', '203.0.113.9'], port: 53 }, context);
    const dst = [203, 0, 113, 9];
    expect(handled(several, ethernet(ipv4(icmpEcho([]), { dst })))[0]).toBe(TX);
    expect(handled(several, ethernet(ipv4(udp([], { to: 53, dst }), { protocol: 17, dst })))[0]).toBe(TX);
    expect(handled(several, datagram())[0]).toBe(DROP);
  });

  it('a ping that was damaged on the way with a reply that shows it', () => {
    const damaged = ping();
    damaged[50]! ^= 1;
    const [verdict, reply] = handled(echo, damaged);
    expect(verdict).toBe(TX);
    expect(naiveChecksum(reply.slice(34))).not.toBe(0);
  });
});

describe('echo drops, unchanged,', () => {
  const overlong = datagram();
  overlong[39]! += 1;
  it.each<[string, number[]]>([
    ['a ping to another MAC address', ethernet(ipv4(icmpEcho([])), { dst: [2, 0, 0, 0, 0, 3] })],
    ['a ping to everybody', ethernet(ipv4(icmpEcho([])), { dst: BROADCAST })],
    ['a ping from a group', ethernet(ipv4(icmpEcho([])), { src: [1, 0, 0x5e, 0, 0, 1] })],
    ['a ping to another IP address', ethernet(ipv4(icmpEcho([]), { dst: [10, 77, 0, 3] }))],
    ['a ping from its own IP address', ethernet(ipv4(icmpEcho([]), { src: OUR_IP }))],
    ['a ping from multicast', ethernet(ipv4(icmpEcho([]), { src: [224, 0, 0, 1] }))],
    ['a ping from loopback', ethernet(ipv4(icmpEcho([]), { src: [127, 0, 0, 1] }))],
    ['an echo reply', ethernet(ipv4(icmpEcho([], 0)))],
    ['a first fragment', ethernet(ipv4(icmpEcho(data(8)), { fragment: 0x2000 }))],
    ['a last fragment', ethernet(ipv4(icmpEcho(data(8)), { fragment: 0x0001 }))],
    ['IP options', ethernet(ipv4(icmpEcho(data(8)), { options: [1, 1, 1, 1] }))],
    ['TCP', ethernet(ipv4(data(20), { protocol: 6 }))],
    ['UDP to another port', ethernet(ipv4(udp([], { to: 8 }), { protocol: 17 }))],
    [
      'UDP from an echo port, which would go on for ever',
      ethernet(ipv4(udp([], { from: 7 }), { protocol: 17 })),
    ],
    ['UDP longer than its packet', overlong],
    ['IPv6', ethernet(data(60), { type: 0x86dd })],
    ['an ARP reply', ethernet(arp({ operation: 2 }), { type: 0x0806 })],
    ['an ARP request for another', ethernet(arp({ target: PEER_IP }), { dst: BROADCAST, type: 0x0806 })],
    [
      'an announcement of its address by another',
      ethernet(arp({ sender: OUR_IP }), { dst: BROADCAST, type: 0x0806 }),
    ],
    ['an ARP request to another MAC address', ethernet(arp(), { dst: [2, 0, 0, 0, 0, 3], type: 0x0806 })],
    ['a ping from its own MAC address', ethernet(ipv4(icmpEcho([])), { src: OUR_MAC })],
    ['an ARP request from its own MAC address', ethernet(arp(), { src: OUR_MAC, type: 0x0806 })],
    [
      'a datagram from its own to its own address',
      ethernet(ipv4(udp([], { src: OUR_IP }), { protocol: 17, src: OUR_IP })),
    ],
  ])('%s', (_, frame) => {
    expect(handled(echo, frame)).toEqual([DROP, frame]);
  });

  it('datagrams from the ports of services, whose answers would be answered in turn (CVE-2024-2169)', () => {
    const services = [7, 13, 17, 19, 37, 53, 69, 123, 137, 161, 389, 520, 1023];
    for (const from of [0, 1, ...services, 1900, 2049, 3702, 5353, 11_211, 27_015, 27_960]) {
      const frame = ethernet(ipv4(udp(data(20), { from }), { protocol: 17 }));
      expect(handled(echo, frame)).toEqual([DROP, frame]);
    }
    for (const from of [1024, 5000, 32_768, 49_152, 65_535]) {
      expect(handled(echo, ethernet(ipv4(udp(data(20), { from }), { protocol: 17 })))[0]).toBe(TX);
    }
    const other = echoModule.create({ address: OUR_IP.join('.'), port: 5007 }, context);
    const own = ethernet(ipv4(udp([], { from: 5007, to: 5007 }), { protocol: 17 }));
    expect(handled(other, own)).toEqual([DROP, own]);
  });

  it('every question that was cut short, and never throws', () => {
    const questions = [ping(), datagram(), question(), ethernet(ipv4(icmpEcho(data(30))), { tags: QINQ })];
    for (const whole of questions) {
      for (let length = 0; length < whole.length; length++) {
        expect(handled(echo, whole.slice(0, length))).toEqual([DROP, whole.slice(0, length)]);
      }
    }
  });

  it('exactly the packets that a slow model of the RFCs does not answer', () => {
    const questions = [ping(), datagram(), question(), ethernet(ipv4(icmpEcho(data(30))), { tags: VLAN })];
    const change = fc.tuple(fc.nat(75), fc.nat(255));
    const length = fc.option(fc.nat(80), { nil: 80 });
    let answered = 0;
    fc.assert(
      fc.property(
        fc.nat(3),
        fc.array(change, { maxLength: 2 }),
        length,
        fc.boolean(),
        (which, changes, cut, repair) => {
          const frame = questions[which]!.slice(0, cut);
          for (const [at, value] of changes) if (at < frame.length) frame[at] = value;
          // Without this nearly every change to the header is hidden behind a wrong checksum.
          if (repair && which < 2 && frame.length >= 34) {
            const header = frame.slice(14, 34);
            header.splice(10, 2, 0, 0);
            frame.splice(24, 2, ...be16(naiveChecksum(header)));
          }
          const [verdict, reply] = handled(echo, frame);
          expect(verdict).toBe(deserves(frame) ? TX : DROP);
          expect(reply.length).toBe(frame.length);
          if (verdict === TX) answered++;
          else expect(reply).toEqual(frame);
        },
      ),
      { numRuns: 2000 },
    );
    expect(answered).toBeGreaterThan(100);
  });

  it('noise of every length', () => {
    for (const handler of [echo.handle, reflect]) {
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 80 }), (noise) => {
          const burst = loaded([noise]);
          try {
            handler(burst);
          } catch (error) {
            expect(error).toBeInstanceOf(RangeError);
          }
        }),
      );
    }
  });
});

describe('echo refuses', () => {
  it.each<[object, string]>([
    [{}, 'ERR_OPTION_INVALID'],
    [{ address: [] }, 'ERR_OPTION_INVALID'],
    [{ address: '10.77.0' }, 'ERR_OPTION_INVALID'],
    [{ address: '10.77.0.256' }, 'ERR_OPTION_INVALID'],
    [{ address: '224.0.0.1' }, 'ERR_OPTION_INVALID'],
    [{ address: ['10.77.0.2', 7] }, 'ERR_OPTION_INVALID'],
    [{ address: 'fe80::1' }, 'ERR_OPTION_INVALID'],
    [{ address: '10.77.0.2', port: 0 }, 'ERR_OPTION_INVALID'],
    [{ address: '10.77.0.2', port: '7' }, 'ERR_OPTION_INVALID'],
    [{ adress: '10.77.0.2' }, 'ERR_OPTION_UNKNOWN'],
  ])('%o, with a hint', (options, code) => {
    expect(() => echoModule.create({ ...options }, context)).toThrow(
      expect.objectContaining({ name: 'TwinpathError', code, hint: expect.any(String) }),
    );
  });
});

/** Whether a host would answer this frame: slices and text, no shared code, no early bounds. */
function deserves(frame: number[]): boolean {
  const hex = (from: number, to: number) =>
    frame
      .slice(from, to)
      .map((byte) => byte.toString(16).padStart(2, '0'))
      .join('');
  const mac = (bytes: number[]) => bytes.map((byte) => byte.toString(16).padStart(2, '0')).join('');
  const number = (from: number, to: number) => Number.parseInt(hex(from, to) || '0', 16);
  let at = 12;
  while (/^(8100|88a8)$/.test(hex(at, at + 2))) at += 4;
  const type = hex(at, at + 2);
  const l3 = at + 2;
  const toUs = hex(0, 6) === mac(OUR_MAC);
  const toGroup = (frame[0] ?? 0) % 2 === 1;
  if ((frame[6] ?? 0) % 2 === 1 || hex(6, 12) === mac(OUR_MAC)) return false;
  if (type === '0806' && frame.length >= l3 + 28) {
    const asked = hex(l3 + 24, l3 + 28);
    if (hex(l3, l3 + 8) !== '0001080006040001' || asked !== mac(OUR_IP)) return false;
    return (toUs || toGroup) && hex(l3 + 14, l3 + 18) !== asked;
  }
  if (type !== '0800' || !toUs || frame.length < l3 + 28) return false;
  const total = number(l3 + 2, l3 + 4);
  const source = frame.slice(l3 + 12, l3 + 16);
  if (hex(l3, l3 + 1) !== '45' || total < 28 || l3 + total > frame.length) return false;
  if (naiveChecksum(frame.slice(l3, l3 + 20)) !== 0) return false;
  if (!/^[048c]000$/.test(hex(l3 + 6, l3 + 8))) return false;
  if (hex(l3 + 16, l3 + 20) !== mac(OUR_IP) || mac(source) === mac(OUR_IP)) return false;
  if (source[0] === 0 || source[0] === 127 || source[0]! >= 224) return false;
  const l4 = l3 + 20;
  if (frame[l3 + 9] === 1) return hex(l4, l4 + 2) === '0800';
  const bytes = number(l4 + 4, l4 + 6);
  const from = number(l4, l4 + 2);
  const services = [1900, 2049, 3702, 5353, 11_211, 27_015, 27_960];
  const rightPorts = number(l4 + 2, l4 + 4) === 7 && from >= 1024 && !services.includes(from);
  return frame[l3 + 9] === 17 && rightPorts && bytes >= 8 && bytes <= total - 20;
}
