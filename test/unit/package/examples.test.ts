/** The JavaScript handlers of examples/ with frames, and what the READMEs there name. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Handler, HandlerModule, TickingHandler } from '../../../src/handler/handler.ts';
import { DELIVER, DROP, FORWARD, PASS, TX } from '../../../src/handler/handler.ts';
import { A, AAAA, asked, type Decoded, decode, messageOf, query } from '../../support/dns.ts';
import {
  arp,
  BROADCAST,
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
  smallMemory,
  udp,
  workerContext,
} from '../../support/frames.ts';
import { damaged, ECHO, OTHERS, TCP_SYN, VLAN } from '../../support/udp-echo.ts';

const examples = fileURLToPath(new URL('../../../examples', import.meta.url));
const folders = readdirSync(examples, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);

const context = workerContext();

function imported(name: string): Promise<HandlerModule> {
  return import(pathToFileURL(join(examples, name, 'handler.mjs')).href);
}

async function handlerOf(name: string, options = {}): Promise<Handler> {
  const module = await imported(name);
  return (module.create?.(options, context) ?? module.default) as Handler;
}

const TCP_ACK = TCP_SYN.with(13, 0x12);

describe('reflect', () => {
  it('exchanges the MAC addresses of each packet and sends it back', async () => {
    const handler = await handlerOf('reflect');
    expect(handled(handler, ECHO)).toEqual([TX, [...PEER_MAC, ...OUR_MAC, ...ECHO.slice(12)]]);
  });

  it('drops what was sent to a group, whose address may not be a source', async () => {
    const frame = ethernet(arp(), { type: 0x0806, dst: BROADCAST });
    expect(handled(await handlerOf('reflect'), frame)).toEqual([DROP, frame]);
  });
});

describe('udp-echo', () => {
  it('answers with correct checksums and a new time to live, also inside VLAN tags', async () => {
    const handler = await handlerOf('udp-echo');
    for (const tags of [[], VLAN, [...VLAN, ...VLAN]]) {
      const reply = ipv4(udp([1, 2, 3], { from: 7, to: 40_000, src: OUR_IP, dst: PEER_IP }), {
        ...{ src: OUR_IP, dst: PEER_IP, protocol: 17, ttl: 64 },
      });
      const request = ethernet(ipv4(udp([1, 2, 3]), { protocol: 17 }), { tags });
      expect(handled(handler, request)).toEqual([TX, ethernet(reply, { dst: PEER_MAC, src: OUR_MAC, tags })]);
    }
  });

  it('drops what comes from a service, and passes the rest to the machine', async () => {
    const handler = await handlerOf('udp-echo');
    const verdicts = OTHERS.map((frame) => {
      const [verdict, after] = handled(handler, frame);
      expect(after).toEqual(frame);
      return verdict;
    });
    expect(verdicts).toEqual([...Array(10).fill(PASS), ...Array(4).fill(DROP)]);
  });

  it('takes another port, and refuses one that there is not', async () => {
    const handler = await handlerOf('udp-echo', { port: 4000 });
    expect(handled(handler, ECHO)[0]).toBe(PASS);
    const at = (from: number) => ethernet(ipv4(udp([1], { from, to: 4000 }), { protocol: 17 }));
    expect(handled(handler, at(40_000))[0]).toBe(TX);
    expect(handled(handler, at(4000))[0]).toBe(DROP);
    for (const port of [0, 65_536, 7.5, '7'])
      await expect(handlerOf('udp-echo', { port })).rejects.toThrow('port');
  });

  it('never throws, whatever comes', async () => {
    const handler = await handlerOf('udp-echo');
    fc.assert(
      fc.property(damaged(ECHO), (frame) => void handled(handler, frame)),
      { numRuns: 2000 },
    );
  });
});

describe('dns', () => {
  const names = { 'www.example.test': '203.0.113.7', 'Mail.example.test': '203.0.113.8' };

  async function answer(message: number[], options = {}): Promise<Decoded> {
    const [verdict, frame] = handled(await handlerOf('dns', { names }), asked(message, options));
    expect(verdict).toBe(TX);
    expect(frame.slice(0, 12)).toEqual([...PEER_MAC, ...OUR_MAC]);
    expect(frame.slice(26, 38)).toEqual([...OUR_IP, ...PEER_IP, 0, 53, 0x9c, 0x40]);
    expect(frame[22]).toBe(64);
    return decode(messageOf(frame)); // which looks at lengths and checksums
  }

  it('answers for its names, in any case', async () => {
    for (const [name, data] of [
      ['www.example.test', '203.0.113.7'],
      ['WWW.Example.Test', '203.0.113.7'],
      ['mail.example.test', '203.0.113.8'],
    ] as const) {
      const { id, flags, answers } = await answer(query(name));
      expect({ id, flags }).toEqual({ id: 0xbeef, flags: 0x8500 });
      expect(answers).toEqual([{ name: `${name}.`, type: A, class: 1, ttl: 60, data }]);
    }
    expect((await answer(query('www.example.test', { edns: 1232 }))).additional).toEqual([]);
  });

  it('has no other records, and refuses other names', async () => {
    expect(await answer(query('www.example.test', { type: AAAA }))).toMatchObject({ code: 0, answers: [] });
    for (const name of ['example.test', 'www.example.test.a', 'xwww.example.test', 'www.example.tesu', '']) {
      expect(await answer(query(name))).toMatchObject({ code: 5, answers: [] });
    }
  });

  it('answers no answer, no service, and nothing that is cut off', async () => {
    const handler = await handlerOf('dns', { names });
    const whole = query('www.example.test');
    const dropped = [
      ...[0, 53, 1023].map((from) => asked(whole, { from })),
      asked(query('www.example.test', { flags: 0x8180 })),
      asked(query('www.example.test', { flags: 0x2000 })),
      asked(query('www.example.test', { counts: [2, 0, 0, 0] })),
      asked(whole.slice(0, -3)),
      asked(whole.slice(0, 12)),
    ];
    for (const frame of dropped) expect(handled(handler, frame)).toEqual([DROP, frame]);
  });

  it('passes what is not for it to the machine', async () => {
    const handler = await handlerOf('dns', { names });
    const group = ethernet(ipv4(udp(query('www.example.test'), { to: 53 }), { protocol: 17 }), {
      dst: BROADCAST,
    });
    for (const frame of [...OTHERS, ECHO, group]) expect(handled(handler, frame)).toEqual([PASS, frame]);
  });

  it('refuses wrong names and addresses when the port is opened', async () => {
    for (const [name, address] of [
      ['www', '203.0.113'],
      ['www', '2001:db8::7'],
      ['a..b', '203.0.113.7'],
      ['a b', '203.0.113.7'],
      ['a'.repeat(64), '203.0.113.7'],
    ] as const) {
      await expect(handlerOf('dns', { names: { [name]: address } })).rejects.toThrow(name);
    }
  });

  it('never throws, whatever comes', async () => {
    const handler = await handlerOf('dns', { names });
    const whole = asked(query('www.example.test', { edns: 1232 }));
    fc.assert(
      fc.property(damaged(whole), (frame) => void handled(handler, frame)),
      { numRuns: 2000 },
    );
  });
});

describe('counter', () => {
  const KINDS = ['tcp', 'udp', 'ping', 'other'] as const;
  const ping6 = [128, 0, 0, 0, 0, 1, 0, 1];
  const TRAFFIC: readonly (readonly [(typeof KINDS)[number], readonly number[]])[] = [
    ['tcp', ethernet(ipv4(TCP_SYN, { protocol: 6 }))],
    ['tcp', ethernet(ipv6(TCP_SYN, { next: 6 }), { type: 0x86dd, tags: VLAN })],
    ['other', ethernet(ipv4(TCP_ACK, { protocol: 6 }))],
    ['udp', ECHO],
    ['udp', ethernet(ipv6(udp([])), { type: 0x86dd })],
    ['ping', ethernet(ipv4(icmpEcho([])))],
    ['ping', ethernet(ipv6(ping6, { next: 58 }), { type: 0x86dd })],
    ['other', ethernet(ipv4(icmpEcho([], 0)))],
    ['other', ethernet(ipv4(udp([1]), { protocol: 17, fragment: 0x0001 }))],
    ['other', ethernet(arp(), { type: 0x0806 })],
    ['other', [1, 2, 3]],
  ];

  it('counts by kind in the words of its queue, and passes everything', async () => {
    const counters = new SharedArrayBuffer(2 * 64);
    const module = await imported('counter');
    const create = (queue: number) => module.create!({ counters }, { ...context, queue }) as Handler;
    const count = (handler: Handler, frames: readonly (readonly number[])[]): void => {
      const burst = loaded(frames);
      handler(burst);
      expect([...burst.verdict.subarray(0, frames.length)]).toEqual(frames.map(() => PASS));
    };
    const frames = TRAFFIC.map(([, frame]) => frame);
    const expected = KINDS.map((kind) => TRAFFIC.filter(([is]) => is === kind).length);
    const words = new Int32Array(counters);

    count(create(1), frames);
    expect([...words.subarray(0, 4)]).toEqual([0, 0, 0, 0]);
    expect([...words.subarray(16, 20)]).toEqual(expected);
    count(create(1), frames); // a worker that replaces a dead one
    expect([...words.subarray(16, 20)]).toEqual(expected.map((number) => 2 * number));
  });

  it('never throws, whatever comes', async () => {
    const handler = await handlerOf('counter', { counters: new SharedArrayBuffer(64) });
    for (const [, frame] of TRAFFIC)
      fc.assert(fc.property(damaged(frame), (bytes) => void handled(handler, bytes)));
  });
});

describe('sniffer and forwarding', () => {
  it('give every packet the same verdict', async () => {
    const burst = loaded([ECHO, [1, 2, 3]]);
    (await handlerOf('sniffer'))(burst);
    expect([...burst.verdict.subarray(0, 3)]).toEqual([DELIVER, DELIVER, DROP]);
    burst.port[1] = 1;
    (await handlerOf('forwarding'))(burst);
    expect([...burst.verdict.subarray(0, 3)]).toEqual([FORWARD, FORWARD, DROP]);
    expect([...burst.target.subarray(0, 2)]).toEqual([1, 0]);
  });
});

describe('generator', () => {
  it('sends pings that a kernel would answer, and counts the answers', async () => {
    const { create, STOP, SENT, ANSWERED, BUCKETS, WORDS } = (await imported('generator')) as HandlerModule &
      Record<string, number>;
    const results = new SharedArrayBuffer(4 * WORDS!);
    const counts = new Int32Array(results);
    const mac = PEER_MAC.map((byte) => byte.toString(16).padStart(2, '0')).join(':');
    const options = { from: OUR_IP.join('.'), to: PEER_IP.join('.'), mac, rate: 1000, id: 0xabcd, results };
    const { handle, tick, tickMillis } = create!(options, context) as TickingHandler;
    expect(tickMillis).toBe(1);

    // A source with one frame: `tick` stops when it gets no more.
    const memory = smallMemory();
    const burst = loaded([], memory);
    const sent: number[][] = [];
    const at = memory.layout.frames + 256;
    let room = 1;
    burst.bind({
      take: () => (room-- > 0 ? at : -1),
      post: (offset, length) => {
        sent.push([...memory.bytes.subarray(offset, offset + length)]);
        return true;
      },
      put: () => {},
    });
    tick(burst, 0);
    expect(counts[SENT!]).toBe(1);
    const [frame] = sent as [number[]];
    expect(frame).toHaveLength(60);
    expect(frame.slice(0, 14)).toEqual([...PEER_MAC, ...OUR_MAC, 8, 0]);
    expect(naiveChecksum(frame.slice(14, 34))).toBe(0);
    expect(naiveChecksum(frame.slice(34))).toBe(0);
    expect(frame.slice(34, 36)).toEqual([8, 0]);

    const reply = ethernet(ipv4([0, 0, ...frame.slice(36)]));
    expect(handled(handle, reply)[0]).toBe(DROP);
    expect(counts[ANSWERED!]).toBe(1);
    const buckets = counts.subarray(BUCKETS!);
    expect(buckets.reduce((all, count) => all + count, 0)).toBe(1);
    const others = [ethernet(ipv4(frame.slice(34))), reply.with(39, 0), reply.slice(0, 59), ...OTHERS];
    for (const other of others) expect(handled(handle, other)[0]).toBe(PASS);
    expect(counts[ANSWERED!]).toBe(1);

    counts[STOP!] = 1;
    room = 1000;
    tick(burst, 0);
    expect(counts[SENT!]).toBe(1);
  });
});

describe("the README of the examples' folder", () => {
  it('lists every example', () => {
    const text = readFileSync(join(examples, 'README.md'), 'utf8');
    const listed = [...text.matchAll(/^\| \[[\w-]+\]\(([\w-]+)\/README\.md\)/gm)].map(
      ([, folder]) => folder!,
    );
    expect(listed[0]).toBe('reflect');
    expect(listed.sort()).toEqual(folders.sort());
  });
});

describe.each(folders)('the README of %s', (folder) => {
  it('names files that exist', () => {
    const text = readFileSync(join(examples, folder, 'README.md'), 'utf8');
    const files = [...text.matchAll(/(?<=[ /])examples\/[\w./-]+\w/g)].map(([file]) =>
      join(examples, '..', file),
    );
    expect(files.length).toBeGreaterThan(0);
    const built = (file: string): boolean => file.endsWith('handler.wasm'); // by the command before
    expect(files.filter((file) => !built(file) && !existsSync(file))).toEqual([]);
    const links = [...text.matchAll(/\]\(([^)#]+)\)/g)].map(([, link]) => join(examples, folder, link!));
    expect(links.filter((link) => !existsSync(link))).toEqual([]);
  });
});
