/** Ports whose network is a capture file: all of its packets come in, and what the ports send is in another file. */
import { linkSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
// Built, not source: Node 20 starts no worker from a .ts file.
import {
  type OpenPortOptions,
  openPort,
  openPorts,
  type PcapNetwork,
  type Port,
} from '../../dist/src/index.js';
import { Direction } from '../../src/pcapng/format.ts';
import { CaptureReader } from '../../src/pcapng/reader.ts';
import { classicFile, section, type Written } from '../support/capture-files.ts';
import { ethernet, icmpEcho, ipv4, OUR_MAC, PEER_MAC, udp } from '../support/frames.ts';
import { addsUp, expectNoDrops, owners, until } from '../support/harness.ts';
import { temporary, twinpath } from '../support/process.ts';

const handlers = '../../dist/src/handlers';
const REFLECT = new URL(`${handlers}/reflect.js`, import.meta.url);
const ECHO = new URL(`${handlers}/echo.js`, import.meta.url);
const COUNT = new URL(`${handlers}/count.js`, import.meta.url);
const FORWARDING = new URL('../../examples/forwarding/handler.mjs', import.meta.url);
const DELIVER = new URL('../../examples/sniffer/handler.mjs', import.meta.url);
const TIME = new URL('../fixtures/handlers/recorded-time.mjs', import.meta.url);
const NANOS = [[9, [9]]] as [number, number[]][];

/** UDP from port 1000 plus `flow`, numbered. */
const numbered = (number: number, flow = 0): number[] =>
  ethernet(
    ipv4(udp([number >> 8, number & 255, 0, 0, 0, 0, 0, 0, 0, 0], { from: 1000 + flow }), { protocol: 17 }),
  );

const flowOf = (frame: readonly number[]): number => frame[34]! * 256 + frame[35]! - 1000;
const numberOf = (frame: readonly number[]): number => frame[42]! * 256 + frame[43]!;

const recorded = (packets: number, flows = 1): Written[] =>
  Array.from({ length: packets }, (_, i) => ({ data: numbered(i, i % flows), ticks: BigInt(i) }));

function fileOf(bytes: readonly number[], folder = temporary()): string {
  const file = join(folder, 'in.pcapng');
  writeFileSync(file, Uint8Array.from(bytes));
  return file;
}

async function play(
  bytes: readonly number[],
  {
    network,
    ...options
  }: Partial<Omit<OpenPortOptions, 'network'>> & { network?: Partial<PcapNetwork> } = {},
) {
  const folder = temporary();
  const out = join(folder, 'out.pcapng');
  const port = await openPort({
    ...{ queues: 1, handler: REFLECT, ...options },
    network: { pcap: fileOf(bytes, folder), out, ...network },
  });
  onTestFinished(() => port.close());
  return { port, out };
}

async function whole(port: Port): Promise<void> {
  await addsUp(port);
  for (const { total, accounted, duplicates } of await port.audit())
    expect({ accounted, duplicates }).toEqual({ accounted: total, duplicates: 0 });
}

function packetsOf(file: string) {
  const reader = new CaptureReader(file);
  try {
    return [...reader].map((packet) => ({ ...packet, data: [...packet.data] }));
  } finally {
    reader.close();
  }
}

describe('a port that a file plays', { tags: 'unprivileged' }, () => {
  it('gets each packet in order, as often as asked, and its answers are in the other file', async () => {
    const packets = recorded(500);
    const { port, out } = await play(classicFile(packets), { network: { times: 3 } });
    const report = await port.replayed();
    expect(report).toEqual({
      ...{ played: 1500, playedBytes: 1500 * packets[0]!.data.length, cut: 0, lost: 0, sent: 1500 },
      skipped: { outbound: 0, tooShort: 0, tooLong: 0 },
    });
    expect(port.stats()).toMatchObject({ received: 1500, transmitted: 1500 });
    expectNoDrops(port);
    await whole(port);
    const sent = packetsOf(out);
    expect(sent.map(({ data }) => numberOf(data))).toEqual(Array.from({ length: 1500 }, (_, i) => i % 500));
    expect(sent[7]).toMatchObject({
      data: [...PEER_MAC, ...OUR_MAC, ...packets[7]!.data.slice(12)],
      ...{ interface: 0, linkType: 1, direction: Direction.OUTBOUND },
    });
  });

  it('gets more packets than its rings have room for, and drops none of the answers', async () => {
    const { port } = await play(section(recorded(200)), { network: { times: 100, out: undefined } });
    expect(await port.replayed()).toMatchObject({ played: 20_000, lost: 0, sent: 20_000 });
    expect(port.stats()).toMatchObject({ received: 20_000, transmitted: 20_000 });
    expectNoDrops(port);
  });

  it('spreads flows over its queues as a device does, and keeps each in order', async () => {
    const { port, out } = await play(section(recorded(2000, 20)), { queues: 2 });
    expect(await port.replayed()).toMatchObject({ played: 2000, sent: 2000 });
    const { queues, handedOver } = port.stats();
    expect(handedOver).toBe(0);
    for (const { paths } of queues) expect(paths.synthetic.rxPackets).toBeGreaterThan(100);
    const last = new Map<number, number>();
    for (const { data } of packetsOf(out)) {
      expect(numberOf(data)).toBeGreaterThan(last.get(flowOf(data)) ?? -1);
      last.set(flowOf(data), numberOf(data));
    }
    expect(last.size).toBe(20);
    await whole(port);
  });

  it('gets them at a speed, and the answers have the clock of the recording', async () => {
    const packets = [0, 20, 40].map((millis, i) => ({ data: numbered(i), ticks: BigInt(millis * 1e6) }));
    const { port, out } = await play(section(packets, { interfaces: [{ options: NANOS }] }), {
      network: { speed: 2 },
    });
    expect(await port.replayed()).toMatchObject({ played: 3, sent: 3 });
    const times = packetsOf(out).map(({ nanos }) => Number(nanos) / 1e6);
    // A packet may come late, never early.
    for (const [i, millis] of [0, 20, 40].entries()) expect(times[i]).toBeGreaterThanOrEqual(millis);
  });

  it('is told the time of each packet if its handler asks for it', async () => {
    const times = [1_700_000_000_123_456_789n, 1_700_000_000_123_456_790n];
    const packets = times.map((ticks, i) => ({ data: numbered(i), ticks }));
    const { port, out } = await play(section(packets, { interfaces: [{ options: NANOS }] }), {
      handler: TIME,
    });
    await port.replayed();
    const told = packetsOf(out).map(({ data, nanos }) => [
      Buffer.from(data.slice(-8)).readBigUInt64BE(),
      nanos,
    ]);
    expect(told).toEqual(
      [times[0], times[1]].map((time, i) => [time, expect.toSatisfy((n) => n >= times[i]!)]),
    );
  });

  it('has the address of the recorded machine', async () => {
    const request = ethernet(ipv4(icmpEcho([1, 2, 3]), { protocol: 1 }));
    const mac = '02:00:00:00:00:02'; // OUR_MAC
    const { port, out } = await play(classicFile([{ data: request }]), {
      ...{ handler: ECHO, handlerOptions: { address: '10.77.0.2' }, network: { mac } },
    });
    expect(port.mac).toBe(mac);
    expect(await port.replayed()).toMatchObject({ played: 1, sent: 1 });
    expect(packetsOf(out)[0]!.data.slice(0, 12)).toEqual([...PEER_MAC, ...OUR_MAC]);
  });

  it('does not get what was sent, what is no packet and what fits no frame, and counts these', async () => {
    const packets: Written[] = [
      { data: numbered(1), flags: 1 },
      { data: numbered(2), flags: 2 },
      { data: numbered(3).slice(0, 13) },
      { data: [...numbered(4), ...Array(1800).fill(0)] },
      { data: numbered(5), length: 1500 },
      { data: numbered(6), kind: 'simple' },
    ];
    const { port, out } = await play(section(packets));
    expect(await port.replayed()).toMatchObject({
      ...{ played: 3, cut: 1, sent: 3 },
      skipped: { outbound: 1, tooShort: 1, tooLong: 1 },
    });
    expect(packetsOf(out).map(({ data }) => numberOf(data))).toEqual([1, 5, 6]);
  });

  it('holds the file back until it is started', async () => {
    const { port } = await play(section(recorded(100)), { configuration: { started: false } });
    await port.audit();
    expect(port.stats().received).toBe(0);
    await port.start();
    expect(await port.replayed()).toMatchObject({ played: 100, sent: 100 });
  });

  it('waits for an application that reads, and goes on without one that has stopped', async () => {
    const { port } = await play(section(recorded(400)), {
      ...{ handler: DELIVER, network: { times: 20 }, configuration: { started: false } },
    });
    const reading = (async () => {
      let read = 0;
      for await (const batch of port.batches()) {
        read += batch.length;
        if (read % 512 === 0) await new Promise((resolve) => setTimeout(resolve, 1)); // slower than the port
        if (read >= 7000) return port.stats(); // while it still reads
      }
      return undefined;
    })();
    await port.start();
    expect((await reading)?.dropped.deliverFull).toBe(0);
    expect(await port.replayed()).toMatchObject({ played: 8000 });
    const end = port.stats();
    expect(end.delivered + end.dropped.deliverFull).toBe(8000);
  });

  it('gives its application all that fits the ring of delivered packets, and counts the rest', async () => {
    const { port } = await play(section(recorded(300)), { handler: DELIVER });
    expect(await port.replayed()).toMatchObject({ played: 300, sent: 0 });
    const { delivered, dropped } = port.stats();
    expect(delivered + dropped.deliverFull).toBe(300);
    await port.close();
    const numbers: number[] = [];
    for await (const { data } of port.packets()) numbers.push(numberOf([...data]));
    expect(numbers).toEqual(Array.from({ length: delivered }, (_, i) => i));
  });

  it('accounts for each packet while its VF comes and goes', async () => {
    const { port, out } = await play(section(recorded(300)), { network: { times: 100 } });
    for (let cycle = 0; cycle < 3; cycle++) {
      port.plug('vf');
      await until('on the VF', () => owners(port)[0] === 'vf');
      const { received } = port.stats();
      await until(
        'traffic, or the end',
        () => port.stats().received > received + 500 || port.stats().received > 29_000,
      );
      port.unplug('vf');
      await until('back', () => owners(port)[0] === 'synthetic');
    }
    const { played, lost, sent } = await port.replayed();
    const { received, dropped, paths } = port.stats();
    expect(played).toBe(30_000);
    expect(received + lost).toBe(played);
    expect(lost).toBeGreaterThanOrEqual(0);
    expect(sent + paths.vf.txUnknown + Object.values(dropped).reduce((a, b) => a + b)).toBe(received);
    expect(packetsOf(out)).toHaveLength(sent);
    await whole(port);
  });

  it('forwards to a second port, whose packets have their own interface in the file', async () => {
    const folder = temporary();
    const out = join(folder, 'out.pcapng');
    const pcap = fileOf(section(recorded(10)), folder);
    const [first, second] = await openPorts({
      ports: [{}, {}],
      queues: 1,
      handler: FORWARDING,
      network: { pcap, out },
    });
    onTestFinished(() => first!.close());
    expect(await second!.replayed()).toMatchObject({ played: 10, sent: 10 });
    expect(packetsOf(out).map(({ interface: number }) => number)).toEqual(Array(10).fill(1));
  });

  it('plays what is before the damage in a file, and then says where that is', async () => {
    const file = section(recorded(100));
    const { port, out } = await play(file.slice(0, -30));
    const error = await port.replayed().catch((thrown) => thrown);
    expect(error).toMatchObject({
      code: 'ERR_CAPTURE_FILE',
      detail: expect.stringMatching(/^offset \d+: the file ends/),
    });
    expect(port.stats()).toMatchObject({ received: 99, transmitted: 99 });
    expect(packetsOf(out)).toHaveLength(99);
    await whole(port);
  });

  it('refuses packets of another link, and plays those before', async () => {
    const interfaces = [{}, { link: 113 }];
    const { port } = await play(
      section([{ data: numbered(1) }, { data: [1, 2], interface: 1 }], { interfaces }),
    );
    await expect(port.replayed()).rejects.toMatchObject({
      ...{ code: 'ERR_CAPTURE_FILE', detail: expect.stringContaining('link type 113') },
    });
    expect(port.stats().received).toBe(1);
  });

  it('is through at once with a file without packets, however often it is played', async () => {
    const { port, out } = await play(section([]), { network: { times: 1_000_000_000 } });
    expect(await port.replayed()).toMatchObject({ played: 0, sent: 0 });
    expect(packetsOf(out)).toEqual([]);
  });

  it('is not through if it is closed before, and its file is whole all the same', async () => {
    const packets = [0, 3_600_000].map((millis, i) => ({ data: numbered(i), ticks: BigInt(millis * 1000) }));
    const { port, out } = await play(section(packets), { network: { speed: 1 } });
    await until('the first', () => port.stats().transmitted === 1);
    const replayed = port.replayed();
    await port.close();
    await expect(replayed).rejects.toMatchObject({ code: 'ERR_PORT_CLOSED' });
    expect(packetsOf(out).map(({ data }) => numberOf(data))).toEqual([0]);
  });

  it('is not opened if its files cannot be, and leaves no thread', async () => {
    const folder = temporary();
    const file = fileOf(section(recorded(3)), folder);
    const linked = join(folder, 'linked');
    linkSync(file, linked);
    const threads = readdirSync('/proc/self/task').length;
    for (const [network, expected] of [
      [{ pcap: join(folder, 'none') }, /none \(open: ENOENT/],
      [{ pcap: new URL(import.meta.url) }, /offset 0: neither pcap nor pcapng/],
      [{ pcap: file, out: join(folder, 'none/out') }, /out \(open: ENOENT/],
      [{ pcap: file, out: linked }, /network.out: .*the file that is played/],
      [{ pcap: file, out: file }, /network.out/],
    ] as const) {
      await expect(openPort({ network, handler: REFLECT, queues: 1 })).rejects.toThrow(expected);
    }
    expect(readFileSync(file).length).toBeGreaterThan(100);
    const missing = new URL('none.mjs', import.meta.url);
    const opened = openPort({ network: { pcap: file }, handler: missing, queues: 1 });
    await expect(opened).rejects.toMatchObject({ code: 'ERR_HANDLER' });
    await until('no thread left', () => readdirSync('/proc/self/task').length <= threads);
  });

  it('reports when the other file cannot be written any more', async () => {
    const { port } = await play(section(recorded(20)), { network: { out: '/dev/full' } });
    await expect(port.replayed()).rejects.toThrow(/\/dev\/full \(write: ENOSPC/);
  });

  it('has no replay with another network', async () => {
    const port = await openPort({ network: 'memory', handler: REFLECT, queues: 1 });
    onTestFinished(() => port.close());
    await expect(port.replayed()).rejects.toMatchObject({ code: 'ERR_OPTION_INVALID' });
  });
});

describe('twinpath run --network pcap:', { tags: 'unprivileged' }, () => {
  it('plays a file with a comma in its name, writes the other, and ends', async () => {
    const folder = temporary();
    const file = join(folder, 'a,b.pcap');
    const out = join(folder, 'out.pcap');
    writeFileSync(file, Uint8Array.from(classicFile(recorded(50))));
    const network = `pcap:${file},out=${out},times=2,mac=02:00:00:00:00:02`;
    const { code, stdout, stderr } = await twinpath([
      'run',
      'reflect',
      '--network',
      network,
      '--queues',
      '1',
      '--json',
    ]);
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      ...{ ok: true, problems: [], mac: '02:00:00:00:00:02' },
      replay: { played: 100, sent: 100 },
      statistics: { received: 100, transmitted: 100 },
    });
    expect(packetsOf(out)).toHaveLength(100);
  });

  it('fails with the offset at which the file is damaged', async () => {
    const file = fileOf(section(recorded(5)).slice(0, -8));
    const { code, stderr } = await twinpath([
      'run',
      COUNT.pathname,
      '--network',
      `pcap:${file}`,
      '--queues',
      '1',
    ]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/in\.pcapng: offset \d+: the file ends/);
  });
});
