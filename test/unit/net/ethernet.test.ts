/** Everything that looks into a packet finds its network header at one place, the kernel's. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import koffi from 'koffi';
import { afterAll, describe, expect, it } from 'vitest';
import { networkOffset } from '../../../src/net/ethernet.ts';
import { Flow } from '../../../src/net/flow.ts';
import { Headers } from '../../../src/net/headers.ts';
import { DEFAULT_KEY } from '../../../src/rss/key.ts';
import { RssHash } from '../../../src/rss/toeplitz.ts';
import { be16, ethernet, ipv4, ipv6, loaded, udp } from '../../support/frames.ts';

/** Of the frame's hexadecimal digits: takes one tag off after the other while there is a whole one. */
function model(frame: readonly number[]): { l3: number; type: number } {
  let rest = Buffer.from(frame.slice(12)).toString('hex');
  while (/^(8100|88a8)[\da-f]{8}/.test(rest)) rest = rest.slice(8);
  return { l3: frame.length - rest.length / 2 + 2, type: Number.parseInt(rest.slice(0, 4), 16) };
}

const tag = fc
  .tuple(fc.constantFrom(0x8100, 0x88a8), fc.constantFrom(0, 0x2000, 1, 5, 0x0fff, 0xffff))
  .map(([type, tci]) => [...be16(type), ...be16(tci)]);
const tags = fc.array(tag, { maxLength: 24 }).map((all) => all.flat());
const type = fc.constantFrom(0x0800, 0x86dd, 0x0806, 0x9100, 0x88cc, 46);
const tagged = fc
  .tuple(tags, type, fc.nat(12))
  .map(([tags, type, bytes]) => ethernet(Array(bytes).fill(0x45), { tags, type }));
/** Cut off anywhere behind the Ethernet header. */
const cut = fc.tuple(tagged, fc.nat(120)).map(([frame, length]) => frame.slice(0, Math.max(14, length)));
const noise = fc.array(fc.constantFrom(0x81, 0, 0x88, 0xa8, 8), { minLength: 14, maxLength: 60 });
const frames = fc.oneof(tagged, cut, noise);

describe('the network header', () => {
  it('is found behind any number of VLAN tags', () => {
    fc.assert(
      fc.property(frames, fc.nat(9), (frame, before) => {
        const { l3, type } = model(frame);
        const view = new DataView(Uint8Array.of(...Array(before).fill(0x81), ...frame).buffer);
        expect(networkOffset(view, before, frame.length)).toBe(l3);
        const packet = loaded([frame]).packet(0);
        expect([packet.l3, packet.etherType]).toEqual([l3, type]);
        const flow = new Flow();
        flow.read(packet);
        expect([flow.l3, flow.type]).toEqual([l3, type]);
        const headers = new Headers();
        headers.parse(view, before, frame.length);
        expect(headers.l3).toBe(l3);
      }),
    );
  });

  it('is the same to the handlers, the hash and the segments: tags change nothing that they find', () => {
    const datagram = udp([1, 2, 3, 4]);
    const bare = [
      ethernet(ipv4(datagram, { protocol: 17 })),
      ethernet(ipv6(datagram), { type: 0x86dd }),
    ] as const;
    fc.assert(
      fc.property(tags, fc.constantFrom(...bare), (tags, untagged) => {
        const frame = [...untagged.slice(0, 12), ...tags, ...untagged.slice(12)];
        const found = (bytes: number[]) => {
          const burst = loaded([bytes]);
          const { view, offset, length } = burst.packet(0);
          const flow = new Flow();
          const headers = new Headers();
          const isRead = flow.read(burst.packet(0)) && headers.parse(view, offset, length);
          const hash = new RssHash(view, DEFAULT_KEY).of(offset, length);
          return { isRead, hash, to: flow.to, places: [flow.addresses, flow.l4, flow.end, headers.l4] };
        };
        const { places, ...same } = found(untagged);
        expect(same).toMatchObject({ isRead: true, to: 7 });
        expect(found(frame)).toEqual({ ...same, places: places.map((at) => at + tags.length) });
      }),
    );
  });
});

describe('the include file for C', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tp-include-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('finds the network header at the same place', () => {
    const header = readFileSync(new URL('../../../wasm/include/twinpath.h', import.meta.url), 'utf8');
    const [text] = /^static inline int32_t twinpath_network_offset\([\s\S]*?^}$/m.exec(header)!;
    const source = join(folder, 'offset.c');
    writeFileSync(source, `#include <stdint.h>\n${text.replace('static inline', '')}\n`);
    execFileSync('cc', ['-shared', '-fPIC', '-Wall', '-Werror', source, '-o', join(folder, 'offset.so')]);
    const library = koffi.load(join(folder, 'offset.so'));
    const offset = library.func('int32_t twinpath_network_offset(const uint8_t *packet, int32_t bytes)');
    fc.assert(
      fc.property(frames, (frame) => {
        expect(offset(Uint8Array.from(frame), frame.length)).toBe(model(frame).l3);
      }),
    );
  });
});
