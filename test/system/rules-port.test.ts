/**
 * A port with flow rules: both paths have the same, and have them exchanged together. That they leave the machine's own
 * stack alone, whatever becomes of the port: faults/rules-life.test.ts.
 */
import { describe, expect, it, onTestFinished } from 'vitest';
import { PortRules } from '../../src/coordinator/port-rules.ts';
import { TwinpathError } from '../../src/errors.ts';
import { KernelRules } from '../../src/kernel/kernel-rules.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import type { PathDevice } from '../../src/paths/device.ts';
import { ownedBy, passed, Scene, until } from '../support/harness.ts';

const NOTHING = { packets: 0, bytes: 0 };

describe('the rules of a port', () => {
  it('are exchanged on both paths while packets flow, and a VF that comes later has the last ones', async () => {
    const scene = await Scene.open();
    const { port, nic } = scene;
    expect(port.rules.list()).toEqual([]);
    expect(await port.rules.counters()).toEqual({ rules: [], otherwise: NOTHING, overtagged: NOTHING });
    const traffic = await scene.drive();
    await scene.plug();
    await passed(traffic);
    const rules = ['icmp count', 'udp dst port 7 drop'];
    await port.rules.set(rules);
    expect(port.rules.list()).toEqual(rules);
    expect(port.configuration).toMatchObject({ generation: 1, rules, isolate: false });
    const dropped = async (): Promise<number> => (await port.rules.counters()).rules[1]!.packets;
    await until('packets dropped on the VF', async () => (await dropped()) > 100);
    await scene.unplug();
    const before = await dropped();
    await until('packets dropped on the NetVSC', async () => (await dropped()) > before + 100);
    await nic.plug();
    await ownedBy(port, 'vf');
    await nic.moveDataPath('vf');
    const { rxPackets } = port.stats().paths.vf;
    const then = await dropped();
    await until('packets dropped on the new VF', async () => (await dropped()) > then + 100);
    const { rules: counts } = await port.rules.counters();
    // Only ICMP has come to the handler.
    expect(counts[0]!.packets).toBeGreaterThan(0);
    expect(port.stats().paths.vf.rxPackets - rxPackets).toBeLessThan(then);
    // An MTU leaves rules and counters alone.
    await port.configure({ mtu: 1400 });
    expect(await dropped()).toBeGreaterThan(then);
    await port.rules.set([]);
    await passed(traffic);
    expect(await port.rules.counters()).toEqual({ rules: [], otherwise: NOTHING, overtagged: NOTHING });
    await scene.finish();
    expect(scene.errors).toEqual([]);
  });

  it('are refused with the place of the mistake, and those before stay', async () => {
    const scene = await Scene.open({ port: { configuration: { rules: ['udp count'] } } });
    const traffic = await scene.drive();
    await expect(scene.port.rules.set(['udp count', 'udp dst prot 7 drop'])).rejects.toMatchObject({
      ...{ code: 'ERR_OPTION_INVALID', device: 'rules[1]', hint: 'Did you mean "port"?' },
    });
    await passed(traffic);
    expect(scene.port.rules.list()).toEqual(['udp count']);
    await scene.finish();
  });

  it('of 10,000 prefixes are exchanged while packets flow, and none is lost', async () => {
    const scene = await Scene.open();
    const traffic = await scene.drive();
    await scene.plug();
    const prefixes = Array.from({ length: 10_000 }, (_, n) => `src 192.${n >> 8}.${n & 255}.0/24 drop`);
    await scene.port.rules.set(prefixes);
    await passed(traffic);
    await scene.port.rules.set(prefixes.slice(1));
    await passed(traffic);
    const [report] = await scene.finish();
    expect(report!.packets).toMatchObject({ lost: 0, duplicated: 0, reordered: 0 });
    expect(scene.errors).toEqual([]);
  });

  it('stay as before on every device if one refuses others', () => {
    const shim = loadShim();
    const portRules = new PortRules(shim);
    onTestFinished(() => portRules.close());
    const has = new Map<string, KernelRules | undefined>();
    const refusal = new TwinpathError('ERR_KERNEL', { syscall: 'bpf(LINK_UPDATE, XDP)', errno: 12 });
    let refuses = false;
    const device = (name: string): PathDevice =>
      ({
        setRules(rules: KernelRules | undefined) {
          if (refuses && name === 'vf') throw refusal;
          has.set(name, rules);
        },
      }) as unknown as PathDevice;
    const devices = [device('synthetic'), device('vf')];
    let saved = 0;
    const exchange = (rules: readonly string[]): void =>
      portRules.exchange({ rules, otherwise: 'handler' }, devices, () => saved++);
    exchange(['udp drop']);
    const before = portRules.current;
    expect([has.get('synthetic'), has.get('vf')]).toEqual([before, before]);
    refuses = true;
    expect(() => exchange(['tcp drop'])).toThrow(refusal);
    expect([portRules.current, has.get('synthetic'), has.get('vf'), saved]).toEqual([
      before,
      before,
      before,
      1,
    ]);
    refuses = false;
    exchange(['udp drop']); // the same
    expect([portRules.current, saved]).toEqual([before, 1]);
  });

  it('outlive the coordinator that made them', () => {
    const shim = loadShim();
    const given = {
      rules: ['udp drop', { action: 'count', vlan: 5 } as const],
      otherwise: 'kernel' as const,
    };
    const made = KernelRules.open(shim, given);
    onTestFinished(() => made.close());
    const adopted = new PortRules(shim, JSON.parse(JSON.stringify(made.held)));
    expect(adopted.current!.given).toEqual(given);
    expect(adopted.current!.steps).toEqual(made.steps);
    expect(adopted.counts).toEqual({ rules: [NOTHING, NOTHING], otherwise: NOTHING, overtagged: NOTHING });
    // It closes the same descriptors.
    expect(adopted.held).toEqual(made.held);
  });
});
