import { spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { TwinpathError } from '../../src/errors.ts';
import { EthtoolMonitor } from '../../src/kernel/ethtool-monitor.ts';
import { EthtoolNetlink } from '../../src/kernel/ethtool-netlink.ts';
import { type LinkEvent, LinkMonitor } from '../../src/kernel/link-monitor.ts';
import { kernelIsAtLeast } from '../../src/kernel/machine.ts';
import { inNamespace, openNamespace } from '../../src/kernel/namespace.ts';
import { IFF, RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { addressOf, loadShim } from '../../src/kernel/shim.ts';
import { type Uevent, UeventMonitor } from '../../src/kernel/uevent.ts';
import { privileged } from '../support/requirements.ts';

const HERE = `tp-nl-${process.pid}`;
const THERE = `tp-nl2-${process.pid}`;
const shim = loadShim();

function ip(...words: string[]): string {
  const run = spawnSync('ip', words, { encoding: 'utf8' });
  if (run.status !== 0) throw new Error(`ip ${words.join(' ')}: ${run.stderr}`);
  return run.stdout;
}

/** Collects until the condition holds; a generous bound, for the linkwatch timer may take a second. */
async function gather<T>(receive: () => T[], until: (all: readonly T[]) => boolean): Promise<T[]> {
  const all: T[] = [];
  for (let turn = 0; turn < 500; turn++) {
    all.push(...receive());
    if (until(all)) return all;
    await sleep(20);
  }
  throw new Error(`waited in vain; seen: ${JSON.stringify(all)}`);
}

/** `return TC_ACT_OK`, two instructions. */
function loadProgram(): number {
  const code = new Uint8Array(16);
  code[0] = 0xb7;
  code[8] = 0x95;
  const license = new TextEncoder().encode('GPL\0');
  const attributes = new DataView(new ArrayBuffer(128));
  attributes.setUint32(0, 3, true); // BPF_PROG_TYPE_SCHED_CLS
  attributes.setUint32(4, 2, true);
  attributes.setBigUint64(8, BigInt(addressOf(code)), true);
  attributes.setBigUint64(16, BigInt(addressOf(license)), true);
  return shim.bpf(5, attributes, 128);
}

describe('in a network namespace', () => {
  let rtnetlink: RtNetlink;
  let monitor: LinkMonitor;
  const index = (name: string): number => rtnetlink.link(name)!.ifindex;

  beforeAll(
    privileged(() => {
      ip('netns', 'add', HERE);
      ip('netns', 'add', THERE);
    }),
  );
  afterAll(
    privileged(() => {
      for (const name of [HERE, THERE]) spawnSync('ip', ['netns', 'del', name]);
    }),
  );
  beforeEach(() => {
    rtnetlink = inNamespace(shim, HERE, () => RtNetlink.open(shim));
    monitor = inNamespace(shim, HERE, () => LinkMonitor.open(shim));
  });
  afterEach(() => {
    for (const { kind, name } of rtnetlink.links()) {
      if (kind !== '') spawnSync('ip', ['-n', HERE, 'link', 'del', name]);
    }
    rtnetlink.close();
    monitor.close();
  });

  it('a monitor reports every change of a link in order, from its creation to its removal', async () => {
    ip('-n', HERE, 'link', 'add', 'one', 'type', 'veth', 'peer', 'name', 'two');
    const one = index('one');
    rtnetlink.setLink(one, { up: true });
    rtnetlink.setLink(index('two'), { up: true });
    const carrier = (event: LinkEvent) =>
      event.kind === 'new' && event.link.ifindex === one && event.link.carrier;
    const early = await gather(
      () => monitor.receive(),
      (all) => all.some(carrier),
    );
    rtnetlink.setLink(one, { up: false });
    rtnetlink.setLink(one, { name: 'renamed' });
    rtnetlink.setLink(one, { up: true });
    rtnetlink.deleteLink(one);
    const late = await gather(
      () => monitor.receive(),
      (all) => all.some(({ kind }) => kind === 'delete'),
    );

    const story = [...early, ...late]
      .filter((event) => 'link' in event)
      .filter(({ link }) => link.ifindex === one)
      .map(({ kind, link }) => `${kind} ${link.name} ${link.flags & IFF.UP ? 'up' : 'down'}`)
      .filter((line, i, lines) => line !== lines[i - 1]);
    expect(story).toEqual([
      'new one down',
      'new one up',
      'new one down',
      'new renamed down',
      'new renamed up',
      'new renamed down',
      'delete renamed down',
    ]);
    expect(rtnetlink.link(one)).toBeUndefined();
    expect(rtnetlink.link('renamed')).toBeUndefined();
  });

  it('a monitor does not mistake a port that leaves a bridge for a link that goes', () => {
    ip('-n', HERE, 'link', 'add', 'br0', 'type', 'bridge');
    ip('-n', HERE, 'link', 'add', 'vf0', 'type', 'veth', 'peer', 'name', 'vf1');
    ip('-n', HERE, 'link', 'set', 'vf0', 'master', 'br0');
    const vf = index('vf0');
    expect(rtnetlink.link(vf)!.master).toBe(index('br0'));
    ip('-n', HERE, 'link', 'set', 'vf0', 'nomaster');
    expect(monitor.receive().filter(({ kind }) => kind !== 'new' && kind !== 'qdisc')).toEqual([]);
    ip('-n', HERE, 'link', 'set', 'vf0', 'master', 'br0');
    rtnetlink.deleteLink(vf);
    const last = monitor.receive().filter((event) => 'link' in event);
    const gone = last.filter(({ kind }) => kind === 'delete').map(({ link }) => [link.name, link.master]);
    expect(gone).toContainEqual(['vf0', 0]);
  });

  it('a monitor that was too slow reports the overrun, and a dump is still right', () => {
    ip('-n', HERE, 'link', 'add', 'one', 'type', 'veth', 'peer', 'name', 'two');
    const narrow = inNamespace(shim, HERE, () => LinkMonitor.open(shim, 1));
    const one = index('one');
    for (let mtu = 1400; mtu < 1450; mtu++) rtnetlink.setLink(one, { mtu });
    const seen = narrow.receive();
    expect(seen.map(({ kind }) => kind)).toContain('overrun');
    expect(seen.length).toBeLessThan(50);
    expect(rtnetlink.links().find(({ ifindex }) => ifindex === one)!.mtu).toBe(1449);
    expect(narrow.receive()).toEqual([]);
    narrow.close();
  });

  it('every property of a link that can be set reads back', () => {
    ip('-n', HERE, 'link', 'add', 'one', 'type', 'veth', 'peer', 'name', 'two');
    ip('-n', HERE, 'link', 'property', 'add', 'dev', 'one', 'altname', 'a-name-longer-than-fifteen-bytes');
    const one = index('one');
    const before = rtnetlink.link(one)!;
    rtnetlink.setLink(one, {
      mtu: 3000,
      name: 'uno',
      address: '02:00:00:00:00:aa',
      txQueueLength: 77,
      addrGenMode: 1,
      noArp: true,
      promiscuous: true,
    });
    const after = rtnetlink.link('a-name-longer-than-fifteen-bytes')!;
    expect(after).toMatchObject({ ifindex: one, name: 'uno', mtu: 3000, txQueueLength: 77, promiscuity: 1 });
    expect(after.address).toBe('02:00:00:00:00:aa');
    expect(after.flags & (IFF.UP | IFF.NOARP | IFF.PROMISC)).toBe(IFF.NOARP | IFF.PROMISC);
    expect(ip('-n', HERE, '-d', 'link', 'show', 'uno')).toContain('addrgenmode none');
    rtnetlink.setLink(one, { name: 'one', mtu: before.mtu, noArp: false, promiscuous: false });
    expect(rtnetlink.link(one)).toMatchObject({ flags: before.flags, mtu: before.mtu, name: 'one' });
  });

  it('a link can be moved into another namespace', () => {
    ip('-n', HERE, 'link', 'add', 'one', 'type', 'veth', 'peer', 'name', 'two');
    const fd = openNamespace(shim, THERE);
    rtnetlink.setLink(index('two'), { netnsFd: fd });
    shim.close(fd);
    expect(rtnetlink.link('two')).toBeUndefined();
    const found = inNamespace(shim, THERE, () => {
      const there = RtNetlink.open(shim);
      const link = there.link('two');
      there.close();
      return link;
    });
    expect(found?.kind).toBe('veth');
  });

  it('a refusal carries the kernel’s own words', () => {
    ip('-n', HERE, 'link', 'add', 'one', 'type', 'veth', 'peer', 'name', 'two');
    const refused = (): void => rtnetlink.setLink(index('one'), { mtu: 1 });
    expect(refused).toThrow(TwinpathError);
    expect(refused).toThrow(/RTM_SETLINK: EINVAL.*mtu less than device minimum/);
    expect(() => rtnetlink.deleteLink(9999)).toThrow(/ENODEV/);
  });

  it('addresses and default routes are found, through every hop', () => {
    ip('-n', HERE, 'link', 'add', 'one', 'type', 'veth', 'peer', 'name', 'two');
    ip('-n', HERE, 'link', 'set', 'one', 'up');
    ip('-n', HERE, 'link', 'set', 'two', 'up');
    ip('-n', HERE, 'addr', 'add', '10.1.1.1/24', 'dev', 'one');
    ip('-n', HERE, 'addr', 'add', '10.2.2.1/24', 'dev', 'two');
    ip('-n', HERE, '-6', 'addr', 'add', 'fd00::1:1/64', 'dev', 'one', 'nodad');
    const addresses = rtnetlink.addresses();
    expect(addresses).toContainEqual({ ifindex: index('one'), family: 2, address: '10.1.1.1', scope: 0 });
    expect(addresses).toContainEqual({ ifindex: index('one'), family: 10, address: 'fd00::1:1', scope: 0 });
    expect(rtnetlink.defaultRoutes()).toEqual([]);
    ip('-n', HERE, 'route', 'add', 'default', 'via', '10.1.1.2');
    expect(rtnetlink.defaultRoutes()).toEqual([index('one')]);
    const hops = ['nexthop', 'via', '10.1.1.2', 'nexthop', 'via', '10.2.2.2'];
    ip('-n', HERE, 'route', 'replace', 'default', ...hops);
    expect(rtnetlink.defaultRoutes()).toEqual([index('one'), index('two')].sort((a, b) => a - b));
    ip('-n', HERE, 'route', 'del', 'default');
    ip('-n', HERE, '-6', 'route', 'add', 'default', 'via', 'fd00::2', 'dev', 'one');
    ip('-n', HERE, 'route', 'add', 'default', 'via', '10.2.2.2', 'table', '77');
    expect(rtnetlink.defaultRoutes()).toEqual([index('one')]);
  });

  it('noqueue replaces the qdisc of a device on every queue', () => {
    ip('-n', HERE, 'tuntap', 'add', 'tap0', 'mode', 'tap', 'multi_queue');
    ip('-n', HERE, 'link', 'set', 'tap0', 'up');
    const qdisc = (): string => / qdisc (\w+)/.exec(ip('-n', HERE, '-o', 'link', 'show', 'tap0'))![1]!;
    expect(qdisc()).not.toBe('noqueue');
    for (let times = 0; times < 2; times++) {
      rtnetlink.setNoqueue(index('tap0'));
      expect(qdisc()).toBe('noqueue');
    }
    ip('-n', HERE, 'link', 'del', 'tap0');
    expect(() => rtnetlink.setNoqueue(9999)).toThrow(/9999/);
  });

  it('clsact and its filters come and go as often as they are asked to', () => {
    ip('-n', HERE, 'link', 'add', 'one', 'type', 'veth', 'peer', 'name', 'two');
    const one = index('one');
    const program = loadProgram();
    expect(program).toBeGreaterThan(0);
    try {
      rtnetlink.deleteClsact(one);
      rtnetlink.deleteBpfFilter(one, 'ingress', 1, 10);
      expect(rtnetlink.bpfFilters(one, 'ingress')).toEqual([]);

      expect([rtnetlink.addClsact(one), rtnetlink.addClsact(one)]).toEqual([true, false]);
      for (const name of ['first', 'again']) rtnetlink.addBpfFilter(one, 'ingress', program, name, 1, 10);
      rtnetlink.addBpfFilter(one, 'egress', program, 'out', 7, 65535);
      expect(rtnetlink.bpfFilters(one, 'ingress')).toEqual([{ name: 'again', handle: 1, priority: 10 }]);
      expect(rtnetlink.bpfFilters(one, 'egress')).toEqual([{ name: 'out', handle: 7, priority: 65535 }]);

      rtnetlink.deleteBpfFilter(one, 'egress', 7, 65535);
      rtnetlink.deleteBpfFilter(one, 'egress', 7, 65535);
      expect(rtnetlink.bpfFilters(one, 'egress')).toEqual([]);
      rtnetlink.deleteClsact(one);
      rtnetlink.deleteClsact(one);
      expect(rtnetlink.bpfFilters(one, 'ingress')).toEqual([]);
      expect(rtnetlink.addClsact(one)).toBe(true);
    } finally {
      shim.close(program);
    }
    rtnetlink.deleteLink(one);
    rtnetlink.deleteClsact(one);
  });

  it('addClsact names an ingress qdisc that is in the place of clsact', ({ skip }) => {
    ip('-n', HERE, 'link', 'add', 'one', 'type', 'veth', 'peer', 'name', 'two');
    const added = spawnSync('ip', ['netns', 'exec', HERE, 'tc', 'qdisc', 'add', 'dev', 'one', 'ingress']);
    if (added.status !== 0) skip('this machine has no tc, or its kernel no ingress qdisc');
    expect(() => rtnetlink.addClsact(index('one'))).toThrow(/ingress/);
    rtnetlink.deleteClsact(index('one'));
    expect(() => rtnetlink.addClsact(index('one'))).toThrow(/ingress/);
  });

  it('ethtool tells and sets channels and features of a device by its ifindex, and tells of changes', () => {
    ip(
      '-n',
      HERE,
      'link',
      'add',
      'one',
      'numrxqueues',
      '4',
      'numtxqueues',
      '4',
      'type',
      'veth',
      'peer',
      'name',
      'two',
    );
    const { ethtool, monitor: settings } = inNamespace(shim, HERE, () => ({
      ethtool: EthtoolNetlink.open(shim),
      monitor: EthtoolMonitor.open(shim),
    }));
    onTestFinished(() => {
      ethtool.close();
      settings.close();
    });
    const one = index('one');
    const before = ethtool.channels(one)!;
    expect(before).toMatchObject({ combined: 0, maxCombined: 0, maxRx: 4, maxTx: 4 });
    expect(ethtool.setChannels(one, { combined: 0, rx: 3, tx: 2 })).toBe(0);
    rtnetlink.setLink(one, { name: 'uno' });
    expect(ethtool.channels(one)).toEqual({ ...before, rx: 3, tx: 2 });
    expect(ethtool.setChannels(one, { combined: 0, rx: 5, tx: 2 })).toBe(-22);
    expect(settings.receive()).toEqual([one]);

    const tags = 'rx-vlan-hw-parse';
    const features = ethtool.features(one)!;
    expect([features.active.has(tags), features.wanted.has(tags), features.changeable.has(tags)]).toEqual([
      ...[true, true, true],
    ]);
    expect(ethtool.setFeatures(one, new Map([[tags, false]]))).toBe(0);
    expect(ethtool.features(one)!.active).toEqual(
      new Set([...features.active].filter((name) => name !== tags)),
    );
    expect(ethtool.setFeatures(one, new Map([['no-such-feature', false]]))).toBeLessThan(0);
    expect(ethtool.setFeatures(one, new Map([[tags, true]]))).toBe(0);
    expect(ethtool.features(one)!).toEqual(features);
    expect(settings.receive()).toEqual([one, one]);

    const absent = 123_456;
    expect([ethtool.channels(absent), ethtool.features(absent)]).toEqual([undefined, undefined]);
    expect(ethtool.setChannels(absent, { combined: 0, rx: 1, tx: 1 })).toBeLessThan(0);
    expect(ethtool.setFeatures(absent, new Map([[tags, false]]))).toBe(-19);
  });

  it('ethtool reports the link of a device by its ifindex, and no rings of one that has none', () => {
    ip('-n', HERE, 'link', 'add', 'one', 'type', 'veth', 'peer', 'name', 'two');
    const ethtool = inNamespace(shim, HERE, () => EthtoolNetlink.open(shim));
    onTestFinished(() => ethtool.close());
    const one = index('one');
    rtnetlink.setLink(one, { up: true, name: 'uno' });
    expect([ethtool.linkState(one), ethtool.rings(one)]).toEqual([false, undefined]);
    rtnetlink.setLink(index('two'), { up: true });
    expect(ethtool.linkState(one)).toBe(true);
    expect(ethtool.linkModes(one)).toEqual({ speedMbps: 10_000, duplex: 'full' });

    const absent = 123_456;
    const answers = [ethtool.linkState(absent), ethtool.linkModes(absent), ethtool.rings(absent)];
    expect(answers).toEqual([undefined, undefined, undefined]);
  });

  it('ethtool has those messages about RSS that this kernel is new enough for', () => {
    const ethtool = EthtoolNetlink.open(shim);
    onTestFinished(() => ethtool.close());
    expect(ethtool.has('CHANNELS_SET')).toBe(true);
    expect(ethtool.has('RSS_GET')).toBe(kernelIsAtLeast(6, 3));
    expect(ethtool.has('RSS_SET')).toBe(kernelIsAtLeast(6, 17));
  });

  it('uevents tell of a device that comes, changes its name and goes', async () => {
    const uevents = inNamespace(shim, HERE, () => UeventMonitor.open(shim));
    ip('-n', HERE, 'link', 'add', 'one', 'type', 'veth', 'peer', 'name', 'two');
    const one = index('one');
    rtnetlink.setLink(one, { name: 'uno' });
    rtnetlink.deleteLink(one);
    const of = (event: Uevent) => event.subsystem === 'net' && event.fields.IFINDEX === String(one);
    const all = await gather(
      () => uevents.receive(),
      (seen) => seen.some((e) => of(e) && e.action === 'remove'),
    );
    uevents.close();
    const story = all.filter(of).map(({ action, fields }) => `${action} ${fields.INTERFACE}`);
    expect(story).toEqual(['add one', 'move uno', 'remove uno']);
  });

  it('a thread comes back from a namespace, also when its work fails or there is no such namespace', () => {
    const own = rtnetlinkHere();
    const names = (): string[] => inNamespace(shim, HERE, rtnetlinkHere);
    expect(names()).not.toEqual(own);
    const failing = (): void =>
      inNamespace(shim, HERE, () => {
        throw new RangeError('work');
      });
    expect(failing).toThrow(RangeError);
    expect(() => openNamespace(shim, 'tp-never-made')).toThrow(/ERR_OPTION_INVALID|no network namespace/);
    expect(() => inNamespace(shim, '/proc/self/ns/mnt', () => 1)).toThrow(/not a network namespace/);
    expect(rtnetlinkHere()).toEqual(own);
  });

  it('a closed socket throws an error that says so', () => {
    const closed = inNamespace(shim, HERE, () => RtNetlink.open(shim));
    closed.close();
    closed.close();
    expect(() => closed.links()).toThrow(/closed/);
  });
});

/** The Ethernet links of the namespace that this thread is in. */
function rtnetlinkHere(): string[] {
  const socket = RtNetlink.open(shim);
  const names = socket.links().map(({ name, address }) => `${name} ${address}`);
  socket.close();
  return names;
}
