/** A handler that is steered while it runs, in memory: other options, and messages both ways. */
import { once } from 'node:events';
import { describe, expect, it, onTestFinished } from 'vitest';
// Built, not source: Node 20 starts no worker from a .ts file.
import { type OpenPortOptions, openPort, openPorts, type Port } from '../../dist/src/index.js';
import { addsUp, expectNoDrops, until } from '../support/harness.ts';
import { NumberedTraffic } from '../support/memory-network.ts';

const STEERED = new URL('../fixtures/handlers/steered.mjs', import.meta.url);
const REFLECT = new URL('../../dist/src/handlers/reflect.js', import.meta.url);
const REFLECT_WASM = new URL('../../dist/src/handlers/reflect.wasm', import.meta.url);

async function open(options: Partial<OpenPortOptions> = {}): Promise<Port> {
  const port = await openPort({
    network: 'memory',
    queues: 2,
    handler: STEERED,
    stuckMillis: 200,
    ...options,
  });
  onTestFinished(() => port.close());
  return port;
}

interface Said {
  readonly queue: number;
  readonly port: number;
  readonly value: unknown;
  readonly options: Record<string, unknown>;
}

/** What the handler of each queue says that its options are. */
async function optionsOf(port: Port): Promise<Record<string, unknown>[]> {
  const said = new Map<number, Said>();
  const listen = (value: unknown): void => void said.set((value as Said).queue, value as Said);
  port.on('message', listen);
  await port.postMessage('options?');
  await until('every handler has answered', () => said.size === port.activeQueues.length);
  port.off('message', listen);
  return [...said.values()].sort((a, b) => a.queue - b.queue).map(({ options }) => options);
}

/** Counts the workers that start in place of one that has died. */
function replaced(port: Port): { count: number } {
  const seen = { count: 0 };
  const dead = new Set<number>();
  port.on('worker', ({ state, queue }) => {
    if (state === 'died') dead.add(queue);
    if (state === 'started' && dead.delete(queue)) seen.count++;
  });
  return seen;
}

const refusal = (code: string, message: RegExp) =>
  expect.objectContaining({ code, message: expect.stringMatching(message) });

describe('other options of a handler that runs', { tags: 'unprivileged' }, () => {
  it('are on all queues when the promise resolves; what is not named stays, and null takes away', async () => {
    const port = await open({ handlerOptions: { value: 1, other: 'stays', gone: true } });
    expect(await port.setHandlerOptions({ value: 2, gone: null })).toEqual({ value: 2, other: 'stays' });
    expect(await optionsOf(port)).toEqual(Array(2).fill({ value: 2, other: 'stays' }));
  });

  it('cost no packet, and leave their order, under traffic', async () => {
    const port = await open({ queues: 1 });
    const traffic = new NumberedTraffic(port);
    for (let value = 0; value < 50; value++) {
      const changed = port.setHandlerOptions({ value });
      const before = traffic.received;
      await traffic.until(() => traffic.received >= before + 200);
      await changed;
    }
    await traffic.settle();
    expect(traffic.summary).toMatchObject({ missing: 0, repeated: 0, reordered: 0, received: traffic.sent });
    await addsUp(port);
    expectNoDrops(port);
    expect(await optionsOf(port)).toEqual([{ value: 49 }]);
  });

  it('are refused by one queue, for what they are, or where configure() is wrong, and then all have those before', async () => {
    const port = await open({ handlerOptions: { value: 1 } });
    for (const [change, code, message] of [
      [{ trick: 'throw', only: 1, value: 2 }, 'ERR_HANDLER_REFUSED', /steered\.mjs: no 2 here/],
      [{ trick: 'promise' }, 'ERR_HANDLER_REFUSED', /returned a promise/],
      [{ value: () => {} }, 'ERR_OPTION_INVALID', /structured clone/],
    ] as const) {
      await expect(port.setHandlerOptions(change)).rejects.toEqual(refusal(code, message));
      expect(await optionsOf(port)).toEqual(Array(2).fill({ value: 1 }));
    }
  });

  it.each(['spin', 'die'])('are refused when a worker ends in configure(): %s', async (trick) => {
    const port = await open({ handlerOptions: { value: 1 } });
    const seen = replaced(port);
    await expect(port.setHandlerOptions({ trick, only: 1 })).rejects.toEqual(
      refusal('ERR_HANDLER_REFUSED', /queue 1 ended before it had agreed/),
    );
    await until('another worker has started', () => seen.count === 1);
    expect(await optionsOf(port)).toEqual(Array(2).fill({ value: 1 }));
    expect(await port.setHandlerOptions({ value: 2 })).toEqual({ value: 2 });
    expect(await optionsOf(port)).toEqual(Array(2).fill({ value: 2 }));
  });

  it('stand once they are decided: a worker that cannot put them in place is replaced by one that has them', async () => {
    const port = await open({ handlerOptions: { value: 1 } });
    const seen = replaced(port);
    const errors: Error[] = [];
    port.on('error', (error) => errors.push(error));
    const wanted = { value: 2, trick: 'late', only: 1 };
    expect(await port.setHandlerOptions(wanted)).toEqual(wanted);
    await until('another worker has started', () => seen.count >= 1);
    await until('it is reported', () => errors.length > 0);
    expect(errors[0]).toEqual(
      refusal('ERR_HANDLER', /did not take the options that the other workers have: too late/),
    );
    expect(await optionsOf(port)).toEqual(Array(2).fill(wanted));
  });

  it('are what a worker that replaces a dead one begins with', async () => {
    const port = await open({ handlerOptions: { value: 1 } });
    const seen = replaced(port);
    await port.setHandlerOptions({ value: 2 });
    for (let time = 1; time <= 2; time++) {
      await expect(port.postMessage('die', { queue: 0 })).rejects.toEqual(
        refusal('ERR_MESSAGE', /worker of queue 0 has ended/),
      );
      await until('another worker has started', () => seen.count === time);
    }
    expect(await optionsOf(port)).toEqual(Array(2).fill({ value: 2 }));
  });

  it('are carried out one after the other, however many there are, and with dying workers between', async () => {
    const port = await open({ handlerOptions: {} });
    const seen = replaced(port);
    const changes = Array.from({ length: 100 }, (_, i) => port.setHandlerOptions({ [`n${i}`]: i }));
    const deaths = port.postMessage('die', { queue: 1 }).catch((error) => error.code);
    const results = await Promise.allSettled(changes);
    const taken = results.flatMap(({ status }, i) => (status === 'fulfilled' ? [i] : []));
    expect(await deaths).toBe('ERR_MESSAGE');
    expect(results.length - taken.length).toBeLessThanOrEqual(1);
    await until('another worker has started', () => seen.count === 1);
    const wanted = Object.fromEntries(taken.map((i) => [`n${i}`, i]));
    expect(await optionsOf(port)).toEqual(Array(2).fill(wanted));
  });

  it('and a failover do not wait for each other', async () => {
    const port = await open({ queues: 1, handlerOptions: { value: 0 }, stuckMillis: 60_000 });
    const traffic = new NumberedTraffic(port);
    for (let value = 1; value <= 10; value++) {
      const moved = once(port, 'path');
      const changed = port.setHandlerOptions({ value });
      if (value % 2 === 1) port.plug('vf');
      else port.unplug('vf');
      let done = false;
      void Promise.all([moved, changed]).then(() => {
        done = true;
      });
      await traffic.until(() => done, { path: 1 });
    }
    await traffic.settle();
    expect(traffic.summary).toMatchObject({ missing: 0, repeated: 0 });
    expect(await optionsOf(port)).toEqual([{ value: 10 }]);
  });

  it('reject when the port closes meanwhile, and after', async () => {
    const port = await open({ stuckMillis: 60_000 });
    const gate = new Int32Array(new SharedArrayBuffer(8));
    gate[0] = 1;
    const changed = port.setHandlerOptions({ gate, only: 0 }).catch((error) => error.code);
    await until('configure() runs', () => Atomics.load(gate, 1) === 1);
    const closed = port.close();
    Atomics.store(gate, 0, 0);
    Atomics.notify(gate, 0);
    await closed;
    expect(await changed).toBe('ERR_PORT_CLOSED');
    await expect(port.setHandlerOptions({})).rejects.toMatchObject({ code: 'ERR_PORT_CLOSED' });
    await expect(port.postMessage(1)).rejects.toMatchObject({ code: 'ERR_PORT_CLOSED' });
  });

  it.each([
    [REFLECT, /it has no configure\(\)/],
    [REFLECT_WASM, /WebAssembly/],
  ])('are refused by a handler that takes none: %s', async (handler, message) => {
    const port = await open({ handler, queues: 1 });
    await expect(port.setHandlerOptions({ value: 1 })).rejects.toEqual(refusal('ERR_HANDLER_FIXED', message));
  });

  it('are those of all ports that have the handler together, and of no other', async () => {
    const own = { handler: STEERED, handlerOptions: { value: 'own' } };
    const ports = await openPorts({
      ...{ network: 'memory', queues: 1, handler: STEERED, handlerOptions: { value: 'shared' } },
      ports: [{}, {}, own],
    });
    onTestFinished(() => ports[0]!.close());
    await ports[1]!.setHandlerOptions({ value: 'changed' });
    const said = [];
    for (const port of ports) said.push(...(await optionsOf(port)));
    expect(said).toEqual([{ value: 'changed' }, { value: 'changed' }, { value: 'own' }]);
  });
});

describe('messages to a handler', { tags: 'unprivileged' }, () => {
  it('reach the queue that is named, in their order, and are answered', async () => {
    const port = await open();
    const said: [unknown, number][] = [];
    port.on('message', (value, queue) => said.push([(value as Said).value, queue]));
    await Promise.all(Array.from({ length: 200 }, (_, i) => port.postMessage({ i }, { queue: 1 })));
    await until('all have come', () => said.length === 200);
    expect(said).toEqual(Array.from({ length: 200 }, (_, i) => [{ i }, 1]));
  });

  it('can send packets out of the port they were posted to', async () => {
    const port = await open({ queues: 1 });
    const traffic = new NumberedTraffic(port);
    const made = once(port, 'message');
    await port.postMessage({ send: true });
    expect((await made)[0]).toEqual({ made: true, port: 0 });
    await traffic.until(() => traffic.made === 1, { count: 0 });
    expect(port.stats().sent).toBe(1);
  });

  it('reject with what the handler throws, or when its worker ends, and the next worker has those that follow', async () => {
    const port = await open();
    const seen = replaced(port);
    await expect(port.postMessage('throw')).rejects.toEqual(
      refusal('ERR_MESSAGE', /its message\(\) threw: as asked/),
    );
    expect(port.stats().handlerErrors).toBe(0);
    await expect(port.postMessage('spin', { queue: 0 })).rejects.toEqual(
      refusal('ERR_MESSAGE', /worker of queue 0 has ended/),
    );
    await until('another worker has started', () => seen.count === 1);
    expect(await optionsOf(port)).toHaveLength(2);
  });

  it('reject when their handler throws what has no words, and its worker goes on', async () => {
    const port = await open();
    const started = replaced(port);
    await expect(port.postMessage('nameless', { queue: 0 })).rejects.toEqual(
      refusal('ERR_MESSAGE', /a value that cannot be printed/),
    );
    expect(await optionsOf(port)).toHaveLength(2);
    expect(started.count).toBe(0);
  });

  it('are refused from the moment that the port begins to close', async () => {
    const port = await open();
    const closed = port.close();
    await expect(port.postMessage('late')).rejects.toMatchObject({ code: 'ERR_PORT_CLOSED' });
    await closed;
  });

  it('are refused by a handler without message(), and if they cannot be cloned', async () => {
    const port = await open({ handler: REFLECT });
    await expect(port.postMessage(1)).rejects.toEqual(refusal('ERR_MESSAGE', /has no message\(\)/));
    await expect(port.postMessage(() => {})).rejects.toMatchObject({ code: 'ERR_OPTION_INVALID' });
    await expect(port.postMessage(1, { queue: 2 })).rejects.toMatchObject({ code: 'ERR_OPTION_INVALID' });
  });

  it('are refused when 1024 wait for a worker that does not answer', async () => {
    const port = await open({ queues: 1, stuckMillis: 60_000 });
    const gate = new Int32Array(new SharedArrayBuffer(8));
    gate[0] = 1;
    const changed = port.setHandlerOptions({ gate });
    await until('configure() runs', () => Atomics.load(gate, 1) === 1);
    const posted = Array.from({ length: 1025 }, () =>
      port.postMessage('waits').then(
        () => 'had',
        (error) => error.code,
      ),
    );
    Atomics.store(gate, 0, 0);
    Atomics.notify(gate, 0);
    await changed;
    const results = await Promise.all(posted);
    expect(results.filter((result) => result === 'had')).toHaveLength(1024);
    expect(results[1024]).toBe('ERR_MESSAGE');
  });
});

describe('messages of a handler', { tags: 'unprivileged' }, () => {
  it('that floods wait in a bounded number, and the others are counted', async () => {
    const port = await open({ queues: 1 });
    const heard: unknown[] = [];
    port.on('message', (value) => heard.push(value));
    const flooded = port.postMessage({ flood: 1000 });
    // This thread is busy, and reads none: 256 are on their way.
    const deadline = Date.now() + 30_000;
    while (port.stats().messagesRefused < 1000 - 256 && Date.now() < deadline);
    expect([heard.length, port.stats().messagesRefused]).toEqual([0, 1000 - 256]);
    await flooded;
    await until('those that went have come', () => heard.length === 256);
    await port.postMessage({ flood: 10 });
    await until('it may send again', () => heard.length === 266);
    expect(heard).toEqual([...Array(256).keys(), ...Array(10).keys()]);
    expect(port.stats().messagesRefused).toBe(1000 - 256);
  });
});
