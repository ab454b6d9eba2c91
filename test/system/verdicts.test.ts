/**
 * What a handler may decide, on every path and through failovers.
 *
 * @module-tag unprivileged
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
// Built, not source: Node 20 starts no worker from a .ts file.
import type { Port } from '../../dist/src/index.js';
import { owners, until } from '../support/harness.ts';
import { Deed, VerdictNetwork } from '../support/verdict-network.ts';
import { ledgers, openVerdictPorts as open, settled, whole } from '../support/verdict-ports.ts';

const [DROP, TX, FORWARD, PASS, DELIVER, TEE, UNKNOWN] = [0, 1, 2, 3, 4, 8, 77];
const TEED = [TX | TEE, FORWARD | TEE, PASS | TEE];

function drops(port: Port): Record<string, number> {
  return Object.fromEntries(Object.entries(port.stats().dropped).filter(([, packets]) => packets > 0));
}

/** The places where packets with that verdict came out, in no order. */
const ways = (network: VerdictNetwork, verdict: number): string[] => {
  const places = Object.keys(network.places(verdict)).map((place) => place.split(' ').sort().join(' '));
  return [...new Set(places)].sort();
};

/** Notes what the application reads of port 0, until the port closes. */
function read(port: Port, network: VerdictNetwork): Promise<void> {
  return (async () => {
    for await (const { data } of port.packets()) network.note(data, 'application');
  })();
}

describe('in memory, a verdict', () => {
  it('is carried out on every path, through failovers of the port and of the one forwarded to', async () => {
    const ports = await open(2);
    const [from, to] = ports;
    const network = new VerdictNetwork([ports]);
    from!.plug('host');
    await until('the host path', () => from!.paths.host !== undefined);
    const reading = read(from!, network);
    let turns = 0;
    const turn = (path: 1 | 2) => () => {
      const queue = turns++ & 1;
      for (const verdict of [TX, FORWARD, DROP, UNKNOWN])
        network.give(8, verdict, { queue, path, target: 1 });
      for (const verdict of [PASS, DELIVER, Deed.THROW]) network.give(2, verdict, { queue, path });
      for (const verdict of TEED) network.give(2, verdict, { queue, path, target: 1 });
      // What the machine's own stack sends may go every way as well.
      if (turns % 8 === 0)
        for (const verdict of [TX, FORWARD, PASS, DELIVER, ...TEED])
          network.give(1, verdict, { queue, path: 3, target: 1 });
    };
    const enough = (port: Port, path: 'vf' | 'synthetic') => () =>
      owners(port).every((owner) => owner === path);
    for (let cycle = 0; cycle < 3; cycle++) {
      for (const port of ports) {
        port.plug('vf');
        await network.until('the VF owns', enough(port, 'vf'), turn(1));
        await settled(network); // the host moves the data path when nothing is under way
      }
      const sent = network.sent.length + 2_000;
      await network.until('traffic on the VF', () => network.sent.length > sent, turn(2));
      await settled(network);
      for (const port of ports) {
        port.unplug('vf');
        await network.until('the synthetic path owns', enough(port, 'synthetic'), turn(1));
      }
      await whole(from!);
    }
    await settled(network);
    await ledgers(ports);
    for (const verdict of [DROP, UNKNOWN, Deed.THROW])
      expect(Object.keys(network.places(verdict))).toEqual(['']);
    expect(Object.keys(network.places(TX)).sort()).toEqual(['0/1', '0/2']);
    expect(Object.keys(network.places(FORWARD)).sort()).toEqual(['1/1', '1/2']);
    expect(Object.keys(network.places(PASS))).toEqual(['0/3']);
    expect(Object.keys(network.places(DELIVER))).toEqual(['application']);
    const [txTeed, forwardTeed, passTeed] = TEED.map((verdict) => ways(network, verdict));
    expect(txTeed).toEqual(['0/1 application', '0/2 application']);
    expect(forwardTeed).toEqual(['1/1 application', '1/2 application']);
    expect(passTeed).toEqual(['0/3 application']);
    expect(network.reordered).toBe(0);
    expect(drops(from!)).toEqual({
      verdict: network.count(DROP) + network.count(UNKNOWN),
      handlerError: network.count(Deed.THROW),
    });
    expect(drops(to!)).toEqual({});
    const teed = TEED.reduce((sum, verdict) => sum + network.count(verdict), 0);
    expect(from!.stats()).toMatchObject({
      forwarded: network.count(FORWARD) + network.count(FORWARD | TEE),
      forwardedCopies: 0,
      passed: network.count(PASS) + network.count(PASS | TEE),
      delivered: network.count(DELIVER) + teed,
      teed,
      teeFull: 0,
      handlerErrors: network.count(Deed.THROW),
    });
    await from!.close();
    await reading;
  });

  it('PASS without a host path drops, and so does FORWARD to a port that is not there', async () => {
    const [port] = await open(1);
    const network = new VerdictNetwork([[port!]]);
    network.give(10, PASS);
    network.give(20, FORWARD, { target: 1 });
    network.give(30, FORWARD, { target: 255 });
    await until('all of them', () => port!.stats().received === 60);
    await settled(network);
    expect(drops(port!)).toEqual({ noHost: 10, noPort: 50 });
    await ledgers([port!]);
  });

  it('FORWARD to the port itself is TX', async () => {
    const [port] = await open(1);
    const network = new VerdictNetwork([[port!]]);
    await network.until(
      'enough',
      () => network.sent.length > 5_000,
      () => {
        network.give(20, FORWARD);
        network.give(20, TX);
      },
    );
    await settled(network);
    expect(network.places(FORWARD)).toEqual({ '0/1': network.count(FORWARD) });
    expect(network.places(TX)).toEqual({ '0/1': network.count(TX) });
    await ledgers([port!]);
  });
});

describe('FORWARD to a port of another openPort', () => {
  it('copies, from many workers to one, to each of its ports', async () => {
    const targets = await open(2, { queues: 1 });
    const sources = await open(1, { queues: 6, forwardTo: targets });
    const network = new VerdictNetwork([sources, targets]);
    let turns = 0;
    await network.until(
      'enough',
      () => network.sent.length > 6_000,
      () => {
        network.give(8, FORWARD, { queue: turns++ % 6, target: 1, flows: 64 });
        network.give(8, FORWARD, { queue: turns++ % 6, target: 2, flows: 64 });
      },
    );
    await settled(network);
    const { forwarded, forwardedCopies, dropped } = sources[0]!.stats();
    expect(dropped.noPort).toBe(0);
    const places = network.places(FORWARD);
    expect(
      Object.keys(places)
        .filter((place) => place !== '')
        .sort(),
    ).toEqual(['1/1', '2/1']);
    expect(places['1/1']! + places['2/1']!).toBe(forwarded);
    expect(forwardedCopies).toBe(forwarded);
    expect(forwarded + dropped.txFull).toBe(network.sent.length);
    expect(network.reordered).toBe(0);
    await ledgers(sources);
    await ledgers(targets);
  });

  it('goes on through a failover there, and ends when it closes', async () => {
    const targets = await open(1, { queues: 1 });
    const sources = await open(1, { queues: 1, forwardTo: targets });
    const network = new VerdictNetwork([sources, targets]);
    const give = (): void => void network.give(16, FORWARD, { target: 1 });
    for (let cycle = 0; cycle < 2; cycle++) {
      targets[0]!.plug('vf');
      await network.until('the VF owns', () => owners(targets[0]!)[0] === 'vf', give);
      targets[0]!.unplug('vf');
      await network.until('the synthetic path owns', () => owners(targets[0]!)[0] === 'synthetic', give);
    }
    await settled(network);
    const { forwardedCopies, dropped } = sources[0]!.stats();
    expect(forwardedCopies + dropped.txFull).toBe(network.sent.length);
    expect(network.places(FORWARD)['']).toBe(dropped.txFull || undefined);
    await ledgers(targets);
    await targets[0]!.close();
    network.give(10, FORWARD, { target: 1 });
    await until('dropped', () => sources[0]!.stats().dropped.noPort === 10);
    await ledgers(sources);
  });

  it('drops packets longer than the frames of the other port, and no other packet', async () => {
    const targets = await open(1, { queues: 1 });
    const sources = await open(1, { queues: 1, frameSize: 4096, frames: 4096, forwardTo: targets });
    const network = new VerdictNetwork([sources, targets]);
    const { memory, peer } = network.peer(0);
    for (const length of [1792, 1793, 2032, 2033, 3840]) {
      peer.deliver(1, (at) => {
        memory.bytes.fill(0, at, at + length);
        memory.bytes[at + 46] = FORWARD;
        memory.bytes[at + 47] = 1;
        return length;
      });
    }
    const lengths: number[] = [];
    await until('all of them', () => {
      network.peer(1).peer.collect(8, (_, length) => lengths.push(length));
      return lengths.length === 1 && sources[0]!.stats().received === 5;
    });
    expect(lengths).toEqual([1792]);
    const [there, here] = [targets, sources].map(([port]) => port!.stats().dropped.badLength);
    expect(there! + here!).toBe(4);
    expect(there).toBe(2);
    await ledgers(sources);
    await ledgers(targets);
  });
});

describe('the application', () => {
  const give = (network: VerdictNetwork, count: number): void => {
    for (let left = count; left > 0; left -= 32) network.give(Math.min(32, left), DELIVER, { flows: 8 });
  };

  it('reads what was delivered once and in order, whichever way it reads', async () => {
    const [port] = await open(1);
    const network = new VerdictNetwork([[port!]]);
    let seen = 0;
    const note = ({ data }: { data: Buffer }): void => {
      network.note(data, 'application');
      seen++;
    };
    // Each reader stops in the middle, and the next one goes on from there.
    give(network, 200);
    await until('delivered', () => port!.stats().delivered === 200);
    for await (const packet of port!.packets()) {
      note(packet);
      if (seen === 33) break;
    }
    for await (const packet of port!.packets({ most: 5 })) {
      note(packet);
      if (seen === 40) break;
    }
    for await (const batch of port!.batches({ most: 10 })) {
      expect(batch.length).toBeLessThanOrEqual(10);
      batch.forEach(note);
      if (seen >= 100) break;
    }
    const stop = new AbortController();
    const aborted = (async () => {
      for await (const packet of port!.packets({ signal: stop.signal })) {
        note(packet);
        if (seen === 150) stop.abort();
      }
    })();
    await expect(aborted).rejects.toMatchObject({ name: 'AbortError' });
    expect(seen).toBe(150);
    const stream = port!.readable();
    for await (const packet of stream) {
      note(packet);
      if (seen === 200) break;
    }
    expect(stream.destroyed).toBe(true);
    expect(network.places(DELIVER)).toEqual({ application: 200 });
    expect(network.reordered).toBe(0);
  });

  it('has one reader at a time, which a stream that is destroyed while it waits is no longer', async () => {
    const [port] = await open(1);
    const stream = port!.readable();
    stream.resume();
    await sleep(10);
    await expect(port!.packets().next()).rejects.toMatchObject({ code: 'ERR_OPTION_INVALID' });
    await expect(port!.batches({ most: 0 }).next()).rejects.toMatchObject({ code: 'ERR_OPTION_INVALID' });
    const closed = new Promise((resolve) => stream.once('close', resolve));
    stream.destroy();
    await closed;
    const network = new VerdictNetwork([[port!]]);
    give(network, 1);
    const { value } = await port!.packets().next();
    network.note((value as { data: Buffer }).data, 'application');
    expect(network.places(DELIVER)).toEqual({ application: 1 });
  });

  it('ends a wait with an AbortError, also one that was aborted before it began', async () => {
    const [port] = await open(1);
    const stop = new AbortController();
    const waiting = port!.batches({ signal: stop.signal }).next();
    await sleep(10);
    stop.abort();
    await expect(waiting).rejects.toMatchObject({ name: 'AbortError' });
    await expect(port!.packets({ signal: stop.signal }).next()).rejects.toMatchObject({ name: 'AbortError' });
    const stream = port!.readable({ signal: stop.signal });
    const error = await new Promise((resolve) => stream.resume().once('error', resolve));
    expect(error).toMatchObject({ name: 'AbortError' });
  });

  it('that does not read loses exactly the unread packets, counted', async () => {
    const [port] = await open(1);
    const network = new VerdictNetwork([[port!]]);
    await network.until(
      'enough',
      () => network.sent.length > 20_000,
      () => {
        network.give(32, DELIVER);
        network.give(32, TX);
      },
    );
    await settled(network);
    const { delivered, dropped } = port!.stats();
    expect(dropped.deliverFull).toBeGreaterThan(0);
    expect(delivered + dropped.deliverFull).toBe(network.count(DELIVER));
    expect(network.places(TX)).toEqual({ '0/1': network.count(TX) });
    await ledgers([port!]);
    // After the port is closed what was delivered is read, and then the iteration ends.
    const waiting = read(port!, network);
    await port!.close();
    await waiting;
    expect(network.places(DELIVER)).toEqual({ application: delivered, '': dropped.deliverFull });
    expect(network.reordered).toBe(0);
    for await (const _ of port!.packets()) throw new Error('there is none left');
  });
});

describe('an application with the fewest frames, which both paths want whole,', () => {
  const openOnVf = async () => {
    const [port] = await open(1, { queues: 1, frames: 4096 });
    const network = new VerdictNetwork([[port!]]);
    port!.plug('vf');
    await until('the VF owns', () => owners(port!)[0] === 'vf');
    return { port: port!, network };
  };

  it('gets all packets and copies of a VF that it reads', async () => {
    const { port, network } = await openOnVf();
    let got = 0;
    const reading = (async () => {
      for await (const batch of port.batches()) got += batch.length;
    })();
    await network.until(
      'enough',
      () => got > 10_000,
      () => {
        if (network.sent.length - got > 200) return;
        network.give(16, DELIVER, { path: 2 });
        network.give(16, TX | TEE, { path: 2 });
      },
    );
    await settled(network);
    const { delivered, teed, teeFull, dropped } = port.stats();
    expect([delivered, teeFull, dropped.deliverFull]).toEqual([network.sent.length, 0, 0]);
    expect(teed).toBe(network.count(TX | TEE));
    await ledgers([port]);
    await port.close();
    await reading;
    expect(got).toBe(delivered);
  });

  it('has its part of them when it stalls, and the VF goes on', async () => {
    const { port, network } = await openOnVf();
    await network.until(
      'enough',
      () => network.count(TX) > 20_000,
      () => {
        network.give(16, DELIVER, { path: 2 });
        network.give(16, TX, { path: 2 });
      },
    );
    await settled(network);
    const { delivered, dropped } = port.stats();
    expect(delivered).toBeGreaterThan(512);
    expect(delivered).toBeLessThanOrEqual(1024);
    expect(delivered + dropped.deliverFull).toBe(network.count(DELIVER));
    expect(network.places(TX)).toEqual({ '0/2': network.count(TX) });
    await ledgers([port]);
  });
});

describe('an application that reads bursts', () => {
  it('and stalls loses copies, counted, of packets that go on', async () => {
    const [port] = await open(1);
    const network = new VerdictNetwork([[port!]]);
    const reading = port!.bursts();
    network.give(10, TX | TEE);
    const held = (await reading.next()).value!;
    await network.until(
      'enough',
      () => network.sent.length > 20_000,
      () => network.give(32, TX | TEE),
    );
    await settled(network);
    await ledgers([port!]);
    const { delivered, teed, teeFull, transmitted, dropped } = port!.stats();
    expect(transmitted).toBe(network.sent.length);
    expect(teeFull).toBeGreaterThan(0);
    expect([delivered, teed + teeFull]).toEqual([teed, network.sent.length]);
    expect(Object.values(dropped).every((packets) => packets === 0)).toBe(true);
    // What it holds is as it was.
    let seen = 0;
    const note = (burst: typeof held): void => {
      for (let i = 0; i < burst.length; i++, seen++) network.note(burst.data(i), 'application');
    };
    note(held);
    await port!.close();
    for await (const burst of reading) note(burst);
    expect(seen).toBe(delivered);
    expect(network.reordered).toBe(0);
  });

  it('and throws gives its frames back', async () => {
    const [port] = await open(1, { queues: 1 });
    const network = new VerdictNetwork([[port!]]);
    network.give(32, DELIVER);
    await until('delivered', () => port!.stats().delivered === 32);
    const lent = async () => (await port!.audit()).reduce((sum, ledger) => sum + ledger.lent, 0);
    expect(await lent()).toBe(32);
    const reading = (async () => {
      for await (const _ of port!.bursts()) throw new Error('as expected');
    })();
    await expect(reading).rejects.toThrow('as expected');
    await until('they are home', async () => (await lent()) === 0);
    await ledgers([port!]);
  });

  it('goes on when workers die: what it holds stays, and no packet is read twice', async () => {
    const deaths = new Int32Array(new SharedArrayBuffer(4));
    const [port] = await open(1, { handlerOptions: { deaths } });
    let died = 0;
    port!.on('worker', ({ state }) => {
      if (state === 'died') died++;
    });
    const network = new VerdictNetwork([[port!]]);
    const reading = port!.bursts();
    let seen = 0;
    for (let round = 1; round <= 3; round++) {
      // Of either queue, also such as the other worker has received.
      for (const queue of [0, 1]) network.give(32, DELIVER, { queue });
      await until('delivered', () => {
        const { delivered, teed } = port!.stats();
        return delivered - teed === network.count(DELIVER);
      });
      const burst = (await reading.next()).value!;
      Atomics.store(deaths, 0, 1);
      for (const queue of [0, 1]) network.give(1, Deed.DIE, { queue });
      await until('a worker has died', () => died === round);
      for (const queue of [0, 1]) network.give(32, TX | TEE, { queue });
      await settled(network);
      await whole(port!);
      for (let i = 0; i < burst.length; i++, seen++) network.note(burst.data(i), 'application');
    }
    await port!.close();
    for await (const burst of reading) {
      for (let i = 0; i < burst.length; i++, seen++) network.note(burst.data(i), 'application');
    }
    expect(seen).toBe(port!.stats().delivered);
    expect(network.places(DELIVER)).toEqual({ application: network.count(DELIVER) });
    expect(ways(network, TX | TEE)).toEqual(['0/1 application']);
    expect(network.reordered).toBe(0);
  });
});

describe('a handler that ticks', () => {
  it.each([
    ['poll', 5],
    ['adaptive', 5],
    ['interrupt', 2.5],
  ] as const)(
    'sends packets of its own out of each port, whether any come or not: %s, every %d ms',
    async (mode, tickMillis) => {
      const handler = new URL('../fixtures/handlers/ticking.mjs', import.meta.url);
      const ports = await open(2, { queues: 1, mode, handler, handlerOptions: { tickMillis } });
      const network = new VerdictNetwork([ports]);
      const made = [0, 0];
      const collect = (): void => {
        for (const port of [0, 1]) {
          const { memory, peer } = network.peer(port);
          peer.collect(64, (at, length) => {
            expect([length, memory.bytes[at], memory.bytes[at + 59]]).toEqual([60, 0xe0 + port, 0xe0 + port]);
            made[port]!++;
          });
        }
      };
      const more = async (turn: () => void): Promise<void> => {
        const before = [...made];
        await until('more', () => {
          turn();
          collect();
          return made.every((all, port) => all > before[port]! + 5);
        });
      };
      await more(() => {});
      await more(() => network.give(32, DROP));
      // A tick comes as soon as the port is there, before there is a path: then there is nowhere to send it.
      // A look that falls into a tick finds it counted and not sent.
      for (const port of ports) {
        await until('a look between two ticks', () => {
          const { sent, queues } = port.stats();
          return queues[0]!.ticks === sent + queues[0]!.sendRefused;
        });
      }
      await whole(ports[0]!);
    },
  );

  it('has exceptions of its ticks counted, and goes on', async () => {
    const handler = new URL('../fixtures/handlers/ticking.mjs', import.meta.url);
    const [port] = await open(1, { queues: 1, handler, handlerOptions: { tickMillis: 1, angry: 2 } });
    await until('angry', () => port!.stats().handlerErrors > 5);
    const { handlerErrors, queues } = port!.stats();
    expect(queues[0]!.ticks).toBeGreaterThanOrEqual(2 * handlerErrors - 1);
    expect(port!.stats().sent).toBeGreaterThan(0);
    await whole(port!);
  });
});
