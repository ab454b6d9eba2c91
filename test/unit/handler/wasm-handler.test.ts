import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Dispatch } from '../../../src/datapath/dispatch.ts';
import { Burst } from '../../../src/handler/burst.ts';
import type { Handler, TickingHandler } from '../../../src/handler/handler.ts';
import { DELIVER, DROP, FORWARD, PASS, TEE, TX } from '../../../src/handler/handler.ts';
import { loadHandler } from '../../../src/handler/load-handler.ts';
import { wasmHandler } from '../../../src/handler/wasm-handler.ts';
import * as echoModule from '../../../src/handlers/echo.ts';
import * as reflectModule from '../../../src/handlers/reflect.ts';
import { loadShim } from '../../../src/kernel/shim.ts';
import { queueCounters } from '../../../src/memory/counters.ts';
import { DeliverySender } from '../../../src/memory/delivery-ring.ts';
import { FramePool } from '../../../src/memory/frames.ts';
import { HEADROOM, Path } from '../../../src/memory/layout.ts';
import { setMac } from '../../../src/memory/macs.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { BURST_BYTES, MAC_STRIDE, MODULE_AREA_BYTES } from '../../../src/memory/wasm-abi.ts';
import { maxPacketBytes } from '../../../src/net/packet-size.ts';
import type { AttachedPath } from '../../../src/paths/attached-path.ts';
import { limitSentBytes } from '../../../src/paths/packet-limit.ts';
import { HandlerTest } from '../../../src/testing.ts';
import {
  arp,
  BROADCAST,
  be16,
  ethernet,
  FRAME_SIZE,
  icmpEcho,
  ipv4,
  loaded,
  naiveChecksum,
  OUR_IP,
  OUR_MAC,
  smallMemory,
  udp,
  workerContext,
} from '../../support/frames.ts';
import { abi, burst as burstOf, type Form, named, Op, type Part, wasm } from '../../support/wasm-bytes.ts';

const built = (path: string) => new URL(`../../../dist/${path}`, import.meta.url);
const ours = (name: string) => readFileSync(built(`src/handlers/${name}.wasm`));
const fixture = (name: string) => readFileSync(built(`test/fixtures/wasm/${name}.wasm`));
const context = workerContext();

/** Made for each burst, as a worker makes it for its one. */
const reflect: Handler = (burst) => reflectModule.create({}, { ...context, burst })(burst);

function handlerOf(bytes: Uint8Array, memory: Memory, options = {}, where = context): Handler {
  const handler = wasmHandler('file:///handler.wasm', bytes, options, where, memory);
  return typeof handler === 'function' ? handler : handler.handle;
}

const data = (length: number) => Array.from({ length }, (_, i) => (i * 7 + 1) & 255);
const VLAN = [0x81, 0x00, 0x20, 0x05];
const QINQ = [0x88, 0xa8, 0x00, 0x07, ...VLAN];
const TRAFFIC: number[][] = [
  ethernet(ipv4(icmpEcho(data(30)))),
  ethernet(ipv4(udp(data(30)), { protocol: 17 })),
  ethernet(ipv4(udp(data(31), { bare: true }), { protocol: 17 })),
  ethernet(arp(), { dst: BROADCAST, type: 0x0806 }),
  ethernet(arp(), { type: 0x0806 }),
  ethernet(ipv4(icmpEcho(data(30))), { tags: VLAN }),
  ethernet(ipv4(udp(data(5)), { protocol: 17 }), { tags: QINQ }),
  ethernet(arp(), { dst: BROADCAST, tags: QINQ, type: 0x0806 }),
  [...ethernet(ipv4(icmpEcho([1]))), ...data(17)],
  ethernet(ipv4(udp([], { from: 7 }), { protocol: 17 })),
  ethernet(ipv4(icmpEcho(data(8)), { options: [1, 1, 1, 1] })),
  ethernet(arp(), { tags: [...QINQ, ...VLAN], type: 0x0806 }),
];

/** A handler in TypeScript and its twin, each in a memory of its own. */
class Twins {
  readonly #memories = [smallMemory(), smallMemory()] as const;
  readonly #handlers: readonly [Handler, Handler];

  constructor(name: string, script: Handler, options = {}) {
    this.#handlers = [script, handlerOf(ours(name), this.#memories[1], options)];
  }

  /** What each makes of a burst: verdict, start, length and every byte of the frames, headroom included. */
  handle(frames: readonly (readonly number[])[]) {
    return this.#memories.map((memory, which) => {
      const { layout, bytes } = memory;
      const end = layout.frames + frames.length * FRAME_SIZE;
      bytes.fill(0xee, layout.frames, end);
      const burst = loaded(frames, memory);
      try {
        this.#handlers[which]!(burst);
      } catch (error) {
        expect(which).toBe(0); // WebAssembly has no exception that costs one packet
        expect(error).toBeInstanceOf(RangeError);
      }
      const decided = {
        verdicts: [...burst.verdict.subarray(0, frames.length)],
        starts: frames.map((_, i) => burst.offset[i]! - layout.frames),
        lengths: [...burst.bytes.subarray(0, frames.length)],
      };
      return { decided, bytes: Buffer.from(bytes.slice(layout.frames, end)) };
    });
  }

  expectSame(...frames: readonly (readonly number[])[]): number[] {
    const [script, module] = this.handle(frames);
    expect(module!.decided).toEqual(script!.decided);
    // Compared at once; element by element only to show the difference.
    if (!module!.bytes.equals(script!.bytes)) expect([...module!.bytes]).toEqual([...script!.bytes]);
    return module!.decided.verdicts;
  }
}

const echoOptions = { address: OUR_IP.join('.') };
const TWINS: [string, () => Twins][] = [
  ['reflect', () => new Twins('reflect', reflect)],
  ['echo', () => new Twins('echo', echoModule.create(echoOptions, context).handle, echoOptions)],
];

describe.each(TWINS)('%s in WebAssembly does as in TypeScript', (name, make) => {
  it('with whole bursts', () => {
    const verdicts = make().expectSame(...TRAFFIC);
    expect(verdicts.filter((verdict) => verdict === TX)).toHaveLength(name === 'echo' ? 10 : TRAFFIC.length);
  });

  it('with frames cut off at every length', () => {
    const twins = make();
    for (const frame of TRAFFIC) {
      for (let length = 0; length <= frame.length; length++) twins.expectSame(frame.slice(0, length));
    }
  });

  it('with frames in which bytes were changed', () => {
    const twins = make();
    const change = fc.tuple(fc.nat(75), fc.nat(255));
    let answered = 0;
    fc.assert(
      fc.property(
        fc.constantFrom(...TRAFFIC),
        fc.array(change, { maxLength: 3 }),
        fc.option(fc.nat(80), { nil: 80 }),
        fc.boolean(),
        (whole, changes, cut, repair) => {
          const frame = whole.slice(0, cut);
          for (const [at, value] of changes) if (at < frame.length) frame[at] = value;
          // Without this nearly every change to the header is hidden behind a wrong checksum.
          if (repair && frame[12] === 8 && frame[13] === 0 && frame.length >= 34) {
            const header = frame.slice(14, 34);
            header.splice(10, 2, 0, 0);
            frame.splice(24, 2, ...be16(naiveChecksum(header)));
          }
          if (twins.expectSame(frame)[0] === TX) answered++;
        },
      ),
      { numRuns: 2000 },
    );
    expect(answered).toBeGreaterThan(100);
  });

  it('with noise', () => {
    const twins = make();
    fc.assert(fc.property(fc.array(fc.nat(255), { maxLength: 80 }), (noise) => void twins.expectSame(noise)));
  });
});

describe('echo in WebAssembly', () => {
  const OTHER_MAC = [0x02, 0, 0, 0, 0, 0x07];

  it.each([
    { address: ['10.77.0.9', '10.77.0.2'], port: 53 },
    { address: ['10.77.0.2'], port: 65_535 },
    { port: 7, address: '10.77.0.2' },
    { address: '223.255.255.255', port: 1 },
    { address: '10.77.0.2', port: undefined },
  ])('has the options of its twin: %j', (options) => {
    const twins = new Twins('echo', echoModule.create(options, context).handle, options);
    const { port = 7 } = options;
    for (const dst of [OUR_IP, [10, 77, 0, 9], [223, 255, 255, 255]]) {
      twins.expectSame(
        ethernet(ipv4(icmpEcho([]), { dst })),
        ethernet(arp({ target: dst }), { type: 0x0806 }),
      );
      for (const to of [port, 7]) {
        twins.expectSame(ethernet(ipv4(udp([], { to, dst }), { protocol: 17, dst })));
      }
    }
  });

  it('answers the same ports, and the same MAC addresses', () => {
    const twins = new Twins('echo', echoModule.create(echoOptions, context).handle, echoOptions);
    const verdicts = new Set<number>();
    for (let first = 0; first < 0x10000; first += 64) {
      const ports = Array.from({ length: 64 }, (_, i) => first + i);
      const frames = ports.map((from) => ethernet(ipv4(udp([], { from, bare: true }), { protocol: 17 })));
      for (const verdict of twins.expectSame(...frames)) verdicts.add(verdict);
    }
    expect([...verdicts].sort()).toEqual([DROP, TX]);
    twins.expectSame(
      ethernet(arp(), { src: OUR_MAC, type: 0x0806 }),
      ethernet(ipv4(icmpEcho([])), { src: OUR_MAC }),
    );
  });

  it('answers with the address of the port a packet came by', () => {
    const memory = smallMemory(2);
    memory.bytes.set(OTHER_MAC, memory.layout.macs + MAC_STRIDE);
    const echo = handlerOf(ours('echo'), memory, echoOptions);
    const burst = loaded(
      [1, 2].fill(0).map(() => ethernet(arp(), { dst: BROADCAST, type: 0x0806 })),
      memory,
    );
    burst.port[1] = 1;
    echo(burst);
    expect([...burst.packet(0).bytes().slice(6, 12)]).toEqual(OUR_MAC);
    expect([...burst.packet(1).bytes().slice(6, 12)]).toEqual(OTHER_MAC);
  });

  it.each([
    {},
    { address: [] },
    { address: '10.77.0' },
    { address: '10.77.0.256' },
    { address: '10.77.0.2.1' },
    { address: '10.77.00.2' },
    { address: '' },
    { address: '224.0.0.1' },
    { address: '0.0.0.1' },
    { address: '127.0.0.1' },
    { address: ['10.77.0.2', 7] },
    { address: [['10.77.0.2']] },
    { address: 7 },
    { address: null },
    { address: 'fe80::1' },
    { address: '10.77.0.2', port: 0 },
    { address: '10.77.0.2', port: -1 },
    { address: '10.77.0.2', port: 65_536 },
    { address: '10.77.0.2', port: 4_294_967_303 },
    { address: '10.77.0.2', port: 7.5 },
    { address: '10.77.0.2', port: 1e21 },
    { address: '10.77.0.2', port: Number.NaN },
    { address: '10.77.0.2', port: '7' },
    { address: '10.77.0.2', port: [7] },
    { adress: '10.77.0.2' },
    { address: '10.77.0.2', 'port"': 7 },
    { addressee: '10.77.0.2' },
  ])('refuses what its twin refuses: %j', (options) => {
    expect(() => echoModule.create(options, context).handle).toThrow();
    expect(() => handlerOf(ours('echo'), smallMemory(), options)).toThrow(
      expect.objectContaining({
        code: 'ERR_OPTION_INVALID',
        detail: expect.stringMatching(/'address' and 'port'|echo answers|of echo is not/),
      }),
    );
  });
});

describe('a module is refused', () => {
  const refused = (bytes: Uint8Array, options = {}): unknown => {
    try {
      handlerOf(bytes, smallMemory(), options);
    } catch (error) {
      expect(error).toMatchObject({ code: 'ERR_HANDLER', device: 'file:///handler.wasm' });
      return error;
    }
    return undefined;
  };
  const good = [abi(), burstOf()];

  it.each<[string, Form | Uint8Array, string]>([
    ['when it is none', Buffer.from('export default () => {};'), 'it is not a WebAssembly module'],
    ['when it is empty', new Uint8Array(), 'it is not a WebAssembly module'],
    ['when it is cut off', wasm().slice(0, -3), 'WebAssembly.Module()'],
    ['without burst', { exports: [abi()] }, 'it does not export burst'],
    ['without a version', { exports: [burstOf()] }, 'it does not export twinpath_abi'],
    ['for another version', { exports: [abi(1), burstOf()] }, 'it is for version 1 of the ABI'],
    [
      'whose burst is no function',
      { exports: [abi(), { name: 'burst', global: 1 }] },
      'its burst is a global, not a function',
    ],
    [
      'whose tick is no function',
      { exports: [...good, { name: 'tick', global: 1 }] },
      'its tick is a global, not a function',
    ],
    [
      'whose burst takes something else',
      { exports: [abi(), { name: 'burst', takes: 1 }] },
      'its burst is (i32) -> (): it has to be (i32, i32) -> ()',
    ],
    [
      'whose turn takes something else',
      { exports: [...good, { name: 'in_place', takes: 2 }] },
      'its in_place is (i32, i32) -> (): it has to be (i32, i32, i32, i32) -> ()',
    ],
    [
      'whose burst takes pointers of 64 bits',
      { exports: [abi(), { name: 'burst', type: 'li>' }] },
      'its burst is (i64, i32) -> ()',
    ],
    [
      'whose burst takes floating point',
      { exports: [abi(), { name: 'burst', type: 'dd>' }] },
      'its burst is (f64, f64) -> ()',
    ],
    [
      'whose burst takes references',
      { exports: [abi(), { name: 'burst', type: 'xx>' }] },
      'its burst is (externref, externref) -> ()',
    ],
    [
      'whose burst returns something',
      { exports: [abi(), { name: 'burst', type: 'ii>i' }] },
      'its burst is (i32, i32) -> i32',
    ],
    [
      'whose version is no number that it could be',
      { exports: [{ name: 'twinpath_abi', type: '>l' }, burstOf()] },
      'its twinpath_abi is () -> i64: it has to be () -> i32',
    ],
    [
      'whose init takes something',
      { exports: [...good, { name: 'init', type: 'i>' }] },
      'its init is (i32) -> (): it has to be () -> ()',
    ],
    [
      'whose tick takes something else',
      { exports: [...good, { name: 'tick', type: 'd>' }] },
      'its tick is (f64) -> (): it has to be (i32) -> ()',
    ],
    [
      'whose turn takes something else among the right',
      { exports: [...good, { name: 'in_place', type: 'iiif>' }] },
      'its in_place is (i32, i32, i32, f32) -> ()',
    ],
    [
      'whose stack pointer is 64 bits wide',
      { exports: [...good, { name: '__stack_pointer', type: 'l', global: 0, mutable: true }] },
      'its __stack_pointer is mut i64: it has to be mut i32',
    ],
    [
      'whose stack pointer cannot be set',
      { exports: [...good, { name: '__stack_pointer', global: 0 }] },
      'its __stack_pointer is i32: it has to be mut i32',
    ],
    [
      'whose thread-local memory has no size',
      { exports: [...good, { name: '__tls_size', type: 'x', global: 0 }] },
      'its __tls_size is externref',
    ],
    [
      'that imports a function of another type',
      { imports: ['env.take >l'] },
      'it imports env.take as () -> i64: it is () -> i32',
    ],
    [
      'that imports a function and throws away what it returns',
      { imports: ['env.context >i', 'env.post ii>'] },
      'it imports env.post as (i32, i32) -> (): it is (i32, i32) -> i32',
    ],
    ['without memory', { memory: false }, 'it does not import the memory'],
    ['with a memory that is not shared', { memory: { shared: false } }, 'its memory as not shared'],
    ['with more data than a page', { memory: { initial: 2 } }, 'it asks for 2 pages'],
    ['for a smaller memory', { memory: { maximum: 1 } }, 'it takes a memory of at most 1 pages'],
    [
      'that imports what is not there',
      { imports: ['env.send', 'wasi_snapshot_preview1.fd_write', 'env.take'] },
      'it imports env.send, wasi_snapshot_preview1.fd_write.',
    ],
    [
      'that imports by a name every object has',
      { imports: ['env.constructor'] },
      'it imports env.constructor',
    ],
    [
      'that takes a function for a global',
      { imports: ['env.take:global'] },
      'it imports env.take as a global',
    ],
    [
      'whose start function traps',
      { exports: [...good, { name: 'go', code: Op.UNREACHABLE }], start: 'go' },
      'it cannot be instantiated: unreachable',
    ],
    [
      'whose version traps',
      { exports: [{ ...abi(), code: Op.UNREACHABLE }, burstOf()] },
      'its twinpath_abi() failed: unreachable',
    ],
    [
      'whose init traps',
      { exports: [...good, { name: 'init', code: Op.UNREACHABLE }] },
      'its init() failed: unreachable',
    ],
    ['with a stack for all workers', named(wasm(), '__stack_pointer'), 'it has a stack'],
    ['with thread-local variables nowhere', named(wasm(), '__tls_base'), 'it has thread-local variables'],
  ])('%s', (_, form, text) => {
    const bytes = form instanceof Uint8Array ? form : wasm(form);
    expect(String(refused(bytes))).toContain(text);
  });

  it('when its options do not fit, or cannot be written', () => {
    const long = { text: 'x'.repeat(MODULE_AREA_BYTES) };
    expect(String(refused(wasm(), long))).toContain('its options are too long');
    expect(String(refused(wasm(), { big: 1n }))).toContain('cannot be written as JSON');
  });

  it('with the text it gives, when it is its options that are wrong', () => {
    expect(() => handlerOf(fixture('moody'), smallMemory(), { some: 1 })).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION_INVALID', detail: 'no options – none' }),
    );
  });

  it('and a good one is not', () => {
    const memory = smallMemory();
    const burst = loaded([[1]], memory);
    handlerOf(wasm(), memory)(burst);
    expect(burst.verdict[0]).toBe(DROP);
    handlerOf(wasm({ memory: { initial: 0 }, imports: ['env.take >i', 'env.abort iiii>'] }), smallMemory());
    const imports = ['env.context >i', 'env.post ii>i', 'env.put i>', 'env.fail ii>'];
    const own = ['dlx>v', 'cv>ff', '>'].map((type, i) => ({ name: `own${i}`, type }));
    const globals = ['d', 'v', 'x', 'c', 'l', 'f'].map((type, i) => ({
      name: `global${i}`,
      type,
      global: 0,
    }));
    const rest: Part[] = [
      { name: 'init' },
      { name: 'tick', type: 'i>' },
      { name: 'in_place', type: 'iiii>' },
      { name: '__stack_pointer', global: 1024, mutable: true },
      { name: '__tls_size', global: 0 },
    ];
    handlerOf(wasm({ imports, exports: [...own, ...globals, ...good, ...rest] }), smallMemory());
  });
});

describe('the area of a worker', () => {
  const memory = Memory.create({
    ...{ pageSize: 4096, ports: 2, queues: 2, frameSize: FRAME_SIZE, framesPerWorker: 64, ringEntries: 64 },
  });

  it('gives a module its queue, its MAC address and the properties of each packet', () => {
    const moody = handlerOf(fixture('moody'), memory, {}, { ...context, queue: 1, queues: 2 });
    setMac(memory, 1, '02:00:00:00:00:09'); // also what is set later
    const burst = new Burst(memory, 1);
    const at = memory.layout.frames + HEADROOM;
    memory.bytes.set([10, ...Array(30).fill(0)], at);
    [burst.offset[0], burst.bytes[0], burst.port[0], burst.path[0]] = [at, 31, 1, 2];
    [burst.hash[0], burst.offload[0]] = [0x01020304, 0x05060708];
    burst.begin(1);
    moody(burst);
    const shown = [...burst.packet(0).bytes()];
    expect(shown.slice(1, 19)).toEqual([1, 2, 2, 2, 0, 0, 0, 0, 9, 2, 4, 3, 2, 1, 8, 7, 6, 5]);
    expect(burst.packet(0).view.getInt32(at + 19, true)).toBe(MODULE_AREA_BYTES - 65_536 - 48);
    expect([burst.verdict[0], burst.target[0]]).toEqual([TX, 7]);
  });

  it('keeps what a module allocates apart from the other workers and from the port', () => {
    const { layout, words } = memory;
    const handlers = [0, 1].map((queue) =>
      handlerOf(fixture('moody'), memory, {}, { ...context, queue, queues: 2 }),
    );
    const bursts = [0, 1].map((queue) => new Burst(memory, queue));
    const port = () => [...words.slice(memory.control.at('magic'), layout.burst(0) >> 2)];
    const before = port();
    const at = layout.frames + HEADROOM;
    const seen = (queue: number, key: number): number => {
      const burst = bursts[queue]!;
      memory.bytes.set([11, key, 0], at);
      [burst.offset[0], burst.bytes[0]] = [at, 3];
      burst.begin(1);
      handlers[queue]!(burst);
      return memory.bytes[at + 2]!;
    };
    for (let key = 0; key < 100; key++) expect(seen(0, key)).toBe(1);
    expect([seen(0, 3), seen(0, 3), seen(1, 3), seen(0, 99), seen(1, 3)]).toEqual([2, 3, 1, 2, 2]);
    expect(port()).toEqual(before);
  });

  it('is empty again for the worker that replaces a dead one', () => {
    const { layout, bytes } = memory;
    const area = layout.moduleArea(1);
    bytes.fill(0xff, area, area + MODULE_AREA_BYTES);
    handlerOf(wasm(), memory, {}, { ...context, queue: 1, queues: 2 });
    expect(bytes.slice(area + 64, area + MODULE_AREA_BYTES).every((byte) => byte === 0)).toBe(true);
  });

  it('holds the stack, which a trap does not make shorter', () => {
    // Writes its stack pointer where the first packet's offset is, lowers it, and traps.
    const code = [
      ...[...Op.local(0), ...Op.global(0), ...Op.STORE],
      ...[...Op.global(0), ...Op.constant(-16), ...Op.ADD, ...Op.setGlobal(0), ...Op.UNREACHABLE],
    ];
    const stack = { name: '__stack_pointer', global: 1024, mutable: true };
    const deep = handlerOf(wasm({ exports: [abi(), burstOf(code), stack] }), memory, {}, context);
    const burst = new Burst(memory, 0);
    for (let call = 0; call < 3; call++) {
      burst.begin(1);
      expect(() => deep(burst)).toThrow('unreachable');
      expect(burst.offset[0]).toBe(memory.layout.moduleArea(0) + MODULE_AREA_BYTES);
    }
  });

  it('has thread-local variables behind the stack, aligned', () => {
    // __wasm_init_tls leaves its argument in the first word of memory; burst its stack pointer in the second.
    const init = [...Op.constant(0), ...Op.local(0), ...Op.STORE];
    const code = [...Op.constant(4), ...Op.global(0), ...Op.STORE];
    const module = (size: number) =>
      wasm({
        exports: [
          ...[abi(), burstOf(code), { name: '__wasm_init_tls', takes: 1, code: init }],
          { name: '__stack_pointer', global: 1024, mutable: true },
          ...[
            { name: '__tls_size', global: size },
            { name: '__tls_align', global: 64 },
          ],
        ],
      });
    handlerOf(module(100), memory, {}, context)(new Burst(memory, 0));
    const end = memory.layout.moduleArea(0) + MODULE_AREA_BYTES;
    expect([...memory.words.slice(0, 2)]).toEqual([end - 128, end - 128]);
    expect(() => handlerOf(module(40_000), memory, {}, context)).toThrow('thread-local');
  });
});

describe('what a module does in a burst', () => {
  /** A queue with a path that keeps what it is given. */
  function queue(name: string) {
    const memory = smallMemory();
    const pool = new FramePool(memory, 0);
    pool.owners.recover([]);
    const sent: number[][] = [];
    limitSentBytes(memory, 0, Path.SYNTHETIC, maxPacketBytes(memory.layout.geometry.frameSize));
    const out = {
      room: (count: number) => count,
      push: (offset: number, length: number) => {
        sent.push([...memory.bytes.slice(offset, offset + length)]);
        pool.put(offset - memory.layout.frames);
      },
    };
    const burst = new Burst(memory, 0);
    const made = wasmHandler('file:///handler.wasm', fixture(name), {}, context, memory);
    const handler = typeof made === 'function' ? made : made.handle;
    const failures: string[] = [];
    const failed = (error: unknown) => void failures.push(String(error));
    const delivery = new DeliverySender(memory, pool, burst, 0, 0);
    const forwardTable = { ports: [], relays: [] };
    const place = { shim: loadShim(), memory, pool, burst, handler, failed, port: 0, queue: 0 };
    const dispatch = new Dispatch({ ...place, forwardTable, delivery });
    dispatch.out = { path: Path.SYNTHETIC, tx: out } as unknown as AttachedPath;
    const counter = (name: Parameters<typeof Reflect.get>[1]): number =>
      memory.doubles[Reflect.get(queueCounters(memory, 0, 0), name)]!;
    return {
      ...{ memory, pool, sent, failures, burst, dispatch, made, counter },
      run(...packets: number[][]): void {
        const free = pool.count;
        packets.forEach((packet, i) => {
          const offset = dispatch.frames.take();
          memory.bytes.set(packet, offset);
          [burst.offset[i], burst.bytes[i]] = [offset, packet.length];
        });
        dispatch.run(packets.length, Path.SYNTHETIC);
        expect(pool.count).toBe(free);
      },
    };
  }
  const packet = (...first: number[]) => [...first, ...data(60 - first.length)];

  it('costs the burst and is counted when it traps, and the next burst is served', () => {
    const { run, sent, failures, counter } = queue('trap');
    run(packet(1), packet(0xfe), packet(2));
    expect(sent).toEqual([]);
    expect(failures).toEqual(['RuntimeError: unreachable']);
    run(packet(1), packet(2));
    expect(sent).toEqual([packet(1), packet(2)]);
    expect([counter('handlerErrors'), counter('dropHandlerError'), counter('bursts')]).toEqual([1, 3, 2]);
  });

  it('may move a packet inside its frame', () => {
    const { run, sent } = queue('moody');
    run(packet(9, 1, 2, 3, 4));
    expect(sent).toEqual([packet(9, 1, 2, 3, 4).slice(4)]);
  });

  it('may be to send a packet of its own, one at a time', () => {
    const { run, sent, counter } = queue('moody');
    run(packet(1, 62), packet(1, 14), packet(3), packet(5));
    expect(sent.map(({ length }) => length)).toEqual([62, 14, 60, 60, 60, 60]);
    expect(sent[0]!.slice(4)).toEqual(Array(58).fill(0x5a));
    expect(sent.slice(2).map((bytes) => bytes[1])).toEqual([1, 1, 1, packet(5)[1]]);
    expect(counter('sent')).toBe(2);
  });

  it('may be to send a packet of its own between two bursts', () => {
    const { made, sent, burst, dispatch } = queue('moody');
    burst.bind(dispatch.frames);
    burst.begin(0);
    (made as TickingHandler).tick(burst, 5);
    expect(sent).toEqual([[5, 0, 0, 0, ...Array(56).fill(0x5a)]]);
  });

  it('keeps no frame that it took and forgot, and none when it traps', () => {
    const { run, failures } = queue('moody');
    run(packet(3));
    run(packet(2));
    expect(failures).toEqual(['RuntimeError: unreachable']);
  });

  it('gets an error for a packet that is too short, and if no frame is free', () => {
    const { run, sent, counter, dispatch } = queue('moody');
    run(packet(1, 10));
    expect(sent[0]![1]).toBe(0);
    expect(counter('sendRefused')).toBe(1);
    for (let taken = 0; taken < 63; taken++) dispatch.frames.take();
    run(packet(1, 60));
    expect(sent[1]![1]).toBe(0);
    expect(counter('sendRefused')).toBe(2);
  });

  it('gets no frame where there is no datapath', () => {
    const memory = smallMemory();
    const burst = loaded([packet(1, 60)], memory);
    handlerOf(fixture('moody'), memory)(burst);
    expect(burst.packet(0).u8(1)).toBe(0);
  });

  it.each([
    [4, /the frame at \d+ was not taken/],
    [6, /in the midst of it/],
    [7, /as asked in test\/fixtures\/wasm\/moody.ts:\d+:\d+/],
    [8, /unreachable/],
    [12, /the frame at \d+ was not taken/],
  ])('is an exception with its reason, at %i', (mood, reason) => {
    const { run, failures, sent } = queue('moody');
    run(packet(mood));
    expect(failures).toEqual([expect.stringMatching(reason)]);
    expect(sent).toEqual([]);
    run(packet(0));
    expect(sent).toHaveLength(1);
  });
});

describe('a handler is loaded as WebAssembly', () => {
  const folder = mkdtempSync(join(tmpdir(), 'twinpath-wasm-'));
  const load = (url: URL | string, memory = smallMemory()) => {
    const burst = loaded([TRAFFIC[0]!], memory);
    const where = { queue: 0, queues: 1, memory, burst };
    return loadHandler(String(url), {}, where).then((made) => ({ ...made, burst }));
  };

  it('by the name of its file or by its first bytes', async () => {
    onTestFinished(() => rmSync(folder, { recursive: true }));
    copyFileSync(built('src/handlers/reflect.wasm'), join(folder, 'reflect'));
    for (const url of [built('src/handlers/reflect.wasm'), pathToFileURL(join(folder, 'reflect'))]) {
      const { handle, tick, burst } = await load(url);
      handle(burst);
      expect([burst.verdict[0], tick]).toEqual([TX, undefined]);
    }
    writeFileSync(join(folder, 'text.wasm'), 'export default () => {};');
    await expect(load(pathToFileURL(join(folder, 'text.wasm')))).rejects.toMatchObject({
      ...{ code: 'ERR_HANDLER', detail: 'it is not a WebAssembly module' },
    });
    await expect(load(pathToFileURL(join(folder, 'none.wasm')))).rejects.toMatchObject({
      ...{ code: 'ERR_HANDLER', detail: expect.stringContaining('ENOENT') },
    });
  });

  it('with its tick, if it has one, and JavaScript as ever', async () => {
    const { tick, tickMillis } = await load(built('test/fixtures/wasm/moody.wasm'));
    expect([typeof tick, tickMillis]).toEqual(['function', 10]);
    const script = await load(new URL('../../../src/handlers/reflect.ts', import.meta.url));
    script.handle(script.burst);
    expect([script.burst.verdict[0], script.tick]).toEqual([TX, undefined]);
  });
});

describe('metadata', () => {
  it('is what a module asks for, and a module that asks for nothing has none', async () => {
    const memory = smallMemory();
    const burst = new Burst(memory, 0);
    const load = { queue: 0, queues: 1, memory, burst };
    const asked = async (name: string): Promise<number> => {
      burst.metadata = 0;
      await loadHandler(built(name).href, {}, load);
      return burst.metadata;
    };
    expect(await asked('test/fixtures/wasm/metadata.wasm')).toBe(63);
    expect(await asked('src/handlers/reflect.wasm')).toBe(0);
    await loadHandler(built('src/handlers/reflect.wasm').href, {}, { ...load, metadata: ['rule', 'tag'] });
    expect(burst.metadata).toBe(8 | 16);
    // The handlers of a worker's ports share its burst.
    await loadHandler(built('test/fixtures/wasm/metadata.wasm').href, {}, load);
    await loadHandler(built('src/handlers/reflect.wasm').href, {}, load);
    expect(burst.metadata).toBe(63);
  });

  it('that does not exist is refused', () => {
    const asks = (code: readonly number[]) =>
      wasm({ exports: [abi(), burstOf(), { name: 'twinpath_metadata', returns: true, code }] });
    expect(() => handlerOf(asks(Op.constant(64)), smallMemory())).toThrow(
      'its twinpath_metadata() returns 64',
    );
    expect(() => handlerOf(asks(Op.UNREACHABLE), smallMemory())).toThrow('its twinpath_metadata() failed');
  });

  it('is the same to a handler in TypeScript and to one in WebAssembly, and so are their orders', async () => {
    const [script, module] = await Promise.all(
      ['../../fixtures/handlers/metadata.mjs', '../../../dist/test/fixtures/wasm/metadata.wasm'].map((file) =>
        HandlerTest.load(new URL(file, import.meta.url)),
      ),
    );
    const packet = fc
      .tuple(fc.integer({ min: 0, max: 4 }), fc.constantFrom(7, 8), fc.integer({ min: 0, max: 300 }))
      .map(([order, port, count]) =>
        ethernet(ipv4(udp([order, ...data(count)], { to: port }), { protocol: 17 })),
      );
    const origin = fc.record({
      path: fc.constantFrom(Path.SYNTHETIC, Path.VF, Path.HOST),
      hash: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
      time: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      rule: fc.integer({ min: -1, max: 65_534 }),
      checksumVerified: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(packet, { maxLength: 100 }), origin, (packets, from) => {
        expect(module!.run(packets, from)).toEqual(script!.run(packets, from));
      }),
    );
    const [answer] = script!.run([ethernet(ipv4(udp([2, ...data(60)]), { protocol: 17 }))], {
      time: 0x1_0000_0002n,
      rule: 4,
      hash: -2,
    });
    expect([...answer!.bytes.subarray(42, 62)]).toEqual([
      ...[2, Path.SYNTHETIC, 0, answer!.bytes[45], 0, 0, 0, 5],
      ...[255, 255, 255, 254, 0, 0, 0, 1, 0, 0, 0, 2],
    ]);
    expect([answer!.offload, answer!.tag]).toEqual([0x1000000, 0x10064]);
  });
});

describe('the declarations for other languages', () => {
  const read = (file: string) => readFileSync(new URL(`../../../${file}`, import.meta.url), 'utf8');
  const files = ['twinpath.h', 'twinpath.rs', 'twinpath.ts'].map((name) => read(`wasm/include/${name}`));
  const [c, rust] = files as [string, string];

  it('name the same verdicts with the same numbers', () => {
    const verdicts = { DROP, TX, FORWARD, PASS, DELIVER, TEE };
    for (const text of files) {
      for (const [name, number] of Object.entries(verdicts)) {
        expect(text).toMatch(new RegExp(`\\b(TWINPATH_)?${name}(: u8)? = ${number}[,;]`));
      }
    }
  });

  it('lay out the burst as the port does', () => {
    const memory = smallMemory();
    const burst = new Burst(memory, 0);
    const at = memory.layout.burst(0);
    const old = ['offset', 'bytes', 'hash', 'offload', 'port', 'path', 'verdict', 'target'] as const;
    const order = [...old, 'tag', 'rule', 'time', 'checksum'] as const;
    const places = order.map((name) => burst[name].byteOffset - at);
    expect(places).toEqual([0, 256, 512, 768, 1024, 1088, 1152, 1216, 1280, 1536, 1792, 2304]);
    // In this order: with the size that twinpath.h asserts nothing else fits.
    const fields = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map(([, name]) => name);
    const named = ['packet', ...order.slice(1)];
    expect(fields(c, /(\w+)\[TWINPATH_BURST\];/g)).toEqual(named);
    expect(fields(rust, /pub (\w+): \[.*; BURST\]/g)).toEqual(named);
    expect(c).toContain(`sizeof(struct twinpath_burst) == ${BURST_BYTES}`);
    const page = read('docs/wasm-abi.md');
    for (const place of places) expect(page).toMatch(new RegExp(`^\\| ${place} \\| `, 'm'));
  });
});
