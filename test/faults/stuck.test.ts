/**
 * A handler that does not return, in memory: its worker is replaced, and what it had in hand is dropped and counted.
 *
 * @module-tag unprivileged
 */
import { describe, expect, it } from 'vitest';
import type { Port } from '../../dist/src/index.js';
import { owners, until } from '../support/harness.ts';
import { Deed, VerdictNetwork } from '../support/verdict-network.ts';
import { ledgers, openVerdictPorts as open, settled, whole } from '../support/verdict-ports.ts';

const [TX, DELIVER] = [1, 4];

/** Counts the lives of workers. */
function lives(port: Port): { died: number; details: (string | undefined)[]; replaced: number } {
  const seen = { died: 0, details: [] as (string | undefined)[], replaced: 0 };
  port.on('worker', ({ state, detail }) => {
    if (state === 'died') {
      seen.died++;
      seen.details.push(detail);
    } else if (seen.died > 0) seen.replaced++;
  });
  return seen;
}

describe('a handler that does not return, in memory', () => {
  const stuck = { stuckMillis: 200 };

  it('has its worker replaced and its burst dropped, and the queue goes on', async () => {
    const [port] = await open(1, { ...stuck, queues: 1 });
    const seen = lives(port!);
    const network = new VerdictNetwork([[port!]]);
    for (let time = 1; time <= 2; time++) {
      const before = network.count(TX) + 500;
      await network.until(
        'traffic',
        () => network.count(TX) > before,
        () => void network.give(16, TX),
      );
      network.give(1, Deed.SPIN);
      await network.until(
        'a new worker',
        () => seen.replaced === time,
        () => {
          if (network.sent.length < 3_000) network.give(1, TX);
        },
      );
    }
    await settled(network);
    await ledgers([port!]);
    const { dropped } = port!.stats();
    expect(seen.details).toEqual(Array(2).fill('its handler does not return'));
    expect(dropped.stuck).toBeGreaterThanOrEqual(2);
    expect(dropped.stuck).toBeLessThanOrEqual(2 * 64);
    expect(network.places(Deed.SPIN)).toEqual({ '': 2 });
    expect((network.places(TX)[''] ?? 0) + 2).toBe(dropped.stuck);
    expect(network.places(TX)['0/1']).toBe(network.count(TX) - (dropped.stuck - 2));
  });

  it('keeps what was decided before an exception in the same burst', async () => {
    const [port] = await open(1, { ...stuck, queues: 1 });
    const seen = lives(port!);
    const network = new VerdictNetwork([[port!]]);
    const { peer, memory } = network.peer(0);
    const verdicts = [TX, DELIVER, Deed.THROW, TX, Deed.SPIN, TX];
    peer.deliver(6, (at) => {
      memory.bytes.fill(0, at, at + 64);
      memory.bytes[at + 46] = verdicts.shift()!;
      return 64;
    });
    await until('a new worker', () => seen.replaced === 1);
    let sent = 0;
    await until('the one before', () => {
      peer.collect(8, () => sent++);
      return sent === 1;
    });
    await ledgers([port!]);
    expect(port!.stats().dropped).toMatchObject({ handlerError: 1, stuck: 3 });
    const { value } = await port!.packets().next();
    expect((value as { data: Buffer }).data[46]).toBe(DELIVER);
  });

  it('is told of a packet that another worker handed over as well', async () => {
    const [port] = await open(1, stuck);
    const seen = lives(port!);
    const network = new VerdictNetwork([[port!]]);
    // Every flow comes by queue 0; half of them are worker 1's.
    const give = (verdict: number): void => void network.give(16, verdict, { flows: 16 });
    await network.until(
      'handed over',
      () => port!.stats().handedOver > 200,
      () => give(TX),
    );
    await settled(network);
    give(Deed.SPIN);
    await network.until(
      'both replaced',
      () => seen.replaced >= 2,
      () => {
        if (network.sent.length < 3_000) give(TX);
      },
    );
    await settled(network);
    await ledgers([port!]);
    const { dropped, queues } = port!.stats();
    expect(queues.map(({ dropStuck }) => dropStuck > 0)).toEqual([true, true]);
    expect(network.places(TX)['0/1']! + (network.places(TX)[''] ?? 0)).toBe(network.count(TX));
    expect((network.places(TX)[''] ?? 0) + 16).toBe(dropped.stuck);
  });

  it('does not keep a failover that is ordered meanwhile, nor the host path from being whole', async () => {
    const [port] = await open(1, { ...stuck, queues: 1 });
    const seen = lives(port!);
    const network = new VerdictNetwork([[port!]]);
    port!.plug('vf');
    port!.plug('host');
    await until('the VF owns', () => owners(port!)[0] === 'vf' && port!.paths.host !== undefined);
    network.give(40, TX, { path: 2 });
    await until('received', () => port!.stats().received === 40);
    network.give(1, Deed.SPIN, { path: 2 });
    network.give(5, TX, { path: 2 });
    network.give(5, TX, { path: 3 });
    port!.unplug('vf');
    await network.until('the synthetic path owns', () => owners(port!)[0] === 'synthetic');
    network.give(1, Deed.SPIN, { path: 3 });
    await network.until('the host packet too', () => seen.replaced === 2);
    await settled(network);
    await ledgers([port!]);
    expect(network.places(Deed.SPIN)).toEqual({ '': 2 });
    expect((network.places(TX)[''] ?? 0) + 2).toBe(port!.stats().dropped.stuck);
  });

  it.each(['spin', 'deeds'])('is a module in WebAssembly, %s', async (name) => {
    const handler = new URL(`../../dist/test/fixtures/wasm/${name}.wasm`, import.meta.url);
    const [port] = await open(1, { ...stuck, queues: 1, handler });
    const seen = lives(port!);
    const { peer, memory } = new VerdictNetwork([[port!]]).peer(0);
    let returned = 0;
    const send = (first: number) =>
      peer.deliver(1, (at) => {
        memory.bytes.fill(first, at, at + 60);
        return 60;
      });
    send(1);
    await until('sent back', () => peer.collect(8, () => returned++) > 0);
    send(0xff);
    await until('a new worker', () => seen.replaced === 1);
    send(1);
    await until('sent back again', () => peer.collect(8, () => returned++) > 0);
    expect(returned).toBe(2);
    expect(port!.stats().dropped.stuck).toBe(1);
    await ledgers([port!]);
  });

  it('that is merely slow is left alone, and so is one that is slow to load', async () => {
    const deaths = new Int32Array(new SharedArrayBuffer(4)).fill(1);
    const [port] = await open(1, {
      ...{ queues: 2, stuckMillis: 400 },
      handlerOptions: { slowMillis: 150, loadMillis: 900, deaths },
    });
    const seen = lives(port!);
    const network = new VerdictNetwork([[port!]]);
    // Each call is slow, and a round of the worker makes several: from the path, and from the other worker.
    const give = (): void => {
      for (const queue of [0, 1]) network.give(4, Deed.SLOW, { queue, flows: 16 });
    };
    for (let times = 0; times < 4; times++) give();
    await network.until('all of them', () => port!.stats().transmitted === 32);
    expect(seen.died).toBe(0);
    // A worker that died in its handler leaves it called, and the next one takes its time.
    network.give(1, Deed.DIE);
    await network.until('a new worker', () => seen.replaced === 1);
    const sent = network.count(TX);
    network.give(10, TX);
    await network.until('traffic', () => network.places(TX)['0/1'] === sent + 10);
    expect(seen.details).toEqual([expect.not.stringContaining('does not return')]);
    await whole(port!);
  });
});
