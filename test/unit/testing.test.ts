/** The test kit that the package offers to authors of handlers. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DELIVER, DROP, FORWARD, type Handler, PASS, Path, TEE, TX } from '../../src/handler.ts';
import * as echo from '../../src/handlers/echo.ts';
import * as reflect from '../../src/handlers/reflect.ts';
import { HandlerTest, type HandlerTestOptions } from '../../src/testing.ts';
import { BROADCAST, ethernet, icmpEcho, ipv4, OUR_IP, OUR_MAC, PEER_MAC } from '../support/frames.ts';

const kit = (handler: Handler, settings?: HandlerTestOptions) =>
  HandlerTest.of({ default: handler }, settings);
/** Decides what a packet's first byte says. */
const byFirstByte = kit((burst) => {
  for (let i = 0; i < burst.length; i++) {
    const packet = burst.packet(i);
    burst.verdict[i] = packet.u8(0);
    burst.target[i] = packet.length > 1 ? packet.u8(1) : 0;
  }
});

describe('a handler test', () => {
  it('reports each verdict, and DROP for a number that is none', () => {
    const verdicts = [TX, DROP, PASS, DELIVER, FORWARD, 5, 254, 255].map((wanted) => [wanted, 3]);
    const outcomes = byFirstByte.run(verdicts);
    expect(outcomes.map(({ verdict }) => verdict)).toEqual([
      TX,
      DROP,
      PASS,
      DELIVER,
      FORWARD,
      DROP,
      DROP,
      DROP,
    ]);
    expect(outcomes.map(({ target }) => target)).toEqual([
      ...Array(4).fill(undefined),
      3,
      ...Array(3).fill(undefined),
    ]);
  });

  it('reports TEE beside a verdict', () => {
    const verdicts = [TX | TEE, PASS | TEE, FORWARD | TEE, TX, TEE, DELIVER | TEE].map((wanted) => [
      wanted,
      3,
    ]);
    const outcomes = byFirstByte.run(verdicts);
    expect(outcomes.map(({ verdict, teed, target }) => [verdict, teed, target])).toEqual([
      [TX, true, undefined],
      [PASS, true, undefined],
      [FORWARD, true, 3],
      [TX, false, undefined],
      [DROP, false, undefined],
      [DROP, false, undefined],
    ]);
  });

  it('gives packets of every number and length to the handler unchanged, and reports them so', () => {
    const packets = fc.array(fc.uint8Array({ minLength: 1, maxLength: 1792 }), { maxLength: 200 });
    let longest = 0;
    const bursts = kit((burst) => {
      longest = Math.max(longest, burst.length);
      for (let i = 0; i < burst.length; i++) expect(burst.packet(i).length).toBe(burst.bytes[i]);
    });
    fc.assert(
      fc.property(packets, (some) => {
        const outcomes = bursts.run(some);
        expect(outcomes.map(({ error }) => error)).toEqual(some.map(() => undefined));
        expect(outcomes.map(({ bytes }) => [...bytes])).toEqual(some.map((bytes) => [...bytes]));
      }),
      { numRuns: 20 },
    );
    expect(longest).toBeLessThanOrEqual(64);
    bursts.run(Array(65).fill([1]));
    expect(longest).toBe(64);
  });

  it('reports the bytes of a packet that was made longer, shorter, or moved', () => {
    const [tagged] = kit((burst) =>
      burst
        .packet(0)
        .prepend(4)
        .write(0, Uint8Array.of(9, 8, 7, 6)),
    ).run([[1, 2]]);
    expect([...tagged!.bytes]).toEqual([9, 8, 7, 6, 1, 2]);
    const [cut] = kit((burst) => void burst.packet(0).trimFront(1)).run([[1, 2]]);
    expect([...cut!.bytes]).toEqual([2]);
    expect(cut!.bytes.buffer).toBeInstanceOf(ArrayBuffer);
  });

  it('has old bytes, not zeros, where a packet has been made longer', () => {
    const [grown] = kit((burst) => {
      burst.packet(0).length = 4;
    }).run([[1, 2]]);
    expect([...grown!.bytes.subarray(2)]).not.toContain(0);
  });

  it('tells the handler where the packets come from', () => {
    const seen: number[][] = [];
    const test = kit(({ port, path, hash }) => seen.push([port[0]!, path[0]!, hash[0]!]), {
      macs: ['02:00:00:00:00:02', '02:00:00:00:00:03'],
    });
    test.run([[1]]);
    test.run([[1]], { port: 1, path: Path.HOST, hash: -7 });
    expect(seen).toEqual([
      [0, Path.SYNTHETIC, 0],
      [1, Path.HOST, -7],
    ]);
  });
});

describe('a handler that throws', () => {
  it('loses the packet that it looked at last, and is called again with those behind it', () => {
    const picky = kit((burst) => {
      for (let i = 0; i < burst.length; i++) {
        if (burst.packet(i).u8(0) === 0) throw new Error(`packet ${i}`);
        burst.verdict[i] = TX;
      }
    });
    const outcomes = picky.run([[1], [0], [1], [0], [1]]);
    expect(outcomes.map(({ verdict }) => verdict)).toEqual([TX, DROP, TX, DROP, TX]);
    expect(outcomes.map(({ error }) => (error as Error | undefined)?.message)).toEqual([
      undefined,
      'packet 1',
      undefined,
      'packet 1', // of the burst that was left
      undefined,
    ]);
  });

  it('loses its burst if it has looked at no packet', () => {
    const error = new Error('at once');
    const hasty = kit((burst) => {
      burst.verdict.fill(TX);
      throw error;
    });
    expect(hasty.run([[1], [2]]).map((outcome) => [outcome.verdict, outcome.error])).toEqual([
      [DROP, error],
      [DROP, error],
    ]);
  });
});

describe('packets that a handler sends', () => {
  it('are kept in their order with the port that they leave by, by ticks too', () => {
    const sender = HandlerTest.of(
      {
        create: () => ({
          handle: (burst) => void burst.send(60, (packet) => packet.setU8(0, 1)),
          tick: (burst) => void burst.send(14, (packet) => packet.setU8(0, 2)),
        }),
      },
      { macs: ['02:00:00:00:00:02', '02:00:00:00:00:03'] },
    );
    sender.run([[1]], { port: 1 });
    expect(sender.tick(0)).toBe(true);
    expect(sender.sent.map(({ port, bytes }) => [port, bytes.length, bytes[0]])).toEqual([
      [1, 60, 1],
      [0, 14, 2],
    ]);
    expect(sender.sent[0]!.bytes[59]).not.toBe(0);
    expect(kit(() => {}).tick()).toBe(false);
  });

  it('are refused when no frame is free, or their length is none of a frame', () => {
    const answers: boolean[] = [];
    const eager = kit(
      (burst) => {
        for (let i = 0; i < 3; i++) answers.push(burst.send(60, () => {}));
      },
      { freeFrames: 2 },
    );
    eager.run([[1]]);
    eager.run([[1]]);
    expect(answers).toEqual([true, true, false, true, true, false]);
    const short: boolean[] = [];
    kit((burst) => short.push(burst.send(13, () => {}))).run([[1]]);
    expect(short).toEqual([false]);
  });

  it('give their frame back when their writer throws', () => {
    const answers: unknown[] = [];
    const clumsy = kit(
      (burst) => {
        for (const fail of [true, true, false]) {
          try {
            answers.push(burst.send(60, () => fail && expect.fail('no')));
          } catch {
            answers.push('threw');
          }
        }
      },
      { freeFrames: 1 },
    );
    clumsy.run([[1]]);
    expect(answers).toEqual(['threw', 'threw', true]);
  });
});

describe('loading', () => {
  it('calls create with the options, the queue and the MAC addresses', () => {
    const seen: unknown[] = [];
    HandlerTest.of(
      {
        create: (options, { queue, queues, macs }) => {
          seen.push(options, queue, queues, [...macs[0]!]);
          return () => {};
        },
      },
      { options: { zone: 1 }, queue: 3, queues: 4, macs: ['0a:0b:0c:0d:0e:0f'] },
    );
    expect(seen).toEqual([{ zone: 1 }, 3, 4, [10, 11, 12, 13, 14, 15]]);
  });

  it('runs a handler that keeps the burst of its context', () => {
    const [outcome] = HandlerTest.of(reflect).run([ethernet([1, 2, 3])]);
    expect(outcome!.verdict).toBe(TX);
    expect([...outcome!.bytes.subarray(0, 12)]).toEqual([...PEER_MAC, ...OUR_MAC]);
  });

  it.each(['ts', 'wasm'])('loads a module by its URL, .%s', async (kind) => {
    const folder = kind === 'wasm' ? '../../dist/src' : '../../src';
    const url = new URL(`${folder}/handlers/echo.${kind}`, import.meta.url);
    const test = await HandlerTest.load(url, { options: { address: OUR_IP.join('.') } });
    const ping = ethernet(ipv4(icmpEcho([1, 2, 3])));
    const twin = HandlerTest.of(echo, { options: { address: OUR_IP.join('.') } });
    const [outcome, broadcast] = test.run([ping, ethernet(ipv4(icmpEcho([])), { dst: BROADCAST })]);
    expect([outcome!.verdict, broadcast!.verdict]).toEqual([TX, DROP]);
    expect(outcome).toEqual(twin.run([ping])[0]);
  });

  it('refuses a module without a handler, and settings out of range', async () => {
    expect(() => HandlerTest.of({})).toThrow(expect.objectContaining({ code: 'ERR_HANDLER' }));
    await expect(HandlerTest.load('file:///none.mjs')).rejects.toMatchObject({ code: 'ERR_HANDLER' });
    for (const settings of [
      { queues: 65 },
      { queue: 1 },
      { queue: -1 },
      { macs: [] },
      { macs: ['02:00'] },
      { freeFrames: 193 },
    ]) {
      expect(() => kit(() => {}, settings)).toThrow(RangeError);
    }
    const test = kit(() => {});
    expect(() => test.run([[1]], { port: 1 })).toThrow('there is no port 1');
    expect(() => test.run([new Uint8Array(1793)])).toThrow('at most 1792');
  });

  it('gives the handler other options and messages, as clones, and keeps what it posts', () => {
    let limit: unknown = 1;
    const test = HandlerTest.of({
      create: (_, { postMessage }) => ({
        handle: () => {},
        configure: (options) => {
          if (options.limit === 0) throw new Error('no');
          return () => {
            limit = options.limit;
          };
        },
        message: (value, burst, port) => {
          postMessage({ value, port });
          burst.send(60, () => {});
        },
      }),
    });
    const given = { of: 'mine' };
    expect(test.configure({ limit: given })).toBe(true);
    expect([limit, limit === given]).toEqual([given, false]);
    expect(() => test.configure({ limit: 0 })).toThrow('no');
    expect(limit).toEqual(given);
    expect(test.message(given)).toBe(true);
    expect(test.messages).toEqual([{ value: given, port: 0 }]);
    expect(test.sent).toHaveLength(1);
    const plain = kit(() => {});
    expect([plain.configure({}), plain.message(1)]).toEqual([false, false]);
  });
});
