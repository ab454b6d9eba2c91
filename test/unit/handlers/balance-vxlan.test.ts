import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DROP, PASS, TX } from '../../../src/handler/handler.ts';
import { create } from '../../../src/handlers/balance.ts';
import { HandlerTest } from '../../../src/testing.ts';
import {
  be16,
  ethernet,
  icmpEcho,
  ipv4,
  naiveChecksum,
  OUR_IP,
  OUR_MAC,
  PEER_MAC,
  udp,
} from '../../support/frames.ts';

const VIP = [10, 77, 0, 100];
const BACKENDS = [1, 2, 3].map((n) => ({ ip: [10, 1, 0, n], mac: [2, 0, 0, 0, 1, n] }));
const textOf = (mac: number[]): string => mac.map((byte) => byte.toString(16).padStart(2, '0')).join(':');
const OPTIONS = {
  mode: 'vxlan',
  vip: VIP.join('.'),
  source: OUR_IP.join('.'),
  vni: 0x010203,
  backends: BACKENDS.map(({ ip, mac }) => `${ip.join('.')}@${textOf(mac)}`),
};
const opened = (options: object = {}) => HandlerTest.of({ create }, { options: { ...OPTIONS, ...options } });
const datagram = (n: number, data: number[]): number[] =>
  ipv4(udp(data, { src: [192, 0, n >> 8, n & 255], dst: VIP, from: 5000, to: 53 }), {
    src: [192, 0, n >> 8, n & 255],
    dst: VIP,
    protocol: 17,
  });

describe('balance by VXLAN', () => {
  it('sends a packet as it is in a tunnel to its backend, without tags and padding', () => {
    const test = opened();
    const data = fc.array(fc.nat(255), { maxLength: 100 });
    fc.assert(
      fc.property(fc.nat(60_000), data, fc.boolean(), fc.nat(20), (n, payload, tagged, padding) => {
        const packet = datagram(n, payload);
        const tags = tagged ? [0x81, 0, 0, 7] : [];
        const [outcome] = test.run([[...ethernet(packet, { tags }), ...Array(padding).fill(0)]]);
        expect(outcome!.verdict).toBe(TX);
        const sent = [...outcome!.bytes];
        const backend = BACKENDS.find(({ ip }) => ip.join() === sent.slice(30, 34).join())!;
        const inner = ethernet(packet, { dst: backend.mac, src: OUR_MAC });
        const from = sent[34]! * 256 + sent[35]!;
        const vxlan = [8, 0, 0, 0, 1, 2, 3, 0, ...inner];
        const outer = ipv4(udp(vxlan, { from, to: 4789, bare: true }), {
          ...{ src: OUR_IP, dst: backend.ip, protocol: 17, ttl: 64 },
        });
        const right = ethernet(outer, { dst: PEER_MAC, src: OUR_MAC });
        right.splice(18, 2, ...sent.slice(18, 20)); // the identification, which the checksum covers
        right.splice(24, 2, ...sent.slice(24, 26));
        expect(naiveChecksum(sent.slice(14, 34))).toBe(0);
        expect(sent).toEqual(right);
        expect(from).toBeGreaterThanOrEqual(0xc000);
      }),
    );
  });

  it('sends one flow to one backend, and flows to all', () => {
    const test = opened();
    const backend = (n: number): number => test.run([ethernet(datagram(n, [1]))])[0]!.bytes[33]!;
    const first = Array.from({ length: 60 }, (_, n) => backend(n));
    expect(new Set(first)).toEqual(new Set([1, 2, 3]));
    expect(Array.from({ length: 60 }, (_, n) => backend(n))).toEqual(first);
  });

  it('passes or drops what it does not serve, and drops what comes from the virtual address', () => {
    const other = ethernet(ipv4(icmpEcho([1])));
    expect(opened().run([other])[0]!.verdict).toBe(PASS);
    expect(opened({ otherwise: 'drop' }).run([other])[0]!.verdict).toBe(DROP);
    const own = ethernet(ipv4(udp([1], { src: VIP, dst: VIP }), { src: VIP, dst: VIP, protocol: 17 }));
    expect(opened().run([own])[0]!.verdict).toBe(DROP);
  });

  it('does not throw for any damaged or truncated frame', () => {
    const test = opened();
    const good = ethernet(datagram(1, [1, 2, 3]), { tags: [0x81, 0, ...be16(7)] });
    const hits = fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 4 });
    fc.assert(
      fc.property(hits, fc.nat(60), (changes, cut) => {
        const bad = [...good];
        for (const [at, value] of changes) if (at < bad.length) bad[at] = value;
        expect(test.run([bad.slice(0, cut)])[0]!.error).toBeUndefined();
      }),
    );
  });

  it.each([
    [{ backends: '10.1.0.1' }, 'backends'],
    [{ backends: `${VIP.join('.')}@02:00:00:00:01:01` }, 'backends'],
    [{ backends: `${OUR_IP.join('.')}@02:00:00:00:01:01` }, 'backends'],
    [{ backends: '10.1.0.1:80@02:00:00:00:01:01' }, 'backends'],
    [{ source: '10.0.0.1,10.0.0.2' }, 'source'],
    [{ vni: 0 }, 'vni'],
    [{ vxlanPort: 70_000 }, 'vxlanPort'],
    [{ idle: 100 }, 'idle'],
    [{ mode: 'nat' }, 'vni'],
  ])('refuses %o', (options, device) => {
    expect(() => opened(options)).toThrow(expect.objectContaining({ code: 'ERR_OPTION_INVALID', device }));
  });
});
