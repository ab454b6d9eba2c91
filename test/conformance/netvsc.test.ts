/**
 * Cases in which DPDK's net_failsafe fails or that it does not test, as users of a port meet them. docs/conformance.md lists all
 * of them with their tests; these are those that no other test has.
 */
import { execFileSync } from 'node:child_process';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openPort, openPorts, type Port } from '../../dist/src/port.js';
import { CounterWatch } from '../support/counters.ts';
import {
  buildLab,
  drive,
  ECHO,
  ownedBy,
  owners,
  passed,
  Scene,
  unexplained,
  until,
} from '../support/harness.ts';
import { NumberedTraffic } from '../support/memory-network.ts';

const REFLECT = new URL('../../dist/src/handlers/reflect.js', import.meta.url);

describe('case 4: two NICs', () => {
  it('flap at once, and each port has its VF in the end', async () => {
    const scene = await Scene.open({ lab: { nics: 2 } });
    const { nics } = scene.lab;
    const traffic = [];
    for (const nic of nics) traffic.push(await scene.drive({}, nic));
    const flaps: [number, number][] = [];
    for (const [i, nic] of nics.entries()) await scene.plug(undefined, nic, scene.ports[i]);
    for (let round = 0; round < 2; round++) {
      const from = Number(process.hrtime.bigint());
      await Promise.all(nics.map((nic) => nic.flap(3)));
      await Promise.all(scene.ports.map((_, number) => scene.settled(number)));
      for (const nic of nics) await nic.moveDataPath('vf');
      await Promise.all(scene.ports.map((port) => ownedBy(port, 'vf')));
      flaps.push([from, Number(process.hrtime.bigint())]);
      for (const one of traffic) await passed(one);
      await scene.whole();
    }
    for (const report of await scene.finish()) expect(unexplained(report, flaps)).toEqual([]);
    expect(scene.errors).toEqual([]);
  });
});

describe('case 7: the counters', { tags: 'unprivileged' }, () => {
  it('never fall in 1000 failovers with orders between them, and those of the queues add up', async () => {
    const port = await openPort({ network: 'memory', handler: REFLECT, queues: 2, mode: 'interrupt' });
    onTestFinished(() => port.close());
    const traffic = [0, 1].map((queue) => new NumberedTraffic(port, queue));
    const watch = new CounterWatch(port);
    for (let cycle = 0; cycle < 500; cycle++) {
      for (const [action, owner] of [
        ['plug', 'vf'],
        ['unplug', 'synthetic'],
      ] as const) {
        for (const one of traffic) one.spin(8);
        port[action]('vf');
        // A path that is left by choice is left when the other end has taken what was sent.
        await until(`cycle ${cycle}: ${owner}`, () => {
          for (const one of traffic) one.spin(0);
          return owners(port).every((path) => path === owner);
        });
        if (cycle % 50 === 0) await port.configure({ promiscuous: cycle % 100 === 0 });
        if (cycle % 70 === 0) await port.setQueues(1 + ((cycle / 70) % 2));
        for (const one of traffic) one.spin(8);
        watch.look(`cycle ${cycle}`);
      }
    }
    expect(watch.fallen).toEqual([]);
    const stats = port.stats();
    const paths = Object.values(stats.paths);
    const sum = (
      of: readonly { rxPackets: number; txPackets: number }[],
      name: 'rxPackets' | 'txPackets',
    ): number => of.reduce((all, one) => all + one[name], 0);
    for (const name of ['rxPackets', 'txPackets'] as const) {
      const byQueue = stats.queues.map(({ paths }) => sum(Object.values(paths), name));
      expect(
        byQueue.reduce((all, packets) => all + packets, 0),
        name,
      ).toBe(sum(paths, name));
    }
    expect(stats.received).toBeGreaterThan(1000);
    expect(port.failovers().length).toBeGreaterThan(1000);
  }, 120_000);
});

describe('case 11: a second port of the process', () => {
  it('has its own options, and lives on when the first fails to open or closes', async () => {
    const lab = await buildLab({ nics: 2 });
    const common = { netns: lab.guest, handler: ECHO, force: true };
    const open = (nic: number, options: object): Promise<Port> =>
      openPort({
        ...common,
        netvsc: lab.nics[nic]!.netvsc,
        handlerOptions: { address: [lab.nics[nic]!.guestAddress] },
        ...options,
      });
    const second = await open(1, { queues: 1, configuration: { mtu: 1400 } });
    onTestFinished(() => second.close());
    await expect(open(0, { handler: new URL('file:///missing.mjs') })).rejects.toMatchObject({
      code: 'ERR_HANDLER',
    });
    const first = await open(0, { queues: 2, frameSize: 4096, configuration: { promiscuous: true } });
    onTestFinished(() => first.close());
    expect(first.configuration).toMatchObject({ mtu: null, promiscuous: true });
    expect(second.configuration).toMatchObject({ mtu: 1400, promiscuous: false });
    await first.close();
    const traffic = await drive(lab, lab.nics[1]!);
    await passed(traffic);
    expect((await traffic.stop()).packets.lost).toBe(0);
  });

  it('emits its own errors, and not those of a port that was opened with it', async () => {
    const lab = await buildLab({ nics: 2 });
    const ports = await openPorts({
      ...{ netns: lab.guest, handler: ECHO, queues: 2 },
      handlerOptions: { address: lab.nics.map(({ guestAddress }) => guestAddress) },
      ports: lab.nics.map(({ netvsc }) => ({ netvsc, force: true })),
    });
    onTestFinished(() => ports[0]!.close());
    const errors = ports.map((port) => {
      const codes: string[] = [];
      port.on('error', ({ code }) => codes.push(code));
      return codes;
    });
    await lab.nics[1]!.plug();
    await ownedBy(ports[1]!, 'vf');
    execFileSync('ip', ['-n', lab.guest, 'link', 'set', 'vf1', 'mtu', '1400']); // smaller than its NetVSC's
    await until('word of it', () => errors[1]!.length > 0);
    await lab.nics[1]!.unplug();
    await ownedBy(ports[1]!, 'synthetic');
    expect(errors).toEqual([[], ['ERR_OPTION_INVALID']]);
  });
});

describe('case 14: the process', () => {
  it('gets no signal from a port, whatever its paths do', async () => {
    const seen: string[] = [];
    const signals = ['SIGIO', 'SIGUSR2', 'SIGALRM', 'SIGVTALRM', 'SIGPIPE', 'SIGURG'] as const;
    const listeners = signals.map((name) => [name, () => seen.push(name)] as const);
    for (const [name, listener] of listeners) process.on(name, listener);
    // Node ignores SIGPIPE from its start on. Without any listener any more, the next write to a closed pipe would be
    // this process's end.
    process.on('SIGPIPE', () => {});
    onTestFinished(() => {
      for (const [name, listener] of listeners) process.off(name, listener);
    });
    const scene = await Scene.open();
    const traffic = await scene.drive();
    await scene.plug();
    await passed(traffic);
    await scene.unplug();
    await passed(traffic);
    await scene.finish();
    expect(seen).toEqual([]);
  });
});
