import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DROP, FORWARD, PASS, TX } from '../../../src/handler/handler.ts';
import { Path } from '../../../src/memory/layout.ts';
import { HandlerTest } from '../../../src/testing.ts';
import {
  be16,
  ethernet,
  icmpEcho,
  ipv4,
  naiveChecksum,
  OUR_IP,
  OUR_MAC,
  PEER_IP,
  PEER_MAC,
  udp,
} from '../../support/frames.ts';

const GWLB = new URL('../../../src/handlers/gwlb.ts', import.meta.url);
const INNER = fileURLToPath(new URL('../../fixtures/handlers/throws-at.mjs', import.meta.url));
const INTERNAL = { port: 10_800, vni: 800 };
const EXTERNAL = { port: 10_801, vni: 801 };

interface Tunnel {
  readonly port: number;
  readonly vni: number;
}

const load = (options: Record<string, unknown> = {}) =>
  HandlerTest.load(GWLB, { options: { inner: INNER, ...options } });

interface Outer {
  readonly from?: number;
  readonly padding?: number[];
}

/** An inner frame in a tunnel, from the load balancer. */
function tunnelled(
  inner: number[],
  { port, vni }: Tunnel,
  { from = 50_000, padding = [] }: Outer = {},
): number[] {
  const vxlan = [8, 0, 0, 0, ...be16(vni >> 8), vni & 255, 0, ...inner];
  return [...ethernet(ipv4(udp(vxlan, { from, to: port }), { protocol: 17 })), ...padding];
}

/** What the appliance sends: the same, in the other direction, with one less than the time to live that `ipv4` writes. */
function expectSent(bytes: Uint8Array, inner: number[], { port, vni }: Tunnel, from = 50_000): void {
  const vxlan = [8, 0, 0, 0, ...be16(vni >> 8), vni & 255, 0, ...inner];
  const datagram = udp(vxlan, { from, to: port, bare: true });
  const whole = ipv4(datagram, { src: OUR_IP, dst: PEER_IP, protocol: 17, ttl: 16 });
  const right = ethernet(whole, { src: OUR_MAC, dst: PEER_MAC });
  const sent = [...bytes];
  expect(naiveChecksum(sent.slice(14, 34))).toBe(0);
  right.splice(18, 2, ...sent.slice(18, 20)); // the identification, which the checksum covers
  right.splice(24, 2, ...sent.slice(24, 26));
  expect(sent).toEqual(right);
}

const frame = (last: number, rest: number[] = []): number[] =>
  ethernet([...rest, 1, 2, 3, last], { src: [4, 5, 6, 7, 8, 9], dst: [1, 1, 1, 1, 1, 1] });

describe('gwlb', () => {
  it('lets a packet go on through the other tunnel, unchanged, whatever is in it', async () => {
    const test = await load();
    const data = fc.array(fc.nat(255), { maxLength: 300 });
    fc.assert(
      fc.property(data, fc.boolean(), fc.nat(0xffff), fc.nat(20), (rest, isInternal, from, padding) => {
        const inner = frame(7, rest);
        const [here, there] = isInternal ? [INTERNAL, EXTERNAL] : [EXTERNAL, INTERNAL];
        const [outcome] = test.run([tunnelled(inner, here, { from, padding: Array(padding).fill(0) })]);
        expect(outcome!.verdict).toBe(TX);
        expectSent(outcome!.bytes, inner, there, from);
      }),
    );
  });

  it('sends back through the same tunnel, and drops, what the inner handler says', async () => {
    const test = await load();
    const [back, dropped] = test.run([tunnelled(frame(14), INTERNAL), tunnelled(frame(15), EXTERNAL)]);
    expect(back!.verdict).toBe(TX);
    expectSent(back!.bytes, frame(14), INTERNAL);
    expect(dropped!.verdict).toBe(DROP);
  });

  it('puts a packet back into the tunnel also if the application gets a copy', async () => {
    const test = await load();
    const outcomes = test.run([16, 17, 18].map((last) => tunnelled(frame(last), INTERNAL)));
    expect(outcomes.map(({ verdict, teed }) => [verdict, teed])).toEqual(
      [TX, TX, FORWARD].map((v) => [v, true]),
    );
    expectSent(outcomes[0]!.bytes, frame(16), EXTERNAL);
    expectSent(outcomes[1]!.bytes, frame(17), INTERNAL);
    expect([...outcomes[2]!.bytes]).toEqual(frame(18));
  });

  it('keeps other packets from the inner handler, in any mixture, also when it throws', async () => {
    const test = await load();
    const kind = fc.constantFrom('go on', 'back', 'drop', 'throw', 'other');
    const last = { 'go on': 7, back: 14, drop: 15, throw: 13, other: 0 };
    fc.assert(
      fc.property(fc.array(kind, { maxLength: 64, size: 'max' }), (kinds) => {
        const inner = kinds.map((one, n) => frame(last[one], be16(n)));
        const frames = kinds.map((one, n) =>
          one === 'other'
            ? ethernet(ipv4(icmpEcho(be16(n))))
            : tunnelled(inner[n]!, n % 2 ? INTERNAL : EXTERNAL),
        );
        // Those in tunnels come first: outcomes are in the order of the burst, so they are matched by their bytes.
        const left = test
          .run(frames)
          .map(({ verdict, bytes, error }) => ({ verdict, bytes: [...bytes], error }));
        const number = (bytes: number[], at: number): number => bytes[at]! * 256 + bytes[at + 1]!;
        for (const { verdict, bytes, error } of left) {
          const isOther = bytes[23] === 1 && bytes.length === 44;
          if (isOther) {
            expect([kinds[number(bytes, 42)], verdict]).toEqual(['other', PASS]);
            expect(bytes).toEqual(frames[number(bytes, 42)]);
          } else if (verdict === TX) {
            const n = number(bytes, 64);
            const from = n % 2 ? INTERNAL : EXTERNAL;
            const other = n % 2 ? EXTERNAL : INTERNAL;
            expect(['go on', 'back']).toContain(kinds[n]);
            expectSent(Uint8Array.from(bytes), inner[n]!, kinds[n] === 'back' ? from : other);
          } else {
            const n = number(bytes, 14); // out of the tunnel
            expect(kinds[n]).toBe(error === undefined ? 'drop' : 'throw');
          }
        }
        for (const [wanted, verdicts] of [
          ['other', PASS],
          ['drop', DROP],
        ] as const) {
          const count = kinds.filter(
            (one) => one === wanted || (wanted === 'drop' && one === 'throw'),
          ).length;
          expect(left.filter(({ verdict }) => verdict === verdicts)).toHaveLength(count);
        }
      }),
    );
  });

  it('leaves alone what only looks like a tunnel', async () => {
    const test = await load();
    const good = tunnelled(frame(7), INTERNAL);
    const without = (at: number, ...bytes: number[]): number[] => good.toSpliced(at, bytes.length, ...bytes);
    for (const bad of [
      without(0, 2, 0, 0, 0, 0, 9), // for another
      without(12, 0x86, 0xdd),
      without(14, 0x46),
      without(20, 0x20, 0x00),
      without(23, 6),
      without(36, ...be16(4789)),
      without(42, 0), // no VNI
      without(48, 9),
      without(16, ...be16(good.length)),
      without(38, ...be16(20)),
      good.slice(0, 63),
      without(22, 1), // no time to live
      without(26, ...OUR_IP), // from itself
      tunnelled(frame(7), { port: INTERNAL.port, vni: EXTERNAL.vni }),
    ]) {
      const [outcome] = test.run([bad]);
      expect(outcome!.verdict).toBe(PASS);
      expect([...outcome!.bytes]).toEqual(bad);
    }
    expect((await load({ otherwise: 'drop' })).run([frame(1)])[0]!.verdict).toBe(DROP);
    expect(test.run([good], { path: Path.HOST })[0]!.verdict).toBe(TX);
  });

  it('does not throw for any damaged or truncated frame', async () => {
    const test = await load({ inner: 'firewall', innerOptions: { deny: 'tcp/23' } });
    const good = tunnelled(ethernet(ipv4(udp([1, 2, 3]), { protocol: 17 })), EXTERNAL);
    const hits = fc.array(fc.tuple(fc.nat(100), fc.nat(255)), { maxLength: 4 });
    fc.assert(
      fc.property(hits, fc.nat(100), (changes, cut) => {
        const bad = [...good];
        for (const [at, value] of changes) if (at < bad.length) bad[at] = value;
        expect(test.run([bad.slice(0, cut)])[0]!.error).toBeUndefined();
      }),
    );
  });

  it.each([
    [{ inner: undefined }, 'ERR_OPTION_INVALID'],
    [{ inner: 'nothing' }, 'ERR_OPTION_INVALID'],
    [{ inner: 'echo.wasm' }, 'ERR_OPTION_INVALID'],
    [{ inner: 'firewall', innerOptions: { denny: 1 } }, 'ERR_OPTION_UNKNOWN'],
    [{ innerOptions: 7 }, 'ERR_OPTION_INVALID'],
    [{ externalVni: 1 << 24 }, 'ERR_OPTION_INVALID'],
    [{ internalPort: 0 }, 'ERR_OPTION_INVALID'],
    [{ port: 1 }, 'ERR_OPTION_UNKNOWN'],
  ])('refuses %o', async (options, code) => {
    await expect(load(options)).rejects.toMatchObject({ code });
  });
});
