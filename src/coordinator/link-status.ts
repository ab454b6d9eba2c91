/**
 * The link of a port: that of the device through which the port transmits, as DPDK's link status. It reports one event for
 * each change, and none otherwise. Coordinator thread only.
 *
 * It works at two speeds, as its port does. A link that is lost is reported at once, without waiting for anything. Whether it
 * has come up, and at what speed, is found out in the slow half: the kernel takes RTNL to tell the speed. A failover to a
 * device whose speed is known asks nothing.
 */
import { type LinkState, NO_LINK, sameLink } from '../kernel/device-information.ts';
import type { LinkModes } from '../kernel/ethtool-messages.ts';
import { PATH_NAMES, Path, type PathId } from '../memory/layout.ts';
import type { Endpoint } from './network.ts';
import { attempt, type PortState } from './port-state.ts';

export class LinkStatus {
  readonly #state: PortState;
  /** Undefined: what another coordinator has reported is not known. */
  #last: LinkState | undefined = NO_LINK;
  /** Speed and duplex by a device's key, until the device loses its carrier. */
  readonly #modes = new Map<number, LinkModes | undefined>();
  #reports = false;

  constructor(state: PortState) {
    this.#state = state;
  }

  /** Reports changes from now on. @returns the present state */
  start(): LinkState {
    this.#reports = true;
    return this.#last ?? NO_LINK;
  }

  /** After another coordinator: reports the next state in any case. The application ignores one that is no change. */
  resume(): void {
    this.#reports = true;
    this.#last = undefined;
  }

  /** Settings of some device were changed: its speed may be one of them. */
  doubt(): void {
    this.#modes.clear();
  }

  /** In the turn in which a link or the owner changed. Never waits. */
  noticeLoss(): void {
    this.#forgetUnlinked();
    if (this.#state.closing || this.#last?.up !== true || this.#device !== undefined) return;
    this.#become(NO_LINK);
  }

  /** The slow half: may take long. */
  update(): void {
    if (this.#state.closing) return;
    this.#forgetUnlinked();
    const device = this.#device;
    if (device === undefined) {
      this.#become(NO_LINK);
      return;
    }
    if (!this.#modes.has(device.key)) this.#ask(device);
    const { speedMbps, duplex } = this.#modes.get(device.key) ?? {};
    this.#become({ up: true, speedMbps, duplex });
  }

  /** A device may come up with another speed. */
  #forgetUnlinked(): void {
    for (const path of [Path.SYNTHETIC, Path.VF]) {
      const endpoint = this.#state.network.endpoint(path);
      if (endpoint !== undefined && !hasLink(endpoint)) this.#modes.delete(endpoint.key);
    }
  }

  #ask({ key }: Endpoint): void {
    const { network } = this.#state;
    this.#modes.set(key, undefined);
    attempt(this.#state, 'querying the speed of a link', () => {
      this.#modes.set(key, network.modes?.(this.#owner));
    });
  }

  /** The device that the port transmits through, if it has a link. */
  get #device(): Endpoint | undefined {
    const endpoint = this.#endpoint;
    return endpoint !== undefined && hasLink(endpoint) ? endpoint : undefined;
  }

  get #endpoint(): Endpoint | undefined {
    const owner = this.#owner;
    return owner === Path.NONE ? undefined : this.#state.network.endpoint(owner);
  }

  /** The path that owns the queues, or will: the supervisor may be about to leave a path that is found broken here. */
  get #owner(): PathId {
    const { ownership, slots } = this.#state;
    const { owner } = ownership;
    const lost = slots.some(({ path, broken }) => path === owner && broken !== undefined);
    if (!lost) return owner;
    const usable = slots.find(
      ({ path, ready, broken }) => path !== owner && path !== Path.HOST && ready && broken === undefined,
    );
    return usable?.path ?? Path.NONE;
  }

  #become(now: LinkState): void {
    if (this.#last !== undefined && sameLink(this.#last, now)) return;
    this.#last = now;
    if (!this.#reports) return;
    const { port, report, network } = this.#state;
    const device = this.#endpoint?.name ?? network.device;
    report({ kind: 'carrier', event: { port, path: PATH_NAMES[this.#owner], device, ...now } });
  }
}

const hasLink = ({ up, carrier }: Endpoint): boolean => up && carrier;
