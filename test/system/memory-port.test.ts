/** Ports whose network is a thread of the process: the whole of Twinpath but the kernel's devices. */
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { describe, expect, it, onTestFinished } from 'vitest';
// Built, not source: Node 20 starts no worker from a .ts file.
import { type Failover, type OpenPortOptions, openPort, openPorts, type Port } from '../../dist/src/index.js';
import type { TwinpathError } from '../../src/errors.ts';
import { Path } from '../../src/memory/layout.ts';
import { MemoryPeer } from '../../src/paths/memory/peer.ts';
import { addsUp, expectNoDrops, owners, until } from '../support/harness.ts';
import { NumberedTraffic } from '../support/memory-network.ts';

const REFLECT = new URL('../../dist/src/handlers/reflect.js', import.meta.url);
const REFLECT_WASM = new URL('../../dist/src/handlers/reflect.wasm', import.meta.url);
const ECHO_WASM = new URL('../../dist/src/handlers/echo.wasm', import.meta.url);
const DROP = new URL('../../dist/src/handlers/drop.js', import.meta.url);
const TICKING = new URL('../fixtures/handlers/ticking.mjs', import.meta.url);
const THROWING = new URL('../fixtures/handlers/throwing.mjs', import.meta.url);
const TRAP_WASM = new URL('../../dist/test/fixtures/wasm/trap.wasm', import.meta.url);

async function open(options: Partial<OpenPortOptions> = {}): Promise<Port> {
  const port = await openPort({ network: 'memory', queues: 1, handler: REFLECT, ...options });
  onTestFinished(() => port.close());
  return port;
}

async function whole(port: Port): Promise<void> {
  for (const { total, accounted, duplicates } of await port.audit()) {
    expect({ accounted, duplicates }).toEqual({ accounted: total, duplicates: 0 });
  }
}

/** Nice values of this process's threads by their names: the 17th field behind the name in /proc/PID/stat. */
function niceness(): Map<string, number> {
  const stats = readdirSync('/proc/self/task').map((thread) =>
    readFileSync(`/proc/self/task/${thread}/stat`, 'utf8'),
  );
  return new Map(
    stats.map((stat) => [
      /\((.*)\)/.exec(stat)![1]!,
      Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]),
    ]),
  );
}

const unharmed = { missing: 0, repeated: 0, reordered: 0 };

it('the coordinator runs at nice -10, and the workers at the nice value of the process', async () => {
  await whole(await open());
  const own = getPriority(process.pid);
  const nice = niceness();
  expect(nice.get('twinpath-q0')).toBe(own);
  expect(nice.get('twinpath-coord')).toBe(-10);
});

describe('a port in memory', { tags: 'unprivileged' }, () => {
  it.each([
    { mode: 'poll' },
    { mode: 'interrupt' },
    { mode: 'adaptive', frameSize: 4096, frames: 4096 },
    { mode: 'adaptive', pin: true },
  ] as const)('sends every packet back, with %j', async (options) => {
    const port = await open(options);
    const traffic = new NumberedTraffic(port);
    await traffic.until(() => traffic.received >= 20_000);
    await traffic.settle();
    expect(traffic.summary).toMatchObject({ ...unharmed, received: traffic.sent });
    await whole(port);
    await addsUp(port);
    expectNoDrops(port);
    expect(port.stats()).toMatchObject({ received: traffic.sent, transmitted: traffic.sent });
  });

  it('sends every packet back by a handler in WebAssembly, in workers that share its memory', async () => {
    const port = await open({ handler: REFLECT_WASM, queues: 2, rss: 'device' });
    const traffic = [0, 1].map((queue) => new NumberedTraffic(port, queue));
    for (const one of traffic) {
      await one.until(() => one.received >= 20_000);
      await one.settle();
      expect(one.summary).toMatchObject({ ...unharmed, received: one.sent });
    }
    await whole(port);
    await addsUp(port);
    expectNoDrops(port);
  });

  it('loses only the bursts at which a handler in WebAssembly traps', async () => {
    const port = await open({ handler: TRAP_WASM });
    const errors: Error[] = [];
    port.on('error', (error) => errors.push(error));
    const before = new NumberedTraffic(port);
    await before.until(() => before.received >= 1_000);
    await before.settle();
    const peer = MemoryPeer.attach(before.memory, 0, 0, Path.SYNTHETIC)!;
    peer.deliver(1, (offset) => {
      before.memory.bytes[offset] = 0xfe;
      return 60;
    });
    await until('the trap is told', () => errors.length > 0);
    expect(errors[0]).toMatchObject({ code: 'ERR_HANDLER_THREW', detail: 'queue 0: unreachable (1 so far)' });
    const after = new NumberedTraffic(port);
    await after.until(() => after.received >= 1_000);
    await after.settle();
    expect(after.summary).toMatchObject(unharmed);
    await whole(port);
    await addsUp(port);
    expect(port.stats()).toMatchObject({ handlerErrors: 1, transmitted: before.sent + after.sent });
  });

  it('is not opened by a module in WebAssembly that refuses its options', async () => {
    const handler = new URL('../../dist/src/handlers/echo.wasm', import.meta.url);
    const opened = openPort({ network: 'memory', queues: 2, handler, handlerOptions: { address: '::1' } });
    await expect(opened).rejects.toMatchObject({ code: 'ERR_OPTION_INVALID' });
  });

  it('wakes from its sleep for one packet', async () => {
    const port = await open({ mode: 'interrupt' });
    const traffic = new NumberedTraffic(port);
    for (let packet = 1; packet <= 20; packet++) {
      const { sleeps } = port.stats().queues[0]!;
      await until('asleep', () => port.stats().queues[0]!.sleeps > sleeps);
      traffic.spin(1);
      await until('awake', () => {
        traffic.spin(0);
        return traffic.received === packet;
      });
    }
  });

  it('loses, doubles and reorders nothing in failovers under load', async () => {
    const port = await open();
    const traffic = new NumberedTraffic(port);
    const failovers: Failover[] = [];
    port.on('path', (failover) => {
      if (failover.reason !== 'start') failovers.push(failover);
    });
    for (let cycle = 0; cycle < 10; cycle++) {
      port.plug('vf', `vf${cycle}`);
      await traffic.until(() => owners(port)[0] === 'vf', { path: Path.SYNTHETIC });
      // The host moves the data path once the VF is in use, when nothing is under way on the old one.
      await traffic.settle();
      const enough = traffic.received + 3_000;
      await traffic.until(() => traffic.received > enough, { path: Path.VF });
      await traffic.until(() => traffic.received > traffic.sent - 10, { path: Path.VF, count: 8 });
      port.unplug('vf');
      await traffic.until(() => owners(port)[0] === 'synthetic', { count: 0 });
      await whole(port);
    }
    await traffic.settle();
    expect(traffic.summary).toMatchObject(unharmed);
    await addsUp(port);
    expectNoDrops(port);
    expect(failovers.map(({ from, to }) => `${from} ${to}`)).toEqual(
      Array.from({ length: 20 }, (_, i) => (i % 2 ? 'vf synthetic' : 'synthetic vf')),
    );
    for (const { detectedNanos, orderedNanos, beganNanos, endedNanos } of failovers) {
      const times = [detectedNanos, orderedNanos, beganNanos, endedNanos];
      expect([...times].sort((a, b) => a - b)).toEqual(times);
    }
    expect(port.failovers().slice(-20)).toEqual(failovers);
  });

  it('rescues the packets that a VF had not sent when it goes', async () => {
    const port = await open();
    const traffic = new NumberedTraffic(port);
    port.plug('vf');
    await until('the VF owns', () => owners(port)[0] === 'vf');
    // Delivered and never collected: the answers lie in the VF's transmit ring.
    const sent = traffic.give(50, Path.VF);
    await until('answered', () => port.stats().paths.vf.txPosted === sent);
    port.unplug('vf');
    await until('the VF is gone', () => owners(port)[0] === 'synthetic');
    await traffic.until(() => traffic.received === sent, { count: 0 });
    expect(traffic.summary).toMatchObject(unharmed);
    expect(port.stats().paths.vf.txRescued).toBe(50);
    expect(port.failovers().at(-1)).toMatchObject({ from: 'vf', to: 'synthetic', rescued: 50 });
    await whole(port);
    await addsUp(port);
  });

  it('goes on by the VF after a time without any path', async () => {
    const port = await open();
    const traffic = new NumberedTraffic(port);
    await traffic.until(() => traffic.received > 100);
    await traffic.settle();
    port.unplug('synthetic');
    await until('no owner', () => owners(port)[0] === 'none');
    await whole(port);
    port.plug('vf');
    await until('the VF owns', () => owners(port)[0] === 'vf');
    const enough = traffic.received + 100;
    await traffic.until(() => traffic.received > enough, { path: Path.VF });
    await whole(port);
  });

  it('keeps ports that were opened together apart', async () => {
    const ports = await openPorts({
      ...{ network: 'memory', queues: 2, rss: 'device', handler: REFLECT, ports: [{}, {}, {}] },
    });
    onTestFinished(() => ports[0]!.close());
    const traffic = ports.map((port, number) => new NumberedTraffic(port, number % 2, number));
    for (const one of traffic) await one.until(() => one.received > 1_000);
    ports[1]!.plug('vf');
    // The queue moves when what it has sent by the other path is out: somebody must take it.
    await traffic[1]!.until(() => owners(ports[1]!).every((owner) => owner === 'vf'));
    await Promise.all(traffic.map((one) => one.settle())); // what nobody takes stands in a ring for ever
    for (const one of traffic) expect(one.summary).toMatchObject(unharmed);
    expect(ports.map(({ device }) => device)).toEqual(['memory0', 'memory1', 'memory2']);
    expect(new Set(ports.map(({ mac }) => mac)).size).toBe(3);
    expect(owners(ports[0]!)).toEqual(['synthetic', 'synthetic']);
    await whole(ports[0]!);
    expect(ports.map((port) => port.stats().received)).toEqual(traffic.map(({ sent }) => sent));
  });

  it('gives each port of a call its own handler, with its own tick, in JavaScript or WebAssembly', async () => {
    const ports = await openPorts({
      ...{ network: 'memory', queues: 2, rss: 'device', handler: REFLECT },
      ports: [{}, { handler: TICKING }, { handler: DROP, handlerOptions: {} }, { handler: REFLECT_WASM }, {}],
    });
    onTestFinished(() => ports[0]!.close());
    const traffic = ports.map((port, number) => new NumberedTraffic(port, number % 2, number));
    const reflecting = [0, 3, 4];
    for (const number of reflecting) {
      const one = traffic[number]!;
      await one.until(() => one.received > 1_000);
    }
    await traffic[2]!.until(() => ports[2]!.stats().received >= 200);
    await until('ticks', () => ports[1]!.stats().queues.every(({ ticks, sent }) => ticks > 2 && sent > 2));
    for (const number of reflecting) await traffic[number]!.settle();
    const stats = ports.map((port) => port.stats());
    expect(stats.map(({ queues }) => queues.every(({ ticks }) => ticks === 0))).toEqual(
      [0, 1, 2, 3, 4].map((number) => number !== 1),
    );
    for (const number of reflecting) expect(traffic[number]!.summary).toMatchObject(unharmed);
    expect(stats[2]).toMatchObject({ transmitted: 0, dropped: { verdict: stats[2]!.received } });
    await whole(ports[0]!);
  });

  it('reports what a handler throws at the port that has it', async () => {
    const ports = await openPorts({
      ...{ network: 'memory', queues: 1, rss: 'device', handler: REFLECT },
      ports: [{}, { handler: THROWING, handlerOptions: { every: 50 } }],
    });
    onTestFinished(() => ports[0]!.close());
    const errors: [number, TwinpathError][] = [];
    for (const [number, port] of ports.entries()) port.on('error', (error) => errors.push([number, error]));
    const traffic = ports.map((port, number) => new NumberedTraffic(port, 0, number));
    await traffic[0]!.until(() => traffic[0]!.received > 1_000);
    await traffic[1]!.until(() => errors.length > 0);
    await traffic[0]!.settle();
    for (const [number, { code, device }] of errors) {
      expect([number, code, device]).toEqual([1, 'ERR_HANDLER_THREW', THROWING.href]);
    }
  });

  it('refuses a second handler in WebAssembly, which would have its data in the place of the first', async () => {
    const opening = openPorts({
      ...{ network: 'memory', queues: 1, ports: [{ handler: REFLECT_WASM }, { handler: ECHO_WASM }] },
    });
    await expect(opening).rejects.toMatchObject({
      ...{ code: 'ERR_HANDLER', device: ECHO_WASM.href, hint: expect.stringContaining('forwardTo') },
    });
  });

  it('returns the same statistics at every call after it was closed', async () => {
    const port = await open();
    const traffic = new NumberedTraffic(port);
    await traffic.until(() => traffic.received > 1_000);
    await traffic.settle();
    const closed = once(port, 'close');
    await Promise.all([port.close(), port.close()]);
    await closed;
    await port.close();
    expect(port.stats()).toMatchObject({ received: traffic.sent, transmitted: traffic.sent });
    await expect(port.audit()).rejects.toMatchObject({ code: 'ERR_PORT_CLOSED' });
    expect(() => port.plug('vf')).toThrow(expect.objectContaining({ code: 'ERR_PORT_CLOSED' }));
  });
});
