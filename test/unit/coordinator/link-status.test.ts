/** The link of a port: one event for each change, and none otherwise. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LinkStatus } from '../../../src/coordinator/link-status.ts';
import type { Endpoint } from '../../../src/coordinator/network.ts';
import type { PortState } from '../../../src/coordinator/port-state.ts';
import { TwinpathError } from '../../../src/errors.ts';
import type { LinkState } from '../../../src/kernel/device-information.ts';
import type { LinkModes } from '../../../src/kernel/ethtool-messages.ts';
import type { Reason } from '../../../src/memory/journal.ts';
import { Path, type PathId } from '../../../src/memory/layout.ts';
import type { CarrierEvent } from '../../../src/port-events.ts';

type Device = Endpoint & { modes: LinkModes | undefined };

/** A port whose owner and devices are as the test says. */
class FakePort {
  owner: PathId = Path.SYNTHETIC;
  closing = false;
  fails = false;
  /** How often the speed of a link was asked for. */
  asked = 0;
  readonly devices = new Map<PathId, Device>();
  readonly slots = [Path.HOST, Path.SYNTHETIC, Path.VF].map((path) => ({
    ...{ path, ready: true },
    broken: undefined as Reason | undefined,
  }));
  readonly events: CarrierEvent[] = [];
  readonly failures: unknown[] = [];
  readonly status: LinkStatus;

  constructor() {
    const port = this;
    this.set(Path.SYNTHETIC, {});
    const state = {
      port: 3,
      ownership: {
        get owner() {
          return port.owner;
        },
      },
      network: {
        device: 'eth0',
        endpoint: (path: PathId) => this.devices.get(path),
        modes: (path: PathId) => {
          this.asked++;
          if (this.fails) throw new TwinpathError('ERR_KERNEL');
          return this.devices.get(path)?.modes;
        },
      },
      slots: this.slots,
      get closing() {
        return port.closing;
      },
      report: ({ event }: { event: CarrierEvent }) => this.events.push(event),
      run: (_: string, work: () => void) => {
        try {
          work();
        } catch (error) {
          this.failures.push(error);
        }
      },
    };
    this.status = new LinkStatus(state as unknown as PortState);
  }

  set(path: PathId, change: Partial<Device>): void {
    const fresh: Device = {
      ...{ key: path, name: path === Path.VF ? 'vf0' : 'eth0', up: true, carrier: true },
      modes: { speedMbps: path === Path.VF ? 40_000 : 10_000, duplex: 'full' },
    };
    this.devices.set(path, { ...(this.devices.get(path) ?? fresh), ...change });
  }

  started(): this {
    this.status.update();
    this.status.start();
    return this;
  }

  get states(): LinkState[] {
    return this.events.map(({ up, speedMbps, duplex }) => ({ up, speedMbps, duplex }));
  }
}

const DOWN: LinkState = { up: false, speedMbps: undefined, duplex: undefined };
const at = (speedMbps: number): LinkState => ({ up: true, speedMbps, duplex: 'full' });

describe('the link of a port', () => {
  it('is that of the path which the queues are about to get, without an event between', () => {
    const port = new FakePort();
    port.owner = Path.VF;
    port.set(Path.VF, {});
    port.started();
    port.devices.delete(Path.VF);
    port.slots[2]!.broken = 'link gone'; // the supervisor has not ordered the workers off it yet
    port.status.noticeLoss();
    expect(port.events).toEqual([]);
    port.status.update();
    expect(port.states).toEqual([at(10_000)]);
    port.slots[1]!.broken = 'link gone';
    port.status.noticeLoss();
    expect(port.states).toEqual([at(10_000), DOWN]);
  });

  it('is the present state at the start, without an event', () => {
    const port = new FakePort();
    port.status.update();
    expect(port.status.start()).toEqual(at(10_000));
    port.status.update();
    expect(port.events).toEqual([]);
  });

  it('that is lost is reported at once, without asking the kernel', () => {
    const port = new FakePort().started();
    const { asked } = port;
    port.set(Path.SYNTHETIC, { carrier: false });
    port.status.noticeLoss();
    expect(port.events).toEqual([{ port: 3, path: 'synthetic', device: 'eth0', ...DOWN }]);
    port.status.update();
    expect([port.events.length, port.asked]).toEqual([1, asked]);
  });

  it('comes up in the slow half, which asks for its speed', () => {
    const port = new FakePort().started();
    port.set(Path.SYNTHETIC, { carrier: false });
    port.status.noticeLoss();
    port.set(Path.SYNTHETIC, { carrier: true, modes: { speedMbps: 25_000, duplex: 'full' } });
    port.status.noticeLoss();
    expect(port.states).toEqual([DOWN]);
    port.status.update();
    expect(port.states).toEqual([DOWN, at(25_000)]);
  });

  it('stays up when its VF goes and its NetVSC has a carrier', () => {
    const port = new FakePort();
    port.set(Path.SYNTHETIC, { modes: { speedMbps: 40_000, duplex: 'full' } });
    port.set(Path.VF, {});
    port.started();
    for (const owner of [Path.VF, Path.SYNTHETIC, Path.VF]) {
      port.owner = owner;
      port.status.noticeLoss();
      port.status.update();
    }
    expect(port.events).toEqual([]);
  });

  it('of a device whose speed is known is not asked for again by a failover', () => {
    const port = new FakePort().started();
    port.set(Path.VF, {});
    for (const owner of [Path.VF, Path.SYNTHETIC, Path.VF, Path.SYNTHETIC]) {
      port.owner = owner;
      port.status.update();
    }
    expect(port.states).toEqual([at(40_000), at(10_000), at(40_000), at(10_000)]);
    expect(port.asked).toBe(2);
  });

  it('without a path is down, and names the NetVSC', () => {
    const port = new FakePort().started();
    port.owner = Path.NONE;
    port.status.noticeLoss();
    expect(port.events).toEqual([{ port: 3, path: 'none', device: 'eth0', ...DOWN }]);
  });

  it('is not reported while the port closes', () => {
    const port = new FakePort().started();
    port.closing = true;
    port.owner = Path.NONE;
    port.status.noticeLoss();
    port.status.update();
    expect(port.events).toEqual([]);
  });

  it('is reported by a coordinator that replaces another one, once', () => {
    const port = new FakePort();
    port.status.resume();
    port.status.noticeLoss();
    expect(port.events).toEqual([]);
    port.status.update();
    port.status.update();
    expect(port.states).toEqual([at(10_000)]);
  });

  it('has an unknown speed if the kernel refuses to tell it, and the failure is reported', () => {
    const port = new FakePort();
    port.fails = true;
    port.status.update();
    expect(port.status.start()).toEqual({ up: true, speedMbps: undefined, duplex: undefined });
    expect(port.failures).toHaveLength(1);
    port.fails = false;
    port.status.doubt();
    port.status.update();
    expect(port.states).toEqual([at(10_000)]);
  });
});

type Step =
  | { readonly kind: 'own'; readonly owner: PathId }
  | { readonly kind: 'device'; readonly path: PathId; readonly change: Partial<Device> }
  | { readonly kind: 'gone' }
  | { readonly kind: 'notice' | 'update' };

const path = fc.constantFrom(Path.SYNTHETIC, Path.VF);
const change = fc.oneof(
  fc.record({ carrier: fc.boolean() }),
  fc.record({ up: fc.boolean() }),
  // Of a replugged device, which is another one.
  fc.record({
    modes: fc.record({
      speedMbps: fc.constantFrom(10_000, 40_000),
      duplex: fc.constant('full' as const),
    }),
  }),
);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    kind: fc.constant('own' as const),
    owner: fc.constantFrom(Path.NONE, Path.SYNTHETIC, Path.VF),
  }),
  fc.record({ kind: fc.constant('device' as const), path, change }),
  fc.constant({ kind: 'gone' as const }),
  fc.constant({ kind: 'notice' as const }),
  fc.constant({ kind: 'update' as const }),
);

it('after any sequence, each event differs from the state before it, and the last one is the state that was seen', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const port = new FakePort();
      port.status.update();
      /** What an observer sees who looks when the port does. */
      let seen = port.status.start();
      const expected: LinkState[] = [];
      let lastKey: number = Path.VF;
      const become = (state: LinkState): void => {
        if (JSON.stringify(state) === JSON.stringify(seen)) return;
        seen = state;
        expected.push(state);
      };
      const present = (): LinkState => {
        const device = port.devices.get(port.owner);
        return device?.up && device.carrier ? { up: true, ...device.modes! } : DOWN;
      };
      for (const one of steps) {
        if (one.kind === 'own') port.owner = one.owner;
        else if (one.kind === 'device')
          port.set(one.path, { ...one.change, ...(one.change.modes && { key: ++lastKey }) });
        else if (one.kind === 'gone') port.devices.delete(Path.VF);
        else if (one.kind === 'notice') {
          port.status.noticeLoss();
          if (!present().up) become(DOWN);
        } else {
          port.status.update();
          become(present());
        }
        expect(port.states).toEqual(expected);
      }
    }),
    { numRuns: 500 },
  );
});
