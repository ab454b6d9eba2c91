/** The server of the live page, over a stand-in for a port whose counters a test sets. `npm run build` makes the page's files. */
import { EventEmitter } from 'node:events';
import { get, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { describe, expect, it, onTestFinished } from 'vitest';
import { pathCounters, queueCounters } from '../../../src/memory/counters.ts';
import { Journal } from '../../../src/memory/journal.ts';
import { Path } from '../../../src/memory/layout.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { PortHealth } from '../../../src/metrics/health.ts';
import { PortMetrics } from '../../../src/metrics/port-metrics.ts';
import { serve, urlOf } from '../../../src/metrics/server.ts';
import { EventStream, MAX_CLIENTS, MAX_STALLED } from '../../../src/page/event-stream.ts';
import { LivePage, parsePageAddress, servePage } from '../../../src/page/live-page.ts';
import type { Hello, Update } from '../../../src/page/messages.ts';
import { KEPT_SAMPLES, KEPT_SWITCHES, Recorder } from '../../../src/page/recorder.ts';
import type { Port } from '../../../src/port.ts';
import { portStatistics } from '../../../src/statistics.ts';

const GEOMETRY = {
  ...{ pageSize: 4096, ports: 2, queues: 2, frameSize: 2048, framesPerWorker: 64, ringEntries: 64 },
};

class FakePort extends EventEmitter {
  readonly memory: Memory;
  readonly route: { readonly port: number };
  readonly device: string;
  readonly mac = '02:00:00:00:00:01';
  readonly link = { up: true, speedMbps: 10_000 };
  readonly configuration = { started: true, mode: null, mtu: 1400 };
  readonly paths = { vf: { device: 'vf0', driver: 'af-xdp', mode: 'native copy', redirect: 'xdp link' } };

  constructor(device = 'eth0', memory = Memory.create(GEOMETRY), number = 0) {
    super();
    this.device = device;
    this.memory = memory;
    this.route = { port: number };
  }

  get shared(): Memory['shared'] {
    return this.memory.shared;
  }

  stats(): ReturnType<typeof portStatistics> {
    return portStatistics(this.memory, this.route.port);
  }

  failovers(): [] {
    return [];
  }

  receive(packets: number): void {
    const { doubles } = this.memory;
    doubles[pathCounters(this.memory, this.route.port, 1, Path.VF).rxPackets] = packets;
  }

  drop(packets: number): void {
    const { doubles } = this.memory;
    doubles[queueCounters(this.memory, this.route.port, 0).dropVerdict] = packets;
  }

  /** A queue's change of path. */
  switch(queue: number): void {
    new Journal(this.memory).append({
      ...{ port: this.route.port, queue, from: 'vf', to: 'synthetic', reason: 'link down' },
      ...{ detectedNanos: 1, orderedNanos: 2, beganNanos: 3, endedNanos: 4, drained: 5, rescued: 6 },
    });
  }

  get port(): Port {
    return this as unknown as Port;
  }
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

/** With any header, which `fetch` does not allow. */
function ask(url: string, method = 'GET', headers: Record<string, string> = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { method, headers }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => {
        body += text;
      });
      response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body }));
    });
    asked.on('error', reject).end();
  });
}

/** The events in a part of a stream. */
function eventsOf(text: string): { name: string; id?: string; data: unknown }[] {
  return text
    .split('\n\n')
    .filter(Boolean)
    .map((block) => {
      const fields = block.split('\n').map((line) => /^(\w+): (.*)$/s.exec(line) ?? expect.fail(line));
      const field = (name: string): string | undefined => fields.find(([, key]) => key === name)?.[2];
      return { name: field('event')!, id: field('id'), data: JSON.parse(field('data')!) };
    });
}

/** The first events of a stream, as many as are asked for. */
function listen(url: string, count: number, headers: Record<string, string> = {}) {
  return new Promise<{ events: ReturnType<typeof eventsOf>; response: IncomingMessage }>(
    (resolve, reject) => {
      get(url, { headers }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
          if (text.split('\n\n').length > count) resolve({ events: eventsOf(text), response });
        });
      }).on('error', reject);
    },
  );
}

async function opened(address = '0') {
  const fake = new FakePort();
  const page = await servePage([fake.port], { address });
  onTestFinished(() => page.close());
  return { fake, page };
}

describe('the page', () => {
  it('is served with its files, each of its type, with nothing allowed from elsewhere', async () => {
    const { page } = await opened();
    expect(page.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/$/);
    const html = await ask(page.url);
    expect(html).toMatchObject({
      status: 200,
      headers: {
        'content-type': 'text/html; charset=utf-8',
        'content-security-policy': expect.stringMatching(/^default-src 'self';.*frame-ancestors 'none'/),
        'x-content-type-options': 'nosniff',
        'referrer-policy': 'no-referrer',
        'cache-control': 'no-store',
      },
    });
    const named = [...html.body.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, name]) => name!);
    expect(named.length).toBeGreaterThan(5);
    const modules = new Set(named);
    // The modules that main.js imports, and those that they import: a set grows while it is walked.
    for (const name of modules) {
      const { status, body, headers } = await ask(new URL(name, page.url).href);
      expect([name, status, headers['content-type']]).toEqual([
        name,
        200,
        expect.stringMatching(/svg|css|javascript|plain/),
      ]);
      if (name !== 'uPlot.iife.min.js' && name.endsWith('.js'))
        for (const [, other] of body.matchAll(/from '\.\/([^']+)'/g)) modules.add(other!);
    }
    expect(modules.size).toBeGreaterThan(15);
  });

  it('answers HEAD without a body, refuses other methods, and has nothing else', async () => {
    const { page } = await opened();
    expect(await ask(page.url, 'HEAD')).toMatchObject({ status: 200, body: '' });
    expect(await ask(`${page.url}events`, 'HEAD')).toMatchObject({ status: 200, body: '' });
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS'])
      expect(await ask(page.url, method)).toMatchObject({ status: 405, headers: { allow: 'GET, HEAD' } });
    for (const path of [
      'nothing',
      'main.ts',
      '..%2fpackage.json',
      '../package.json',
      'constructor',
      'events/',
    ])
      expect((await ask(`${page.url}${path}`)).status, path).toBe(404);
  });

  it('is not for a request that names another host: a name of an attacker that leads here', async () => {
    const { page } = await opened();
    for (const file of ['', 'events', 'page.css', 'nothing'])
      expect(await ask(`${page.url}${file}`, 'GET', { host: 'example.org' })).toMatchObject({
        status: 403,
        body: expect.stringContaining('names another host'),
      });
    expect((await ask(page.url, 'GET', { host: 'localhost:1' })).status).toBe(200);
  });

  it('needs its token at an address that is not loopback, for every file', async () => {
    const { page } = await opened('0.0.0.0:0');
    const url = new URL(page.url.replace('0.0.0.0', '127.0.0.1'));
    expect(url.pathname).toMatch(/^\/[\w-]{24}\/$/);
    for (const path of ['/', '/events', '/page.css', '/x/', `${url.pathname.slice(0, -2)}/`])
      expect(await ask(new URL(path, url).href), path).toMatchObject({
        status: 403,
        body: expect.stringContaining('needs the token'),
      });
    expect((await ask(url.href)).status).toBe(200);
    expect((await ask(`${url.href}page.css`, 'GET', { host: 'any.example' })).status).toBe(200);
    const { events, response } = await listen(`${url.href}events`, 2);
    response.destroy();
    expect(events[0]!.name).toBe('hello');
    // Without the last slash its files would be looked for elsewhere.
    expect(await ask(url.href.slice(0, -1))).toMatchObject({
      status: 308,
      headers: { location: url.pathname },
    });
  });

  it('shares an address with metrics and health', async () => {
    const { port } = new FakePort();
    const page = new LivePage([port]);
    onTestFinished(() => page.close());
    const pages = { metrics: [new PortMetrics(port)], others: page };
    const server = await serve('--page', parsePageAddress('--page', '0'), pages);
    onTestFinished(() => void server.close());
    // Before it is known where the server listens nobody may have it.
    expect((await ask(`${urlOf(server)}/`)).status).toBe(403);
    const url = page.admit(server);
    expect((await ask(`${url}metrics`)).body).toContain('twinpath_packets_total');
    expect((await ask(url)).headers['content-type']).toMatch(/html/);
    expect((await ask(`${url}health`)).status).toBe(404);
  });

  it('says what is wrong with an address, and what to do', async () => {
    const { page } = await opened();
    const { port } = new URL(page.url);
    await expect(opened(port)).rejects.toMatchObject({
      code: 'ERR_OPTION_INVALID',
      device: 'address',
      message: expect.stringMatching(/cannot be used.*EADDRINUSE.*give another port, or 0/s),
    });
    await expect(opened('192.0.2.1:0')).rejects.toMatchObject({
      code: 'ERR_OPTION_INVALID',
      hint: /no such address/,
    });
    for (const text of ['', 'x', '99999', '::1:80', '127.0.0.1'])
      expect(() => parsePageAddress('--page', text), text).toThrow(/--page/);
    expect(parsePageAddress('--page', '9080')).toEqual({ host: '127.0.0.1', port: 9080 });
    await expect(servePage([])).rejects.toMatchObject({ code: 'ERR_OPTION_INVALID' });
  });
});

describe('its stream', () => {
  it('begins with who is there and everything kept, goes on, and says when it ends', async () => {
    const { page, fake } = await opened();
    fake.receive(7);
    fake.switch(1);
    const { events, response } = await listen(`${page.url}events`, 3);
    expect(response.headers['content-type']).toBe('text/event-stream; charset=utf-8');
    expect(events.map(({ name }) => name)).toEqual(['hello', 'update', 'update']);
    const hello = events[0]!.data as Hello;
    expect(hello).toMatchObject({ pid: process.pid, resumed: false, keptSamples: KEPT_SAMPLES });
    expect(Math.abs(hello.epochMillis + Number(process.hrtime.bigint()) / 1e6 - Date.now())).toBeLessThan(
      60_000,
    );
    const updates = events.slice(1).map(({ data }) => data as Update);
    expect(updates.flatMap(({ samples }) => samples.map(({ sequence }) => sequence))).toEqual([1, 2]);
    expect(updates[1]!.samples[0]!.ports[0]!.vf[0]).toBeGreaterThan(0);
    expect(updates[1]!.switches).toEqual([expect.objectContaining({ queue: 1, number: 1, rescued: 6 })]);
    expect(updates[1]!.ports[0]).toMatchObject({
      ...{ device: 'eth0', linkUp: true, mtu: 1400, speedMbps: 10_000, mode: 'poll' },
      paths: { vf: { device: 'vf0', rxPackets: 7 } },
      problems: ['eth0: queue 0 has no path', 'eth0: queue 1 has no path'],
    });
    const rest = new Promise<string>((resolve) => {
      let text = '';
      response.on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => resolve(text));
    });
    page.close();
    expect(eventsOf(await rest).at(-1)).toMatchObject({ name: 'end', data: {} });
  });

  it('goes on after a connection that was lost, with what came meanwhile', async () => {
    const { page } = await opened();
    const first = await listen(`${page.url}events`, 2);
    first.response.destroy();
    const lastId = first.events[1]!.id!;
    const second = await listen(`${page.url}events`, 3, { 'last-event-id': lastId });
    second.response.destroy();
    expect(second.events[0]!.data).toMatchObject({ resumed: true });
    const had = (first.events[1]!.data as Update).samples.at(-1)!.sequence;
    const got = second.events
      .slice(1)
      .flatMap(({ data }) => (data as Update).samples.map(({ sequence }) => sequence));
    expect(got[0]).toBe(had + 1);
    for (const id of ['nonsense', '000000000000-1-0', `${lastId}9`, lastId.replace(/-\d+-/, '-999-')]) {
      const { events, response } = await listen(`${page.url}events`, 2, { 'last-event-id': id });
      response.destroy();
      expect(events[0]!.data, id).toMatchObject({ resumed: false });
    }
  });

  it('is for so many clients at a time, and for others when one has gone', async () => {
    const { page } = await opened();
    const url = `${page.url}events`;
    const clients = await Promise.all(Array.from({ length: MAX_CLIENTS }, () => listen(url, 1)));
    expect(await ask(url)).toMatchObject({ status: 503, headers: { 'retry-after': '5' } });
    clients[0]!.response.destroy();
    let answer = 503;
    // Its server learns of it a moment later.
    for (let tries = 0; answer === 503 && tries < 1000; tries++) {
      answer = await new Promise((resolve) =>
        get(url, (response) => {
          resolve(response.statusCode!);
          response.destroy();
        }),
      );
    }
    expect(answer).toBe(200);
    for (const { response } of clients) response.destroy();
  });
});

describe('a client that does not read', () => {
  /** A response that takes what is written when the test says so. */
  class SlowResponse extends EventEmitter {
    written: string[] = [];
    reads = false;
    destroyed = false;
    get writableLength(): number {
      return this.reads ? 0 : this.written.length;
    }
    writeHead(): this {
      return this;
    }
    write(text: string): boolean {
      this.written.push(text);
      return this.reads;
    }
    end(text: string): void {
      this.write(text);
    }
    destroy(): void {
      this.destroyed = true;
      this.emit('close');
    }
  }

  const stream = () => {
    const fake = new FakePort();
    const recorder = new Recorder([fake.port], [new PortHealth(fake.port)]);
    recorder.sample();
    const events = new EventStream(recorder, { twinpath: '1', pid: 1, epochMillis: 0 });
    const slow = new SlowResponse();
    expect(events.add(slow as unknown as ServerResponse, undefined)).toBe(true);
    const step = (): void => {
      recorder.sample();
      events.offer();
    };
    return { fake, events, slow, step };
  };

  it('gets nothing more meanwhile, and all of it in one event when it reads again', () => {
    const { fake, slow, step } = stream();
    const before = slow.written.length;
    for (let i = 0; i < 20; i++) {
      if (i % 5 === 0) fake.switch(0);
      step();
    }
    expect(slow.written).toHaveLength(before);
    slow.reads = true;
    step();
    expect(slow.written).toHaveLength(before + 1);
    const { samples, switches } = eventsOf(slow.written.at(-1)!)[0]!.data as Update;
    expect(samples.map(({ sequence }) => sequence)).toEqual(Array.from({ length: 21 }, (_, i) => i + 2));
    expect(switches.map(({ number }) => number)).toEqual([1, 2, 3, 4]);
  });

  it('is disconnected when it has read nothing for too long, and no sooner', () => {
    const { slow, step, events } = stream();
    for (let i = 1; i < MAX_STALLED; i++) step();
    expect([slow.destroyed, events.size]).toEqual([false, 1]);
    step();
    expect([slow.destroyed, events.size]).toEqual([true, 0]);
  });
});

describe('the recorder', () => {
  it('keeps ten minutes of samples and as many switches as a journal, the last ones', () => {
    const fake = new FakePort();
    const recorder = new Recorder([fake.port], [new PortHealth(fake.port)]);
    for (let i = 0; i < KEPT_SAMPLES + 5; i++) {
      fake.switch(i % 2);
      recorder.sample();
    }
    expect(recorder.samplesAfter(0).map(({ sequence }) => sequence)).toEqual(
      Array.from({ length: KEPT_SAMPLES }, (_, i) => i + 6),
    );
    const switches = recorder.switchesAfter(0);
    expect(switches).toHaveLength(KEPT_SWITCHES);
    expect(switches.at(-1)!.number).toBe(KEPT_SAMPLES + 5);
    expect(recorder.samplesAfter(recorder.sequence)).toEqual([]);
    expect(recorder.samplesAfter(recorder.sequence - 2)).toHaveLength(2);
  });

  it('has no rates at first, whatever was counted before', () => {
    const fake = new FakePort();
    const recorder = new Recorder([fake.port], [new PortHealth(fake.port)]);
    fake.receive(1000);
    recorder.sample();
    expect(recorder.samplesAfter(0)[0]!.ports[0]!.vf).toEqual([0, 0, 0, 0]);
    fake.receive(2000);
    recorder.sample();
    expect(recorder.samplesAfter(1)[0]!.ports[0]!.vf[0]).toBeGreaterThan(0);
  });

  it('tells apart ports of one memory and of others, and leaves out ports that it does not have', () => {
    const memory = Memory.create(GEOMETRY);
    const [first, second] = [new FakePort('eth0', memory, 0), new FakePort('eth1', memory, 1)];
    const other = new FakePort('eth2');
    const ports = [second, other].map(({ port }) => port);
    const recorder = new Recorder(
      ports,
      ports.map((port) => new PortHealth(port)),
    );
    recorder.sample();
    first.receive(1000);
    second.receive(2);
    other.receive(3);
    other.drop(4);
    first.switch(0);
    second.switch(1);
    other.switch(0);
    recorder.sample();
    expect(recorder.states.map(({ device, paths }) => [device, paths.vf!.rxPackets])).toEqual([
      ...[
        ['eth1', 2],
        ['eth2', 3],
      ],
    ]);
    expect(recorder.states.map(({ drops }) => drops.map(({ reason, total }) => [reason, total]))).toEqual([
      ...[[], [['verdict', 4]]],
    ]);
    expect(recorder.samplesAfter(1)[0]!.ports[1]!.dropped).toBeGreaterThan(0);
    expect(recorder.switchesAfter(0).map(({ port, queue }) => [port, queue])).toEqual([
      [0, 1],
      [1, 0],
    ]);
  });
});
