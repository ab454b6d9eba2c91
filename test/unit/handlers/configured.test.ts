/** Built-in handlers with other options while they run: they decide as if they had begun with them. */
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type HandlerModule, PASS, TX } from '../../../src/handler.ts';
import * as swap from '../../../src/handlers/5tswap.ts';
import * as balance from '../../../src/handlers/balance.ts';
import * as dns from '../../../src/handlers/dns.ts';
import * as echo from '../../../src/handlers/echo.ts';
import * as firewall from '../../../src/handlers/firewall.ts';
import { HandlerTest } from '../../../src/testing.ts';
import { be16, ethernet, ipv4, OUR_IP, PEER_MAC, udp } from '../../support/frames.ts';

const VIP = OUR_IP.join('.');
const MACS = [1, 2, 3, 4, 5].map((n) => `02:00:00:00:01:0${n}`);

const segment = (client: number, flags = 2): number[] => {
  const tcp = [...be16(1024 + client), ...be16(80), 0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0];
  return ethernet(ipv4(tcp, { protocol: 6, src: [192, 0, 2, client & 255], dst: OUR_IP }));
};
const datagram = (client: number, to: number): number[] =>
  ethernet(ipv4(udp([1, 2], { from: 5000 + client, to }), { protocol: 17, dst: OUR_IP }));

const FRAMES = Array.from({ length: 60 }, (_, i) => (i % 3 === 0 ? datagram(i, 7 + (i % 2)) : segment(i)));

const backends = fc.subarray(MACS, { minLength: 1 });
const otherwise = fc.constantFrom('pass', 'drop');
const ports = fc.constantFrom(undefined, '80', '7,8', '80 7');
const ip = backends.map((macs) => macs.map((mac, i) => `10.1.0.${i + 1}@${mac}`));
const HANDLERS: [string, HandlerModule, fc.Arbitrary<Record<string, unknown>>][] = [
  ['balance', balance, fc.record({ vip: fc.constant(VIP), backends, ports, otherwise })],
  [
    'balance by VXLAN',
    balance,
    fc.record({
      mode: fc.constant('vxlan'),
      vip: fc.constant(VIP),
      backends: ip,
      vni: fc.integer({ min: 1, max: 9 }),
    }),
  ],
  ['echo', echo, fc.record({ address: fc.constantFrom(VIP, '10.9.9.9'), port: fc.constantFrom(7, 8) })],
  [
    'firewall',
    firewall,
    fc.record({ deny: fc.constantFrom('udp/7', 'tcp', undefined), allow: fc.constantFrom('udp', undefined) }),
  ],
  ['5tswap', swap, fc.record({ otherwise })],
  [
    'dns',
    dns,
    fc.record({
      zone: fc.constant('$ORIGIN example.\n@ A 192.0.2.1\n'),
      address: fc.constant(VIP),
      otherwise,
    }),
  ],
];

describe('with other options', () => {
  it.each(HANDLERS)('%s decides as one that began with them', (_, module, options) => {
    fc.assert(
      fc.property(options, options, (before, after) => {
        const [changed, fresh] = [before, after].map((one) => HandlerTest.of(module, { options: one }));
        changed!.run(FRAMES);
        expect(changed!.configure(after)).toBe(true);
        const [is, wanted] = [changed!, fresh!].map((test) => test.run(FRAMES));
        expect(is).toEqual(wanted);
      }),
      { numRuns: 15 },
    );
  });

  it.each(HANDLERS)('%s that are wrong, none changes', (_, module, options) => {
    const [before] = fc.sample(options, { numRuns: 1, seed: 1 });
    const [changed, fresh] = [before!, before!].map((one) => HandlerTest.of(module, { options: one }));
    for (const wrong of [
      { ...before, unknown: 1 },
      { ...before, otherwise: 'perhaps', port: 0, vni: 0 },
    ])
      expect(() => changed!.configure(wrong)).toThrow(expect.objectContaining({ name: 'TwinpathError' }));
    expect(changed!.run(FRAMES)).toEqual(fresh!.run(FRAMES));
  });

  it('balance keeps its mode', () => {
    const options = { vip: VIP, backends: MACS };
    const test = HandlerTest.of(balance, { options });
    const other = { ...options, mode: 'vxlan', backends: [`10.1.0.1@${MACS[0]}`] };
    expect(() => test.configure(other)).toThrow(/mode: balance cannot change it while it runs/);
  });
});

describe('balance by NAT with other backends', () => {
  const OPTIONS = {
    mode: 'nat',
    vip: VIP,
    ports: '80',
    backends: MACS.map((mac, i) => `10.1.0.${i + 1}@${mac}`),
  };
  const CLIENTS = Array.from({ length: 100 }, (_, i) => i);
  const begin = (test: HandlerTest, clients: number[]) => test.run(clients.map((client) => segment(client)));

  it('keeps every connection where it is, and begins new ones with those in the list', () => {
    fc.assert(
      fc.property(fc.array(fc.subarray(OPTIONS.backends, { minLength: 1 }), { maxLength: 5 }), (lists) => {
        const test = HandlerTest.of(balance, { options: OPTIONS });
        const first = begin(test, CLIENTS);
        lists.forEach((list, round) => {
          test.configure({ ...OPTIONS, backends: list });
          const kept = test.run(CLIENTS.map((client) => segment(client, 16)));
          for (const [client, { verdict, bytes }] of kept.entries()) {
            expect(verdict).toBe(TX);
            const [mac, address] = [bytes.slice(0, 6), bytes.slice(30, 34)];
            expect([mac, address]).toEqual([
              first[client]!.bytes.slice(0, 6),
              first[client]!.bytes.slice(30, 34),
            ]);
          }
          const fresh = begin(test, [100 + round]);
          const [, , , last] = fresh[0]!.bytes.slice(30, 34);
          expect(list.some((backend) => backend.startsWith(`10.1.0.${last}@`))).toBe(true);
        });
      }),
      { numRuns: 20 },
    );
  });

  it('keeps the connections of removed backends where they are, also in a worker that begins with the list of then', () => {
    const test = HandlerTest.of(balance, { options: OPTIONS });
    const first = begin(test, CLIENTS);
    const moved = { ...OPTIONS, backends: [OPTIONS.backends[3]!, OPTIONS.backends[1]!] };
    test.configure(moved);
    const replaced = HandlerTest.of(balance, { options: moved, sharedWith: test });
    for (const worker of [replaced, test]) {
      const kept = worker.run(CLIENTS.map((client) => segment(client, 16)));
      expect(kept.map(({ bytes }) => [...bytes.slice(0, 6), ...bytes.slice(30, 34)])).toEqual(
        first.map(({ bytes }) => [...bytes.slice(0, 6), ...bytes.slice(30, 34)]),
      );
    }
  });

  it('sends packets of connections to the MAC address that the backend had last, or to the router', () => {
    const test = HandlerTest.of(balance, { options: OPTIONS });
    const other = '02:00:00:00:02:01';
    const targets = () =>
      new Set(
        test
          .run(CLIENTS.map((client) => segment(client, 16)))
          .map(({ bytes }) => bytes.slice(0, 6).join(':')),
      );
    begin(test, CLIENTS);
    test.configure({ ...OPTIONS, backends: OPTIONS.backends.map((one) => `${one.split('@')[0]}@${other}`) });
    expect(targets()).toEqual(new Set(['2:0:0:0:2:1']));
    test.configure({ ...OPTIONS, backends: [`10.1.0.9@${MACS[0]}`] });
    expect(targets()).toEqual(new Set(['2:0:0:0:2:1']));
    test.configure({ ...OPTIONS, backends: OPTIONS.backends.map((one) => one.split('@')[0]) });
    expect(targets()).toEqual(new Set([PEER_MAC.join(':')]));
    test.configure({ ...OPTIONS, backends: [`10.1.0.9@${MACS[0]}`] });
    expect(targets()).toEqual(new Set([PEER_MAC.join(':')]));
  });

  it.each(['vip', 'ports', 'source', 'sourcePorts', 'idle', 'mode'])('keeps its %s', (name) => {
    const test = HandlerTest.of(balance, { options: OPTIONS });
    const other = {
      vip: '10.77.0.9',
      ports: '81',
      source: '10.77.0.8',
      sourcePorts: '20000-20999',
      idle: 60,
      mode: 'direct',
    };
    expect(() => test.configure({ ...OPTIONS, [name]: other[name as keyof typeof other] })).toThrow(
      new RegExp(`${name}: balance by NAT cannot change it while it runs`),
    );
  });
});

describe('gwlb', () => {
  it('gives its inner handler other options, and keeps which it is', async () => {
    const url = new URL('../../../src/handlers/gwlb.ts', import.meta.url);
    const options = { inner: 'firewall', innerOptions: { deny: 'udp/7' }, otherwise: 'drop' };
    const test = await HandlerTest.load(url, { options });
    expect(test.configure({ ...options, innerOptions: { deny: 'udp/8' }, otherwise: 'pass' })).toBe(true);
    expect(test.run([segment(1)])[0]!.verdict).toBe(PASS);
    expect(() => test.configure({ ...options, innerOptions: { dney: 'udp/8' } })).toThrow(/dney/);
    expect(() => test.configure({ ...options, inner: 'count' })).toThrow(/inner: gwlb cannot change it/);
    const fixed = await HandlerTest.load(url, { options: { inner: 'reflect' } });
    expect(() => fixed.configure({ inner: 'reflect', innerOptions: { a: 1 } })).toThrow(
      /takes no other options/,
    );
    expect(fixed.configure({ inner: 'reflect', otherwise: 'drop' })).toBe(true);
  });

  it.each([
    [true, 'a promise'],
    [false, 'undefined'],
  ])('refuses when the inner configure returns no function (async: %s)', async (async, what) => {
    const url = new URL('../../../src/handlers/gwlb.ts', import.meta.url);
    const inner = fileURLToPath(new URL('../../fixtures/handlers/careless.mjs', import.meta.url));
    const test = await HandlerTest.load(url, { options: { inner } });
    expect(() => test.configure({ inner, innerOptions: { async } })).toThrow(
      `the inner handler's configure() returned ${what}`,
    );
    const bare = await HandlerTest.load(inner);
    expect(() => bare.configure({ async })).toThrow(`its configure() returned ${what} in place of`);
  });
});
