/** Sessions over files: no port, no root, any platform. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { TwinpathError } from '../../../src/errors.ts';
import pcap, { type OfflineSessionOptions, type PacketWithHeader } from '../../../src/pcap.ts';
import { classicFile, section, type Written } from '../../support/capture-files.ts';
import { ethernet, icmpEcho, ipv4, udp } from '../../support/frames.ts';

const folder = mkdtempSync(join(tmpdir(), 'twinpath-offline-'));
afterAll(() => rmSync(folder, { recursive: true }));
const FILE = join(folder, 'file');
const UDP = ethernet(ipv4(udp([1, 2]), { protocol: 17 }));
const PING = ethernet(ipv4(icmpEcho([])));

/** All that a session emits. */
async function read(bytes: readonly number[], options?: OfflineSessionOptions) {
  writeFileSync(FILE, Uint8Array.from(bytes));
  const session = pcap.createOfflineSession(FILE, options);
  const packets: PacketWithHeader[] = [];
  session.on('packet', (packet) => packets.push(packet));
  const error = await new Promise<unknown>((resolve) => {
    session.on('complete', () => resolve(undefined));
    session.on('error', resolve);
  });
  return { session, packets, error };
}

describe('createOfflineSession', () => {
  it('emits the packets of a file, and then that it is complete', async () => {
    const written: Written[] = Array.from({ length: 1000 }, (_, i) => ({
      data: UDP.with(-1, i & 255),
      ...{ length: 100, ticks: BigInt(i) },
    }));
    const { session, packets, error } = await read(classicFile(written));
    expect(error).toBeUndefined();
    expect(packets).toHaveLength(1000);
    expect(packets.map(({ buf }) => buf.at(-1))).toEqual(written.map((_, i) => i & 255)); // its own bytes
    expect(session).toMatchObject({ link_type: 'LINKTYPE_ETHERNET', is_live: false, device_name: FILE });
    expect(session.stats()).toEqual({ ps_recv: 1000, ps_ifdrop: 0, ps_drop: 0 });
    const { pcap_header: header } = pcap.decode.packet(packets[7]!);
    expect(header).toEqual({ tv_sec: 0, tv_usec: 7, caplen: UDP.length, len: 100 });
  });

  it('emits what its filter takes', async () => {
    const { packets, session } = await read(section([{ data: UDP }, { data: PING }, { data: UDP }]), {
      filter: 'icmp',
    });
    expect(packets.map(({ buf }) => [...buf])).toEqual([PING]);
    expect(session.stats().ps_recv).toBe(3);
  });

  it('emits what is before the damage, and an error that names its offset', async () => {
    const { packets, error } = await read(classicFile([{ data: UDP }, { data: PING }]).slice(0, -1));
    expect(packets).toHaveLength(1);
    expect(error).toMatchObject({
      code: 'ERR_CAPTURE_FILE',
      detail: expect.stringMatching(/^offset \d+: the file ends/),
    });
  });

  it('goes on when a listener throws, whatever it throws, and nobody else catches that', async () => {
    const others = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    const thrown: unknown[] = [];
    process.on('uncaughtException', (error) => thrown.push(error));
    try {
      writeFileSync(FILE, Uint8Array.from(classicFile([{ data: UDP }, { data: PING }])));
      const session = pcap.createOfflineSession(FILE);
      const failures = [new TwinpathError('ERR_CAPTURE_FILE'), new Error('mine')];
      let packets = 0;
      session.on('packet', () => {
        throw failures[packets++];
      });
      await new Promise<void>((resolve) => session.on('complete', resolve));
      await new Promise(setImmediate);
      expect([packets, thrown]).toEqual([2, failures]);
    } finally {
      process.removeAllListeners('uncaughtException');
      for (const other of others) process.on('uncaughtException', other);
    }
  });

  it('emits nothing after it is closed', async () => {
    writeFileSync(FILE, Uint8Array.from(classicFile([{ data: UDP }, { data: PING }])));
    const session = pcap.createOfflineSession(FILE);
    let packets = 0;
    const closed = new Promise<void>((resolve) => {
      session.on('packet', () => {
        packets++;
        resolve(session.close());
      });
    });
    await closed;
    await new Promise(setImmediate);
    expect([packets, session.opened]).toEqual([1, false]);
    await session.close();
  });

  it('reads other links without a filter, and refuses those that it cannot name', async () => {
    const raw = classicFile([{ data: PING.slice(14) }], { link: 101 });
    const { packets, session } = await read(raw);
    expect(session.link_type).toBe('LINKTYPE_RAW');
    expect(String(pcap.decode.packet(packets[0]!))).toContain('ICMP Echo Request');
    expect((await read(raw, { filter: 'icmp' })).error).toMatchObject({ code: 'ERR_OPTION_INVALID' });
    const radio = await read(classicFile([{ data: PING }], { link: 127 }));
    expect(radio.error).toMatchObject({
      code: 'ERR_CAPTURE_FILE',
      detail: expect.stringContaining('link type 127'),
    });
  });

  it('throws at once for a file or an option that cannot be used', () => {
    const make = pcap.createOfflineSession as (path: unknown, options?: unknown) => unknown;
    expect(() => make(join(folder, 'none'))).toThrow(/open: ENOENT/);
    expect(() => make('')).toThrow(/path/);
    expect(() => make(FILE, { filter: 'no such word' })).toThrow(/filter/);
    expect(() => make(FILE, { fliter: 'udp' })).toThrow(/Did you mean "filter"/);
    expect(() => make(FILE, 'udp')).toThrow(/options/); // as it was before version 3
  });
});

describe('createSession', () => {
  it('throws at once for options that cannot be used', () => {
    const make = pcap.createSession as (device: unknown, options?: unknown) => unknown;
    expect(() => make(7)).toThrow(/device/);
    expect(() => make('eth0', { monitor: true })).toThrow(/monitor/);
    expect(() => make('eth0', { snap_length: 0 })).toThrow(/snap_length/);
    expect(() => make('eth0', { promiscuous: 1 })).toThrow(/promiscuous/);
    expect(() => make('eth0', { filter: 'no such word' })).toThrow(/filter/);
    expect(() => make('eth0', { bufer_size: 1 })).toThrow(/Did you mean "buffer_size"/);
  });
});

describe('findalldevs', () => {
  it('has the loopback interface with its address, which no port takes', () => {
    const [loopback] = pcap.findalldevs().filter(({ flags }) => flags === 'PCAP_IF_LOOPBACK');
    expect(loopback).toMatchObject({ addresses: expect.any(Array) });
  });
});
