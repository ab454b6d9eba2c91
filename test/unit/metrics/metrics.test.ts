/** Metrics of a stand-in for a port whose counters a test sets: for Prometheus, prom-client, OpenTelemetry and people. */
import { EventEmitter } from 'node:events';
import { Registry } from 'prom-client';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ownerWord, pathBit } from '../../../src/memory/bit-fields.ts';
import { pathCounters, queueCounters } from '../../../src/memory/counters.ts';
import type { Failover } from '../../../src/memory/journal.ts';
import { Path } from '../../../src/memory/layout.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { PortHealth } from '../../../src/metrics/health.ts';
import { observeIn } from '../../../src/metrics/opentelemetry.ts';
import { PortMetrics } from '../../../src/metrics/port-metrics.ts';
import { registerIn } from '../../../src/metrics/prom-client.ts';
import { prometheusText } from '../../../src/metrics/prometheus.ts';
import { parseAddress, serve, urlOf } from '../../../src/metrics/server.ts';
import type { Port } from '../../../src/port.ts';
import { portStatistics } from '../../../src/statistics.ts';

const GEOMETRY = {
  pageSize: 4096,
  ports: 1,
  queues: 2,
  frameSize: 2048,
  framesPerWorker: 64,
  ringEntries: 64,
};

class FakePort extends EventEmitter {
  readonly device: string;
  readonly memory = Memory.create(GEOMETRY);
  readonly paths = { vf: { device: 'vf0' } };
  readonly link = { up: true };
  configuration = { started: true };
  readonly past: Failover[] = [];

  constructor(device = 'eth0') {
    super();
    this.device = device;
  }

  stats(): ReturnType<typeof portStatistics> {
    return portStatistics(this.memory, 0);
  }

  failovers(): Failover[] {
    return this.past;
  }

  count(queue: number, counter: 'dropVerdict' | 'handlerErrors', value: number): void {
    this.memory.doubles[queueCounters(this.memory, 0, queue)[counter]] = value;
  }

  receive(queue: number, packets: number, bytes: number): void {
    const index = pathCounters(this.memory, 0, queue, Path.VF);
    this.memory.doubles[index.rxPackets] = packets;
    this.memory.doubles[index.rxBytes] = bytes;
  }
}

let sequence = 0;
const failover = (micros: number, queue = 0): Failover => ({
  ...{ sequence: sequence++, port: 0, queue, from: 'vf', to: 'synthetic', reason: 'link gone' },
  ...{ detectedNanos: 1e9, orderedNanos: 1e9, beganNanos: 1e9, endedNanos: 1e9 + 1000 * micros },
  ...{ drained: 0, rescued: 0 },
});

const open = (device?: string): { fake: FakePort; port: Port } => {
  const fake = new FakePort(device);
  return { fake, port: fake as unknown as Port };
};

/** A line of the text format: name, labels, value. */
const SAMPLE =
  /^([a-zA-Z_:][\w:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)$/;

/** The samples of a text, by name and labels. @throws if a line is wrong, or a family is in two places */
function parsed(text: string): Map<string, number> {
  const samples = new Map<string, number>();
  const seen: string[] = [];
  for (const line of text.split('\n').filter(Boolean)) {
    const [, kind, name, rest] = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line) ?? [];
    if (kind === 'HELP') {
      expect(seen, name).not.toContain(name);
      seen.push(name!);
    } else if (kind === 'TYPE') expect(['counter', 'gauge', 'histogram']).toContain(rest);
    else {
      const [, sample, labels = '', value] = SAMPLE.exec(line) ?? expect.fail(line);
      expect(sample!.startsWith(seen.at(-1)!), line).toBe(true);
      expect(samples.has(`${sample} ${labels}`), line).toBe(false);
      samples.set(`${sample} ${labels}`, Number(value));
    }
  }
  return samples;
}

describe('metrics', () => {
  it('are text that Prometheus reads, with the families of several ports together', () => {
    const [first, second] = [open(), open('we"ird\\\n')];
    first.fake.receive(1, 12, 3400);
    first.fake.count(0, 'dropVerdict', 5);
    const all = [first, second].map(({ port }) => new PortMetrics(port).families());
    const samples = parsed(prometheusText(all));
    const at = (name: string, labels: string): number | undefined => samples.get(`${name} ${labels}`);
    expect(at('twinpath_packets_total', 'port="eth0",queue="1",path="vf",direction="receive"')).toBe(12);
    expect(at('twinpath_bytes_total', 'port="eth0",queue="1",path="vf",direction="receive"')).toBe(3400);
    expect(at('twinpath_dropped_packets_total', 'port="eth0",reason="verdict"')).toBe(5);
    expect(at('twinpath_path_up', 'port="eth0",path="vf"')).toBe(1);
    expect(at('twinpath_path_up', 'port="eth0",path="synthetic"')).toBe(0);
    expect(at('twinpath_link_up', 'port="we\\"ird\\\\\\n"')).toBe(1);
  });

  it('count failovers before and after, in buckets that add up', () => {
    const { fake, port } = open();
    fake.past.push(failover(90));
    const metrics = new PortMetrics(port);
    fake.emit('path', fake.past[0]); // the journal had it before its event came
    fake.emit('path', failover(600, 1));
    fake.emit('path', failover(2e6, 1));
    metrics.close();
    fake.emit('path', failover(1));
    const samples = parsed(prometheusText([metrics.families()]));
    expect(
      samples.get('twinpath_failovers_total port="eth0",from="vf",to="synthetic",reason="link gone"'),
    ).toBe(3);
    const bucket = (le: string): number | undefined =>
      samples.get(`twinpath_failover_seconds_bucket port="eth0",le="${le}"`);
    expect(['0.0001', '0.0005', '0.001', '1', '+Inf'].map(bucket)).toEqual([1, 1, 2, 2, 3]);
    expect(samples.get('twinpath_failover_seconds_count port="eth0"')).toBe(3);
    expect(samples.get('twinpath_failover_seconds_sum port="eth0"')).toBeCloseTo(2.00069, 6);
    expect(metrics.switchNanos.count).toBe(3);
    expect(Math.round(metrics.switchNanos.min / 1000)).toBe(90); // it keeps three digits
  });

  it('are shown by a registry of prom-client as by the port itself, until they are taken out', async () => {
    const ports = [open(), open('eth1')];
    ports[0]!.fake.receive(0, 7, 700);
    ports[0]!.fake.past.push(failover(90));
    const metrics = ports.map(({ port }) => new PortMetrics(port));
    const registry = new Registry();
    const remove = registerIn(registry, metrics);
    const shown = parsed(await registry.metrics());
    expect(shown).toEqual(parsed(prometheusText(metrics.map((one) => one.families()))));
    registry.resetMetrics();
    expect(parsed(await registry.metrics())).toEqual(shown);
    remove();
    expect(await registry.metrics()).toBe('\n');
  });

  it('are observed by OpenTelemetry by the names of its conventions', () => {
    const { fake, port } = open();
    fake.receive(1, 12, 3400);
    fake.count(1, 'dropVerdict', 2);
    const observed = new Map<string, number>();
    observeIn(
      {
        createObservableCounter: (name) => ({
          addCallback: (callback) =>
            callback({
              observe: (value, attributes) => observed.set(`${name} ${JSON.stringify(attributes)}`, value),
            }),
        }),
      },
      [port],
    );
    const attributes = {
      ...{ 'network.interface.name': 'eth0', 'network.io.direction': 'receive', 'twinpath.path': 'vf' },
    };
    expect(observed.get(`system.network.packet.count ${JSON.stringify(attributes)}`)).toBe(12);
    expect(observed.get(`system.network.io ${JSON.stringify(attributes)}`)).toBe(3400);
    const dropped = { 'network.interface.name': 'eth0', 'twinpath.reason': 'verdict' };
    expect(observed.get(`system.network.packet.dropped ${JSON.stringify(dropped)}`)).toBe(2);
  });
});

describe('the server of metrics and health', () => {
  it('answers with both, and with 503 and the reason while a queue has no path or no worker', async () => {
    const { fake, port } = open();
    const pages = { metrics: [new PortMetrics(port)], health: [new PortHealth(port)] };
    const server = await serve('metrics', parseAddress('metrics', '127.0.0.1:0'), pages);
    onTestFinished(() => void server.close());
    const get = async (path: string, method = 'GET'): Promise<[number, string]> => {
      const response = await fetch(`${urlOf(server)}${path}`, { method });
      return [response.status, await response.text()];
    };
    const [status, text] = await get('/metrics');
    expect([status, parsed(text).size]).toEqual([200, expect.any(Number)]);
    expect(await get('/health')).toEqual([503, 'eth0: queue 0 has no path\neth0: queue 1 has no path\n']);
    for (const queue of [0, 1]) {
      const { words } = fake.memory;
      words[fake.memory.queue(0, queue).at('ack')] = ownerWord(1, Path.VF, pathBit(Path.VF));
    }
    expect(await get('/health')).toEqual([200, 'ok\n']);
    fake.emit('worker', { queue: 1, state: 'died' });
    expect((await get('/health'))[1]).toContain('queue 1: its worker died');
    fake.emit('worker', { queue: 1, state: 'started' });
    expect((await get('/health'))[1]).not.toContain('worker');
    fake.configuration = { started: false };
    expect(await get('/health')).toEqual([503, 'eth0: the port is stopped\n']);
    fake.emit('close');
    expect(await get('/health')).toEqual([503, 'eth0: the port is closed\n']);
    expect((await get('/other'))[0]).toBe(404);
    expect((await get('/metrics', 'POST'))[0]).toBe(405);
    await expect(
      serve('metrics', { host: '127.0.0.1', port: Number(new URL(urlOf(server)).port) }, pages),
    ).rejects.toMatchObject({
      code: 'ERR_OPTION_INVALID',
    });
  });

  it.each(['9100', 'localhost', '::1:9100', '127.0.0.1:', '127.0.0.1:70000', '[::1]', 'a:b'])(
    'refuses the address %s',
    (text) => {
      expect(() => parseAddress('--metrics', text)).toThrow(/--metrics/);
    },
  );

  it('takes IPv4, IPv6 and names', () => {
    expect(parseAddress('x', '[::1]:9100')).toEqual({ host: '::1', port: 9100 });
    expect(parseAddress('x', 'localhost:0')).toEqual({ host: 'localhost', port: 0 });
  });
});
