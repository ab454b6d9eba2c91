import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
// Built, not source: Node 20 starts no worker from a .ts file.
import { Lab, type LabOptions } from '../../dist/src/lab/host.js';
import { cleanUpStaleLabs, ip } from '../../dist/src/lab/namespaces.js';
import type { Nic } from '../../dist/src/lab/nic.js';
import type { Window } from '../../dist/src/lab/reports.js';
import { Traffic, type TrafficOptions } from '../../dist/src/lab/traffic.js';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { type Link, RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { loadShim } from '../../src/kernel/shim.ts';

const ECHO = `
  const socket = require('node:dgram').createSocket({ type: 'udp4', recvBufferSize: 4 << 20 });
  socket.on('message', (message, from) => socket.send(message, from.port, from.address));
  socket.bind(7, '0.0.0.0', () => console.log('ready'));`;

const labs: Lab[] = [];
const children: ChildProcess[] = [];
const traffic: Traffic[] = [];

async function build(options?: LabOptions): Promise<Lab> {
  const lab = await Lab.create(options);
  labs.push(lab);
  return lab;
}

/** A process in the guest that answers as a guest application would, by the guest kernel's stack. */
async function echo(lab: Lab): Promise<ChildProcess> {
  const child = spawn('ip', ['netns', 'exec', lab.guest, process.execPath, '-e', ECHO], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  await new Promise((resolve) => child.stdout?.once('data', resolve));
  return child;
}

async function drive(lab: Lab, nic: Nic, options: TrafficOptions): Promise<Traffic> {
  const one = await Traffic.start(lab, nic, options);
  traffic.push(one);
  return one;
}

/** Until so many more packets have come back. */
async function passed(one: Traffic, packets: number): Promise<void> {
  const enough = one.progress().received + packets;
  const deadline = Date.now() + 20_000;
  while (one.progress().received < enough) {
    if (Date.now() > deadline)
      throw new Error(`only ${one.progress().received} of ${enough} packets came back`);
    await sleep(5);
  }
}

function linkIn(namespace: string, name: string): Link | undefined {
  const shim = loadShim();
  return inNamespace(shim, namespace, () => {
    const links = RtNetlink.open(shim);
    try {
      return links.link(name);
    } finally {
      links.close();
    }
  });
}

const received = (lab: Lab, name: string): number => linkIn(lab.guest, name)?.statistics?.rxPackets ?? 0;
const kinds = (nic: Nic): string[] => nic.events.map(({ kind }) => kind);
const ourNamespaces = (): string[] =>
  readdirSync('/run/netns').filter((name) => name.startsWith(`tp-${process.pid}-`));

afterEach(async () => {
  for (const one of traffic.splice(0)) await one[Symbol.asyncDispose]();
  for (const child of children.splice(0)) child.kill('SIGKILL');
  for (const lab of labs.splice(0)) await lab.close();
  expect(ourNamespaces()).toEqual([]);
});

describe.each(['veth', 'bridge'] as const)('a lab with a %s for NetVSC', (standIn) => {
  it('gives the VF the MAC of the NetVSC, and with a bridge as stand-in makes it the VF’s master', async () => {
    const lab = await build({ standIn });
    await lab.nic.plug();
    const [netvsc, vf] = [linkIn(lab.guest, 'eth0'), linkIn(lab.guest, 'vf0')];
    expect(vf).toMatchObject({
      kind: 'veth',
      address: lab.nic.mac,
      carrier: true,
      numRxQueues: 2,
      numTxQueues: 2,
    });
    expect(netvsc).toMatchObject({ kind: standIn, address: lab.nic.mac });
    // A bridge tells its carrier a little after its ports have theirs.
    await vi.waitFor(() => expect(linkIn(lab.guest, 'eth0')?.carrier).toBe(true), { timeout: 5000 });
    expect(vf?.master).toBe(standIn === 'bridge' ? netvsc?.ifindex : 0);
    expect(lab.nic.vf).toBe('vf0');
    await lab.nic.unplug();
    expect(linkIn(lab.guest, 'vf0')).toBeUndefined();
    expect(lab.nic.vf).toBeUndefined();
    expect(kinds(lab.nic)).toEqual(['plug', 'up', 'datapath-synthetic', 'down', 'delete']);
  });

  it('loses no packet when the host unplugs the VF gracefully, repeatedly under traffic', async () => {
    const lab = await build({ standIn });
    await echo(lab);
    const one = await drive(lab, lab.nic, { rate: 4000, flows: 6 });
    await passed(one, 400);
    for (let round = 0; round < 3; round++) {
      await lab.nic.plug();
      await passed(one, 100);
      expect(received(lab, 'vf0')).toBe(0); // plugged in, but the data path has not moved
      await lab.nic.moveDataPath('vf');
      const synthetic = received(lab, standIn === 'veth' ? 'eth0' : 'syn0');
      await passed(one, 400);
      expect(received(lab, 'vf0')).toBeGreaterThanOrEqual(300);
      expect(received(lab, standIn === 'veth' ? 'eth0' : 'syn0') - synthetic).toBeLessThan(100);
      await lab.nic.unplug();
      await passed(one, 200);
    }
    const report = await one.stop();
    expect(report.packets).toMatchObject({ lost: 0, duplicated: 0, reordered: 0, unknown: 0 });
    expect(report.icmp).toMatchObject({ lost: 0, duplicated: 0, reordered: 0, unknown: 0 });
    expect(report.packets.sent).toBe(report.packets.received);
    expect(report.packets.sent).toBe(report.flows.reduce((sum, { sent }) => sum + sent, 0));
    expect(report.icmp.received).toBeGreaterThan(10);
    expect(report.latency.p50).toBeGreaterThan(0);
    expect(report.latency.max).toBeGreaterThanOrEqual(report.latency.p99);
    expect(report.gaps[0]!.micros).toBeGreaterThan(0);
  });

  it('loses exactly the packets sent between a surprise and its detection by the host', async () => {
    const lab = await build({ standIn });
    await echo(lab);
    await lab.nic.plug();
    await lab.nic.moveDataPath('vf');
    const one = await drive(lab, lab.nic, { rate: 4000 });
    await passed(one, 400);
    lab.nic.surprise();
    await sleep(30);
    await lab.nic.hostNotices();
    await passed(one, 400);
    const [gone, noticed] = lab.nic.events.slice(-2);
    expect([gone?.kind, noticed?.kind]).toEqual(['surprise', 'datapath-synthetic']);
    // A packet is lost if it was under way at that moment; 100 ms are many times the round trip, also on a busy machine.
    const surprise: Window = { name: 'surprise', from: gone!.atNanos - 100e6, to: noticed!.atNanos + 50e6 };
    const report = await one.stop({ settleMillis: 500, windows: [surprise] });
    expect(report.packets.lost).toBeGreaterThan(0);
    expect(report.windows).toEqual({ surprise: report.packets.lost, unexplained: 0 });
    expect(report.icmpWindows.unexplained).toBe(0);
    expect(report.packets).toMatchObject({ duplicated: 0, unknown: 0 });
    expect(report.lostAt).toHaveLength(report.packets.lost);
    expect(report.gaps[0]!.micros).toBeGreaterThan(25_000);
  });

  it('migrates: without VF and carrier for a while, then with another VF under another name', async () => {
    const lab = await build({ standIn });
    await echo(lab);
    await lab.nic.plug();
    await lab.nic.moveDataPath('vf');
    const before = linkIn(lab.guest, 'vf0')!;
    const one = await drive(lab, lab.nic, { rate: 2000 });
    await passed(one, 100);
    await lab.nic.migrate();
    await passed(one, 100);
    expect(lab.nic.vf).toBe('mvf0');
    expect(lab.nic.dataPath).toBe('synthetic');
    expect(linkIn(lab.guest, 'vf0')).toBeUndefined();
    const after = linkIn(lab.guest, 'mvf0')!;
    expect(after.address).toBe(before.address);
    expect(after.ifindex).not.toBe(before.ifindex);
    const [off, on] = ['carrier-off', 'carrier-on'].map(
      (kind) => lab.nic.events.find((e) => e.kind === kind)!,
    );
    const windows = [{ name: 'blackout', from: off!.atNanos - 20e6, to: on!.atNanos + 20e6 }];
    const report = await one.stop({ settleMillis: 500, windows });
    expect(report.packets.lost).toBeGreaterThan(0);
    expect(report.windows.unexplained).toBe(0);
  });
});

describe('a lab', () => {
  it('renames, flaps and moves its devices', async () => {
    const lab = await build();
    const { nic } = lab;
    await nic.plug({ name: 'enP1s2' });
    nic.renameVf('enP1s2np0');
    nic.renameNetvsc('hv0');
    expect(linkIn(lab.guest, 'enP1s2np0')).toMatchObject({ address: nic.mac, carrier: true });
    expect(linkIn(lab.guest, 'hv0')).toMatchObject({ address: nic.mac });

    const { ifindex } = linkIn(lab.guest, 'enP1s2np0')!;
    await nic.flap(10);
    expect(linkIn(lab.guest, 'enP1s2np0')).toMatchObject({ ifindex, carrier: true });
    await nic.flap(3, { what: 'device' });
    expect(linkIn(lab.guest, 'enP1s2np0')?.carrier).toBe(true);
    expect(linkIn(lab.guest, 'enP1s2np0')?.ifindex).not.toBe(ifindex);

    nic.moveVf(lab.outside);
    expect(linkIn(lab.guest, 'enP1s2np0')).toBeUndefined();
    expect(linkIn(lab.outside, 'enP1s2np0')).toMatchObject({ address: nic.mac, carrier: false });
    nic.moveVf(lab.guest);
    await nic.moveDataPath('vf');
    await nic.setCarrier('vf', false);
    expect(linkIn(lab.guest, 'enP1s2np0')?.carrier).toBe(false);
    await nic.setCarrier('vf', true);
    expect(linkIn(lab.guest, 'enP1s2np0')?.carrier).toBe(true);

    nic.moveVf(lab.outside);
    await nic.unplug();
    expect(linkIn(lab.outside, 'enP1s2np0')).toBeUndefined();
    const times = nic.events.map(({ atNanos }) => atNanos);
    expect(times).toEqual([...times].sort((a, b) => a - b));
  });

  it('sends broadcasts to the guest through the synthetic port alone, on either data path', async () => {
    const lab = await build({ arp: true });
    await echo(lab);
    await lab.nic.plug();
    await lab.nic.moveDataPath('vf');
    const one = await drive(lab, lab.nic, { rate: 500, icmpRate: 0 });
    await passed(one, 100);
    const report = await one.stop();
    expect(report.packets.duplicated).toBe(0);
    // The ARP request that began it, a broadcast, came by eth0; the traffic did not.
    expect(received(lab, 'eth0')).toBeGreaterThan(0);
    expect(received(lab, 'eth0')).toBeLessThan(20);
    expect(received(lab, 'vf0')).toBeGreaterThan(50);
  });

  it('has two NICs, each with its own VF, if asked', async () => {
    const lab = await build({ nics: 2, queues: 4 });
    await echo(lab);
    const [first, second] = lab.nics as [Nic, Nic];
    await second.plug();
    await second.moveDataPath('vf');
    expect([first.guestAddress, second.guestAddress]).toEqual(['10.77.0.2', '10.78.0.2']);
    const both = await Promise.all([drive(lab, first, { rate: 500 }), drive(lab, second, { rate: 500 })]);
    await Promise.all(both.map((one) => passed(one, 100)));
    for (const report of await Promise.all(both.map((one) => one.stop())))
      expect(report.packets.lost).toBe(0);
    expect(received(lab, 'vf1')).toBeGreaterThan(50);
    expect(linkIn(lab.guest, 'vf1')).toMatchObject({ numRxQueues: 4, address: second.mac });
    expect(linkIn(lab.guest, 'vf0')).toBeUndefined();
  });

  it('may exist twice at once in one process', async () => {
    const [one, other] = await Promise.all([build(), build()]);
    expect(one.name).not.toBe(other.name);
    await Promise.all([one.nic.plug(), other.nic.plug()]);
    await one.close();
    expect(linkIn(other.guest, 'vf0')).toBeDefined();
  });

  it('deletes its devices even while a process runs in the guest', async () => {
    const lab = await build({ standIn: 'bridge' });
    const child = await echo(lab);
    await lab.nic.plug();
    const namespace = `/proc/${child.pid}/ns/net`;
    expect(linkIn(namespace, 'vf0')).toBeDefined();
    await lab.close();
    await lab.close(); // a second time does no harm
    for (const name of ['vf0', 'syn0', 'eth0']) expect(linkIn(namespace, name)).toBeUndefined();
  });

  it('removes the namespaces of a killed process, and keeps those of running ones', async () => {
    const script = `
      import { Lab } from ${JSON.stringify(new URL('../../dist/src/lab/host.js', import.meta.url).href)};
      const lab = await Lab.create();
      await lab.nic.plug();
      console.log(lab.guest);
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(child);
    const guest = await new Promise<string>((resolve) =>
      child.stdout.once('data', (text) => resolve(String(text).trim())),
    );
    const own = await build();
    cleanUpStaleLabs();
    expect(existsSync(`/run/netns/${guest}`)).toBe(true);
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('exit', resolve));
    cleanUpStaleLabs();
    expect(readdirSync('/run/netns').filter((name) => name.startsWith(`tp-${child.pid}-`))).toEqual([]);
    expect(existsSync(`/run/netns/${own.guest}`)).toBe(true);
  });

  it('removes neither a namespace that is not a lab’s nor the lab of a process older than it', async () => {
    // Process 1 is older than any namespace here, and the other name has no number where a lab has one.
    const names = ['tp-1-0-guest', `tp-${process.pid}-x-guest`];
    try {
      ip(names.map((name) => `netns add ${name}`));
      cleanUpStaleLabs();
      for (const name of names) expect(existsSync(`/run/netns/${name}`)).toBe(true);
    } finally {
      for (const name of names) execFileSync('ip', ['netns', 'del', name]);
    }
  });

  it('refuses calls that need or forbid a VF, and invalid options', async () => {
    const { nic } = await build();
    await expect(nic.unplug()).rejects.toMatchObject({ code: 'ERR_LAB' });
    await expect(nic.moveDataPath('vf')).rejects.toMatchObject({ code: 'ERR_LAB' });
    expect(() => nic.surprise()).toThrow(/no VF/);
    await nic.plug();
    await expect(nic.plug({ name: 'another' })).rejects.toMatchObject({ code: 'ERR_LAB' });
    await expect(Lab.create({ queues: 0 })).rejects.toMatchObject({ code: 'ERR_OPTION_INVALID' });
    await expect(Lab.create({ standIn: 'bond' as 'veth' })).rejects.toMatchObject({
      code: 'ERR_OPTION_INVALID',
    });
    await expect(Traffic.start({ outside: 'tp-none' }, nic)).rejects.toMatchObject({ message: /namespace/ });
    await expect(Traffic.start({ outside: 'x' }, nic, { bytes: 8 })).rejects.toMatchObject({
      code: 'ERR_OPTION_INVALID',
    });
  });
});

describe('traffic', () => {
  it('is lost completely, and goes on, without a receiver', async () => {
    const lab = await build();
    const one = await drive(lab, lab.nic, { rate: 2000, window: 64 });
    const deadline = Date.now() + 20_000;
    while (one.progress().icmpReceived < 20 && Date.now() < deadline) await sleep(5);
    const report = await one.stop({ settleMillis: 50 });
    expect(report.packets.received).toBe(0);
    expect(report.packets.lost).toBe(report.packets.sent);
    expect(report.refused).toBeGreaterThan(0);
    expect(report.icmp.lost).toBe(0); // the kernel itself answers those
    expect(await one.stop()).toBe(report);
  });
});
