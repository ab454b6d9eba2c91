/**
 * The MAC filter: the programs in the kernel agree with a model on every packet, without being loaded again; and a port with it
 * gives its handler the same by either path, whatever the devices receive.
 */
import { execFileSync } from 'node:child_process';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { DeliveredPacket } from '../../dist/src/delivered-burst.js';
import { changed, initial, type PortConfiguration } from '../../src/configuration.ts';
import { PortMacFilter } from '../../src/coordinator/port-mac-filter.ts';
import { Bpf } from '../../src/kernel/bpf.ts';
import { MacMap } from '../../src/kernel/mac-map.ts';
import { tcCapture, tcCaptureWhilePresent, xdpRedirect } from '../../src/kernel/programs.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { RawSocket } from '../../src/lab/raw-socket.ts';
import { addsUp, buildLab, ownedBy, Scene, until } from '../support/harness.ts';
import { frame, rawSocket } from '../support/raw.ts';

const shim = loadShim();
const bpf = new Bpf(shim);

/** XDP_TX: the action for a packet that would be redirected, which nothing else answers. */
const TAKEN = 3;
const LOOPBACK = 1;
const BROADCAST = 'ff:ff:ff:ff:ff:ff';
/** Local experimental EtherType: no stack looks into it. */
const TYPE = '88b5';
const OUTSIDE_MAC = '02:15:5d:77:00:01';

/** Addresses of which pairs differ in one byte only, so that a filter that compares too few bytes is noticed. */
const UNICAST = ['02:00:00:00:00:07', '02:00:00:00:00:08', '02:00:00:00:01:07', '06:00:00:00:00:07'];
const MULTICAST = ['01:00:5e:00:00:fb', '01:00:5e:00:00:fc', '33:33:00:00:00:fb', '03:00:5e:00:00:fb'];
const OWN = ['02:15:5d:00:00:09', '02:15:5d:00:00:0a'];
const ALL = [...UNICAST, ...MULTICAST, ...OWN, BROADCAST];

/** Whether the handler gets it. */
function accepts(wanted: PortConfiguration, own: readonly string[], mac: string): boolean {
  if (!wanted.macFilter || wanted.promiscuous) return true;
  if (wanted.allMulticast && Number.parseInt(mac.slice(0, 2), 16) % 2 === 1) return true;
  return [BROADCAST, ...own, wanted.mac, ...wanted.unicast, ...wanted.multicast].includes(mac);
}

describe('the MAC filter in the kernel', () => {
  it('agrees with a model for random addresses and packets, in programs that are loaded once', () => {
    let own: readonly string[] = [];
    const filter = new PortMacFilter(shim, () => own);
    filter.open();
    const xsk = [bpf.xskMap(1), bpf.valueMap(), bpf.valueMap()] as const;
    bpf.setValue(xsk[1], TAKEN);
    const [synthetic, vf] = [filter.of('synthetic')!, filter.of('vf')!];
    const load = (type: 'xdp' | 'sched_cls', code: Uint8Array) => bpf.load(type, 'tp_macs', code);
    const protect = { protect: true };
    const programs = [
      { path: 'vf', fd: load('xdp', xdpRedirect(...xsk, { macFilter: vf })), taken: TAKEN, left: 2 },
      {
        path: 'vf',
        fd: load('xdp', xdpRedirect(...xsk, { macFilter: vf, ...protect })),
        taken: TAKEN,
        left: 2,
      },
      {
        ...{ path: 'synthetic', taken: 7, left: -1 },
        fd: load('sched_cls', tcCapture(LOOPBACK, { macFilter: synthetic })),
      },
      {
        ...{ path: 'synthetic', taken: 4, left: -1 },
        fd: load('sched_cls', tcCaptureWhilePresent(LOOPBACK, { macFilter: synthetic, ...protect })),
      },
    ] as const;
    const change = fc.record(
      {
        mac: fc.constantFrom(null, ...OWN),
        unicast: fc.subarray(UNICAST),
        multicast: fc.subarray(MULTICAST),
        promiscuous: fc.boolean(),
        allMulticast: fc.boolean(),
        macFilter: fc.boolean(),
      },
      { requiredKeys: [] },
    );
    const step = fc.tuple(change, fc.subarray(OWN), fc.array(fc.constantFrom(...ALL), { minLength: 5 }));
    let [configuration, accepted] = [initial({ macFilter: true }), 0];
    const filtered = { synthetic: 0, vf: 0 };
    for (const [wanted, mine, macs] of fc.sample(step, { numRuns: 300 })) {
      own = mine;
      const next = changed(configuration, wanted);
      const before = ALL.filter((mac) => accepts(configuration, own, mac) || accepts(next, own, mac));
      filter.set(configuration, true);
      filter.widen(next);
      for (const mac of before) {
        const { fd, taken } = programs[0];
        expect([mac, bpf.testRun(fd, frame(mac, OUTSIDE_MAC, TYPE, 'x')).result]).toEqual([mac, taken]);
      }
      filter.set(next, true);
      configuration = next;
      for (const mac of macs) {
        const is = accepts(configuration, own, mac);
        accepted += is ? 1 : 0;
        for (const { path, fd, taken, left } of programs) {
          const { result } = bpf.testRun(fd, frame(mac, OUTSIDE_MAC, TYPE, 'x'));
          expect([configuration, own, mac, result]).toEqual([configuration, own, mac, is ? taken : left]);
          filtered[path as keyof typeof filtered] += is ? 0 : 1;
        }
      }
      expect(filter.filtered).toEqual(filtered);
    }
    expect(accepted).toBeGreaterThan(300);
    expect(filtered.vf).toBeGreaterThan(300);
    for (const fd of [...programs.map((one) => one.fd), ...xsk]) shim.close(fd);
    filter.close();
  });

  it('goes on where another coordinator has left it in the middle of a change', () => {
    const filter = new PortMacFilter(shim, () => OWN);
    filter.open();
    const full = (prefix: string) =>
      Array.from({ length: 128 }, (_, n) => `${prefix}:${n.toString(16).padStart(2, '0')}`);
    const [unicast, multicast] = [full('02:00:00:00:00'), full('33:33:00:00:00')];
    filter.set(initial({ macFilter: true, unicast, multicast }), true);
    filter.widen(initial({ unicast: full('02:00:00:00:01'), multicast: full('33:33:00:00:01') }));
    const adopted = new PortMacFilter(shim, () => OWN, JSON.parse(JSON.stringify(filter.held)));
    adopted.set(initial({ macFilter: true, unicast: UNICAST }), true);
    const list = new MacMap(shim, filter.held!.addresses).list();
    expect([...list].sort()).toEqual([...UNICAST, ...OWN, BROADCAST].sort());
    expect(bpf.value(filter.held!.acceptance)).toBe(1);
    adopted.close();
  });
});

const BY_FIRST_BYTE = new URL('../fixtures/handlers/by-first-byte.mjs', import.meta.url);
/** Those that no device of the lab has. */
const STRANGER = UNICAST[0]!;
const GROUP = MULTICAST[0]!;

describe('a port with macFilter', () => {
  it('gives its handler what was asked for by either path, and its machine the rest, whatever is asked meanwhile', async () => {
    const lab = await buildLab();
    const sockets: Partial<Record<'synthetic' | 'vf', RawSocket>> = { synthetic: rawSocket(lab.host, 's0') };
    const type = Number.parseInt(TYPE, 16);
    const inside = [rawSocket(lab.guest, 'eth0', type)];
    const scene = await Scene.openIn(lab, { handler: BY_FIRST_BYTE, configuration: { macFilter: true } });
    const { nic, port } = scene;
    const delivered: DeliveredPacket[] = [];
    const reading = (async () => {
      for await (const packet of port.packets()) delivered.push(packet);
    })();
    let number = 0;
    /** The addresses whose packets reach the handler, and those whose packets reach the machine's own stack. */
    const exchange = async (path: 'synthetic' | 'vf', own: string): Promise<[string[], string[]]> => {
      const all = { own, stranger: STRANGER, group: GROUP, everybody: BROADCAST };
      const from = number;
      for (const [name, mac] of Object.entries(all)) {
        sockets[path]!.send(frame(mac, OUTSIDE_MAC, TYPE, `D${++number} ${name} `));
      }
      const seen: string[] = [];
      const kernel: string[] = [];
      const names = (bytes: Uint8Array[]): string[] =>
        bytes
          .map((data) => Buffer.from(data).toString('latin1').slice(14).split(' '))
          .filter(([digits]) => Number(digits!.slice(1)) > from)
          .map(([, name]) => name!);
      await until('all packets', () => {
        seen.splice(0, seen.length, ...names(delivered.map(({ data }) => data)));
        kernel.push(...names(inside.flatMap((socket) => socket.received())));
        return seen.length + kernel.length >= Object.keys(all).length;
      });
      return [seen, kernel];
    };
    const later: RawSocket[] = [];
    const open = (...where: Parameters<typeof RawSocket.open>): RawSocket => {
      later.push(RawSocket.open(...where));
      return later.at(-1)!;
    };
    const plug = async (): Promise<void> => {
      await scene.plug();
      sockets.vf = open(lab.host, 'v0');
      inside[1] = open(lab.guest, 'vf0', type);
    };
    const OTHERS = ['stranger', 'group'];
    expect(await exchange('synthetic', nic.mac)).toEqual([['own', 'everybody'], OTHERS]);
    await plug();
    expect(await exchange('vf', nic.mac)).toEqual([['own', 'everybody'], OTHERS]);
    expect(await exchange('synthetic', nic.mac)).toEqual([['own', 'everybody'], OTHERS]);
    const failovers = port.failovers().length;
    const { synthetic, vf } = await port.extendedStats();
    expect(vf.filtered).toBeGreaterThanOrEqual(2);
    expect(synthetic.filtered).toBeGreaterThanOrEqual(4);

    await port.configure({ unicast: [STRANGER], allMulticast: true });
    for (const path of ['vf', 'synthetic'] as const) {
      expect(await exchange(path, nic.mac)).toEqual([['own', 'stranger', 'group', 'everybody'], []]);
    }
    await port.configure({ unicast: [], allMulticast: false, multicast: [GROUP] });
    await scene.unplug();
    await plug();
    for (const path of ['vf', 'synthetic'] as const) {
      expect(await exchange(path, nic.mac)).toEqual([['own', 'group', 'everybody'], ['stranger']]);
    }
    await port.configure({ promiscuous: true });
    for (const path of ['vf', 'synthetic'] as const) {
      expect((await exchange(path, nic.mac))[1]).toEqual([]);
    }
    await port.configure({ promiscuous: false, multicast: [] });
    // No program was exchanged: of all this only the replug is a failover.
    expect(port.failovers().filter(({ reason }) => reason === 'configured')).toHaveLength(0);
    expect(port.failovers().length).toBe(failovers + 2 * lab.queues);

    await port.configure({ mac: OWN[0]! });
    await ownedBy(port, 'vf');
    for (const path of ['vf', 'synthetic'] as const) {
      expect(await exchange(path, OWN[0]!)).toEqual([['own', 'everybody'], OTHERS]);
    }
    // An administrator changes it: the port follows.
    execFileSync('ip', ['-n', lab.guest, 'link', 'set', 'eth0', 'address', OWN[1]!]);
    await until('the port to know', () => port.configuration.mac === OWN[1]);
    await ownedBy(port, 'vf');
    for (const path of ['vf', 'synthetic'] as const) {
      expect(await exchange(path, OWN[1]!)).toEqual([['own', 'everybody'], OTHERS]);
    }
    await port.configure({ macFilter: false });
    for (const path of ['vf', 'synthetic'] as const) {
      expect((await exchange(path, OWN[1]!))[1]).toEqual([]);
    }
    await addsUp(port);
    for (const socket of later) socket.close();
    await scene.finish();
    await reading;
    expect(scene.errors).toEqual([]);
  }, 60_000);
});
